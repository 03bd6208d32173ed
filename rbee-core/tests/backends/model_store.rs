//! Models that are copied to a store, used, removed, and found damaged.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, future::join_all, stream};
use rbee_core::{
    Error, ErrorKind, ModelRef, Result, async_trait,
    hive::Progress,
    models::{Digest, Manifest, ModelFile, ModelFiles, ModelStore, StoreOptions, StoredState},
};

/// A source in memory that counts the reads, and can fail.
#[derive(Debug)]
struct Source {
    manifest: Manifest,
    files: Vec<(String, Vec<u8>)>,
    reads: AtomicUsize,
    /// Fails after one chunk.
    breaks: AtomicBool,
    /// Stalls after one chunk.
    stalls: AtomicBool,
    /// Returns other bytes than its manifest says.
    lies: AtomicBool,
}

const CHUNK: usize = 1000;

fn source(files: &[(&str, Vec<u8>)]) -> Arc<Source> {
    let file = |(path, content): &(&str, Vec<u8>)| ModelFile {
        path: (*path).to_owned(),
        bytes: content.len() as u64,
        sha256: Digest::of(content),
    };
    Arc::new(Source {
        manifest: Manifest::new(files.iter().map(file)).unwrap(),
        files: files.iter().map(|(path, content)| ((*path).to_owned(), content.clone())).collect(),
        reads: AtomicUsize::new(0),
        breaks: AtomicBool::new(false),
        stalls: AtomicBool::new(false),
        lies: AtomicBool::new(false),
    })
}

fn small() -> Arc<Source> {
    source(&[
        ("config.json", b"{}".to_vec()),
        ("sub/model.gguf", vec![7; 5 * CHUNK]),
        ("x", vec![]),
    ])
}

#[async_trait]
impl ModelFiles for Source {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn read(&self, file: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let content = &self.files.iter().find(|(path, _)| path == file).unwrap().1;
        let mut content = content[from as usize..].to_vec();
        if self.lies.load(Ordering::SeqCst) {
            content.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let chunks: Vec<_> = content.chunks(CHUNK).map(|chunk| Ok(chunk.to_vec().into())).collect();
        let chunks = stream::iter(chunks);
        if self.breaks.swap(false, Ordering::SeqCst) {
            let broken = Error::new(ErrorKind::HiveUnreachable, "the link was cut");
            return Ok(chunks.take(1).chain(stream::iter([Err(broken)])).boxed());
        }
        match self.stalls.swap(false, Ordering::SeqCst) {
            true => Ok(chunks.take(1).chain(stream::pending()).boxed()),
            false => Ok(chunks.boxed()),
        }
    }
}

fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        hub_cache: Some(dir.join("hub-cache")),
        head_room: 0,
        stall: Duration::from_millis(300),
        ..StoreOptions::default()
    }
}

fn open(dir: &Path) -> ModelStore {
    ModelStore::open(dir, options(dir)).unwrap()
}

fn model(name: &str) -> ModelRef {
    format!("file:/models/{name}").parse().unwrap()
}

async fn import(store: &ModelStore, name: &str, from: &Arc<Source>) -> Result<()> {
    store.import(&model(name), from.clone(), Progress::ignore()).await.map(drop)
}

async fn read(files: &dyn ModelFiles, file: &str, from: u64) -> Vec<u8> {
    let chunks: Vec<_> = files.read(file, from).await.unwrap().collect().await;
    chunks.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect()
}

#[tokio::test]
async fn a_copy_is_there_with_all_its_files_and_can_be_copied_on() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (open(one.path()), open(two.path()));
    let from = small();
    assert!(one.open_model(&model("a")).unwrap().is_none());
    import(&one, "a", &from).await.unwrap();
    let stored = one.models().remove(0);
    assert_eq!((stored.digest, stored.bytes), (Some(from.manifest.digest()), 5002));
    assert_eq!(stored.state, StoredState::Ready);
    let files = one.files(&model("a")).await.unwrap();
    assert_eq!(read(&*files, "sub/model.gguf", 4999).await, [7]);
    assert_eq!(files.read("none", 0).await.err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(files.read("x", 1).await.err().unwrap().kind(), ErrorKind::InvalidRequest);
    two.import(&model("a"), files, Progress::ignore()).await.unwrap();
    let in_use = two.open_model(&model("a")).unwrap().unwrap();
    assert_eq!(fs::read(in_use.path().join("sub/model.gguf")).unwrap(), vec![7; 5000]);
    assert_eq!(in_use.digest(), from.manifest.digest());
}

#[tokio::test]
async fn a_single_file_is_given_as_that_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let file = dir.path().join("bee.gguf");
    fs::write(&file, "GGUF").unwrap();
    let model = ModelRef::file(&file).unwrap();
    let files = store.local(&model, Progress::ignore()).await.unwrap();
    store.import(&model, files, Progress::ignore()).await.unwrap();
    let in_use = store.open_model(&model).unwrap().unwrap();
    assert_eq!(fs::read_to_string(in_use.path()).unwrap(), "GGUF");
    // A changed file is detected.
    fs::write(&file, "GGUF2").unwrap();
    let files = store.local(&model, Progress::ignore()).await.unwrap();
    assert_eq!(files.manifest().files()[0].sha256, Digest::of("GGUF2"));
    let none = ModelRef::file(dir.path().join("none")).unwrap();
    let error = store.local(&none, Progress::ignore()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelNotFound);
}

#[tokio::test]
async fn a_copy_that_breaks_off_or_stalls_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let from = source(&[("a", vec![1; 5 * CHUNK])]);
    from.breaks.store(true, Ordering::SeqCst);
    let error = import(&open(dir.path()), "a", &from).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HiveUnreachable);
    from.stalls.store(true, Ordering::SeqCst);
    let store = open(dir.path());
    let error = import(&store, "a", &from).await.unwrap_err();
    assert!(error.message().contains("delivered nothing"), "{error}");
    assert!(store.models().is_empty());
    let begun = store.begin(&model("a"), &from.manifest).await.unwrap();
    assert_eq!(begun.done(), 2 * CHUNK as u64);
    import(&store, "a", &from).await.unwrap();
    assert_eq!(store.models()[0].state, StoredState::Ready);
}

#[tokio::test]
async fn fifty_callers_make_one_copy_and_it_outlives_them() {
    let dir = tempfile::tempdir().unwrap();
    let (store, from) = (open(dir.path()), small());
    let all = join_all((0..50).map(|_| import(&store, "a", &from))).await;
    assert!(all.iter().all(Result::is_ok));
    // An empty file is not read.
    assert_eq!(from.reads.load(Ordering::SeqCst), 2);
    // An import whose caller leaves at once is completed anyway.
    let mut changed = store.changed();
    {
        let left = import(&store, "b", &from);
        let mut left = std::pin::pin!(left);
        assert!(futures_util::poll!(&mut left).is_pending());
    }
    let there = changed.wait_for(|_| store.open_model(&model("b")).unwrap().is_some());
    tokio::time::timeout(Duration::from_secs(10), there).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_source_that_lies_is_found_out_and_its_file_is_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, from) = (open(dir.path()), small());
    from.lies.store(true, Ordering::SeqCst);
    let error = import(&store, "a", &from).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
    assert!(error.message().contains("config.json"), "{error}");
    assert!(store.open_model(&model("a")).unwrap().is_none());
    assert_eq!(fs::read_dir(store.damaged()).unwrap().count(), 1);
}

#[tokio::test]
async fn damage_is_found_by_name_and_only_that_file_is_copied_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, from) = (open(dir.path()), small());
    import(&store, "a", &from).await.unwrap();
    let path = store.open_model(&model("a")).unwrap().unwrap().path().join("sub/model.gguf");
    fs::write(&path, vec![8; 5000]).unwrap();
    let damage = store.verify(&model("a"), Progress::ignore()).await.unwrap();
    assert_eq!(damage.len(), 1);
    assert_eq!(
        (damage[0].file.as_str(), damage[0].found),
        ("sub/model.gguf", Some(Digest::of(vec![8; 5000])))
    );
    assert_eq!(fs::read(damage[0].kept.as_ref().unwrap()).unwrap(), vec![8; 5000]);
    assert_eq!(store.models()[0].state, StoredState::Incomplete);
    assert_eq!(store.files(&model("a")).await.unwrap_err().kind(), ErrorKind::ModelNotFound);
    from.reads.store(0, Ordering::SeqCst);
    import(&store, "a", &from).await.unwrap();
    assert_eq!(from.reads.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read(&path).unwrap(), vec![7; 5000]);
}

#[tokio::test]
async fn two_references_to_one_content_share_it_until_the_last_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, from) = (open(dir.path()), small());
    import(&store, "a", &from).await.unwrap();
    from.reads.store(0, Ordering::SeqCst);
    import(&store, "b", &from).await.unwrap();
    assert_eq!(from.reads.load(Ordering::SeqCst), 0);
    let path = store.open_model(&model("a")).unwrap().unwrap().path().to_owned();
    store.remove(&model("a")).await.unwrap();
    assert!(store.open_model(&model("b")).unwrap().is_some() && path.exists());
    store.remove(&model("b")).await.unwrap();
    assert!(store.models().is_empty() && !path.exists());
    store.remove(&model("b")).await.unwrap();
}

#[tokio::test]
async fn a_reference_whose_content_has_changed_stands_for_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    import(&store, "a", &source(&[("w", vec![1; 10])])).await.unwrap();
    let in_use = store.open_model(&model("a")).unwrap().unwrap();
    let new = source(&[("w", vec![2; 10])]);
    let error = import(&store, "a", &new).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    drop(in_use);
    import(&store, "a", &new).await.unwrap();
    let models = store.models();
    assert_eq!((models.len(), models[0].digest), (1, Some(new.manifest.digest())));
    assert_eq!(fs::read_dir(store.dir().join("models")).unwrap().count(), 1);
}

#[tokio::test]
async fn the_least_recently_used_make_room_and_what_is_in_use_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { budget: Some(3500), ..options(dir.path()) };
    let store = ModelStore::open(dir.path(), options).unwrap();
    let of = |n: u8| source(&[("w", vec![n; 1000])]);
    for n in 1..=3 {
        import(&store, &n.to_string(), &of(n)).await.unwrap();
    }
    // Sets the order of use, whatever the resolution of the disk's timestamps.
    for (n, seconds) in [("1", 30), ("2", 20), ("3", 10)] {
        let used =
            store.dir().join("used").join(&Digest::of(format!("file:/models/{n}")).hex()[..32]);
        let then = std::time::SystemTime::now() - Duration::from_secs(seconds);
        fs::File::options().write(true).open(used).unwrap().set_modified(then).unwrap();
    }
    let names = || store.models().iter().map(|is| is.model.to_string()).collect::<Vec<_>>();
    let second = store.files(&model("2")).await.unwrap();
    let touched = store.open_model(&model("1")).unwrap();
    drop(touched);
    import(&store, "4", &of(4)).await.unwrap();
    assert_eq!(names(), ["file:/models/1", "file:/models/2", "file:/models/4"]);
    let error = import(&store, "5", &source(&[("w", vec![5; 3000])])).await.unwrap_err();
    // Space in use may become free later; a model larger than the whole budget never fits.
    assert_eq!((error.kind(), error.short_bytes()), (ErrorKind::DiskInUse, Some(500)));
    assert!(error.message().contains("budget of the store is 3500"), "{error}");
    let error = import(&store, "6", &source(&[("w", vec![5; 4000])])).await.unwrap_err();
    assert_eq!((error.kind(), error.short_bytes()), (ErrorKind::Storage, None));
    assert!(error.message().contains("4000"), "{error}");
    // No model was evicted for one that did not fit.
    assert_eq!(names(), ["file:/models/1", "file:/models/2", "file:/models/4"]);
    drop(second);
}

#[tokio::test]
async fn a_disk_that_is_too_full_is_refused_with_the_sizes_before_a_byte_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { head_room: u64::MAX / 2, ..options(dir.path()) };
    let store = ModelStore::open(dir.path(), options).unwrap();
    let from = small();
    let error = import(&store, "a", &from).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("needs 5002 more bytes"), "{error}");
    assert_eq!(from.reads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_model_that_is_sent_chunk_by_chunk_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (store, from) = (open(dir.path()), source(&[("a", vec![1; 10]), ("b", vec![2; 10])]));
    let digest = from.manifest.digest();
    let send = |bytes: &[u8]| stream::iter([Ok(Bytes::copy_from_slice(bytes))]);
    let kind = |done: Result<u64>| done.unwrap_err().kind();
    assert_eq!(kind(store.write(&digest, "a", 0, send(&[1])).await), ErrorKind::NotFound);
    let begun = store.begin(&model("m"), &from.manifest).await.unwrap();
    assert_eq!((begun.digest, begun.done()), (digest, 0));
    assert_eq!(store.write(&digest, "a", 0, send(&[1; 6])).await.unwrap(), 6);
    assert_eq!(kind(store.write(&digest, "a", 7, send(&[1])).await), ErrorKind::Conflict);
    assert_eq!(kind(store.write(&digest, "c", 0, send(&[1])).await), ErrorKind::NotFound);
    assert_eq!(kind(store.write(&digest, "a", 6, send(&[1; 5])).await), ErrorKind::InvalidRequest);
    let short = store.finish(&digest, Progress::ignore()).await.unwrap_err();
    assert_eq!(short.kind(), ErrorKind::Conflict);
    assert!(short.message().contains("6 bytes are there; it should have 10"), "{short}");
    // Another process continues.
    let store = open(dir.path());
    let begun = store.begin(&model("m"), &from.manifest).await.unwrap();
    assert_eq!(begun.files.iter().map(|(_, there)| *there).collect::<Vec<_>>(), [6, 0]);
    assert_eq!(store.write(&digest, "a", 4, send(&[1; 6])).await.unwrap(), 10);
    store.write(&digest, "b", 0, send(&[2; 10])).await.unwrap();
    let stored = store.finish(&digest, Progress::ignore()).await.unwrap();
    assert_eq!((stored.state, stored.digest), (StoredState::Ready, Some(digest)));
    assert!(store.open_model(&model("m")).unwrap().is_some());
}

#[tokio::test]
async fn stores_on_one_directory_see_each_others_models_and_uses() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()), open(dir.path()));
    let from = small();
    let (a, b) = tokio::join!(import(&one, "a", &from), import(&two, "a", &from));
    a.and(b).unwrap();
    assert_eq!(from.reads.load(Ordering::SeqCst), 2);
    assert_eq!(one.models(), two.models());
    let in_use = one.open_model(&model("a")).unwrap().unwrap();
    assert_eq!(two.remove(&model("a")).await.unwrap_err().kind(), ErrorKind::Conflict);
    drop(in_use);
    two.remove(&model("a")).await.unwrap();
    assert!(one.models().is_empty());
}

#[tokio::test]
async fn an_alias_is_no_reference_to_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let alias: ModelRef = "bee".parse().unwrap();
    let error = store.import(&alias, small(), Progress::ignore()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
}
