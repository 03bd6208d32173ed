//! Commands of operators: models are loaded, downloaded, verified and removed.

use std::time::Duration;

use rbee_core::{
    Error, ErrorKind, HiveId, ModelRef, Placement, WorkerId,
    engine::{Command, CommandOutput, Effect, HiveFact, Input, Note},
    hive::EngineSupport,
    id::Ticket,
    models::{ModelFormat, ModelKind, ModelOnDisk},
    queen::LoadRequest,
};

use super::{
    hand::{Hand, error, spawn, worker},
    parts::{self, GIB},
};

fn load(model: usize) -> Command {
    Command::LoadModel(LoadRequest::new(parts::model(model)))
}

fn provision(model: usize) -> Command {
    Command::Provision { hive: parts::hive(0), model: parts::model(model) }
}

fn remove(model: usize) -> Command {
    Command::RemoveModel { hive: parts::hive(0), model: parts::model(model) }
}

fn on_disk(model: usize) -> ModelOnDisk {
    ModelOnDisk::new(parts::model(model), 4 * GIB)
}

fn fetched(hand: &mut Hand, model: usize, result: Result<ModelOnDisk, Error>) {
    let (hive, model) = (parts::hive(0), parts::model(model));
    hand.feed(Input::Provisioned { hive, model, result });
}

fn removed(hand: &mut Hand, model: usize, result: Result<(), Error>) {
    let (hive, model) = (parts::hive(0), parts::model(model));
    hand.feed(Input::ModelRemoved { hive, model, result });
}

fn fetches(hand: &Hand) -> Vec<(HiveId, ModelRef)> {
    hand.all(|effect| match effect {
        Effect::Provision { hive, model } => Some((hive.clone(), model.clone())),
        _ => None,
    })
}

fn removals(hand: &Hand) -> usize {
    hand.all(|effect| matches!(effect, Effect::RemoveModel { .. }).then_some(())).len()
}

fn question(hand: &Hand) -> Ticket {
    hand.find(|effect| match effect {
        Effect::ChooseHive { ticket, .. } => Some(*ticket),
        _ => None,
    })
    .expect("the policy is asked")
}

fn choose(hand: &mut Hand, ticket: Ticket, answer: Result<Placement, Error>) {
    hand.feed(Input::HiveChosen { ticket, answer });
}

fn refused(hand: &Hand, n: u64) -> (ErrorKind, String) {
    let error = hand.output(n).expect("it is answered").unwrap_err();
    (error.kind(), error.message().to_owned())
}

fn found(hand: &Hand, n: u64) -> WorkerId {
    match hand.output(n) {
        Some(Ok(CommandOutput::Worker(worker))) => worker,
        other => panic!("expected a worker, found {other:?}"),
    }
}

#[test]
fn a_model_that_a_worker_has_or_gets_is_not_removed() {
    let mut hand = Hand::with(&[worker(1, 0, 1)]);
    // Ready.
    hand.order(1, remove(0));
    let id = parts::worker(1);
    let message = format!("worker {id} has model hf:org/model-0 loaded; stop it first");
    assert_eq!(refused(&hand, 1), (ErrorKind::Conflict, message));
    // Being stopped.
    hand.command(Command::Unload(id)).unwrap();
    hand.order(2, remove(0));
    let message = format!(
        "worker {id} with model hf:org/model-0 is being stopped; try again when it is gone"
    );
    assert_eq!(refused(&hand, 2), (ErrorKind::Conflict, message));
    // Being started for a job.
    hand.job(1, 1);
    let (id, ..) = hand.spawns().remove(0);
    hand.order(3, remove(1));
    let message = format!("worker {id} is loading model hf:org/model-1; stop it first");
    assert_eq!(refused(&hand, 3), (ErrorKind::Conflict, message));
    // Being downloaded for a job, to be started then.
    hand.job(2, 2);
    assert_eq!(fetches(&hand).len(), 1);
    hand.order(4, remove(2));
    let message =
        "model hf:org/model-2 is being fetched to hive hive-0; try again when that is done";
    assert_eq!(refused(&hand, 4), (ErrorKind::Conflict, message.to_owned()));
    assert_eq!(removals(&hand), 0);
}

#[test]
fn a_model_whose_worker_waits_for_room_is_not_removed() {
    let mut hand = Hand::with(&[worker(1, 1, 1)]);
    hand.answers = false;
    hand.job(1, 0);
    hand.answer(hand.asked[0].0, spawn(parts::model(0), 1, vec![parts::worker(1)]));
    assert_eq!(hand.spawns().len(), 0);
    hand.order(1, remove(0));
    assert_eq!(refused(&hand, 1).0, ErrorKind::Conflict);
}

#[test]
fn a_model_that_nobody_uses_is_removed_and_the_store_is_told() {
    let mut hand = Hand::with(&[]);
    fetched(&mut hand, 0, Ok(on_disk(0)));
    hand.order(1, remove(0));
    assert_eq!((removals(&hand), hand.output(1)), (1, None));
    // A second command for the same model waits for the same load.
    hand.order(2, remove(0));
    assert_eq!((removals(&hand), hand.output(2)), (0, None));
    removed(&mut hand, 0, Ok(()));
    assert_eq!(hand.output(1), Some(Ok(CommandOutput::Done)));
    assert_eq!(hand.output(2), Some(Ok(CommandOutput::Done)));
    assert!(!hand.engine.view().knows_model(&parts::model(0)));
    let gone = hand.find(|effect| match effect {
        Effect::Record { changes, .. } => Some(changes.clone()),
        _ => None,
    });
    let (hive, model) = (parts::hive(0), parts::model(0));
    assert_eq!(gone, Some(vec![rbee_core::registry::Change::ModelGone { hive, model }]));
    assert!(hand.engine.is_quiet());
}

#[test]
fn a_removal_that_fails_is_told_and_the_hive_is_asked_what_it_has() {
    let mut hand = Hand::with(&[]);
    hand.order(1, remove(0));
    removed(&mut hand, 0, Err(error(ErrorKind::Storage)));
    assert_eq!(refused(&hand, 1).0, ErrorKind::Storage);
    assert!(hand.engine.view().knows_model(&parts::model(0)));
    let asks = |effect: &Effect| matches!(effect, Effect::ReportHive { .. }).then_some(());
    assert!(hand.find(asks).is_some() && hand.engine.is_quiet());
}

#[test]
fn a_job_waits_for_the_removal_of_its_model_and_an_operator_is_refused() {
    let mut hand = Hand::with(&[]);
    hand.order(1, remove(0));
    hand.job(1, 0);
    assert_eq!((hand.spawns().len(), fetches(&hand).len()), (0, 0));
    let conflict =
        "model hf:org/model-0 is being removed from hive hive-0; try again when that is done";
    for (n, command) in [(2, load(0)), (3, provision(0))] {
        hand.order(n, command);
        assert_eq!(refused(&hand, n), (ErrorKind::Conflict, conflict.to_owned()));
    }
    let (worker, hive, spec) = (parts::worker(9), parts::hive(0), parts::spec(parts::model(0), 1));
    hand.order(4, Command::Load { worker, hive, spec, evict: Vec::new(), pin: false });
    assert_eq!(refused(&hand, 4).0, ErrorKind::Conflict);
    // A report that still shows the model changes nothing.
    hand.report(0, 2, &[]);
    assert_eq!(hand.spawns().len(), 0);
    removed(&mut hand, 0, Ok(()));
    assert_eq!(fetches(&hand), [(parts::hive(0), parts::model(0))]);
    fetched(&mut hand, 0, Ok(on_disk(0)));
    assert_eq!(hand.spawns().len(), 1);
}

#[test]
fn a_load_goes_on_by_itself_until_a_worker_is_started() {
    let mut hand = Hand::with(&[]);
    hand.order(1, load(7));
    assert_eq!((fetches(&hand).len(), hand.output(1)), (1, None));
    assert_eq!(hand.engine.counters().commands, 1);
    // The operator is not asked for anything.
    fetched(&mut hand, 7, Ok(on_disk(7)));
    let (id, _, spec) = hand.spawns().remove(0);
    assert_eq!((found(&hand, 1), spec.model), (id, parts::model(7)));
    assert_eq!(hand.engine.counters().commands, 0);
}

#[test]
fn a_load_finds_the_worker_that_is_there_or_on_its_way_and_pins_it() {
    let mut hand = Hand::with(&[worker(1, 1, 1)]);
    hand.order(1, load(1));
    assert_eq!(found(&hand, 1), parts::worker(1));
    hand.order(2, load(0));
    let loading = found(&hand, 2);
    let request = LoadRequest { pin: true, ..LoadRequest::new(parts::model(0)) };
    hand.order(3, Command::LoadModel(request));
    assert_eq!((found(&hand, 3), hand.spawns().len()), (loading, 0));
    assert!(hand.engine.view().worker(loading).unwrap().pinned);
}

#[test]
fn two_loads_that_are_asked_about_side_by_side_start_one_worker() {
    let mut hand = Hand::with(&[]);
    hand.answers = false;
    hand.order(1, load(0));
    let first = question(&hand);
    hand.order(2, load(0));
    let second = question(&hand);
    let place = || Ok(spawn(parts::model(0), 1, Vec::new()));
    choose(&mut hand, first, place());
    let started = found(&hand, 1);
    choose(&mut hand, second, place());
    assert_eq!((found(&hand, 2), hand.spawns().len()), (started, 0));
}

#[test]
fn a_load_whose_policy_fails_or_would_wait_or_answers_nonsense_is_placed_by_the_built_in_one() {
    let elsewhere = Placement::Spawn {
        hive: parts::hive(1),
        spec: parts::spec(parts::model(0), 1),
        evict: Vec::new(),
    };
    let mut no_device = parts::spec(parts::model(0), 1);
    no_device.devices = vec![4];
    let no_device = Placement::Spawn { hive: parts::hive(0), spec: no_device, evict: Vec::new() };
    let cases = [
        (Ok(Placement::Wait), None),
        (Err(error(ErrorKind::Internal)), Some("made up")),
        (Ok(elsewhere), Some("hive hive-1 is not one of those that it may choose")),
        (Ok(no_device), Some("device 4 of hive hive-0 is not one that it may choose")),
        (Ok(spawn(parts::model(1), 1, Vec::new())), Some("it chose to start model hf:org/model-1")),
    ];
    for (answer, fault) in cases {
        let mut hand = Hand::with(&[]);
        hand.hive(1, parts::added());
        hand.report(1, 1, &[]);
        hand.answers = false;
        let request =
            LoadRequest { hive: Some(parts::hive(0)), ..LoadRequest::new(parts::model(0)) };
        hand.order(1, Command::LoadModel(request));
        let ticket = question(&hand);
        choose(&mut hand, ticket, answer);
        let (id, hive, spec) = hand.spawns().remove(0);
        assert_eq!((found(&hand, 1), hive, spec.model), (id, parts::hive(0), parts::model(0)));
        let noted = hand.find(|effect| match effect {
            Effect::Note(Note::PolicyFault(error)) => Some(error.message().to_owned()),
            _ => None,
        });
        let expected = fault.map(|why| format!("asked where to load model hf:org/model-0: {why}"));
        assert_eq!(noted, expected);
    }
}

#[test]
fn a_load_that_the_policy_refuses_is_refused() {
    let mut hand = Hand::with(&[]);
    hand.answers = false;
    hand.order(1, load(0));
    let ticket = question(&hand);
    choose(&mut hand, ticket, Ok(Placement::Reject(error(ErrorKind::Rejected))));
    assert_eq!((refused(&hand, 1).0, hand.spawns().len()), (ErrorKind::Rejected, 0));
    // A second answer is ignored.
    choose(&mut hand, ticket, Ok(spawn(parts::model(0), 1, Vec::new())));
    assert!(hand.spawns().is_empty() && hand.output(1).is_none());
}

#[test]
fn a_model_that_is_fetched_again_and_again_and_never_on_the_disk_is_given_up() {
    let mut hand = Hand::with(&[]);
    hand.answers = false;
    hand.order(1, load(7));
    for rev in 2..5 {
        let ticket = question(&hand);
        // The hive reports its disk without the model.
        hand.report(0, rev, &[]);
        choose(&mut hand, ticket, Ok(spawn(parts::model(7), 1, Vec::new())));
        assert_eq!((fetches(&hand).len(), hand.output(1)), (1, None));
        fetched(&mut hand, 7, Ok(on_disk(7)));
    }
    let message = "model hf:org/model-7 was fetched, and is not on the disk";
    assert_eq!(refused(&hand, 1), (ErrorKind::ModelNotFound, message.to_owned()));
    assert!(hand.engine.is_quiet());
}

#[test]
fn two_orders_and_a_job_share_one_download() {
    let mut hand = Hand::with(&[]);
    hand.order(1, provision(7));
    assert_eq!(fetches(&hand).len(), 1);
    hand.order(2, provision(7));
    hand.job(1, 7);
    assert_eq!((fetches(&hand).len(), hand.output(2)), (0, None));
    hand.order(3, load(7));
    assert_eq!((fetches(&hand).len(), hand.output(3)), (0, None));
    assert_eq!(hand.engine.counters().provisioning, 1);
    fetched(&mut hand, 7, Ok(on_disk(7)));
    let model = Ok(CommandOutput::Model(Box::new(on_disk(7))));
    assert_eq!((hand.output(1), hand.output(2)), (Some(model.clone()), Some(model)));
    let (id, ..) = hand.spawns().remove(0);
    assert_eq!(
        (hand.spawns().len(), found(&hand, 3)),
        (1, id),
        "one worker for the job and the load"
    );
}

#[test]
fn a_download_that_fails_is_told_to_everybody_who_waits_for_it() {
    let mut hand = Hand::with(&[]);
    hand.order(1, provision(7));
    hand.order(2, load(7));
    hand.job(1, 7);
    fetched(&mut hand, 7, Err(error(ErrorKind::ModelNotFound)));
    assert_eq!(refused(&hand, 1).0, ErrorKind::ModelNotFound);
    assert_eq!(refused(&hand, 2).0, ErrorKind::ModelNotFound);
    assert_eq!(hand.failure(), ErrorKind::ModelNotFound);
}

#[test]
fn a_download_without_progress_is_given_up() {
    let mut hand = Hand::with(&[]);
    hand.order(1, provision(7));
    hand.wait(Duration::from_secs(500));
    let (hive, model) = (parts::hive(0), parts::model(7));
    hand.feed(Input::ProvisionProgress { hive, model });
    hand.wait(Duration::from_secs(599));
    assert_eq!(hand.output(1), None);
    hand.wait(Duration::from_secs(1));
    let message = "the download of model hf:org/model-7 to hive hive-0 made no progress for 600s";
    assert_eq!(refused(&hand, 1), (ErrorKind::HiveUnreachable, message.to_owned()));
    // Its result still counts when it comes.
    fetched(&mut hand, 7, Ok(on_disk(7)));
    assert!(hand.engine.view().knows_model(&parts::model(7)) && hand.output(1).is_none());
}

#[test]
fn those_who_verify_the_same_model_at_once_share_the_work() {
    let mut hand = Hand::with(&[]);
    let verify = || Command::Verify { hive: parts::hive(0), model: parts::model(0) };
    let begun = |hand: &Hand| {
        hand.all(|effect| matches!(effect, Effect::Verify { .. }).then_some(())).len()
    };
    hand.order(1, verify());
    assert_eq!(begun(&hand), 1);
    hand.order(2, verify());
    assert_eq!((begun(&hand), hand.output(2)), (0, None));
    let (hive, model) = (parts::hive(0), parts::model(0));
    hand.feed(Input::Verified { hive, model, result: Ok(Vec::new()) });
    for n in [1, 2] {
        assert_eq!(hand.output(n), Some(Ok(CommandOutput::Damage(Vec::new()))));
    }
    assert!(hand.engine.is_quiet());
}

#[test]
fn orders_for_a_hive_that_is_not_there_are_refused() {
    let mut hand = Hand::with(&[]);
    let (hive, model) = (parts::hive(8), parts::model(0));
    let orders = [
        Command::Provision { hive: hive.clone(), model: model.clone() },
        Command::Verify { hive: hive.clone(), model: model.clone() },
        Command::RemoveModel { hive: hive.clone(), model: model.clone() },
        Command::LoadModel(LoadRequest { hive: Some(hive), ..LoadRequest::new(model) }),
    ];
    for (n, order) in (1..).zip(orders) {
        hand.order(n, order);
        let message = "hive hive-8 does not exist".to_owned();
        assert_eq!(refused(&hand, n), (ErrorKind::NotFound, message));
    }
}

#[test]
fn a_queen_that_goes_down_starts_no_model_at_an_operators_word() {
    let mut hand = Hand::with(&[worker(1, 1, 1)]);
    hand.command(Command::Drain).unwrap();
    hand.order(2, load(0));
    assert_eq!(refused(&hand, 2).0, ErrorKind::ShuttingDown);
    hand.order(3, load(1));
    assert_eq!(found(&hand, 3), parts::worker(1), "one that is there is found");
}

#[test]
fn what_operators_may_have_under_way_is_bounded() {
    let mut hand = Hand::with(&[]);
    for n in 0..1_024 {
        hand.order(n, provision(7));
        assert_eq!(hand.output(n), None);
    }
    hand.order(2_000, load(0));
    assert_eq!(refused(&hand, 2_000).0, ErrorKind::SystemAtCapacity);
    fetched(&mut hand, 7, Ok(on_disk(7)));
    hand.order(2_001, load(0));
    found(&hand, 2_001);
}

#[test]
fn a_model_that_the_hive_cannot_read_is_not_fetched_to_it() {
    let mut hand = Hand::with(&[]);
    let mut report = parts::report(9, [], []);
    report.engines = Some(vec![EngineSupport::candle()]);
    hand.hive(0, HiveFact::Report(Box::new(report)));
    let mut kind = ModelKind::new(ModelFormat::Gguf);
    kind.architecture = Some("mamba".into());
    hand.feed(Input::ModelKind { model: parts::model(7), kind });
    let is_refused = |hand: &Hand, n| {
        let (kind, message) = refused(hand, n);
        assert_eq!(kind, ErrorKind::ModelIncompatible);
        for part in [
            "model hf:org/model-7 is GGUF",
            "hive hive-0: ",
            "candle reads unquantized safetensors",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(fetches(hand), []);
    };
    hand.order(1, provision(7));
    is_refused(&hand, 1);
    // The policy insists on the hive, which is a fault; the built-in policy refuses.
    hand.answers = false;
    hand.order(2, load(7));
    let ticket = question(&hand);
    choose(&mut hand, ticket, Ok(spawn(parts::model(7), 1, Vec::new())));
    is_refused(&hand, 2);
    // Nor for a job, whatever the policy answers.
    hand.job(1, 7);
    let mut answered = 0;
    while let Some((ticket, _)) = hand.asked.get(answered).copied().filter(|_| answered < 20) {
        answered += 1;
        hand.answer(ticket, spawn(parts::model(7), 1, Vec::new()));
        assert_eq!(fetches(&hand), []);
    }
    assert!((3..20).contains(&answered), "asked {answered} times");
}
