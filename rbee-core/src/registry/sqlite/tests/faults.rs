//! Failures of the file: reported with its name, without effects on other records, and over when their cause is gone.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    sync::mpsc,
};

use futures_util::future::join3;
use rusqlite::Connection;

use super::*;
use crate::{
    error::{Error, ErrorKind},
    registry::JobFilter,
};

fn assert_storage(error: &Error, words: &str, path: &std::path::Path) {
    assert_eq!(error.kind(), ErrorKind::Storage, "{error:?}");
    for part in [words, "record changes in", &path.display().to_string()] {
        assert!(error.message().contains(part), "{part:?} not in {error:?}");
    }
    assert!(std::error::Error::source(error).is_some());
}

/// Checks that a record fails with these words after `fault`, that nothing of it is stored, and that it succeeds after
/// `mended`.
async fn fails_until_mended(fault: fn(&Connection), words: &str, mended: fn(&Connection)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let registry = SqliteRegistry::open(&path).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    let first = job(1, "x");
    registry.record(epoch, &[queued(&first)]).await.unwrap();

    registry.on_writer(fault).await;
    let large = job(2, &"x".repeat(100_000));
    for _ in 0..3 {
        let changes = [cancelled(first.id, WallTime::default()), queued(&large)];
        let error = registry.record(epoch, &changes).await.unwrap_err();
        assert_storage(&error, words, &path);
    }
    let listed = registry.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(listed.len(), 1, "a part of a failed record is there");
    assert!(listed[0].status.state().is_live());

    registry.on_writer(mended).await;
    registry.record(epoch, &[queued(&large)]).await.unwrap();
    drop(registry);
    let registry = SqliteRegistry::open(&path).unwrap();
    assert_eq!(begin(&registry, "a").await.jobs.len(), 2);
}

#[tokio::test]
async fn a_database_that_may_not_grow_fails_until_it_may() {
    fails_until_mended(
        |db| {
            // A value below the current size sets the current size.
            db.pragma_update(None, "max_page_count", 1).unwrap();
        },
        "it continues once there is free space",
        |db| {
            db.pragma_update(None, "max_page_count", 1_000_000).unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn a_database_that_cannot_be_written_fails_until_it_can() {
    fails_until_mended(
        |db| db.pragma_update(None, "query_only", true).unwrap(),
        "cannot be written",
        |db| db.pragma_update(None, "query_only", false).unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_lock_held_by_another_process_fails_a_record_only_while_it_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let options = SqliteRegistry::options().busy_timeout(Duration::from_millis(20));
    let registry = options.open(&path).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = registry.record(epoch, &[queued(&job(1, "x"))]).await.unwrap_err();
    assert_storage(&error, "another process holds its lock", &path);
    registry.renew(epoch).await.unwrap_err();
    other.execute_batch("ROLLBACK").unwrap();
    registry.record(epoch, &[queued(&job(1, "x"))]).await.unwrap();
    registry.renew(epoch).await.unwrap();
}

#[tokio::test]
async fn a_record_that_the_file_cannot_take_does_not_fail_its_neighbors() {
    let dir = tempfile::tempdir().unwrap();
    let registry = SqliteRegistry::open(dir.path().join("rbee.db")).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    let refuse = |db: &Connection| {
        db.execute_batch(
            "CREATE TEMP TRIGGER refuse BEFORE INSERT ON jobs WHEN NEW.queue_order = 2
             BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        )
        .unwrap();
    };
    registry.on_writer(refuse).await;

    // Holds the writer until all three records wait for it, so that they are in one transaction.
    let (go, wait) = mpsc::channel::<()>();
    let held = registry.on_writer(move |_| {
        let _ = wait.recv();
    });
    let jobs = [job(1, "x"), job(2, "x"), job(3, "x")];
    let changes = jobs.each_ref().map(|job| [queued(job)]);
    let [one, two, three] = changes.each_ref().map(|c| registry.record(epoch, c));
    let records = join3(one, two, three);
    let batch = async {
        tokio::task::yield_now().await;
        drop(go);
    };
    let (_, (one, two, three), ()) = join3(held, records, batch).await;
    one.unwrap();
    three.unwrap();
    let error = two.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "the store is sound; {error:?}");
    assert!(error.message().contains("not this one"), "{error:?}");
    assert_eq!(registry.jobs(&JobFilter::default()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let registry = SqliteRegistry::open(&path).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    for n in 0..200 {
        let change = queued(&job(n, &"x".repeat(2_000)));
        registry.record(epoch, &[change]).await.unwrap();
    }
    drop(registry);
    let length = fs::metadata(&path).unwrap().len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let noise = vec![0xa5; length as usize - 4_096];
    file.seek(SeekFrom::Start(4_096)).unwrap();
    file.write_all(&noise).unwrap();
    drop(file);
    // The first page identifies a database of rbee; the rest is random data.
    let error = match SqliteRegistry::open(&path) {
        Err(error) => error,
        Ok(registry) => {
            let queen = QueenId::new("b").unwrap();
            registry.open(&queen, LONG).await.unwrap_err()
        }
    };
    assert_eq!(error.kind(), ErrorKind::Storage, "{error:?}");
    assert!(error.message().contains("restore a backup"), "{error:?}");
}

#[tokio::test]
async fn a_damaged_row_is_named_and_an_unreadable_request_counts_as_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let registry = SqliteRegistry::open(dir.path().join("rbee.db")).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    registry.record(epoch, &[queued(&job(1, "x"))]).await.unwrap();
    let spoil = |sql: &'static str| move |db: &Connection| db.execute_batch(sql).unwrap();
    registry.on_writer(spoil("UPDATE jobs SET request = '{\"from\": \"another version\"}'")).await;
    let found = begin(&registry, "a").await.jobs;
    assert_eq!(found.len(), 1, "the job itself must not be lost");
    assert_eq!(found[0].request, None);

    registry.on_writer(spoil("UPDATE jobs SET model_ref = '../nonsense'")).await;
    let error = registry.jobs(&JobFilter::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().contains("column model_ref"), "{error:?}");
    assert!(error.message().contains("../nonsense"), "{error:?}");
}

#[tokio::test]
async fn what_was_accepted_is_written_although_its_caller_and_the_registry_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let registry = SqliteRegistry::open(&path).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    for n in 0..100 {
        let change = [queued(&job(n, "x"))];
        let record = registry.record(epoch, &change);
        // Polled once it has been sent; then its caller goes away.
        let _ = futures_util::FutureExt::now_or_never(record);
    }
    drop(registry);
    let registry = SqliteRegistry::open(&path).unwrap();
    assert_eq!(begin(&registry, "b").await.jobs.len(), 100);
}
