//! The same tests for downloads.

use super::{super::super::hub::Hub, *};

#[path = "../../../../tests/support/hub.rs"]
mod hub;

/// One run: downloads, finds damage, downloads again, removes.
async fn live(endpoint: &str, dir: &Path, disk: Disk) -> Result<()> {
    let store = open(dir, disk)?;
    // One thread, so that the steps have a fixed order.
    let from = Hub::builder().endpoint(endpoint).cache(dir.join("hub")).parallel(1).build()?;
    let model = format!("hf:bee/tiny@{}", hub::COMMIT).parse()?;
    store.download(&from, &model, Progress::ignore()).await?;
    let path = store.open_model(&model)?.map(|in_use| in_use.path().join("model.safetensors"));
    if let Some(path) = path {
        fs::write(path, [8; 3000]).unwrap();
    }
    store.verify(&model, Progress::ignore()).await?;
    store.download(&from, &model, Progress::ignore()).await?;
    store.remove(&model).await
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_a_cache_that_goes_on() {
    let server = hub::HubServer::with_model(3000);
    let (mut steps, mut over) = (0, false);
    while !over {
        let dir = tempfile::tempdir().unwrap();
        let left = Arc::new(AtomicU64::new(steps));
        let killed = live(&server.endpoint(), dir.path(), Disk { left: Some(left) }).await;
        let store = open(dir.path(), Disk::default()).unwrap();
        for stored in store.models() {
            let opened = store.open_model(&stored.model).unwrap();
            assert_eq!(opened.is_some(), stored.state == StoredState::Ready);
            let Some(in_use) = opened else { continue };
            for file in ["config.json", "tokenizer.json", "model.safetensors"] {
                let is = fs::read(in_use.path().join(file)).unwrap();
                assert!(is == server.file("bee/tiny", file) || is == [8; 3000], "{file}");
            }
        }
        drop(store);
        let next = live(&server.endpoint(), dir.path(), Disk::default()).await;
        next.unwrap_or_else(|error| panic!("after {steps} steps: {error}"));
        let repository = dir.path().join("hub/models--bee--tiny");
        for empty in ["blobs", "snapshots"] {
            let left: Vec<_> = fs::read_dir(repository.join(empty)).unwrap().collect();
            assert!(left.is_empty(), "{left:?} after {steps} steps");
        }
        over = killed.is_ok();
        steps += 1;
    }
    assert!(steps > 30, "{steps} steps are fewer than a run has");
}
