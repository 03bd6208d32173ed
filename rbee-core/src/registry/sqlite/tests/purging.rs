//! Jobs that ended long ago are removed.

use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::*;
use crate::registry::JobFilter;

#[tokio::test]
async fn ended_jobs_go_when_their_time_is_over_and_live_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let hour = 3_600_000;
    let moment = Arc::new(AtomicU64::new(1_000 * hour));
    let clock = moment.clone();
    let options = SqliteRegistry::options()
        .keep_ended(Duration::from_secs(2 * 3600))
        .clock(move || WallTime::from_millis(clock.load(Ordering::Relaxed)));
    let registry = options.open(dir.path().join("rbee.db")).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    let old: Vec<JobRecord> = (0..300).map(|n| job(n, "x")).collect();
    let (young, live) = (job(300, "x"), job(301, "x"));
    for job in old.iter().chain([&young, &live]) {
        let tokens = Change::JobTokens {
            job: job.id,
            at: 0,
            chunks: vec![crate::registry::TokenChunk {
                id: None,
                text: "x".into(),
                logprobs: None,
            }],
        };
        registry.record(epoch, &[queued(job), tokens]).await.unwrap();
    }
    for job in &old {
        let end = cancelled(job.id, WallTime::from_millis(1_000 * hour));
        registry.record(epoch, &[end]).await.unwrap();
    }
    let end = cancelled(young.id, WallTime::from_millis(1_001 * hour));
    registry.record(epoch, &[end]).await.unwrap();

    moment.store(1_002 * hour, Ordering::Relaxed);
    registry.renew(epoch).await.unwrap();
    assert_eq!(count(&registry).await, (302, 302), "two hours are not over yet");

    moment.fetch_add(1, Ordering::Relaxed);
    registry.renew(epoch).await.unwrap();
    // Batches are removed between other work; each query is such work.
    let mut left = (302, 302);
    for _ in 0..10 {
        left = count(&registry).await;
    }
    assert_eq!(left, (2, 2), "the old ones go with their pieces");
    let listed = registry.jobs(&JobFilter::default()).await.unwrap();
    let ids: Vec<JobId> = listed.iter().map(|job| job.id).collect();
    assert_eq!(ids, [live.id, young.id]);
}

/// The stored jobs and parts of answers.
async fn count(registry: &SqliteRegistry) -> (i64, i64) {
    let (tell, told) = std::sync::mpsc::channel();
    let ask = move |db: &Connection| {
        let count = |sql| db.query_row(sql, [], |row| row.get(0)).unwrap();
        let counts = (count("SELECT count(*) FROM jobs"), count("SELECT count(*) FROM pieces"));
        tell.send(counts).unwrap();
    };
    registry.on_writer(ask).await;
    told.recv().unwrap()
}
