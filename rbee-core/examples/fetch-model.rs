//! Downloads a model from the hub into a store, and prints how long each part of it took.
//!
//! ```text
//! cargo run -p rbee-core --features hub --example fetch-model -- hf:org/repo[@revision][::file=path] STORE
//! ```
//!
//! The hub is the one in the environment (`HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`). The files go to its standard
//! cache (`HF_HUB_CACHE`, `HF_HOME`). The second argument is the directory of the store.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rbee_core::{
    Error, ErrorKind, ModelRef, Result,
    hive::{Progress, ProgressUpdate},
    models::{Hub, ModelStore, StoreOptions},
};

/// Bytes between two lines of progress.
const STEP: u64 = 64 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(dir)) = (arguments.next(), arguments.next()) else {
        let message = "name a model, hf:org/repo[@revision][::file=path], and a directory";
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    };
    let model: ModelRef = model.parse()?;
    let store = ModelStore::open(dir, StoreOptions::default())?;
    let hub = Hub::builder().environment()?.build()?;

    let began = Instant::now();
    let resolved = hub.resolve(&model).await?;
    println!("{} ({} bytes)", resolved.model(), resolved.bytes());
    for (path, bytes) in resolved.files() {
        println!("  {path} ({bytes} bytes)");
    }
    let resolve = began.elapsed().as_secs_f64();

    let began = Instant::now();
    // Bytes that were there before do not count for the throughput.
    let there = Mutex::new(None);
    let (told, came) = (AtomicU64::new(0), std::sync::Arc::new(AtomicU64::new(0)));
    let sum = came.clone();
    let progress = Progress::new(move |ProgressUpdate { done, total }| {
        let Ok(mut there) = there.lock() else { return };
        let before = *there.get_or_insert(done);
        sum.store(done.saturating_sub(before), Ordering::Relaxed);
        if done >= told.load(Ordering::Relaxed) + STEP {
            told.store(done, Ordering::Relaxed);
            eprintln!("{done} of {} bytes", total.unwrap_or(0));
        }
    });
    let stored = store.download(&hub, resolved.model(), progress).await?;
    let download = began.elapsed().as_secs_f64();

    let began = Instant::now();
    let damage = store.verify(&stored.model, Progress::ignore()).await?;
    let verify = began.elapsed().as_secs_f64();

    for damage in &damage {
        println!("damaged: {} (kept as {:?})", damage.file, damage.kept);
    }
    let came = came.load(Ordering::Relaxed);
    println!("resolve {resolve:.3} s");
    println!("download {download:.3} s, {came} bytes, {:.0} MB/s", came as f64 / download / 1e6);
    println!("verify {verify:.3} s, {:.0} MB/s", stored.bytes as f64 / verify / 1e6);
    if let Some(in_use) = store.open_model(&stored.model)? {
        println!("{}", in_use.path().display());
    }
    Ok(())
}
