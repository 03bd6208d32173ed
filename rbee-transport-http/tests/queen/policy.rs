//! The policy over HTTP: read, checked, changed, rolled back; decisions explained; estimates.

use std::{future::Future, sync::Arc, task::Poll, time::Duration};

use crate::common::{self, Hall, echo};
use http::{Method, StatusCode};
use rbee_core::{
    InProcessHive, MemoryRegistry, Queen,
    hive::{Device, DeviceKind},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const FIRST: &str = "// Runs on the first free worker.\n\
    fn schedule(job, workers, hives) {\n    let free = workers.with_model(job.model).idle().first();\n    \
    if free == () { wait() } else { run_on(free) }\n}\n";

fn script(source: &str) -> Value {
    json!({"language": "rhai", "source": source})
}

async fn put(hall: &Hall, source: &str) -> common::Reply {
    hall.ask(Method::PUT, "/v1/policy", Some(script(source))).await
}

#[tokio::test]
async fn a_policy_is_tried_put_in_force_and_put_back() {
    let hall = Hall::new().await;
    let built_in = hall.get("/v1/policy").await.json();
    assert_eq!((&built_in["name"], &built_in["fixed"]), (&json!("least-loaded"), &json!(false)));
    assert!(built_in.get("source").is_none() && built_in.get("version").is_none());

    let trial = hall.post("/v1/policy/check", script(FIRST)).await;
    assert_eq!(trial.status, StatusCode::OK, "{}", trial.text());
    let decisions = trial.json()["decisions"].as_array().unwrap().clone();
    assert_eq!(decisions[0]["decision"]["kind"], "assign", "{decisions:?}");
    assert!(!decisions[0]["steps"].as_array().unwrap().is_empty(), "{decisions:?}");
    assert_eq!(hall.get("/v1/policy").await.json(), built_in, "a trial changes nothing");

    let set = put(&hall, FIRST).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    assert_eq!((&set.json()["version"], &set.json()["source"]), (&json!(1), &json!(FIRST)));
    assert_eq!(set.json()["description"], "Runs on the first free worker.");
    assert_eq!(hall.chat(json!({})).await.status, StatusCode::OK);

    let second = FIRST.replace("first()", "least_loaded()");
    assert_eq!(put(&hall, &second).await.json()["version"], 2);
    let versions = hall.get("/v1/policy/versions").await.json();
    let told: Vec<_> = versions["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["version"].clone(), one["in_force"].clone(), one["origin"].clone()))
        .collect();
    let operator = json!("operator");
    assert_eq!(
        told,
        [(json!(1), json!(false), operator.clone()), (json!(2), json!(true), operator)]
    );
    assert_eq!(hall.get("/v1/policy/versions/1").await.json()["source"], FIRST);
    let missing = hall.get("/v1/policy/versions/9").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);

    let back = hall.post("/v1/policy/rollback", json!({"version": 1})).await;
    assert_eq!((&back.json()["version"], &back.json()["source"]), (&json!(3), &json!(FIRST)));
    let never = hall.post("/v1/policy/rollback", json!({"version": 77})).await;
    assert_eq!(never.status, StatusCode::NOT_FOUND, "{}", never.text());

    let reset = hall.delete("/v1/policy").await;
    assert_eq!(reset.status, StatusCode::OK, "{}", reset.text());
    let reset = reset.json();
    assert_eq!((&reset["name"], &reset["version"]), (&json!("least-loaded"), &json!(4)));
    let version = hall.get("/v1/policy/versions/4").await.json();
    assert_eq!((&version["origin"], &version["in_force"]), (&json!("reset"), &json!(true)));
    assert!(version.get("source").is_none(), "{version}");
}

#[tokio::test]
async fn a_change_whose_client_goes_away_is_made_whole_or_not_at_all() {
    let hall = Hall::new().await;
    // The client disconnects after each possible number of polls, until one is late enough.
    for polls in 1.. {
        let request = common::request(Method::PUT, "/v1/policy", Some(script(FIRST)));
        let mut answer = Box::pin(hall.begin(request));
        let mut is_done = false;
        for _ in 0..polls {
            is_done =
                std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_ready())).await;
            if is_done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(answer);
        // The next request waits until it is over, and nothing else was recorded.
        assert_eq!(put(&hall, "").await.status, StatusCode::BAD_REQUEST);
        let recorded = hall.queen.policy().versions().await.unwrap();
        assert_eq!(
            hall.queen.policy().status().version,
            recorded.last().map(|newest| newest.version)
        );
        if is_done {
            break;
        }
    }
}

#[tokio::test]
async fn a_policy_that_keeps_failing_is_shown_as_suspended_until_it_is_reset() {
    let hall = Hall::new().await;
    // It is tried without that tenant.
    let fails = "fn schedule(job, workers, hives) {\n    \
        if job.tenant == \"acme\" { workers.filter(|w| w.running + 1) }\n    builtin()\n}\n";
    let set = put(&hall, fails).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    for _ in 0..5 {
        let job = rbee_core::Request::chat("bee").user("Hi").tenant("acme".parse().unwrap());
        hall.queen.submit(job).await.unwrap().answer().await.unwrap();
    }
    let policy = hall.get("/v1/policy").await.json();
    assert_eq!((&policy["suspended"], &policy["faults"]), (&json!(true), &json!(5)), "{policy}");
    assert!(policy["last_fault"]["message"].as_str().unwrap().contains("line 2"), "{policy}");
    assert_eq!(hall.chat(json!({})).await.status, StatusCode::OK, "the built-in one decides");
    let reset = hall.delete("/v1/policy").await.json();
    assert_eq!((&reset["suspended"], &reset["faults"]), (&json!(false), &json!(0)));
}

#[tokio::test]
async fn the_schema_of_rules_is_had_for_editors() {
    let hall = Hall::new().await;
    let schema = hall.get("/v1/policy/schema").await;
    assert_eq!(schema.status, StatusCode::OK);
    assert_eq!(schema.json(), rbee_core::scheduler::rules_schema());
    let document = hall.get("/openapi.json").await.json();
    assert!(document["paths"]["/v1/policy/schema"]["get"].is_object());
}

#[tokio::test]
async fn a_bad_policy_is_refused_with_its_place_and_the_old_one_stays() {
    let hall = Hall::new().await;
    assert_eq!(put(&hall, FIRST).await.status, StatusCode::OK);
    for (source, words) in [
        ("fn schedule(job, workers, hives) {\n  workers.idel().first()\n}", "idle"),
        ("fn schedule(job, workers, hives) {\n  let x = ;\n}", "line 2"),
        ("fn schedule(job) { wait() }", "schedule"),
        ("", "schedule"),
    ] {
        let refused = put(&hall, source).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{source}: {}", refused.text());
        assert!(refused.text().contains(words), "{source}: {}", refused.text());
    }
    assert_eq!(hall.get("/v1/policy").await.json()["source"], FIRST);
    let long = "x".repeat(300 << 10);
    assert_eq!(put(&hall, &long).await.status, StatusCode::BAD_REQUEST);
    let unknown = json!({"language": "lua", "source": "x"});
    let refused = hall.ask(Method::PUT, "/v1/policy", Some(unknown)).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_policy_set_over_the_api_is_in_force_after_a_restart() {
    let registry = MemoryRegistry::new();
    let build = || Queen::builder().id("q".parse().unwrap()).registry(registry.clone());
    let hall = Hall::of(echo(), build(), |server| server).await;
    assert_eq!(put(&hall, FIRST).await.status, StatusCode::OK);
    drop(hall);
    let hall = Hall::of(echo(), build(), |server| server).await;
    let policy = hall.get("/v1/policy").await.json();
    assert_eq!((&policy["version"], &policy["source"]), (&json!(1), &json!(FIRST)));
    assert_eq!(hall.chat(json!({})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_fixed_policy_cannot_be_changed() {
    let hall = Hall::of(echo(), Queen::builder().fixed_policy(), |server| server).await;
    for refused in [put(&hall, FIRST).await, hall.delete("/v1/policy").await] {
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    }
    assert_eq!(hall.get("/v1/policy").await.json()["fixed"], true);
}

#[tokio::test]
async fn rules_are_shown_as_the_script_they_mean() {
    let hall = Hall::new().await;
    let rules = json!({"language": "yaml", "source": "rules:\n  - when: {tenant: guest-*}\n    then: {reject: not today}\n"});
    let set = hall.ask(Method::PUT, "/v1/policy", Some(rules)).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    let shown = hall.get("/v1/policy?as=rhai").await.json();
    assert_eq!(shown["language"], "rhai");
    assert!(shown["source"].as_str().unwrap().contains("fn schedule("), "{shown}");
    assert_eq!(put(&hall, FIRST).await.status, StatusCode::OK);
    assert_eq!(hall.get("/v1/policy?as=yaml").await.status, StatusCode::BAD_REQUEST);
    let earlier = hall.get("/v1/policy/versions/1?as=rhai").await.json();
    assert_eq!((&earlier["language"], &earlier["source"]), (&json!("rhai"), &shown["source"]));
}

#[tokio::test]
async fn the_way_of_a_job_is_explained() {
    let hall = Hall::new().await;
    let job = hall.submit(json!({})).await;
    hall.until(&job, |job| job["state"] == "complete").await;
    let why = hall.get(&format!("/v1/jobs/{job}/why")).await;
    assert_eq!(why.status, StatusCode::OK, "{}", why.text());
    let decision = why.json()["data"][0].clone();
    assert_eq!(decision["decision"]["kind"], "assign");
    assert_eq!((&decision["policy"], &decision["job"]), (&json!("least-loaded"), &json!(job)));
    assert_eq!(decision["candidates"][0]["verdict"], "chosen");
    let nobody = "/v1/jobs/00000000-0000-4000-8000-000000000000/why";
    assert_eq!(hall.get(nobody).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_estimate_says_for_each_device_whether_a_model_fits() {
    let memory = 8 << 30;
    let device = Device {
        index: 0,
        kind: DeviceKind::Cpu,
        name: "test".into(),
        memory_total: memory,
        memory_free: memory,
    };
    let shed = InProcessHive::new()
        .with_id("shed".parse().unwrap())
        .with_devices(vec![device])
        .with_factory(common::SlowFactory(Arc::new(Semaphore::new(0))));
    let hall = Hall::of(echo(), Queen::builder().hive(shed), |server| server).await;
    let model = hall.get("/v1/models").await.json()["data"][0]["id"].clone();
    let found = hall.post("/v1/estimate", json!({"model": model, "slots": 2})).await;
    assert_eq!(found.status, StatusCode::OK, "{}", found.text());
    let devices = found.json()["devices"].as_array().unwrap().clone();
    let [device] = &*devices else { panic!("the hive that can load has one: {devices:?}") };
    // The model is in a worker, and its files are on no disk: its size is unknown.
    let (hive, verdict) = (&device["hive"], &device["verdict"]);
    assert_eq!((hive, verdict), (&json!("shed"), &json!("unknown")), "{device}");
    assert_eq!(found.json()["fits"], false);
    assert_eq!(device["total"], memory);
    let bad = hall.post("/v1/estimate", json!({"model": model, "slots": 0})).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    let nowhere = hall.post("/v1/estimate", json!({"model": model, "hive": "attic"})).await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_policy_is_tried_on_a_described_fleet_and_job() {
    let hall = Hall::new().await;
    let fleet = "hives:\n  - id: attic\n    labels: {region: eu}\n    \
        devices: [{kind: cpu, memory_total: 16_000_000_000}]\n    models: {large: 4000000000}\n";
    let check = |fleet: &str, job: &str| {
        let source =
            "fn schedule(job, workers, hives) { spawn_on(hives.in_region(\"eu\").first()) }";
        let body = json!({"language": "rhai", "source": source, "fleet": fleet, "job": job});
        hall.post("/v1/policy/check", body)
    };
    let tried = check(fleet, "model: large\nmax_tokens: 10\n").await;
    assert_eq!(tried.status, StatusCode::OK, "{}", tried.text());
    let decision = tried.json()["decisions"][0].clone();
    assert_eq!(decision["decision"]["kind"], "spawn", "{decision}");
    assert_eq!(decision["decision"]["hive"], "attic");
    for (fleet, job, words) in [
        ("hives: [{id: attic, color: red}]", "model: large", "color"),
        ("hives: [", "model: large", "not YAML"),
        (fleet, "modle: large", "modle"),
    ] {
        let refused = check(fleet, job).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text());
        assert!(refused.text().contains(words), "{words}: {}", refused.text());
    }
}

#[tokio::test]
async fn the_jobs_of_the_past_are_replayed_beside_the_policy_in_force() {
    let hall = Hall::new().await;
    let nothing = hall.post("/v1/policy/replay", script(FIRST)).await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND, "{}", nothing.text());
    for _ in 0..3 {
        let job = hall.submit(json!({})).await;
        hall.until(&job, |job| job["state"] == "complete").await;
    }
    let found = hall.post("/v1/policy/replay", script(FIRST)).await;
    assert_eq!(found.status, StatusCode::OK, "{}", found.text());
    for outcome in ["current", "candidate"] {
        let outcome = &found.json()[outcome];
        assert_eq!((&outcome["jobs"], &outcome["completed"]), (&json!(3), &json!(3)), "{outcome}");
        let worker = &outcome["workers"][0];
        assert_eq!((&worker["jobs"], &worker["started"]), (&json!(3), &json!(false)));
        assert_eq!((&outcome["stops"], &outcome["downloads"]), (&json!(0), &json!(0)));
        assert_eq!((&outcome["prefixed"], &outcome["prefix_hits"]), (&json!(3), &json!(2)));
    }
    let found = found.json();
    assert_eq!((&found["cut"], &found["left_out"]), (&json!(false), &json!({})));
    assert!(found["from_ms"].as_u64() > Some(1_700_000_000_000), "{found}");
    assert_eq!(hall.get("/v1/policy").await.json()["name"], "least-loaded");
}
