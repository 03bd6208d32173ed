//! What scripts can express, and the errors of invalid ones.

use std::{sync::Arc, time::Duration};

use rbee_core::{
    ErrorKind, LeastLoaded, Placement, RhaiScheduler, Scheduler,
    cluster::{LaneKey, LaneView},
    conformance,
    models::ModelOnDisk,
    scheduler::{Admission, Candidate, Verdict},
    time::Time,
};

use super::fleet::{
    GIB, ask, chosen, cluster, hive, id, model, on_devices, started, with_job, worker,
};

fn policy(body: &str) -> RhaiScheduler {
    RhaiScheduler::new(format!("fn schedule(job, workers, hives) {{ {body} }}")).unwrap()
}

fn refused(script: &str) -> String {
    let error = RhaiScheduler::new(script).expect_err("it must be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    error.message().to_owned()
}

#[test]
fn scripts_pass_the_suite() {
    // Ten thousand workers in a test build, on a machine that may be busy.
    let check = |body| {
        conformance::scheduler::check(&policy(body).with_limit(Duration::from_secs(10)));
    };
    check("builtin()");
    check("run_on(workers.with_model(job.model).idle().least_loaded()) ?? builtin()");
    check(
        "let free = workers.with_model(job.model).with_capacity();
         run_on(free.prefix_affinity()) ?? run_on(free.power_of_two())
         ?? (if workers.with_model(job.model).is_empty() {
                spawn_on(hives.with_model(job.model).available().most_vram_free())
                ?? spawn_on(hives.available().fewest_workers()) })
         ?? wait()",
    );
}

#[test]
fn a_script_decides_as_the_built_in_policy_does_where_it_says_the_same() {
    let cluster = cluster(
        [hive("a", &[24], &[("m", 5)], &[])],
        [worker(1, "a", "m", 2), worker(2, "a", "m", 1), worker(3, "a", "other", 0)],
    );
    let least =
        policy("run_on(workers.with_model(job.model).with_capacity().least_loaded()) ?? wait()");
    assert_eq!(chosen(&least, &ask("m"), &cluster), Ok(id(2)));
    assert_eq!(least.place(&ask("m"), &cluster), LeastLoaded::default().place(&ask("m"), &cluster));
    assert_eq!(least.place(&ask("nowhere"), &cluster), Ok(Placement::Wait));
}

#[test]
fn closures_see_the_variables_around_them() {
    let cluster = cluster(
        [hive("a", &[24], &[], &[("region", "eu")]), hive("b", &[24], &[], &[("region", "us")])],
        [worker(1, "a", "m", 0), worker(2, "b", "m", 1), worker(3, "b", "m", 3)],
    );
    let us = policy(
        "let region = \"us\"; run_on(workers.with_model(job.model).filter(|w| w.region == region).min_by(|w| w.load)) ?? wait()",
    );
    assert_eq!(chosen(&us, &ask("m"), &cluster), Ok(id(2)));
    let total = policy(
        "let sum = 0; for w in workers { sum += w.running; } if sum == 4 { wait() } else { reject(`${sum}`) }",
    );
    assert_eq!(total.place(&ask("m"), &cluster), Ok(Placement::Wait));
}

#[test]
fn constants_are_known_in_functions() {
    let script = "const BIG = gib(1);\nconst NAMES = [\"x\", \"m\"];\n\
                  fn is_big(size) { size == BIG }\nfn is_named(model) { model.to_string() in NAMES }\n\
                  fn schedule(job, workers, hives) { \
                  let named = [1].filter(|one| NAMES.contains(job.model.to_string())); \
                  if is_big(BIG) && is_named(job.model) && NAMES.len == 2 && named.len == 1 { wait() } else { reject(\"no\") } }";
    let policy = RhaiScheduler::new(script).unwrap();
    assert_eq!(policy.place(&ask("m"), &cluster([], [])), Ok(Placement::Wait));
}

#[test]
fn a_mistake_is_named_with_its_place_before_a_job_meets_it() {
    let body =
        |text: &str| refused(&format!("fn schedule(job, workers, hives) {{\n    {text}\n}}"));
    for (text, said) in [
        (
            "workers.idel().first()",
            "line 2, column 13: there is no function idel; did you mean idle?",
        ),
        (
            "if false { workers.leest_loaded() } wait()",
            "there is no function leest_loaded; did you mean least_loaded?",
        ),
        ("run_on(workers.first(), 1)", "line 2, column 5: run_on is given 2 values; it takes 1"),
        ("workers.take()", "take is given 0 values; it takes 1"),
        (
            "if false { workers.first().modell } wait()",
            "there is no property modell; did you mean model?",
        ),
        ("workers.idle", "there is no property idle; did you mean idle()?"),
        ("run_on(wrokers.first())", "line 2, column 12: there is no variable wrokers"),
        ("workers.take(\"two\")", "line 2, column 13: there is no take(workers, text)"),
        ("job.model - 1", "line 2, column 15: there is no -(model, int)"),
        ("workers.with_model(job.model)", "schedule returned a value of type workers"),
        ("let x = ;", "line 2"),
        ("print(1)", "note("),
    ] {
        let message = body(text);
        assert!(message.contains(said), "{text}: {message}");
    }
    assert!(
        refused("fn plan(job) { wait() }").contains("there is no fn schedule(job, workers, hives)")
    );
    assert!(refused("fn schedule(job) { wait() }").contains("schedule has 1 parameters"));
    assert!(
        refused("let x = 1;\nfn schedule(job, workers, hives) { wait() }")
            .contains("line 1, column 1: \"let\" is outside of a function")
    );
}

#[test]
fn a_fault_at_run_time_names_the_line() {
    let named = RhaiScheduler::new(
        "fn schedule(job, workers, hives) {\n  let hive = hives.get(\"mine\");\n  spawn_on(hive, hive.region)\n}",
    );
    let named = named.unwrap().with_name("mine");
    let cluster = cluster([hive("other", &[24], &[], &[])], []);
    let error = named.place(&ask("m"), &cluster).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().starts_with("policy mine: line 3"), "{error}");
    let wrong = policy("if job.model == \"m\" { return run_on(workers.first()); } wait()");
    let cluster = super::fleet::cluster([], [worker(1, "a", "other", 0)]);
    let error = wrong.place(&ask("m"), &cluster).unwrap_err();
    assert!(error.message().contains("has model other, the job wants m"), "{error}");
}

#[test]
fn admission_refuses_and_ranks() {
    let script = "fn schedule(job, workers, hives) { builtin() }\n\
                  fn admit(job, queue) { if queue.depth > 100 { reject(\"full\", \"SYSTEM_AT_CAPACITY\") } else { job.model != \"no\" } }\n\
                  fn order(job) { if job.is_batch { 10 } else { job.prompt_bytes } }";
    let policy = RhaiScheduler::new(script).unwrap();
    assert!(policy.info().admits);
    let admit = |name: &str| policy.admit(&ask(name), &cluster([], [])).unwrap();
    assert_eq!(admit("m"), Admission::Accept { rank: 2 });
    assert!(matches!(admit("no"), Admission::Refuse(error) if error.kind() == ErrorKind::Rejected));
    let both = RhaiScheduler::new(
        "fn schedule(job, workers, hives) { builtin() }\n\
         fn admit(job, queue) { accept(-7) }\nfn order(job) { job.prompt_bytes }",
    );
    let added = both.unwrap().admit(&ask("m"), &cluster([], []));
    assert_eq!(added, Ok(Admission::Accept { rank: -5 }));
    assert!(!self::policy("builtin()").info().admits);
}

#[test]
fn a_worker_is_started_as_the_built_in_policy_would_and_room_is_made_as_the_script_says() {
    let mut full = hive("a", &[24], &[("m", 10)], &[]);
    let mut devices = full.devices.to_vec();
    devices[0].memory_free = 4 * GIB;
    full.devices = devices.into();
    let cluster =
        cluster([full], [worker(1, "a", "x", 0), worker(2, "a", "y", 0), worker(3, "a", "z", 1)]);
    let plain = policy("spawn_on(hives.first())");
    let builtin = LeastLoaded::default().place(&ask("m"), &cluster);
    assert_eq!(plain.place(&ask("m"), &cluster), builtin);
    assert_eq!(started(&plain, &ask("m"), &cluster).unwrap().2, [id(1)]);
    let evicting = |evict: &str| {
        RhaiScheduler::new(format!(
            "fn schedule(job, workers, hives) {{ spawn_on(hives.first()) ?? wait() }}\nfn evict(need, workers) {{ {evict} }}"
        ))
        .unwrap()
    };
    let newest = evicting("workers.max_by(|w| w.id)");
    assert_eq!(started(&newest, &ask("m"), &cluster).unwrap().2, [id(2)]);
    let nobody = evicting("[]");
    assert_eq!(started(&nobody, &ask("m"), &cluster).unwrap().2, [id(1)], "the plan instead");
    let steps = nobody.explain(&ask("m"), &cluster).steps.join("\n");
    assert!(steps.contains("evict: the 0 workers that it names are not enough"), "{steps}");
}

#[test]
fn whom_to_stop_is_asked_for_what_the_built_in_policy_starts_too() {
    let mut full = hive("a", &[24, 24], &[("m", 10)], &[]);
    let mut devices = full.devices.to_vec();
    devices[0].memory_free = 4 * GIB;
    devices[1].memory_free = 0;
    full.devices = devices.into();
    let elsewhere = on_devices(worker(9, "a", "z", 0), &[2]);
    let workers = [worker(1, "a", "x", 0), worker(2, "a", "y", 0), elsewhere];
    let cluster = cluster([full], workers);
    let policy = |decision: &str, evict: &str| {
        RhaiScheduler::new(format!(
            "fn schedule(job, workers, hives) {{ {decision} }}\nfn evict(need, workers) {{ {evict} }}"
        ))
        .unwrap()
    };
    for decision in ["builtin()", "spawn_on(hives.first()) ?? wait()"] {
        let newest = policy(decision, "workers.max_by(|w| w.id)");
        let (_, devices, evict) = started(&newest, &ask("m"), &cluster).unwrap();
        assert_eq!((devices, evict), (vec![1], vec![id(2)]), "{decision}: not the one elsewhere");
        let steps = newest.explain(&ask("m"), &cluster).steps.join("\n");
        assert!(steps.contains("evict: stops 1 idle workers"), "{steps}");
        let all = policy(decision, "workers");
        assert_eq!(started(&all, &ask("m"), &cluster).unwrap().2, [id(1), id(2)], "{decision}");
    }
}

#[test]
fn memory_is_reckoned_with_the_slots_that_are_asked_for() {
    let cache = serde_json::json!({ "whole": 16_384, "windowed": 0, "window": 0 });
    let info = serde_json::json!({
        "format": "safetensors", "architecture": "llama", "task": "generate",
        "parameters": GIB / 2, "weights_bytes": GIB, "dtype": "F16", "quantization": null,
        "context": 8192, "vocab": null, "layers": null, "hidden": null, "heads": null,
        "kv_heads": null, "head_dim": null, "kv_cache": cache, "has_chat_template": true,
        "license": null, "embedding": null,
    });
    let mut on_disk = ModelOnDisk::new(model("m"), GIB);
    on_disk.info = Some(Arc::new(serde_json::from_value(info).unwrap()));
    let mut one = hive("a", &[4], &[], &[]);
    one.models = Arc::new([(model("m"), on_disk)].into());
    let cluster = cluster([one], []);
    let need = |slots: u32| {
        let policy = policy(&format!("spawn_on(hives.first(), #{{slots: {slots}}}) ?? wait()"));
        match policy.place(&ask("m"), &cluster) {
            Ok(Placement::Spawn { spec, .. }) => Some((spec.slots, spec.need_bytes)),
            Ok(Placement::Wait) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(need(1), Some((1, GIB + 4_096 * 16_384 * 2)));
    assert_eq!(need(8), Some((8, GIB + 8 * 4_096 * 16_384 * 2)));
    assert_eq!(need(64), None, "so many do not fit");
}

#[test]
fn a_script_knows_how_long_the_job_has_waited_and_what_is_left() {
    let policy = policy("reject(`${job.waited_ms} of ${job.deadline_ms}, ${job.remaining_ms}`)");
    let mut ask = with_job(ask("m"), |job| job.deadline = Some(Duration::from_secs(60)));
    let mut said = |waited| {
        ask.waited = Duration::from_secs(waited);
        match policy.place(&ask, &cluster([], [])) {
            Ok(Placement::Reject(error)) => error.message().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said(0), "0 of 60000, 60000");
    assert_eq!(said(55), "55000 of 60000, 5000");
    assert_eq!(said(70), "70000 of 60000, 0");
}

#[test]
fn the_depth_of_the_queue_is_that_of_all_lanes_together() {
    let policy = policy("reject(`${queue_depth()}`)");
    let mut cluster = cluster([], []);
    for (name, depth, all) in
        [("a", Some(3), "3"), ("b", Some(4), "7"), ("a", Some(5), "9"), ("b", None, "5")]
    {
        let lane = depth.map(|depth| LaneView { depth, oldest: Time::default() });
        cluster.put_lane(&LaneKey { model: model(name), tenant: None }, lane);
        match policy.place(&ask("m"), &cluster) {
            Ok(Placement::Reject(error)) => assert_eq!(error.message(), all),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_workers_of_a_hive_are_the_same_however_they_are_asked_for() {
    let cluster = cluster(
        [hive("a", &[24], &[], &[]), hive("b", &[24], &[], &[])],
        [worker(1, "a", "m", 0), worker(2, "b", "m", 0), worker(3, "b", "x", 0)],
    );
    for (workers, count) in [
        ("on_hive(\"b\")", 2),
        ("on_hive(hives.get(\"b\"))", 2),
        ("idle().on_hive(\"b\")", 2),
        ("on_hive(\"b\").with_model(job.model)", 1),
        ("with_model(job.model).on_hive(\"b\")", 1),
        ("on_hive(\"a\").on_hive(\"b\")", 0),
        ("on_hive(\"c\")", 0),
        ("on_hive(\"no name!\")", 0),
    ] {
        let policy = policy(&format!(
            "if workers.{workers}.count() == {count} {{ wait() }} else {{ reject(\"no\") }}"
        ));
        assert_eq!(policy.place(&ask("m"), &cluster), Ok(Placement::Wait), "{workers}");
        policy.explain(&ask("m"), &cluster).placement.unwrap();
    }
}

#[test]
fn a_model_can_be_spread_over_devices() {
    let cluster =
        cluster([hive("a", &[24, 24], &[("m", 30)], &[]), hive("small", &[8], &[], &[])], []);
    let two = policy("spawn_on(hives.with_gpus(2).first(), [1, 2]) ?? wait()");
    assert_eq!(started(&two, &ask("m"), &cluster), Ok(("a".into(), vec![1, 2], vec![])));
    let one = policy("spawn_on(hives.get(\"small\")) ?? wait()");
    assert_eq!(one.place(&ask("m"), &cluster), Ok(Placement::Wait));
    let slots = policy("spawn_on(hives.get(\"a\"), #{devices: [1, 2], slots: 9}) ?? wait()");
    match slots.place(&ask("m"), &cluster) {
        Ok(Placement::Spawn { spec, .. }) => assert_eq!(spec.slots, 9),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_explanation_tells_each_step_and_what_it_left() {
    let cluster = cluster(
        [hive("a", &[24], &[], &[("region", "eu")])],
        [
            worker(1, "a", "m", 1),
            worker(2, "a", "m", 4),
            worker(3, "a", "m", 0),
            worker(4, "a", "x", 0),
        ],
    );
    let policy = policy(
        "let free = workers.with_model(job.model).with_capacity();\nnote(\"here\");\nrun_on(free.filter(|w| w.running > 0).least_loaded())",
    );
    let explanation = policy.explain(&ask("m"), &cluster);
    let steps = explanation.steps.join("\n");
    for said in [
        "workers.with_model(m): 3 of 4 left",
        "workers.with_capacity(): 2 of 3 left",
        "here",
        "workers.filter on line 3: 1 of 2 left",
        "workers.least_loaded: worker",
        "decision: run on worker",
    ] {
        assert!(steps.contains(said), "{said}: {steps}");
    }
    let verdict = |number| {
        let found =
            explanation.candidates.iter().find(|(one, _)| *one == Candidate::Worker(id(number)));
        found.unwrap().1.clone()
    };
    assert_eq!(verdict(1), Verdict::Chosen);
    assert_eq!(verdict(2), Verdict::Refused("all 4 slots taken".into()));
    assert_eq!(verdict(3), Verdict::Refused("left out by filter on line 3".into()));
}

#[test]
fn what_people_see_of_a_policy_comes_from_its_text() {
    let policy =
        RhaiScheduler::new("//! Does nothing.\nfn schedule(job, workers, hives) { wait() }")
            .unwrap();
    assert_eq!((&*policy.info().name, &*policy.info().description), ("rhai", "Does nothing."));
    let source = policy.info().source.unwrap();
    let again = RhaiScheduler::from_source(source.clone()).unwrap();
    assert_eq!(again.info().source, Some(source));
    assert!(policy.info().limit.unwrap() > Duration::from_millis(50));
    assert!(
        (2..=4).contains(&policy.info().threads),
        "one slow script does not hold up every lane"
    );
    let batch = with_job(ask("m"), |job| job.priority = rbee_core::Priority::Batch);
    assert_eq!(policy.place(&batch, &cluster([], [])), Ok(Placement::Wait));
}
