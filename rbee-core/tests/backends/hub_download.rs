//! Downloads from a hub that behaves correctly, and from one that does not.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::hub::{COMMIT, Fault, HubServer, TOKEN, weights};
use futures_util::future::join_all;
use rbee_core::{
    ErrorKind, ModelRef,
    hive::Progress,
    models::{Digest, Hub, HubBuilder, HubToken, ModelStore, StoreOptions, StoredState},
};

const BIG: usize = 3 << 20;
const WEIGHTS: &str = "model.safetensors";

struct Place {
    server: HubServer,
    dir: tempfile::TempDir,
    store: ModelStore,
}

impl Place {
    fn new(server: HubServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        Self { server, dir, store }
    }

    fn hub(&self) -> HubBuilder {
        Hub::builder()
            .endpoint(self.server.endpoint())
            .cache(self.dir.path().join("hub"))
            .stall(Duration::from_millis(500))
            .retries(3, Duration::from_millis(1))
    }

    async fn download(&self) -> rbee_core::Result<rbee_core::models::StoredModel> {
        self.store.download(&self.hub().build().unwrap(), &tiny(), Progress::ignore()).await
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("hub/models--bee--tiny")
    }

    /// The model is in the store, with the bytes that the hub has.
    fn check(&self) {
        let in_use = self.store.open_model(&pinned()).unwrap().expect("it is there");
        for file in ["config.json", "tokenizer.json", WEIGHTS] {
            let here = fs::read(in_use.path().join(file)).unwrap();
            assert!(here == self.server.file("bee/tiny", file), "{file}");
        }
        assert!(!in_use.path().join("pytorch_model.bin").exists());
        assert!(parts(&self.repository()).is_empty());
    }
}

fn parts(repository: &std::path::Path) -> Vec<String> {
    let names = fs::read_dir(repository.join("blobs")).into_iter().flatten();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".incomplete")).collect()
}

fn open(dir: &tempfile::TempDir) -> ModelStore {
    let options = StoreOptions {
        hub_cache: Some(dir.path().join("hub")),
        head_room: 0,
        ..StoreOptions::default()
    };
    ModelStore::open(dir.path().join("store"), options).unwrap()
}

fn tiny() -> ModelRef {
    "hf:bee/tiny".parse().unwrap()
}

fn pinned() -> ModelRef {
    format!("hf:bee/tiny@{COMMIT}").parse().unwrap()
}

#[tokio::test]
async fn a_model_is_resolved_downloaded_and_laid_out_as_other_tools_do_it() {
    let place = Place::new(HubServer::with_model(BIG));
    let hub = place.hub().build().unwrap();
    let resolved = hub.resolve(&tiny()).await.unwrap();
    assert_eq!(resolved.model(), &pinned());
    assert_eq!(
        resolved.files().map(|(path, _)| path).collect::<Vec<_>>(),
        ["config.json", WEIGHTS, "tokenizer.json"]
    );
    let stored = place.download().await.unwrap();
    assert_eq!((&stored.model, stored.bytes), (&pinned(), resolved.bytes()));
    assert_eq!(stored.state, StoredState::Ready);
    place.check();
    let repository = place.repository();
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    let link = fs::read_link(repository.join("snapshots").join(COMMIT).join(WEIGHTS)).unwrap();
    let digest = Digest::of(weights(1, BIG)).hex();
    assert_eq!(link, PathBuf::from(format!("../../blobs/{digest}")));
    // Again, with another store on the same disk and without a hub.
    let offline = place.hub().endpoint("http://127.0.0.1:9").offline(true).build().unwrap();
    let again = open(&place.dir).download(&offline, &tiny(), Progress::ignore()).await.unwrap();
    assert_eq!(again.digest, stored.digest);
}

#[tokio::test]
async fn a_pinned_reference_leaves_word_of_the_branch_that_stands_there() {
    let place = Place::new(HubServer::with_model(10));
    let hub = place.hub().build().unwrap();
    place.store.download(&hub, &pinned(), Progress::ignore()).await.unwrap();
    assert_eq!(fs::read_to_string(place.repository().join("refs/main")).unwrap(), COMMIT);
}

#[tokio::test]
async fn one_gguf_is_taken_and_the_reference_pinned_to_it() {
    let place = Place::new(HubServer::start());
    for kind in ["Q8_0", "Q4_K_M"] {
        place.server.put("bee/gguf", &format!("bee-{kind}.gguf"), weights(2, 1000));
    }
    let hub = place.hub().build().unwrap();
    let model: ModelRef = "hf:bee/gguf".parse().unwrap();
    let stored = place.store.download(&hub, &model, Progress::ignore()).await.unwrap();
    assert_eq!(stored.model.as_str(), format!("hf:bee/gguf@{COMMIT}::file=bee-Q4_K_M.gguf"));
    let in_use = place.store.open_model(&stored.model).unwrap().unwrap();
    assert!(in_use.path().ends_with("bee-Q4_K_M.gguf") && in_use.path().is_file());
    assert_eq!(stored.bytes, 1000);
}

#[tokio::test]
async fn fifty_callers_make_one_download_and_each_sees_its_progress() {
    let place = Place::new(HubServer::with_model(BIG));
    let hub = place.hub().build().unwrap();
    let (store, model) = (&place.store, pinned());
    let (hub, model) = (&hub, &model);
    let all = join_all((0..50).map(|_| async move {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = told.clone();
        let progress = Progress::new(move |update| sink.lock().unwrap().push(update));
        let stored = store.download(hub, model, progress).await.unwrap();
        let last = *told.lock().unwrap().last().unwrap();
        assert_eq!((last.done, last.total), (stored.bytes, Some(stored.bytes)));
        stored
    }))
    .await;
    assert!(all.iter().all(|stored| stored.digest == all[0].digest));
    for file in [WEIGHTS, "config.json", "tokenizer.json"] {
        assert_eq!(place.server.fetches(file).len(), 1, "{file}");
    }
    place.check();
}

#[tokio::test]
async fn a_download_goes_on_when_the_one_who_asked_goes_away() {
    let place = Place::new(HubServer::with_model(BIG));
    place.server.fail(WEIGHTS, &[Fault::Stall(1000)]);
    let store = place.store.clone();
    let mut changed = store.changed();
    let hub = place.hub().build().unwrap();
    let caller =
        tokio::spawn(async move { store.download(&hub, &pinned(), Progress::ignore()).await });
    let begun = || place.server.fetches(WEIGHTS).len() == 1;
    tokio::time::timeout(Duration::from_secs(10), async {
        while !begun() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    caller.abort();
    assert!(matches!(place.store.models()[0].state, StoredState::Fetching { .. }));
    let ready = changed
        .wait_for(|_| place.store.models().iter().any(|model| model.state == StoredState::Ready));
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap().unwrap();
    place.check();
}

#[tokio::test]
async fn a_transfer_that_breaks_off_stalls_or_is_refused_goes_on_where_it_was() {
    let faults = [
        Fault::Cut(1 << 20),
        Fault::Status(429, Some(0)),
        Fault::Stall(1 << 20),
        Fault::Status(503, None),
        Fault::Status(502, None),
    ];
    let place = Place::new(HubServer::with_model(BIG));
    place.server.fail(WEIGHTS, &faults);
    place.server.fail("info", &[Fault::Status(500, None), Fault::Status(429, Some(0))]);
    place.download().await.unwrap();
    place.check();
    let ranges: Vec<_> = place.server.fetches(WEIGHTS).into_iter().map(|seen| seen.range).collect();
    let (one, two) = (Some(format!("bytes={}-", 1 << 20)), Some(format!("bytes={}-", 2 << 20)));
    assert_eq!(ranges, [None, one.clone(), one, two.clone(), two.clone(), two]);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_beginning() {
    let place = Place::new(HubServer::with_model(BIG));
    place.server.fail(WEIGHTS, &[Fault::Cut(1000), Fault::NoRange]);
    place.download().await.unwrap();
    place.check();
}

#[tokio::test]
async fn what_comes_no_further_fails_and_what_came_is_kept_for_the_next_time() {
    let place = Place::new(HubServer::with_model(BIG));
    place.server.fail(WEIGHTS, &[Fault::Cut(1 << 20)]);
    place.server.fail(WEIGHTS, &[Fault::Status(500, None); 4]);
    let error = place.download().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HubUnreachable);
    assert!(error.message().contains("500") && error.message().contains(WEIGHTS), "{error}");
    assert!(place.store.open_model(&pinned()).unwrap().is_none());
    place.download().await.unwrap();
    place.check();
    let last = place.server.fetches(WEIGHTS).pop().unwrap();
    assert_eq!(last.range, Some(format!("bytes={}-", 1 << 20)));
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_refused_with_the_time() {
    let place = Place::new(HubServer::with_model(10));
    place.server.fail("info", &[Fault::Status(429, Some(7200))]);
    let error = place.download().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7200)), "{error}");
}

#[tokio::test]
async fn a_file_that_comes_damaged_is_kept_apart_named_and_never_served() {
    for file in [WEIGHTS, "config.json"] {
        let place = Place::new(HubServer::with_model(BIG));
        place.server.fail(file, &[Fault::Corrupt]);
        let error = place.download().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
        assert!(error.message().contains(file), "{error}");
        let kept: Vec<_> = fs::read_dir(place.store.damaged()).unwrap().collect();
        assert_eq!(kept.len(), 1);
        assert!(place.store.open_model(&pinned()).unwrap().is_none());
        place.download().await.unwrap();
        place.check();
    }
}

#[tokio::test]
async fn bytes_left_by_another_that_are_not_the_files_are_found_out_and_fetched_again() {
    let place = Place::new(HubServer::with_model(BIG));
    let blobs = place.repository().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let name = format!("{}.incomplete", Digest::of(weights(1, BIG)).hex());
    fs::write(blobs.join(name), vec![7; 1000]).unwrap();
    place.download().await.unwrap();
    place.check();
    assert_eq!(place.server.fetches(WEIGHTS).len(), 2);
}

#[tokio::test]
async fn the_token_is_shown_to_the_hub_and_not_to_where_it_sends_us_on() {
    let place = Place::new(HubServer::with_model(BIG));
    place.server.gate(true);
    let token = HubToken::new(TOKEN).unwrap();
    let hub = place.hub().token(Some(token)).build().unwrap();
    place.store.download(&hub, &tiny(), Progress::ignore()).await.unwrap();
    place.check();
    let (cdn, own): (Vec<_>, Vec<_>) = place.server.seen().into_iter().partition(|seen| seen.cdn);
    assert!(!cdn.is_empty() && cdn.iter().all(|seen| !seen.token));
    assert!(own.iter().all(|seen| seen.token));
}

#[tokio::test]
async fn a_gated_model_is_refused_with_what_to_do_about_it() {
    let place = Place::new(HubServer::with_model(10));
    place.server.gate(true);
    let error = place.download().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.message().contains("accept its terms"), "{error}");
    let token = HubToken::new("hf_other").unwrap();
    let hub = place.hub().token(Some(token)).build().unwrap();
    let error = place.store.download(&hub, &tiny(), Progress::ignore()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(!format!("{error:?}").contains("hf_other"));
}

#[tokio::test]
async fn what_the_hub_has_not_is_not_found() {
    let place = Place::new(HubServer::with_model(10));
    let hub = place.hub().build().unwrap();
    for model in ["hf:bee/none", "hf:bee/tiny@other", "hf:bee/tiny::file=none.gguf"] {
        let error = hub.resolve(&model.parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelNotFound, "{error}");
    }
    let offline = place.hub().offline(true).build().unwrap();
    let error = offline.resolve(&tiny()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelNotFound);
    assert!(error.message().contains("offline"), "{error}");
}

#[tokio::test]
async fn a_hub_that_speaks_no_tls_is_named_and_not_asked_again() {
    use std::io::{Read as _, Write as _};

    let place = Place::new(HubServer::with_model(10));
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in plain.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    // So many tries would take longer than the test may.
    let hub =
        place.hub().endpoint(endpoint).retries(1_000, Duration::from_secs(60)).build().unwrap();
    let error = hub.resolve(&tiny()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HubUnreachable);
    assert!(error.message().contains("it does not speak TLS"), "{error}");
}

#[tokio::test]
async fn an_alert_of_tls_ends_a_request_only_if_a_new_try_gets_the_same_one() {
    use std::{
        io::{Read as _, Write as _},
        sync::atomic::{AtomicUsize, Ordering},
    };

    let place = Place::new(HubServer::with_model(10));
    // `internal_error` of a busy server, `handshake_failure`, `protocol_version`.
    for (alert, connections) in [(80, 4), (40, 1), (70, 1)] {
        let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("https://{}", busy.local_addr().unwrap());
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        std::thread::spawn(move || {
            for mut stream in busy.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4_096]);
                // A fatal alert in TLS 1.2.
                let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]);
            }
        });
        let hub = place.hub().endpoint(endpoint).build().unwrap();
        let error = hub.resolve(&tiny()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HubUnreachable, "{error}");
        assert_eq!(accepted.load(Ordering::SeqCst), connections, "{alert}: {error}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_found_by_name_and_only_that_one_is_fetched_again() {
    let place = Place::new(HubServer::with_model(BIG));
    place.download().await.unwrap();
    assert_eq!(place.store.verify(&pinned(), Progress::ignore()).await.unwrap(), []);
    let blob = fs::canonicalize(place.repository().join("snapshots").join(COMMIT).join(WEIGHTS));
    let mut content = weights(1, BIG);
    content[BIG / 2] ^= 1;
    fs::write(blob.unwrap(), content).unwrap();
    let damage = place.store.verify(&pinned(), Progress::ignore()).await.unwrap();
    assert_eq!(damage.iter().map(|damage| damage.file.as_str()).collect::<Vec<_>>(), [WEIGHTS]);
    assert!(place.store.open_model(&pinned()).unwrap().is_none());
    assert_eq!(place.store.models()[0].state, StoredState::Incomplete);
    place.download().await.unwrap();
    place.check();
    assert_eq!(place.server.fetches(WEIGHTS).len(), 2);
    assert_eq!(place.server.fetches("config.json").len(), 1);
}

#[tokio::test]
async fn a_removed_model_leaves_nothing_but_what_another_snapshot_needs() {
    let place = Place::new(HubServer::with_model(1000));
    place.download().await.unwrap();
    let repository = place.repository();
    let other = repository.join("snapshots/ffffffffffffffffffffffffffffffffffffffff");
    fs::create_dir(&other).unwrap();
    let blob = Digest::of(weights(1, 1000)).hex();
    std::os::unix::fs::symlink(format!("../../blobs/{blob}"), other.join(WEIGHTS)).unwrap();
    let in_use = place.store.open_model(&pinned()).unwrap().unwrap();
    let error = place.store.remove(&pinned()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    drop(in_use);
    place.store.remove(&pinned()).await.unwrap();
    assert!(place.store.models().is_empty());
    let left: Vec<_> = fs::read_dir(repository.join("blobs")).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert!(other.join(WEIGHTS).is_file());
    assert!(!repository.join("refs/main").exists());
    assert!(!repository.join("snapshots").join(COMMIT).exists());
}
