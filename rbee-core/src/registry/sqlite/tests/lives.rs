//! The death of an owner is detected without waiting for the lease.

use std::path::Path;

use super::*;

fn lock_files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().contains("-life-")
        })
        .count()
}

#[tokio::test]
async fn the_rows_of_the_dead_are_taken_over_at_once_and_those_of_the_living_never() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let (one, two) = (SqliteRegistry::open(&path).unwrap(), SqliteRegistry::open(&path).unwrap());
    let a = begin(&one, "a").await.epoch;
    one.record(a, &[queued(&job(1, "x"))]).await.unwrap();
    let b = begin(&two, "b").await.epoch;
    assert_eq!(two.renew(b).await.unwrap().jobs, []);
    assert_eq!(lock_files(dir.path()), 2);

    // No release and a day of lease left: dropping it releases the lock, as the death of a process does.
    drop(one);
    let taken = two.renew(b).await.unwrap().jobs;
    assert_eq!(taken.len(), 1);
    assert_eq!(lock_files(dir.path()), 1, "the file of the ended run is removed");

    two.release(b).await.unwrap();
    assert_eq!(lock_files(dir.path()), 0, "a released run leaves no file");
}

#[tokio::test]
async fn two_queens_of_one_registry_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let registry = SqliteRegistry::open(dir.path().join("rbee.db")).unwrap();
    let a = begin(&registry, "a").await.epoch;
    registry.record(a, &[queued(&job(1, "x"))]).await.unwrap();
    let b = begin(&registry, "b").await.epoch;
    assert_eq!(registry.renew(b).await.unwrap().jobs, []);
    registry.renew(a).await.unwrap();
    // A new run of the first queen must not leave the lock of its previous run.
    begin(&registry, "a").await;
    assert_eq!(lock_files(dir.path()), 2);
}

#[tokio::test]
async fn where_the_lock_file_is_missing_the_lease_decides() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let moment = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let clock = moment.clone();
    let clock = move || WallTime::from_millis(clock.load(std::sync::atomic::Ordering::Relaxed));
    let options = SqliteRegistry::options().clock(clock);
    let (one, two) = (options.open(&path).unwrap(), options.open(&path).unwrap());
    let a = begin(&one, "a").await.epoch;
    one.record(a, &[queued(&job(1, "x"))]).await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("-life-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let b = begin(&two, "b").await;
    assert_eq!(b.jobs, [], "its end cannot be detected");
    let after = LONG.as_millis() as u64;
    moment.store(after, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(two.renew(b.epoch).await.unwrap().jobs.len(), 1);
}
