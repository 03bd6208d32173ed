//! Models sent to a hive over HTTP, and read from one.

use std::{fs, sync::Arc, time::Duration};

use crate::support::{Daemon, token};
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use rbee_core::{
    ErrorKind, HiveBackend, HiveId, InProcessHive, ModelRef, Result, async_trait,
    hive::{ModelHost, ModelOrigin, Progress},
    models::{Manifest, ModelFiles, ModelStore, StoreOptions},
};
use rbee_transport_http::{client::HttpHive, server};

/// A hive with a store, behind HTTP.
struct Place {
    dir: tempfile::TempDir,
    daemon: Daemon,
    hive: HttpHive,
}

async fn place(name: &str) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        hub_cache: Some(dir.path().join("hub")),
        head_room: 0,
        ..StoreOptions::default()
    };
    let store = ModelStore::open(dir.path().join("store"), options).unwrap();
    let hive = InProcessHive::new().with_id(HiveId::new(name).unwrap()).with_store(store);
    hive.start().await.unwrap();
    let daemon = Daemon::serve(server::hive(Arc::new(hive), token())).await;
    let hive = HttpHive::connect(daemon.endpoint(Some(token()))).await.unwrap();
    Place { dir, daemon, hive }
}

/// A directory with a file that is sent in several parts, one in a directory of its own, and an empty one.
fn a_model(dir: &tempfile::TempDir) -> ModelRef {
    let root = dir.path().join("model");
    fs::create_dir_all(root.join("sub")).unwrap();
    let large: Vec<u8> = (0..9_500_000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    fs::write(root.join("large.bin"), large).unwrap();
    fs::write(root.join("sub/small.txt"), "small").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    ModelRef::file(root).unwrap()
}

async fn send(
    to: &Place,
    files: Arc<dyn ModelFiles>,
    model: &ModelRef,
) -> Result<rbee_core::models::ModelOnDisk> {
    to.hive.provision(model, ModelOrigin::Files(files), Progress::ignore()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_goes_from_one_hive_to_the_next_over_http_byte_for_byte() {
    let (one, two) = (place("one").await, place("two").await);
    let model = a_model(&one.dir);
    let early = one.hive.files(&model).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::ModelNotFound, "any file is not a model: {early}");
    one.hive.provision(&model, ModelOrigin::Here, Progress::ignore()).await.unwrap();
    let files = one.hive.files(&model).await.unwrap();
    let manifest = files.manifest().clone();
    let sent = send(&two, files, &model).await.unwrap();
    assert_eq!((sent.digest, sent.bytes), (Some(manifest.digest()), 9_500_005));
    assert_eq!(two.hive.report().await.unwrap().models, [sent]);
    // The files that arrived are the files that the next hive gets from there.
    let copy = two.hive.files(&model).await.unwrap();
    assert_eq!(*copy.manifest(), manifest);
    let mut read = copy.read("large.bin", 9_499_990).await.unwrap();
    let mut tail = Vec::new();
    while let Some(chunk) = read.next().await {
        tail.extend_from_slice(&chunk.unwrap());
    }
    assert!(
        fs::read(one.dir.path().join("model/large.bin")).unwrap().ends_with(&tail)
            && tail.len() == 10
    );
    two.hive.remove_model(&model).await.unwrap();
    assert!(two.hive.report().await.unwrap().models.is_empty());
}

/// Files that break off in the middle the first time.
#[derive(Debug)]
struct Breaking(Arc<dyn ModelFiles>, std::sync::atomic::AtomicBool, std::sync::Mutex<Vec<u64>>);

#[async_trait]
impl ModelFiles for Breaking {
    fn manifest(&self) -> &Manifest {
        self.0.manifest()
    }
    async fn read(&self, file: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        let read = self.0.read(file, from).await?;
        if file != "large.bin" {
            return Ok(read);
        }
        self.2.lock().unwrap().push(from);
        if self.1.swap(false, std::sync::atomic::Ordering::SeqCst) {
            let broken = rbee_core::Error::new(ErrorKind::HiveUnreachable, "cut");
            let mut given = 0;
            let some = read.take_while(move |chunk| {
                given += chunk.as_ref().map_or(0, Bytes::len);
                std::future::ready(given < 5 << 20)
            });
            return Ok(some.chain(futures_util::stream::iter([Err(broken)])).boxed());
        }
        Ok(read)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_broke_off_goes_on_where_it_was() {
    let (one, two) = (place("one").await, place("two").await);
    let model = a_model(&one.dir);
    one.hive.provision(&model, ModelOrigin::Here, Progress::ignore()).await.unwrap();
    let files = one.hive.files(&model).await.unwrap();
    let breaking = Arc::new(Breaking(files, true.into(), Default::default()));
    let error = send(&two, breaking.clone(), &model).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HiveUnreachable, "{error}");
    // The hive notices that there is no sender any more, and gives up.
    let again = async {
        loop {
            match send(&two, breaking.clone(), &model).await {
                Ok(sent) => return sent,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let sent = tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
    assert_eq!(sent.bytes, 9_500_005);
    let from = breaking.2.lock().unwrap().clone();
    assert_eq!(from[0], 0);
    assert!(*from.last().unwrap() >= 4 << 20, "what had arrived was not sent again: {from:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_nobody_wants_are_refused() {
    let two = place("two").await;
    let endpoint = two.daemon.endpoint(Some(token()));
    let digest = format!("sha256:{}", "0".repeat(64));
    let part = || Bytes::from_static(b"x");
    let put = |path: String| {
        let endpoint = endpoint.clone();
        async move {
            endpoint.put_part(&path, part(), (0, 1), Duration::from_secs(10)).await.unwrap_err()
        }
    };
    let error = put(format!("/v1/models/{digest}?file=a")).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = put("/v1/models/sha256:zz?file=a".into()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    let error = put(format!("/v1/models/{digest}")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    let error = two.hive.files(&"hf:a/b".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelNotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_does_not_answer_is_told_as_such_and_the_token_is_not() {
    let one = place("one").await;
    let access = rbee_core::models::HubAccess {
        endpoint: Some("http://127.0.0.1:1".into()),
        token: Some("hf_secret".into()),
        ..rbee_core::models::HubAccess::default()
    };
    let model = format!("hf:a/b@{}", "0".repeat(40)).parse().unwrap();
    let error = one.hive.provision(&model, ModelOrigin::Hub(access), Progress::ignore()).await;
    let error = error.unwrap_err();
    // A hive that is built without downloads reports that.
    assert!(matches!(error.kind(), ErrorKind::HubUnreachable | ErrorKind::Unsupported), "{error}");
    assert!(!format!("{error:?}").contains("hf_secret"));
}
