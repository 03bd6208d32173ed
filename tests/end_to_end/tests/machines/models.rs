//! Models that no machine has: downloaded from a hub once, copied from machine to machine, and repaired.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::hub::{COMMIT, Fault, HubServer};
use crate::machine::{Machine, ask, is_gone, kill, until};
use futures_util::future::join_all;
use rbee_core::{
    ErrorKind, HiveId, ModelRef, Queen, Request, hive::Progress, models::Hub, queen::LoadRequest,
};

const MODEL: &str = "hf:bee/live";
const WEIGHTS: &str = "model.safetensors";

/// A hub with the bundled model.
fn server() -> HubServer {
    let server = HubServer::start();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/bee-tiny");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS] {
        server.put("bee/live", file, fs::read(from.join(file)).unwrap());
    }
    for file in ["generation_config.json", "chat_template.jinja"] {
        if let Ok(content) = fs::read(from.join(file)) {
            server.put("bee/live", file, content);
        }
    }
    server
}

fn name(name: &str) -> HiveId {
    HiveId::new(name).unwrap()
}

/// A queen with these machines, each a separate daemon with its own store, and with this hub.
async fn fleet(server: &HubServer, machines: &[(&str, &Machine)]) -> Queen {
    let hub =
        Hub::builder().endpoint(server.endpoint()).cache(machines[0].1.dir.path().join("hub"));
    let mut builder = Queen::builder().hub(hub.build().unwrap());
    for (id, machine) in machines {
        let cache = machine.dir.path().join("hub").display().to_string();
        builder = builder.hive(machine.hive_named(name(id), &["--hub-cache", &cache]));
    }
    builder.build().await.unwrap()
}

fn pinned() -> ModelRef {
    format!("{MODEL}@{COMMIT}").parse().unwrap()
}

/// Counts updates, and keeps the last.
fn watched() -> (Progress, Arc<AtomicU64>) {
    let done = Arc::new(AtomicU64::new(0));
    let seen = done.clone();
    let progress = Progress::new(move |update| {
        seen.fetch_max(update.done, Ordering::Relaxed);
    });
    (progress, done)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_who_ask_for_a_model_that_is_nowhere_share_one_download_and_one_copy() {
    let (server, machines) = (server(), [Machine::new(), Machine::new()]);
    let queen = fleet(&server, &[("one", &machines[0]), ("two", &machines[1])]).await;
    let pulls =
        ["one", "two"].map(|hive| {
            let (queen, (progress, done)) = (queen.clone(), watched());
            async move {
                (queen.models().provision(name(hive), pinned(), progress).await.unwrap(), done)
            }
        });
    let answers = join_all((0..50).map(|_| ask(&queen, MODEL)));
    let (answers, pulls) = tokio::join!(answers, join_all(pulls));
    for answer in &answers {
        assert!(answer.contains("lily is a tall white flower"), "{answer}");
    }
    for (on_disk, done) in &pulls {
        assert_eq!(done.load(Ordering::Relaxed), on_disk.bytes, "every caller sees the progress");
        assert_eq!(on_disk.info.as_ref().unwrap().architecture, "llama");
    }
    assert_eq!(pulls[0].0.digest, pulls[1].0.digest);
    assert_eq!(server.fetches(WEIGHTS).len(), 1, "{:?}", server.fetches(WEIGHTS));
    let cluster = queen.cluster().await.unwrap();
    for hive in ["one", "two"] {
        assert!(cluster.hive(&name(hive)).unwrap().models.contains_key(&pinned()), "{hive}");
    }
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// The part of the weights that a machine has so far.
fn part(machine: &Machine) -> u64 {
    let blobs = machine.dir.path().join("hub/models--bee--live/blobs");
    let files = fs::read_dir(blobs).into_iter().flatten().flatten();
    let parts = files.filter(|file| file.path().extension().is_some_and(|ext| ext == "incomplete"));
    parts.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_that_is_killed_while_it_downloads_goes_on_where_it_was() {
    const HELD: u64 = 500_000;
    let (server, machine) = (server(), Machine::new());
    server.fail(WEIGHTS, &[Fault::Stall(HELD as usize)]);
    let queen = fleet(&server, &[("one", &machine)]).await;
    let asking = tokio::spawn({
        let queen = queen.clone();
        async move { ask(&queen, MODEL).await }
    });
    until("half of it is there", || part(&machine) >= HELD).await;
    let daemon = machine.hive_pid();
    kill(daemon);
    until("the daemon ends", || is_gone(daemon)).await;
    let answer = tokio::time::timeout(Duration::from_secs(60), asking).await;
    let answer = answer.expect("the job goes on when the hive is back").unwrap();
    assert!(answer.contains("lily is a tall white flower"), "{answer}");
    let ranges: Vec<_> = server.fetches(WEIGHTS).into_iter().map(|seen| seen.range).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={HELD}-"))]);
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// The file of the weights on a machine.
fn weights(machine: &Machine) -> PathBuf {
    let snapshot = machine.dir.path().join("hub/models--bee--live/snapshots").join(COMMIT);
    fs::canonicalize(snapshot.join(WEIGHTS)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_found_out_by_name_and_fetched_again() {
    let (server, machine) = (server(), Machine::new());
    let queen = fleet(&server, &[("one", &machine)]).await;
    queen.models().provision(name("one"), pinned(), Progress::ignore()).await.unwrap();
    assert!(
        queen.models().verify(name("one"), pinned(), Progress::ignore()).await.unwrap().is_empty()
    );
    let (weights, whole) = (weights(&machine), server.file("bee/live", WEIGHTS));
    let mut bytes = fs::read(&weights).unwrap();
    bytes[200_000] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let damage = queen.models().verify(name("one"), pinned(), Progress::ignore()).await.unwrap();
    assert_eq!(damage.iter().map(|damage| &*damage.file).collect::<Vec<_>>(), [WEIGHTS]);
    let cluster = queen.cluster().await.unwrap();
    let listed = cluster.hive(&name("one")).unwrap().models.contains_key(&pinned());
    assert!(!listed, "what is damaged is not offered");
    assert!(ask(&queen, MODEL).await.contains("lily is a tall white flower"));
    assert!(fs::read(&weights).unwrap() == whole);
    // The hive fetches the configuration once, and the queen has read it once to know what kind of model it is.
    assert_eq!((server.fetches(WEIGHTS).len(), server.fetches("config.json").len()), (2, 2));
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}

/// The paths below the directory whose names contain this.
fn named(directory: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(part) {
            found.push(entry.path());
        }
        found.extend(named(&entry.path(), part));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_no_engine_reads_is_refused_with_nothing_on_the_disk_of_the_hive() {
    let (server, plain, other) = (server(), Machine::new(), Machine::new());
    let config = r#"{"model_type": "mamba", "architectures": ["MambaForCausalLM"]}"#;
    server.put("bee/mamba", "config.json", config.into());
    server.put("bee/mamba", "model.safetensors", vec![0; 2_048]);
    let engines = plain.dir.path().join("engines.yaml");
    fs::write(&engines, "- {name: own, models: ['*other*'], command: 'own {port}'}").unwrap();
    let hub = Hub::builder().endpoint(server.endpoint()).cache(plain.dir.path().join("hub"));
    let mut builder = Queen::builder().hub(hub.build().unwrap());
    let engines = engines.display().to_string();
    for (id, machine, more) in
        [("plain", &plain, &["--engines", &engines][..]), ("other", &other, &[])]
    {
        let cache = machine.dir.path().join("hub").display().to_string();
        let arguments = [&["--hub-cache", &cache][..], more].concat();
        builder = builder.hive(machine.hive_named(name(id), &arguments));
    }
    let queen = builder.build().await.unwrap();
    let reference: ModelRef = "hf:bee/mamba".parse().unwrap();
    let request = Request::chat("hf:bee/mamba").user("hi").max_tokens(1);
    let asked = queen.submit(request).await.unwrap().answer().await.map(drop);
    let loaded = queen.models().load(LoadRequest::new(reference.clone())).await.map(drop);
    let pulled = queen.models().provision(name("plain"), reference, Progress::ignore());
    for refused in [asked, loaded, pulled.await.map(drop)] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{error}");
        let parts = [
            "is safetensors of mamba",
            "hive plain",
            "own runs models named *other*",
            "candle reads",
        ];
        for part in parts {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }
    assert!(server.fetches("model.safetensors").is_empty(), "no byte of it was sent");
    for machine in [&plain, &other] {
        assert_eq!(named(machine.dir.path(), "mamba"), Vec::<PathBuf>::new());
    }
    // The model that both can read still goes there.
    assert!(ask(&queen, MODEL).await.contains("lily is a tall white flower"));
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
}
