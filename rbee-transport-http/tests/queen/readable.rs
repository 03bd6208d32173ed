//! What is said about a model before anything is done with it.

use std::{sync::Arc, time::Duration};

use crate::common::Hall;
use http::StatusCode;
use rbee_core::{
    HiveId, InProcessHive, Queen, Result, Worker, WorkerId, WorkerSpec, async_trait,
    hive::{Device, DeviceKind, EngineSupport, Progress, WorkerFactory},
    test_gguf::{GgufFile, GgufType},
    worker::EchoWorker,
};
use serde_json::{Value, json};

/// Has this engine alone.
#[derive(Debug)]
struct Only(EngineSupport);

#[async_trait]
impl WorkerFactory for Only {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        _: Progress,
    ) -> Result<Arc<dyn Worker>> {
        Ok(EchoWorker::builder(spec.model.clone()).id(id).hive(hive.clone()).build())
    }

    fn engines(&self) -> Option<Vec<EngineSupport>> {
        Some(vec![self.0.clone()])
    }
}

/// A GGUF file with one tensor of four numbers.
fn gguf() -> Vec<u8> {
    let file = GgufFile::new("mamba");
    file.tensor("token_embd.weight", &[4], GgufType::F32, vec![0; 16]).to_bytes()
}

/// A machine with this engine alone.
fn machine(name: &str, engine: EngineSupport) -> InProcessHive {
    let device = Device {
        index: 0,
        kind: DeviceKind::Cpu,
        name: "test".into(),
        memory_total: 64 << 30,
        memory_free: 64 << 30,
    };
    let hive = InProcessHive::new().with_id(name.parse().unwrap());
    hive.with_factory(Only(engine)).with_devices(vec![device])
}

/// A queen with a machine that cannot read a GGUF file, and the reference of such a file below an allowed directory.
async fn hall(directory: &tempfile::TempDir) -> (Hall, String) {
    let path = directory.path().join("bee.gguf");
    std::fs::write(&path, gguf()).unwrap();
    let hive = machine("attic", EngineSupport::candle());
    let queen = Queen::builder().hive(hive).alias("hum", format!("file:{}", path.display()));
    let root = directory.path();
    let hall = Hall::of(crate::common::echo(), queen, |server| server.with_file_root(root)).await;
    (hall, format!("file:{}", path.display()))
}

#[tokio::test]
async fn a_model_is_described_whatever_its_reference_and_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (hall, reference) = hall(&directory).await;
    for name in ["hum", &reference] {
        let shown = hall.get(&format!("/v1/catalog/model?model={name}")).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.text());
        let shown = shown.json();
        assert_eq!(
            (&shown["name"], &shown["model"], &shown["state"], &shown["hives"], &shown["bytes"]),
            (
                &json!("hum"),
                &json!(reference),
                &json!("unloaded"),
                &json!([]),
                &json!(gguf().len())
            )
        );
        assert_eq!(
            (&shown["kind"]["format"], &shown["details"]["info"]["architecture"]),
            (&json!("gguf"), &json!("mamba")),
            "{shown}"
        );
        assert_eq!(shown["details"]["memory"]["slots"], 4, "as many as are ordered: {shown}");
    }
    let missing = format!("file:{}", directory.path().join("none").display());
    for name in ["nosuch", &missing, "hf:org/repo"] {
        let shown = hall.get(&format!("/v1/catalog/model?model={name}")).await;
        assert_eq!(shown.status, StatusCode::NOT_FOUND, "{name}: {}", shown.text());
        assert_eq!(shown.json()["error"]["code"], "MODEL_NOT_FOUND", "{name}");
    }
    // A file that clients may not name is not described either.
    let shown = hall.get("/v1/catalog/model?model=file:/etc/passwd").await;
    assert_eq!(shown.status, StatusCode::FORBIDDEN, "{}", shown.text());
}

#[tokio::test]
async fn an_estimate_and_a_pull_say_that_no_engine_can_read_the_model() {
    let directory = tempfile::tempdir().unwrap();
    let (hall, _) = hall(&directory).await;
    let estimate = hall.post("/v1/estimate", json!({"model": "hum", "hive": "attic"})).await.json();
    assert_eq!(
        (&estimate["fits"], &estimate["devices"][0]["verdict"]),
        (&json!(false), &json!("incompatible")),
        "{estimate}"
    );
    let why = estimate["devices"][0]["why"].as_str().unwrap();
    assert!(why.contains("candle reads unquantized safetensors of llama"), "{why}");
    for (path, body) in [
        ("/v1/catalog/pull", json!({"model": "hum", "hive": "attic"})),
        ("/v1/workers", json!({"model": "hum", "hive": "attic"})),
    ] {
        let refused = hall.post(path, body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {}", refused.text());
        let error = &refused.json()["error"];
        assert_eq!(error["code"], "MODEL_INCOMPATIBLE", "{path}");
        let message = error["message"].as_str().unwrap();
        for part in ["is GGUF of mamba", "hive attic", "candle reads", "docs/engines.md"] {
            assert!(message.contains(part), "{path}: {part}: {message}");
        }
    }
}

#[tokio::test]
async fn a_pull_without_a_machine_is_for_those_that_can_read_the_model_and_refused_if_none_can() {
    let directory = tempfile::tempdir().unwrap();
    let (hall, reference) = hall(&directory).await;
    // The hive of the hall's own worker does not say what it reads.
    hall.queen.fleet().remove("local".parse().unwrap(), Duration::ZERO).await.unwrap();
    let pull = || hall.post("/v1/catalog/pull", json!({"model": "hum"}));
    let refused = pull().await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "MODEL_INCOMPATIBLE");

    let able = EngineSupport::new("llama.cpp").for_models(["*.gguf"]);
    hall.queen.fleet().add(machine("cellar", able)).await.unwrap();
    let is_online = async || {
        let cluster = hall.queen.cluster().await.unwrap();
        cluster.hive(&"cellar".parse().unwrap()).is_some_and(|hive| hive.online)
    };
    while !is_online().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let last = pull().await.events().pop().unwrap();
    let pulled: Value = serde_json::from_slice(&last.data).unwrap();
    assert_eq!(
        (&*last.name, pulled),
        ("done", json!({"model": reference, "bytes": gguf().len(), "hives": ["cellar"]}))
    );
}
