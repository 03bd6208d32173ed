//! `kill -9` of a process that downloads: another process continues from the same byte, also one that waited for it.
//!
//! The child is this test binary again, running only [`the_child_downloads`].

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::hub::{COMMIT, Fault, HubServer};
use rbee_core::{
    ModelRef, Result,
    hive::Progress,
    models::{Digest, Hub, ModelStore, StoreOptions, StoredModel, StoredState},
};

const ENDPOINT: &str = "RBEE_TEST_HUB_ENDPOINT";
const DIR: &str = "RBEE_TEST_HUB_DIR";
const WEIGHTS: &str = "model.safetensors";
const BYTES: usize = 2 << 20;
/// What is sent before the connection is held open.
const HELD: u64 = 1 << 20;

/// Kills the child when the test ends, also if it fails.
struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

fn model() -> ModelRef {
    format!("hf:bee/tiny@{COMMIT}").parse().unwrap()
}

async fn download(endpoint: &str, dir: &Path) -> Result<StoredModel> {
    let hub_cache = Some(dir.join("hub"));
    let options = StoreOptions { hub_cache, head_room: 0, ..StoreOptions::default() };
    let store = ModelStore::open(dir.join("store"), options)?;
    // Longer than the hub of the tests holds a connection.
    let hub = Hub::builder().endpoint(endpoint).stall(Duration::from_secs(30)).build()?;
    store.download(&hub, &model(), Progress::ignore()).await
}

#[tokio::test]
async fn the_child_downloads() {
    if let (Ok(endpoint), Ok(dir)) = (env::var(ENDPOINT), env::var(DIR)) {
        download(&endpoint, dir.as_ref()).await.unwrap();
    }
}

/// A child that has received half of the weights and receives no more.
fn half_done(server: &HubServer, dir: &Path) -> Killed {
    server.fail(WEIGHTS, &[Fault::Stall(HELD as usize)]);
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "hub_crash::the_child_downloads"]);
    child.env(ENDPOINT, server.endpoint()).env(DIR, dir).stdout(Stdio::null());
    let child = Killed(child.spawn().unwrap());
    let digest = Digest::of(server.file("bee/tiny", WEIGHTS)).hex();
    let part = dir.join("hub/models--bee--tiny/blobs").join(format!("{digest}.incomplete"));
    let until = Instant::now() + Duration::from_secs(20);
    while fs::metadata(&part).map_or(0, |part| part.len()) < HELD {
        assert!(Instant::now() < until, "the child does not download");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn check(server: &HubServer, dir: &Path, stored: &StoredModel) {
    assert_eq!(stored.state, StoredState::Ready);
    let file = dir.join("hub/models--bee--tiny/snapshots").join(COMMIT).join(WEIGHTS);
    assert!(fs::read(file).unwrap() == server.file("bee/tiny", WEIGHTS));
    let ranges: Vec<_> = server.fetches(WEIGHTS).into_iter().map(|seen| seen.range).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={HELD}-"))]);
    assert_eq!(server.fetches("config.json").len(), 1);
}

#[tokio::test]
async fn a_download_goes_on_where_a_killed_process_was() {
    let (server, dir) = (HubServer::with_model(BYTES), tempfile::tempdir().unwrap());
    half_done(&server, dir.path()).kill();
    let stored = download(&server.endpoint(), dir.path()).await.unwrap();
    check(&server, dir.path(), &stored);
}

#[tokio::test]
async fn a_process_waits_for_another_that_downloads_and_goes_on_when_that_is_killed() {
    let (server, dir) = (HubServer::with_model(BYTES), tempfile::tempdir().unwrap());
    let mut child = half_done(&server, dir.path());
    let endpoint = server.endpoint();
    let waiting = download(&endpoint, dir.path());
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err() && server.fetches(WEIGHTS).len() == 1);
    child.kill();
    let stored = waiting.await.unwrap();
    check(&server, dir.path(), &stored);
}
