//! Models: listed, described, pulled and removed.

use std::{path::Path, sync::Arc};

use http::{Method, StatusCode};
use rbee_core::{InProcessHive, ModelRef, Queen, Settings, models::Digest, worker::EchoWorker};
use rbee_transport_http::{
    server::QueenServer,
    wire::ollama::{LoadedModels, ModelDetails, ModelList, ShowResponse},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{ask, error, lines};
use crate::common::{Hall, SlowFactory, model};

/// A hall with the bundled model on a disk, and a hive that loads it.
async fn hall(settings: Settings) -> Hall {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny");
    let reference = ModelRef::file(path.canonicalize().unwrap()).unwrap();
    let hall = hall_with("bee-tiny", reference.as_str(), settings).await;
    let pulled =
        ask(&hall, "/api/pull", json!({"model": "bee-tiny", "stream": false})).await.json();
    assert_eq!(pulled, json!({"status": "success"}));
    hall
}

/// A hall whose hive can load this model.
async fn hall_with(alias: &str, reference: &str, settings: Settings) -> Hall {
    let hive = InProcessHive::new().with_factory(SlowFactory(Arc::new(Semaphore::new(9))));
    let builder = Queen::builder().hive(hive).settings(settings);
    let queen = builder.alias(alias, reference).build().await.unwrap();
    let router = QueenServer::new(queen.clone()).router();
    Hall { queen, router, echo: EchoWorker::new("x".parse().unwrap()) }
}

fn details() -> ModelDetails {
    ModelDetails {
        parent_model: String::new(),
        format: "safetensors".into(),
        family: "llama".into(),
        families: vec!["llama".into()],
        parameter_size: "1.77M".into(),
        quantization_level: "F16".into(),
    }
}

#[tokio::test]
async fn clients_find_out_that_the_server_has_the_api() {
    let hall = Hall::new().await;
    let root = hall.get("/").await;
    assert_eq!((root.status, &*root.text()), (StatusCode::OK, "Ollama is running"));
    assert_eq!(hall.ask(Method::HEAD, "/", None).await.status, StatusCode::OK);
    assert_eq!(hall.post("/", json!({})).await.status, StatusCode::NOT_FOUND);
    let version = hall.get("/api/version").await.json();
    let numbers: Vec<u32> =
        version["version"].as_str().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(numbers >= vec![0, 6, 4], "the lowest one that known clients accept: {version}");
}

#[tokio::test]
async fn models_are_listed_with_tags_and_facts() {
    let hall = hall(Settings::default()).await;
    let list: ModelList = serde_json::from_slice(&hall.get("/api/tags").await.body).unwrap();
    let [model] = &list.models[..] else { panic!("{list:?}") };
    assert_eq!((&*model.name, &*model.model), ("bee-tiny:latest", "bee-tiny:latest"));
    assert!(model.size > 1_000_000, "{model:?}");
    assert_eq!(model.digest, Digest::of("bee-tiny:latest").hex(), "nothing of its path");
    assert_eq!(model.details, details());
    assert!(model.modified_at.ends_with('Z'));
}

#[tokio::test]
async fn a_model_is_described_before_and_after_it_is_loaded() {
    let hall = hall(Settings::default()).await;
    let show = async |name: &str| -> ShowResponse {
        let reply = ask(&hall, "/api/show", json!({"model": name, "verbose": true})).await;
        serde_json::from_slice(&reply.body).unwrap()
    };
    let before = show("bee-tiny").await;
    assert_eq!(before.details, details());
    assert!(before.template.contains("messages"), "{}", before.template);
    assert!(before.capabilities.contains(&"completion".to_owned()), "{before:?}");
    let info = &before.model_info;
    assert_eq!(info["general.architecture"], "llama");
    assert_eq!(info["general.parameter_count"], 1_771_200);
    assert!(info["llama.context_length"].as_u64().unwrap() >= 256, "{info:?}");
    assert!(info["llama.block_count"].is_u64() && info["llama.embedding_length"].is_u64());
    // The older name of the field.
    let older = ask(&hall, "/api/show", json!({"name": "bee-tiny:latest"})).await.json();
    assert_eq!(older["details"]["family"], "llama");

    ask(&hall, "/api/generate", json!({"model": "bee-tiny"})).await;
    let after = show("bee-tiny:latest").await;
    // The worker of this test writes plain text.
    assert_eq!(after.capabilities, ["completion"]);
    for body in [json!({}), json!({"model": ""}), json!({"model": "bee-tiny", "color": 1})] {
        let reply = hall.post("/api/show", body.clone()).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_worker_without_files_is_described_by_what_it_can_do() {
    let (hall, _) = super::scripted::hall(&["ok"], rbee_core::Finish::Stop).await;
    let shown = ask(&hall, "/api/show", json!({"model": "script"})).await.json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools", "thinking", "insert"]));
    assert_eq!(
        shown["model_info"],
        json!({
            "general.architecture": "unknown", "general.basename": "script", "unknown.context_length": 4096,
        })
    );
    assert_eq!(shown["details"]["family"], "");
}

#[tokio::test]
async fn loaded_models_are_listed_with_the_time_until_they_are_unloaded() {
    let minutes = |count: u64| std::time::Duration::from_secs(60 * count);
    for (settings, within) in [
        (Settings { keep_alive: Some(minutes(5)), ..Settings::default() }, Some(minutes(5))),
        (Settings::default(), Settings::default().keep_alive),
        (
            Settings {
                keep_alive: Some(minutes(5)),
                model_keep_alive: [("bee-tiny".to_owned(), minutes(60))].into(),
                ..Settings::default()
            },
            Some(minutes(60)),
        ),
    ] {
        let hall = hall(settings).await;
        ask(&hall, "/api/generate", json!({"model": "bee-tiny"})).await;
        let now = rbee_core::time::WallTime::now();
        let list: LoadedModels = serde_json::from_slice(&hall.get("/api/ps").await.body).unwrap();
        let [model] = &list.models[..] else { panic!("{list:?}") };
        assert_eq!((&*model.name, model.size_vram), ("bee-tiny:latest", 0));
        assert_eq!(model.details, details());
        let at = |more: std::time::Duration| (now + more).to_string();
        let years = minutes(60 * 24 * 365 * 99);
        match within {
            Some(within) => {
                assert!(model.expires_at > at(within - minutes(1)), "{}", model.expires_at);
                assert!(model.expires_at < at(within + minutes(1)), "{}", model.expires_at);
            }
            None => assert!(model.expires_at > at(years), "{}", model.expires_at),
        }
    }
}

#[tokio::test]
async fn a_loaded_model_with_several_names_is_one_model() {
    let queen = Queen::builder().alias("ant", "echo");
    let hall = Hall::of(crate::common::echo(), queen, |server| server).await;
    let list: LoadedModels = serde_json::from_slice(&hall.get("/api/ps").await.body).unwrap();
    let names: Vec<&str> = list.models.iter().map(|model| &*model.name).collect();
    assert_eq!(names, ["ant:latest"], "the other name is bee");
    let tags: ModelList = serde_json::from_slice(&hall.get("/api/tags").await.body).unwrap();
    let names: Vec<&str> = tags.models.iter().map(|model| &*model.name).collect();
    assert_eq!(names, ["ant:latest", "bee:latest"]);
}

#[tokio::test]
async fn a_pull_tells_its_progress_in_lines_and_a_removal_has_no_answer() {
    let model = model();
    let hall = hall_with("slow", &model.reference, Settings::default()).await;
    let objects = lines(&ask(&hall, "/api/pull", json!({"model": "slow:latest"})).await);
    let statuses: Vec<&str> =
        objects.iter().map(|object| object["status"].as_str().unwrap()).collect();
    assert_eq!((statuses[0], *statuses.last().unwrap()), ("pulling manifest", "success"));
    for object in &objects[1..objects.len() - 1] {
        assert!(object["digest"].as_str().unwrap().starts_with("sha256:"), "{object}");
        assert!(object["completed"].is_u64(), "{object}");
    }
    let remove = async |name: &str| {
        hall.ask(Method::DELETE, "/api/delete", Some(json!({"model": name}))).await
    };
    let removed = remove("slow").await;
    assert_eq!((removed.status, &*removed.text()), (StatusCode::OK, ""));
    let again = remove("slow").await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "{}", again.text());
    assert!(error(&again).contains("slow"));

    for body in [json!({"model": "nobody"}), json!({"name": "hf:org/repo"})] {
        let refused = hall.post("/api/pull", body.clone()).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{body}: {}", refused.text());
    }
    drop(model);
    let objects =
        lines(&ask(&hall, "/api/pull", json!({"model": "slow", "insecure": false})).await);
    let last = objects.last().unwrap();
    assert!(last["error"].is_string(), "a pull that fails later says so in its stream: {last}");
}

#[tokio::test]
async fn a_loaded_model_is_not_removed() {
    let hall = hall(Settings::default()).await;
    ask(&hall, "/api/generate", json!({"model": "bee-tiny"})).await;
    let body = Some(json!({"model": "bee-tiny"}));
    let refused = hall.ask(Method::DELETE, "/api/delete", body).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    assert!(error(&refused).contains("loaded"), "{}", refused.text());
}

#[tokio::test]
async fn what_rbee_does_in_another_way_is_refused_with_that_way() {
    let hall = Hall::new().await;
    for (path, body, words) in [
        ("/api/copy", json!({"source": "bee", "destination": "b"}), "alias"),
        ("/api/create", json!({"model": "b", "from": "bee"}), "alias"),
        ("/api/push", json!({"model": "bee"}), "hives"),
        ("/api/blobs/sha256:0a", Value::Null, "pull"),
    ] {
        let reply = hall.post(path, body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}: {}", reply.text());
        assert!(error(&reply).contains(words), "{path}: {}", reply.text());
    }
}
