//! A process that is killed between any two steps: whatever the last step was, the next process finds a store in which
//! no incomplete model is served, and continues.

#[cfg(feature = "hub")]
mod downloads;

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use super::{super::disk::Disk, ModelStore, StoreOptions, StoredState};
use crate::{error::Result, model_ref::ModelRef, progress::Progress};

const FILES: [(&str, &[u8]); 3] = [("config.json", b"{}"), ("sub/w", &[7; 3000]), ("x", b"")];

fn open(dir: &Path, disk: Disk) -> Result<ModelStore> {
    let hub_cache = Some(dir.join("hub"));
    let options = StoreOptions { hub_cache, head_room: 0, ..StoreOptions::default() };
    ModelStore::open_on(disk, &dir.join("store"), options)
}

fn model(name: &str) -> ModelRef {
    format!("file:/models/{name}").parse().unwrap()
}

/// One run of a store: copies, adds a reference, repairs, replaces, removes.
async fn live(dir: &Path, disk: Disk) -> Result<()> {
    let store = open(dir, disk)?;
    let from = ModelRef::file(dir.join("from"))?;
    let source = store.local(&from, Progress::ignore()).await?;
    store.import(&model("a"), source.clone(), Progress::ignore()).await?;
    store.import(&model("b"), source.clone(), Progress::ignore()).await?;
    let path = store.open_model(&model("a"))?.map(|in_use| in_use.path().join("sub/w"));
    if let Some(path) = path {
        fs::write(path, [8; 3000]).unwrap();
    }
    store.verify(&model("a"), Progress::ignore()).await?;
    store.import(&model("b"), source, Progress::ignore()).await?;
    store.remove(&model("a")).await?;
    store.remove(&model("b")).await
}

/// Checks that every model listed as ready is complete.
async fn check(store: &ModelStore, damaged_by_hand: bool) {
    for stored in store.models() {
        let opened = store.open_model(&stored.model).unwrap();
        assert_eq!(opened.is_some(), stored.state == StoredState::Ready);
        let Some(in_use) = opened else { continue };
        for (file, content) in FILES {
            let is = fs::read(in_use.path().join(file)).unwrap();
            assert!(is == content || (damaged_by_hand && is == [8; 3000]), "{file}");
        }
    }
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_a_store_that_goes_on() {
    let mut steps = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        for (file, content) in FILES {
            let at = from.join(file);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, content).unwrap();
        }
        let left = Arc::new(AtomicU64::new(steps));
        let ended = live(dir.path(), Disk { left: Some(left) }).await;
        let store = open(dir.path(), Disk::default()).unwrap();
        check(&store, true).await;
        drop(store);
        // The next process does its whole run on the leftovers of the killed one.
        live(dir.path(), Disk::default()).await.unwrap_or_else(|error| panic!("{steps}: {error}"));
        let store = open(dir.path(), Disk::default()).unwrap();
        assert_eq!(store.models(), [], "after {steps} steps");
        for empty in ["models", "parts", "trash"] {
            let left = fs::read_dir(store.dir().join(empty)).unwrap().count();
            assert_eq!(left, 0, "{empty} after {steps} steps");
        }
        if ended.is_ok() {
            break;
        }
        steps += 1;
    }
    assert!(steps > 40, "{steps} steps are fewer than a run has");
}
