//! What the built-in policy decides, and the reasons it gives.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rbee_core::{
    Ask, Candidate, ClusterView, CorrelationId, Device, DeviceKind, Error, ErrorKind, HiveId,
    HiveView, Job, JobId, LeastLoaded, Now, Placement, Priority, Prompt, Sampling, Scheduler, Task,
    Time, Verdict, WorkerId, WorkerInfo, WorkerState, WorkerView,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn ask() -> Ask {
    let task = Task::Generate {
        prompt: Prompt::Text("hello".into()),
        sampling: Sampling::default(),
    };
    Ask {
        job: Arc::new(Job {
            id: JobId::from_random_bits(1),
            model: "m".parse().unwrap(),
            priority: Priority::Interactive,
            task,
            seed: 1,
            prefix: Arc::default(),
            timeout: Duration::from_secs(300),
            deadline: None,
            detached: false,
            tenant: None,
            correlation_id: CorrelationId::new("test").unwrap(),
        }),
        now: Now::default(),
        random: 0,
        attempts: 0,
        avoid: Arc::default(),
        must_match: None,
        refused: Arc::default(),
    }
}

fn embed() -> Ask {
    let mut ask = ask();
    let inputs = vec!["hello".into()];
    Arc::make_mut(&mut ask.job).task = Task::Embed { inputs };
    ask
}

fn matching(numerics: &str) -> Ask {
    Ask {
        must_match: Some(numerics.into()),
        ..ask()
    }
}

fn refused_by(hives: &[&str]) -> Ask {
    let error = |hive: &str| Error::new(ErrorKind::ModelIncompatible, format!("{hive} cannot"));
    let refused = hives.iter().map(|hive| (id(hive), error(hive))).collect();
    Ask {
        refused: Arc::new(refused),
        ..ask()
    }
}

fn retry(avoid: &[u128]) -> Ask {
    Ask {
        attempts: 1,
        avoid: Arc::new(avoid.iter().map(|n| worker_id(*n)).collect::<BTreeSet<_>>()),
        ..ask()
    }
}

fn id(hive: &str) -> HiveId {
    HiveId::new(hive).unwrap()
}

fn worker_id(number: u128) -> WorkerId {
    WorkerId::from_random_bits(number)
}

/// An idle worker of the model with two slots, on device 1 of the hive.
fn worker(number: u128, hive: &str, model: &str) -> WorkerView {
    let mut info = WorkerInfo::new(model.parse().unwrap(), "test");
    info.id = worker_id(number);
    info.hive = id(hive);
    info.slots = 2;
    info.devices = vec![1];
    let mut view = WorkerView::ready(Arc::new(info), Time::default());
    view.memory_bytes = 4 * GIB;
    view
}

fn device(index: u32, total: u64, free: u64) -> Device {
    Device {
        index,
        kind: if index == 0 {
            DeviceKind::Cpu
        } else {
            DeviceKind::Cuda
        },
        name: format!("chip {index}"),
        memory_total: total,
        memory_free: free,
    }
}

/// An online hive with these devices and, where a size is given, model `m` on its disk.
fn hive(name: &str, devices: impl Into<Arc<[Device]>>, size: Option<u64>) -> HiveView {
    HiveView {
        id: id(name),
        online: true,
        devices: devices.into(),
        models: Arc::new(
            size.map(|size| ("m".parse().unwrap(), size))
                .into_iter()
                .collect(),
        ),
        reserved: BTreeMap::new(),
    }
}

fn cluster(hives: Vec<HiveView>, workers: Vec<WorkerView>) -> ClusterView {
    let mut cluster = ClusterView::default();
    hives.into_iter().for_each(|hive| cluster.put_hive(hive));
    workers
        .into_iter()
        .for_each(|worker| cluster.put_worker(worker));
    cluster
}

fn place(ask: &Ask, cluster: &ClusterView) -> Placement {
    LeastLoaded::default().place(ask, cluster).unwrap()
}

fn assigned(number: u128) -> Placement {
    Placement::Assign(worker_id(number))
}

/// Hive, device and evicted workers of a spawn.
fn spawned(placement: Placement) -> (String, u32, Vec<WorkerId>) {
    match placement {
        Placement::Spawn { hive, spec, evict } => (hive.to_string(), spec.devices[0], evict),
        other => panic!("{other:?} is no spawn"),
    }
}

fn rejected(placement: Placement) -> Error {
    match placement {
        Placement::Reject(error) => error,
        other => panic!("{other:?} is no rejection"),
    }
}

/// Why the candidate was not taken.
fn reason(ask: &Ask, cluster: &ClusterView, candidate: &Candidate) -> String {
    let explanation = LeastLoaded::default().explain(ask, cluster);
    let found = explanation
        .candidates
        .into_iter()
        .find(|(c, _)| c == candidate);
    match found.expect("a candidate").1 {
        Verdict::Refused(why) => why,
        other => panic!("{other} is no refusal"),
    }
}

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
    let untried = Ask {
        attempts: 0,
        ..retry(&[1])
    };
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
fn a_new_worker_for_a_stream_goes_where_no_worker_with_other_numerics_runs() {
    let devices = [device(1, 9 * GIB, 9 * GIB), device(2, 9 * GIB, 5 * GIB)];
    let ask = matching("other");
    let mut fleet = cluster(
        vec![hive("a", devices, Some(GIB))],
        vec![worker(1, "a", "m")],
    );
    let (_, device, _) = spawned(place(&ask, &fleet));
    assert_eq!(device, 2);
    // Where one runs on every device another would be no better; and one that loads may be what is wanted.
    fleet.put_worker(WorkerView {
        info: Arc::new(WorkerInfo {
            devices: vec![2],
            ..(*worker(2, "a", "m").info).clone()
        }),
        ..worker(2, "a", "m")
    });
    assert_eq!(place(&ask, &fleet), Placement::Wait);
    fleet.edit_worker(worker_id(2), |w| w.state = WorkerState::Loading);
    assert_eq!(place(&ask, &fleet), Placement::Wait);
}

#[test]
fn no_second_worker_is_started_while_one_is_busy_or_loading() {
    let hives = || vec![hive("a", [device(1, 64 * GIB, 64 * GIB)], Some(GIB))];
    for change in [
        |w: &mut WorkerView| w.leased = 2,
        |w: &mut WorkerView| w.state = WorkerState::Loading,
    ] {
        let mut only = worker(1, "a", "m");
        change(&mut only);
        assert_eq!(
            place(&ask(), &cluster(hives(), vec![only])),
            Placement::Wait
        );
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
fn workers_and_devices_of_an_offline_hive_are_left_alone() {
    let mut off = hive("a", [device(1, 64 * GIB, 64 * GIB)], Some(GIB));
    off.online = false;
    let on = hive("b", [device(0, 8 * GIB, 8 * GIB)], None);
    let fleet = cluster(vec![off.clone(), on], vec![worker(1, "a", "m")]);
    assert_eq!(spawned(place(&ask(), &fleet)).0, "b");
    let fleet = cluster(vec![off], vec![worker(1, "a", "m")]);
    assert_eq!(place(&ask(), &fleet), Placement::Wait);
    assert_eq!(
        reason(&ask(), &fleet, &Candidate::Worker(worker_id(1))),
        "its hive is offline"
    );
}

#[test]
fn a_tiny_model_fits_on_a_full_laptop() {
    let fleet = cluster(
        vec![hive("laptop", [device(0, 2 * GIB, 5 * MIB)], Some(3 * MIB))],
        vec![],
    );
    match place(&ask(), &fleet) {
        Placement::Spawn { spec, evict, .. } => {
            assert_eq!((spec.slots, spec.need_bytes), (4, 3 * MIB * 120 / 100));
            assert!(evict.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_site_with_the_files_is_better_than_an_empty_one_and_that_than_a_slow_one() {
    let roomy = || [device(1, 64 * GIB, 64 * GIB)];
    let full = || [device(1, 64 * GIB, 0)];
    let idle = || vec![worker(1, "disk", "x")];
    let with_disk = vec![
        hive("disk", full(), Some(GIB)),
        hive("empty", roomy(), None),
    ];
    assert_eq!(
        spawned(place(&ask(), &cluster(with_disk, idle()))).0,
        "disk"
    );
    let two = vec![
        hive("disk", full(), Some(GIB)),
        hive("free", roomy(), Some(GIB)),
    ];
    assert_eq!(spawned(place(&ask(), &cluster(two, idle()))).0, "free");
    let kinds = [device(0, 64 * GIB, 64 * GIB), device(1, 8 * GIB, 8 * GIB)];
    let one = vec![hive("a", kinds, Some(GIB))];
    assert_eq!(
        spawned(place(&ask(), &cluster(one, vec![]))).1,
        1,
        "a GPU goes first"
    );
    let free = vec![
        hive("a", [device(1, 64 * GIB, 8 * GIB)], Some(GIB)),
        hive("b", [device(1, 64 * GIB, 9 * GIB)], Some(GIB)),
    ];
    assert_eq!(spawned(place(&ask(), &cluster(free, vec![]))).0, "b");
    let alike = vec![hive("a", roomy(), Some(GIB)), hive("b", roomy(), Some(GIB))];
    let crowd = vec![worker(1, "a", "x")];
    assert_eq!(
        spawned(place(&ask(), &cluster(alike.clone(), crowd))).0,
        "b"
    );
    assert_eq!(spawned(place(&ask(), &cluster(alike, vec![]))).0, "a");
}

#[test]
fn what_is_promised_to_others_is_not_given_away_twice() {
    let mut promised = hive("a", [device(1, 8 * GIB, 8 * GIB)], Some(4 * GIB));
    promised.reserved.insert(1, 4 * GIB);
    let fleet = cluster(vec![promised], vec![]);
    assert_eq!(place(&ask(), &fleet), Placement::Wait);
}

#[test]
fn idle_workers_make_room_and_busy_ones_are_waited_for() {
    let hives = || vec![hive("a", [device(1, 10 * GIB, GIB)], Some(4 * GIB))];
    let mut fleet = cluster(hives(), vec![worker(1, "a", "x"), worker(2, "a", "y")]);
    fleet.edit_worker(worker_id(1), |w| w.memory_bytes = 5 * GIB);
    assert_eq!(
        spawned(place(&ask(), &fleet)).2,
        [worker_id(1)],
        "4 GiB of the other would not do"
    );
    fleet.edit_worker(worker_id(1), |w| w.leased = 1);
    assert_eq!(place(&ask(), &fleet), Placement::Wait);
    assert_eq!(
        reason(&ask(), &fleet, &Candidate::Hive(id("a"))),
        "needs 5.3 GiB, 1.0 GiB free on device 1 (chip 1) and 4.0 GiB in idle workers"
    );
}

#[test]
fn a_model_of_unknown_size_is_provisioned_first_and_a_size_known_elsewhere_counts() {
    let unknown = cluster(vec![hive("a", [device(1, 8 * GIB, 0)], None)], vec![]);
    match place(&ask(), &unknown) {
        Placement::Spawn { spec, .. } => assert_eq!(spec.need_bytes, 0),
        other => panic!("{other:?}"),
    }
    let known = vec![
        hive("a", [device(1, 8 * GIB, 8 * GIB)], None),
        hive("b", [device(1, 8 * GIB, 8 * GIB)], Some(16 * GIB)),
    ];
    let error = rejected(place(&ask(), &cluster(known, vec![])));
    assert_eq!(error.kind(), ErrorKind::InsufficientVram);
}

#[test]
fn a_model_too_large_for_every_device_is_rejected_with_what_is_missing() {
    let hives = (0..9)
        .map(|n| {
            hive(
                &format!("h{n}"),
                [device(1, 8 * GIB, 8 * GIB)],
                Some(20 * GIB),
            )
        })
        .collect();
    let error = rejected(place(&ask(), &cluster(hives, vec![])));
    assert_eq!(error.kind(), ErrorKind::InsufficientVram);
    let said = error.message();
    assert!(
        said.starts_with(
            "model m fits on no device: hive h0: needs 26.4 GiB, device 1 (chip 1) has 8.0 GiB in all; "
        ) && said.ends_with("; and 5 more"),
        "{said}"
    );
}

#[test]
fn a_hive_that_may_still_help_is_waited_for() {
    let small = || hive("small", [device(1, 8 * GIB, 8 * GIB)], Some(20 * GIB));
    let mut large = hive("large", [device(1, 80 * GIB, 80 * GIB)], Some(20 * GIB));
    large.online = false;
    assert_eq!(
        place(&ask(), &cluster(vec![small(), large.clone()], vec![])),
        Placement::Wait
    );
    let silent = hive("silent", [], None);
    assert_eq!(
        place(&ask(), &cluster(vec![small(), silent], vec![])),
        Placement::Wait
    );
    large.devices = Arc::from([device(1, 9 * GIB, 0)]);
    rejected(place(&ask(), &cluster(vec![small(), large], vec![])));
}

#[test]
fn nothing_is_decided_without_a_hive() {
    assert_eq!(place(&ask(), &ClusterView::default()), Placement::Wait);
    let mut off = hive("a", [device(1, GIB, GIB)], Some(9 * GIB));
    off.online = false;
    assert_eq!(place(&ask(), &cluster(vec![off], vec![])), Placement::Wait);
}

#[test]
fn a_hive_that_refused_is_not_asked_again_and_when_all_did_the_job_ends_with_the_first_refusal() {
    let roomy = |name| hive(name, [device(1, 64 * GIB, 64 * GIB)], Some(GIB));
    let mut fleet = cluster(vec![roomy("a"), roomy("b")], vec![]);
    assert_eq!(spawned(place(&refused_by(&["a"]), &fleet)).0, "b");
    let both = refused_by(&["a", "b"]);
    assert_eq!(rejected(place(&both, &fleet)).message(), "a cannot");
    assert_eq!(
        reason(&both, &fleet, &Candidate::Hive(id("b"))),
        "it refused the model: b cannot"
    );
    fleet.edit_hive(&id("a"), |hive| hive.online = false);
    assert_eq!(rejected(place(&both, &fleet)).message(), "b cannot");
    assert_eq!(
        rejected(place(&refused_by(&["b"]), &fleet)).message(),
        "b cannot",
        "one that does not answer is no reason to wait"
    );
}

#[test]
fn a_task_that_the_model_cannot_do_is_rejected() {
    let hives = || vec![hive("a", [device(1, 64 * GIB, 64 * GIB)], Some(GIB))];
    let mut fleet = cluster(hives(), vec![worker(1, "a", "m")]);
    let error = rejected(place(&embed(), &fleet));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.message().starts_with("model m cannot make vectors"),
        "{error}"
    );
    // Another engine has the model too, and it can.
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
fn every_candidate_is_explained() {
    let mut workers: Vec<_> = (1..=6).map(|n| worker(n, "a", "m")).collect();
    workers[1].leased = 2;
    workers[2].state = WorkerState::Loading;
    workers[3].state = WorkerState::Failed;
    workers[3].faults = 3;
    workers[4].last_used = Time::from_micros(5);
    Arc::make_mut(&mut workers[5].info).numerics = "other".into();
    let fleet = cluster(vec![], workers);
    let ask = Ask {
        must_match: Some("test".into()),
        ..ask()
    };
    let explanation = LeastLoaded::default().explain(&ask, &fleet);
    assert_eq!(explanation.placement, Ok(assigned(1)));
    let verdicts: BTreeMap<_, _> = explanation.candidates.into_iter().collect();
    let verdict = |number| verdicts[&Candidate::Worker(worker_id(number))].to_string();
    assert_eq!(verdict(1), "chosen");
    assert_eq!(verdict(2), "refused: all 2 slots taken");
    assert_eq!(verdict(3), "refused: it is still loading");
    assert_eq!(
        verdict(4),
        "refused: it has failed 3 times and waits for a probe"
    );
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
    let chosen = explanation
        .candidates
        .iter()
        .filter(|(_, v)| *v == Verdict::Chosen);
    assert_eq!(chosen.count(), 1);
}
