//! The tasks while a hive is up: they renew the leases of its workers, and trim their logs.

use std::{cmp::Reverse, fs, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::Method;
use tokio::time::{MissedTickBehavior, interval};

use super::table::{Process, Table};
use crate::wire;

/// The interval between two checks of the logs.
const LOGS: Duration = Duration::from_secs(5);
/// The most logs of ended workers that are kept.
const MOST_OLD_LOGS: usize = 16;

/// Never returns.
pub(super) async fn keep(table: Arc<Table>, beat: Duration) {
    let (mut renewals, mut logs) = (interval(beat), interval(LOGS));
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    logs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // The first is at once: adopted workers have waited.
            _ = renewals.tick() => {
                let all = table.all();
                // A worker that hangs delays neither the others nor the next round.
                join_all(all.iter().map(|process| renew(process, beat / 2))).await;
            }
            _ = logs.tick() => {
                let table = table.clone();
                // An error means that the runtime is shut down.
                let _ = tokio::task::spawn_blocking(move || trim(&table)).await;
            }
        }
    }
}

async fn renew(process: &Process, limit: Duration) {
    let told = process.endpoint.send(Method::POST, wire::LEASE, None::<&()>, None);
    let worker = process.record.id;
    match tokio::time::timeout(limit, told).await {
        Ok(Ok(_)) => {}
        // A worker that starts does not listen yet.
        Ok(Err(error)) => tracing::debug!(%worker, %error, "the lease could not be renewed"),
        Err(_) => tracing::warn!(%worker, "the lease could not be renewed within {limit:?}"),
    }
}

fn trim(table: &Table) {
    let state_dir = table.state_dir();
    let mut old = Vec::new();
    for name in state_dir.names("log") {
        let log = state_dir.log(&name);
        if name.parse().is_ok_and(|id| table.get(id).is_some()) {
            if let Err(error) = log.trim() {
                tracing::warn!(path = %log.path().display(), %error, "a log cannot be trimmed");
            }
        } else {
            let changed = fs::metadata(log.path()).and_then(|metadata| metadata.modified()).ok();
            old.push((Reverse(changed), log));
        }
    }
    old.sort_by_key(|(changed, _)| *changed);
    old.iter().skip(MOST_OLD_LOGS).for_each(|(_, log)| log.remove());
}
