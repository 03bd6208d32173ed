//! Decisions if a worker must be started first.

use super::*;

#[test]
fn a_new_worker_for_a_stream_goes_where_no_worker_with_other_numerics_runs() {
    let devices = [device(1, 9 * GIB, 9 * GIB), device(2, 9 * GIB, 5 * GIB)];
    let ask = matching("other");
    let mut fleet = cluster(vec![hive("a", devices, Some(GIB))], vec![worker(1, "a", "m")]);
    let (_, device, _) = spawned(place(&ask, &fleet));
    assert_eq!(device, 2);
    // If every device runs one, another would not help; and one that is loading may be enough.
    fleet.put_worker(WorkerView {
        info: Arc::new(WorkerInfo { devices: vec![2], ..(*worker(2, "a", "m").info).clone() }),
        ..worker(2, "a", "m")
    });
    assert_eq!(place(&ask, &fleet), Placement::Wait);
    fleet.edit_worker(worker_id(2), |w| w.state = WorkerState::Loading);
    assert_eq!(place(&ask, &fleet), Placement::Wait);
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
    assert_eq!(reason(&ask(), &fleet, &Candidate::Worker(worker_id(1))), "its hive is offline");
}

#[test]
fn a_tiny_model_fits_on_a_full_laptop() {
    let fleet = cluster(vec![hive("laptop", [device(0, 2 * GIB, 5 * MIB)], Some(3 * MIB))], vec![]);
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
    let with_disk = vec![hive("disk", full(), Some(GIB)), hive("empty", roomy(), None)];
    assert_eq!(spawned(place(&ask(), &cluster(with_disk, idle()))).0, "disk");
    let two = vec![hive("disk", full(), Some(GIB)), hive("free", roomy(), Some(GIB))];
    assert_eq!(spawned(place(&ask(), &cluster(two, idle()))).0, "free");
    let kinds = [device(0, 64 * GIB, 64 * GIB), device(1, 8 * GIB, 8 * GIB)];
    let one = vec![hive("a", kinds, Some(GIB))];
    assert_eq!(spawned(place(&ask(), &cluster(one, vec![]))).1, 1, "a GPU goes first");
    let free = vec![
        hive("a", [device(1, 64 * GIB, 8 * GIB)], Some(GIB)),
        hive("b", [device(1, 64 * GIB, 9 * GIB)], Some(GIB)),
    ];
    assert_eq!(spawned(place(&ask(), &cluster(free, vec![]))).0, "b");
    let alike = vec![hive("a", roomy(), Some(GIB)), hive("b", roomy(), Some(GIB))];
    let crowd = vec![worker(1, "a", "x")];
    assert_eq!(spawned(place(&ask(), &cluster(alike.clone(), crowd))).0, "b");
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
    assert_eq!(spawned(place(&ask(), &fleet)).2, [worker_id(1)], "4 GiB of the other would not do");
    fleet.edit_worker(worker_id(1), |w| w.leased = 1);
    assert_eq!(place(&ask(), &fleet), Placement::Wait);
    assert_eq!(
        reason(&ask(), &fleet, &Candidate::Hive(id("a"))),
        "needs 5.3 GiB, 1.0 GiB free on device 1 (chip 1) and 4.0 GiB in idle workers"
    );
    let expected = Sizing::default().expected_bytes(4 * GIB);
    let missing = expected + expected / 10 - GIB;
    fleet.edit_worker(worker_id(2), |w| w.memory_bytes = missing - 1);
    assert_eq!(place(&ask(), &fleet), Placement::Wait);
    fleet.edit_worker(worker_id(2), |w| w.memory_bytes = missing);
    assert_eq!(spawned(place(&ask(), &fleet)).2, [worker_id(2)]);
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
        .map(|n| hive(&format!("h{n}"), [device(1, 8 * GIB, 8 * GIB)], Some(20 * GIB)))
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
    assert_eq!(place(&ask(), &cluster(vec![small(), large.clone()], vec![])), Placement::Wait);
    let silent = hive("silent", [], None);
    assert_eq!(place(&ask(), &cluster(vec![small(), silent], vec![])), Placement::Wait);
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
    assert_eq!(reason(&both, &fleet, &Candidate::Hive(id("b"))), "it refused the model: b cannot");
    fleet.edit_hive(&id("a"), |hive| hive.online = false);
    assert_eq!(rejected(place(&both, &fleet)).message(), "b cannot");
    assert_eq!(
        rejected(place(&refused_by(&["b"]), &fleet)).message(),
        "b cannot",
        "one that does not answer is no reason to wait"
    );
}

/// A model on disk whose files give this information.
fn described(info: serde_json::Value) -> ModelOnDisk {
    let mut info_of_all = serde_json::json!({
        "format": "safetensors", "architecture": "llama", "task": "generate", "parameters": null,
        "weights_bytes": GIB, "dtype": "F16", "quantization": null, "context": 8192, "vocab": null,
        "layers": null, "hidden": null, "heads": null, "kv_heads": null, "head_dim": null,
        "kv_cache": null, "has_chat_template": true, "license": null, "embedding": null,
    });
    for (key, value) in info.as_object().unwrap() {
        info_of_all[key] = value.clone();
    }
    let info = serde_json::from_value::<ModelInfo>(info_of_all).unwrap();
    let mut model = ModelOnDisk::new("m".parse().unwrap(), GIB);
    model.info = Some(Arc::new(info));
    model
}

fn with_model(mut hive: HiveView, model: ModelOnDisk) -> HiveView {
    hive.models = Arc::new([(model.model.clone(), model)].into());
    hive
}

#[test]
fn the_need_of_a_model_follows_from_what_its_files_say() {
    let cache = serde_json::json!({ "whole": 16_384, "windowed": 0, "window": 0 });
    let model = described(serde_json::json!({ "parameters": GIB / 2, "kv_cache": cache }));
    let need = |index| {
        let hive = with_model(hive("a", [device(index, 64 * GIB, 64 * GIB)], None), model.clone());
        match place(&ask(), &cluster(vec![hive], vec![])) {
            Placement::Spawn { spec, .. } => spec.need_bytes,
            other => panic!("{other:?}"),
        }
    };
    // Four texts of 4,096 tokens: 16 bits on a GPU and 32 bits on the CPU, as for the weights.
    assert_eq!(need(1), GIB + 4 * 4_096 * 16_384 * 2);
    assert_eq!(need(0), 2 * GIB + 4 * 4_096 * 16_384 * 4);
}

#[test]
fn a_model_for_vectors_is_not_loaded_to_refuse_a_text() {
    let model = described(serde_json::json!({ "task": "embed", "architecture": "bert" }));
    let hive = with_model(hive("a", [device(1, 64 * GIB, 64 * GIB)], None), model);
    match place(&ask(), &cluster(vec![hive], vec![])) {
        Placement::Reject(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains("makes vectors"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reranker_is_not_loaded_to_refuse_a_text_or_vectors_and_no_vectors_are_taken_for_scores() {
    let bert = |task: &str| {
        let model = described(serde_json::json!({ "task": task, "architecture": "bert" }));
        cluster(vec![with_model(hive("a", [device(1, 64 * GIB, 64 * GIB)], None), model)], vec![])
    };
    let asked = |task: Task| {
        let mut ask = ask();
        Arc::make_mut(&mut ask.job).task = task;
        ask
    };
    let rerank = || asked(Task::rerank("a", ["b"]));
    for (ask, fleet, said) in [
        (ask(), bert("rerank"), "scores documents, and writes no text; ask it to rerank"),
        (
            asked(Task::embed(["a"])),
            bert("rerank"),
            "scores documents, and makes no vectors; ask it to rerank",
        ),
        (rerank(), bert("embed"), "makes vectors, and does not rerank"),
    ] {
        let error = rejected(place(&ask, &fleet));
        assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("model")));
        assert!(error.message().contains(said), "{error}");
        assert!(error.redacted().message().contains(said), "{error}");
    }
    spawned(place(&rerank(), &bert("rerank")));
}

#[test]
fn a_model_that_was_seen_to_take_more_than_its_files_say_is_reckoned_with_that() {
    let hive = || {
        with_model(
            hive("a", [device(1, 64 * GIB, 64 * GIB)], None),
            described(serde_json::json!({})),
        )
    };
    let need = |kind, measured| {
        let mut fleet = cluster(vec![hive()], vec![]);
        fleet.note_measured(&"m".parse().unwrap(), kind, measured);
        match place(&ask(), &fleet) {
            Placement::Spawn { spec, .. } => spec.need_bytes,
            other => panic!("{other:?}"),
        }
    };
    let from_files = GIB * 120 / 100;
    assert_eq!(need(DeviceKind::Cuda, 5 * GIB), 5 * GIB);
    assert_eq!(need(DeviceKind::Cuda, 64 * GIB), 64 * GIB, "it has just run there, so it fits");
    assert_eq!(need(DeviceKind::Cuda, 1), from_files, "less is no promise: its sequences may grow");
    assert_eq!(need(DeviceKind::Cpu, 5 * GIB), from_files, "numbers are wider on a processor");
}

#[test]
fn where_somebody_must_be_stopped_the_cheapest_worker_to_load_again_goes() {
    let devices = [device(1, 64 * GIB, 3 * GIB), device(2, 64 * GIB, 0)];
    let on = |number, device, memory| WorkerView {
        info: Arc::new(WorkerInfo {
            devices: vec![device],
            ..(*worker(number, "a", "x").info).clone()
        }),
        memory_bytes: memory,
        ..worker(number, "a", "x")
    };
    let workers = vec![on(1, 1, 40 * GIB), on(2, 2, 5 * GIB)];
    let fleet = cluster(vec![hive("a", devices, Some(3 * GIB))], workers);
    let (_, device, evicted) = spawned(place(&ask(), &fleet));
    assert_eq!((device, evicted), (2, vec![worker_id(2)]), "1 GiB is missing on the other");
}

#[test]
fn no_more_runs_are_planned_and_no_longer_sequences_than_the_machine_allows() {
    let planned = |limits| {
        let cache = serde_json::json!({ "whole": 16_384, "windowed": 0, "window": 0 });
        let mut model = described(serde_json::json!({ "kv_cache": cache }));
        model.limits = limits;
        let fleet = cluster(
            vec![with_model(hive("a", [device(1, 64 * GIB, 64 * GIB)], None), model)],
            vec![],
        );
        match place(&ask(), &fleet) {
            Placement::Spawn { spec, .. } => (spec.slots, spec.need_bytes),
            other => panic!("{other:?}"),
        }
    };
    let limits = |slots, context| WorkerLimits { slots, context, ..WorkerLimits::default() };
    let expected =
        |slots: u32, context: u64| (slots, GIB + u64::from(slots) * context * 16_384 * 2);
    assert_eq!(planned(limits(None, None)), expected(4, 4_096));
    assert_eq!(planned(limits(Some(1), Some(1_000))), expected(1, 1_000));
    assert_eq!(planned(limits(Some(64), Some(6_000))), expected(4, 6_000));
    assert_eq!(planned(limits(None, Some(100_000))), expected(4, 8_192), "the model's own");
}

#[test]
fn a_model_is_planned_with_the_limits_of_the_engine_that_would_run_it() {
    let cache = serde_json::json!({ "whole": 16_384, "windowed": 1_024, "window": 8 });
    let model = described(serde_json::json!({ "kv_cache": cache, "head_dim": 128 }));
    let pool = CachePool { tokens: NonZeroU32::new(1_024), kind: CacheType::F16 };
    let with = |name: &str, slots, cache| {
        let limits = WorkerLimits { slots: Some(slots), context: None, cache };
        let mut hive = hive(name, [device(1, 64 * GIB, 64 * GIB)], None);
        hive.engines = Some([EngineSupport::new("engine").with_limits(limits)].into());
        hive
    };
    let holder = with_model(hive("holder", [device(1, 64 * GIB, 64 * GIB)], None), model);
    let fleet = cluster(vec![holder, with("other", 2, None), with("own", 4, Some(pool))], vec![]);
    let estimates = Sizing::default().estimate(&"m".parse().unwrap(), &fleet);
    let expected: Vec<_> =
        estimates.iter().map(|estimate| (estimate.hive.as_str(), estimate.expected)).collect();
    let each = (16_384 * 4_096 + 1_024 * 8) * 2;
    let shared = (16_384 + 1_024) * 1_024 * 2;
    assert_eq!(
        expected,
        [("holder", GIB + 4 * each), ("other", GIB + 2 * each), ("own", GIB + shared)]
    );
}

#[test]
fn an_estimate_of_a_model_that_no_hive_knows_promises_nothing() {
    let fleet = cluster(vec![hive("a", [device(1, 64 * GIB, 64 * GIB)], Some(GIB))], vec![]);
    let fit = |model: &str| {
        let found = Sizing::default().estimate(&model.parse().unwrap(), &fleet);
        found.into_iter().map(|device| device.fit).collect::<Vec<_>>()
    };
    assert_eq!((fit("m"), fit("other")), (vec![Fit::Fits], vec![Fit::Unknown]));
}
