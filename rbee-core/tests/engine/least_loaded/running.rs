//! Decisions if the model has workers.

use super::*;
use rbee_core::request::{Prompt, Sampling, Task};

#[test]
fn the_least_loaded_worker_gets_the_job_and_of_equals_the_one_used_longest_ago() {
    let mut fleet = cluster(
        vec![hive("a", [device(1, GIB, GIB)], None)],
        (1..=3).map(|n| worker(n, "a", "m")).collect(),
    );
    fleet.edit_worker(worker_id(1), |w| w.leased = 1);
    fleet.edit_worker(worker_id(2), |w| w.last_used = Time::from_micros(9));
    assert_eq!(place(&ask(), &fleet), assigned(3));
    fleet.edit_worker(worker_id(3), |w| w.leased = 2);
    assert_eq!(place(&ask(), &fleet), assigned(2));
}

#[test]
fn a_worker_on_which_the_job_failed_is_taken_only_where_no_other_is_free() {
    let mut fleet = cluster(vec![], vec![worker(1, "a", "m"), worker(2, "a", "m")]);
    assert_eq!(place(&retry(&[1]), &fleet), assigned(2));
    fleet.edit_worker(worker_id(2), |w| w.leased = 2);
    assert_eq!(place(&retry(&[1]), &fleet), assigned(1));
    let untried = Ask { attempts: 0, ..retry(&[1]) };
    assert_eq!(place(&untried, &fleet), Placement::Wait);
}

#[test]
fn a_stream_goes_on_only_where_the_numerics_are_the_same() {
    let mut other = worker(2, "a", "m");
    Arc::make_mut(&mut other.info).numerics = "other".into();
    let fleet = cluster(vec![], vec![worker(1, "a", "m"), other]);
    assert_eq!(place(&matching("other"), &fleet), assigned(2));
}

#[test]
fn no_second_worker_is_started_while_one_is_busy_or_loading() {
    let hives = || vec![hive("a", [device(1, 64 * GIB, 64 * GIB)], Some(GIB))];
    for change in
        [|w: &mut WorkerView| w.leased = 2, |w: &mut WorkerView| w.state = WorkerState::Loading]
    {
        let mut only = worker(1, "a", "m");
        change(&mut only);
        assert_eq!(place(&ask(), &cluster(hives(), vec![only])), Placement::Wait);
    }
    for change in [
        |w: &mut WorkerView| w.state = WorkerState::Failed,
        |w: &mut WorkerView| w.state = WorkerState::Draining,
    ] {
        let mut only = worker(1, "a", "m");
        change(&mut only);
        let (home, ..) = spawned(place(&ask(), &cluster(hives(), vec![only])));
        assert_eq!(home, "a", "one that is out of service is replaced");
    }
}

#[test]
fn a_task_that_the_model_cannot_do_is_rejected() {
    let hives = || vec![hive("a", [device(1, 64 * GIB, 64 * GIB)], Some(GIB))];
    let mut fleet = cluster(hives(), vec![worker(1, "a", "m")]);
    let error = rejected(place(&embed(), &fleet));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().starts_with("model m cannot make vectors"), "{error}");
    // Another engine has the model too, and can run the job.
    let mut able = worker(2, "a", "m");
    Arc::make_mut(&mut able.info).capabilities.embed = true;
    fleet.put_worker(able);
    assert_eq!(place(&embed(), &fleet), assigned(2));
    fleet.edit_worker(worker_id(2), |w| w.leased = 2);
    assert_eq!(place(&embed(), &fleet), Placement::Wait);
    fleet.edit_worker(worker_id(2), |w| w.state = WorkerState::Draining);
    spawned(place(&embed(), &fleet));
}

#[test]
fn a_job_goes_only_to_workers_that_know_its_parameters() {
    let mut fleet = cluster(vec![], vec![worker(1, "a", "m")]);
    let mut ask = ask();
    let mut job = (*ask.job).clone();
    let sampling = Sampling { logprobs: Some(2), ..Sampling::default() };
    job.task = Task::Generate { prompt: Prompt::Text("x".into()), sampling };
    ask.job = Arc::new(job);
    let error = rejected(place(&ask, &fleet));
    assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("logprobs")));
    let mut able = worker(2, "a", "m");
    Arc::make_mut(&mut able.info).capabilities.logprobs = true;
    fleet.put_worker(able);
    assert_eq!(place(&ask, &fleet), assigned(2));
    fleet.edit_worker(worker_id(2), |w| w.leased = 2);
    assert_eq!(place(&ask, &fleet), Placement::Wait, "the other one would ignore it");
}

#[test]
fn a_worker_on_an_offline_hive_does_not_hide_that_the_model_cannot_do_the_task() {
    let away =
        || HiveView { online: false, ..hive("away", [device(1, 64 * GIB, 64 * GIB)], Some(GIB)) };
    let hives = || vec![hive("a", [device(1, 64 * GIB, 64 * GIB)], Some(GIB)), away()];
    let mut fleet = cluster(hives(), vec![worker(1, "a", "m"), worker(2, "away", "m")]);
    let error = rejected(place(&embed(), &fleet));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().starts_with("model m cannot make vectors"), "{error}");
    // It was lost before it had said what it can do.
    fleet.edit_worker(worker_id(2), |w| w.state = WorkerState::Loading);
    assert_eq!(rejected(place(&embed(), &fleet)).kind(), ErrorKind::Unsupported);
    // One that can do it is only away: another of its kind may be started.
    let mut able = worker(3, "away", "m");
    Arc::make_mut(&mut able.info).capabilities.embed = true;
    fleet.put_worker(able);
    spawned(place(&embed(), &fleet));
    // A job that the model can do is unaffected.
    assert_eq!(place(&ask(), &fleet), assigned(1));
}

#[test]
fn every_candidate_is_explained() {
    let mut workers: Vec<_> = (1..=6).map(|n| worker(n, "a", "m")).collect();
    workers[1].leased = 2;
    workers[2].state = WorkerState::Loading;
    workers[3].state = WorkerState::Failed;
    workers[3].faults = 3;
    workers[4].last_used = Time::from_micros(5);
    Arc::make_mut(&mut workers[5].info).numerics = "other".into();
    let fleet = cluster(vec![], workers);
    let ask = Ask { must_match: Some("test".into()), ..ask() };
    let explanation = LeastLoaded::default().explain(&ask, &fleet);
    assert_eq!(explanation.placement, Ok(assigned(1)));
    let verdicts: BTreeMap<_, _> = explanation.candidates.into_iter().collect();
    let verdict = |number| verdicts[&Candidate::Worker(worker_id(number))].to_string();
    assert_eq!(verdict(1), "chosen");
    assert_eq!(verdict(2), "refused: all 2 slots taken");
    assert_eq!(verdict(3), "refused: it is still loading");
    assert_eq!(verdict(4), "refused: it has failed 3 times and waits for a probe");
    assert_eq!(verdict(5), "eligible");
    assert_eq!(
        verdict(6),
        "refused: other numerics: it has \"other\", the stream was begun with \"test\""
    );
}

#[test]
fn an_explanation_is_bounded_and_names_the_chosen_one() {
    let workers = (0..2000).map(|n| worker(n, "a", "m")).collect();
    let explanation = LeastLoaded::default().explain(&ask(), &cluster(vec![], workers));
    assert_eq!(explanation.candidates.len(), 256);
    let chosen = explanation.candidates.iter().filter(|(_, v)| *v == Verdict::Chosen);
    assert_eq!(chosen.count(), 1);
}
