//! Models that the engines of some machines cannot read: refused before a byte is copied.

use std::{fs, path::Path, sync::Arc, time::Duration};

use crate::{
    hub::{HubServer, weights},
    queen_support::{devices, queen, quiet},
};
use rbee_core::{
    ErrorKind, HiveId, InProcessHive, ModelRef, Queen, Request, Result, Worker, WorkerId,
    WorkerSpec, async_trait,
    hive::{EngineSupport, Progress, ReadableFiles, WorkerFactory},
    models::{Hub, ModelFormat, ModelOnDisk, ModelStore, StoreOptions},
    queen::LoadRequest,
    scheduler::Fit,
    test_gguf::{GgufFile, GgufType},
    worker::EchoWorker,
};

/// Loads any model, and reports these engines.
#[derive(Debug)]
struct Engines(Vec<EngineSupport>);

#[async_trait]
impl WorkerFactory for Engines {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        _: Progress,
    ) -> Result<Arc<dyn Worker>> {
        Ok(EchoWorker::builder(spec.model.clone()).id(id).hive(hive.clone()).build())
    }

    async fn inspect(&self, model: &ModelRef, _: Option<&Path>) -> Result<ModelOnDisk> {
        Ok(ModelOnDisk::new(model.clone(), 1))
    }

    fn engines(&self) -> Option<Vec<EngineSupport>> {
        Some(self.0.clone())
    }
}

const GGUF: &str = "hf:bee/gguf";
const MAMBA: &str = "hf:bee/mamba";
const LLAMA: &str = "hf:bee/llama";

/// An engine that reads no GGUF files.
fn safetensors_engine() -> EngineSupport {
    let mut files = ReadableFiles::new(ModelFormat::Safetensors);
    files.architectures = vec!["llama".into()];
    files.quantized = false;
    EngineSupport::new("own").reading([files])
}

/// A hub, and a queen with two machines, of which only `able` has an engine for GGUF files.
struct Place {
    server: HubServer,
    queen: Queen,
    dir: tempfile::TempDir,
}

impl Place {
    async fn new(hives: &[&str]) -> Self {
        let (server, dir) = (HubServer::start(), tempfile::tempdir().unwrap());
        server.put("bee/gguf", "model.gguf", weights(1, 1_000));
        for (repo, class) in [("bee/mamba", "Mamba"), ("bee/llama", "Llama")] {
            let kind = class.to_lowercase();
            let config =
                format!(r#"{{"model_type": "{kind}", "architectures": ["{class}ForCausalLM"]}}"#);
            server.put(repo, "config.json", config.into());
            server.put(repo, "model.safetensors", weights(2, 1_000));
        }
        let hub = Hub::builder().endpoint(server.endpoint()).cache(dir.path().join("cache"));
        let mut builder = queen().hub(hub.build().unwrap());
        for name in hives {
            let llama_cpp = EngineSupport::new("llama.cpp").for_models(["*.gguf"]);
            let engines = match *name {
                "able" => vec![llama_cpp, EngineSupport::candle()],
                _ => vec![safetensors_engine()],
            };
            let hub_cache = Some(dir.path().join(name).join("hub"));
            let options = StoreOptions { hub_cache, head_room: 0, ..StoreOptions::default() };
            let store = ModelStore::open(dir.path().join(name).join("store"), options).unwrap();
            let hive = InProcessHive::new().with_id(id(name)).with_devices(devices());
            builder = builder.hive(hive.with_factory(Engines(engines)).with_store(store));
        }
        Self { server, queen: builder.build().await.unwrap(), dir }
    }

    async fn ask(&self, model: &str) -> Result<()> {
        let asked = self.queen.submit(Request::chat(model).user("hi").max_tokens(1)).await?;
        asked.answer().await.map(drop)
    }

    /// The files with weights that the hub has sent, and those in the directory of a hive.
    fn copied(&self, hive: &str) -> (usize, usize) {
        let sent = ["model.gguf", "model.safetensors"].map(|file| self.server.fetches(file).len());
        (sent.iter().sum(), large_files(&self.dir.path().join(hive)))
    }
}

/// The files below the directory that are not empty. The store has only locks and lists of a few bytes otherwise.
fn large_files(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let count = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => large_files(&entry.path()),
        Ok(found) => usize::from(found.len() >= 1_000),
        Err(_) => 0,
    };
    entries.flatten().map(count).sum()
}

fn id(name: &str) -> HiveId {
    HiveId::new(name).unwrap()
}

fn on(hive: &str, model: &str) -> LoadRequest {
    LoadRequest { hive: Some(id(hive)), ..LoadRequest::new(model.parse().unwrap()) }
}

#[tokio::test]
async fn a_model_goes_only_to_the_hive_that_can_read_it() {
    let place = Place::new(&["able", "plain"]).await;
    place.ask(GGUF).await.unwrap();
    assert_eq!(place.copied("plain"), (1, 0));
    assert_eq!(place.copied("able").1, 1);
    // A model that both can read goes to either.
    place.ask(LLAMA).await.unwrap();
    quiet(&place.queen).await;
}

#[tokio::test]
async fn a_model_that_no_engine_can_read_is_refused_before_it_is_copied() {
    let place = Place::new(&["able", "plain"]).await;
    let models = place.queen.models();
    // For every way in which it can get there: the operator names the machine, or none of them can read it.
    let located = models.locate(GGUF).await.unwrap();
    let mut errors = vec![
        models.load(on("plain", GGUF)).await.unwrap_err(),
        models.provision(id("plain"), located, Progress::ignore()).await.unwrap_err(),
    ];
    for error in &errors {
        assert!(error.message().contains("GGUF") && error.message().contains("hive plain"));
    }
    errors.extend([
        place.ask(MAMBA).await.unwrap_err(),
        models.load(LoadRequest::new(MAMBA.parse().unwrap())).await.unwrap_err(),
    ]);
    for error in &errors {
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{error}");
        assert!(error.message().contains(" reads unquantized safetensors of llama"), "{error}");
        assert!(error.message().contains("docs/engines.md"), "{error}");
    }
    for part in ["mamba (MambaForCausalLM)", "hive able", "hive plain"] {
        assert!(errors[2].message().contains(part), "{part}: {}", errors[2]);
    }
    assert_eq!((place.copied("able"), place.copied("plain")), ((0, 0), (0, 0)));
    quiet(&place.queen).await;
}

#[tokio::test]
async fn an_estimate_says_who_cannot_read_the_model() {
    let place = Place::new(&["able", "plain"]).await;
    let models = place.queen.models();
    let fits = async |model: &str| {
        let request = LoadRequest::new(model.parse().unwrap());
        let found = models.estimate(&request, None).await.unwrap();
        found.into_iter().map(|device| device.fit).collect::<Vec<_>>()
    };
    let found = fits(GGUF).await;
    assert!(matches!(&found[..], [Fit::Unknown, Fit::Incompatible(_)]), "{found:?}");
    let found = fits(MAMBA).await;
    assert!(matches!(&found[..], [Fit::Incompatible(_), Fit::Incompatible(_)]), "{found:?}");
    // And so it is for a file of this machine.
    let file = place.dir.path().join("tiny.gguf");
    fs::write(&file, gguf()).unwrap();
    let file = format!("file:{}", file.display());
    let found = fits(&file).await;
    let is_right = matches!(&found[..], [Fit::Fits | Fit::Unknown, Fit::Incompatible(_)]);
    assert!(is_right, "{found:?}");
    assert_eq!((place.copied("able"), place.copied("plain")), ((0, 0), (0, 0)));
}

#[tokio::test]
async fn an_estimate_for_a_file_of_this_machine_fails_for_the_reason_of_its_start() {
    let place = Place::new(&["able", "plain"]).await;
    let path = place.dir.path().join("bee.gguf");
    let file = format!("file:{}", path.display());
    for (content, kind, part) in [
        (None, ErrorKind::ModelNotFound, "does not exist"),
        (Some("GGUF and more"), ErrorKind::ModelIncompatible, "bee.gguf"),
    ] {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let request = on("able", &file);
        let models = place.queen.models();
        let error = models.estimate(&request, None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(part), "{error}");
        assert_eq!(models.estimate(&request, None).await.unwrap_err().kind(), kind, "again");
    }
    quiet(&place.queen).await;
}

/// A GGUF file with one tensor of four numbers.
fn gguf() -> Vec<u8> {
    let file = GgufFile::new("llama");
    file.tensor("token_embd.weight", &[4], GgufType::F32, vec![0; 16]).to_bytes()
}

#[tokio::test]
async fn a_model_can_be_described_before_any_hive_has_it() {
    let place = Place::new(&["plain"]).await;
    let models = place.queen.models();
    let found = models.describe(MAMBA).await.unwrap();
    let kind = found.kind.unwrap();
    assert_eq!(kind.format, ModelFormat::Safetensors);
    assert_eq!(kind.class.as_deref(), Some("MambaForCausalLM"));
    assert!(found.model.as_str().starts_with("hf:bee/mamba@"));
    assert!(found.bytes.is_some_and(|bytes| bytes > 1_000), "{:?}", found.bytes);
    assert_eq!(place.server.fetches("config.json").len(), 1);
    let error = |name: &'static str| async move { models.describe(name).await.unwrap_err().kind() };
    assert_eq!(error("hf:bee/none").await, ErrorKind::ModelNotFound);
    assert_eq!(error("file:/no/such/model").await, ErrorKind::ModelNotFound);
    assert_eq!(error("nosuch").await, ErrorKind::ModelNotFound);
    // A file that is no model is refused, without its size.
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), [b'x'; 4_321]).unwrap();
    let name = format!("file:{}", other.path().display());
    let refused = models.describe(&name).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ModelIncompatible);
    let said = format!("{refused:?}").replace(&name, "");
    assert!(!said.contains("4321") && !said.contains("4,321"), "{said}");
    assert_eq!(place.copied("plain"), (0, 0));
    place.queen.shutdown(Duration::ZERO).await.unwrap();
}
