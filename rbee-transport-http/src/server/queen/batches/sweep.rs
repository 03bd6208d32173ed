//! Removes files and batches at the end of their time.

use std::{sync::Weak, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{super::Inner, Batches, records::now_ms};
use crate::server::queen::caller::Caller;

/// How often it is checked what has expired.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Removes what has expired, until the server stops or is gone.
pub(super) async fn run(server: Weak<Inner>, stop: CancellationToken) {
    loop {
        {
            let Some(shared) = server.upgrade() else { return };
            shared.remove_files_of_removed().await;
            // Some of their batches may have to be cancelled.
            super::start(&shared);
            if let Some(batches) = &shared.batches {
                batches.sweep(now_ms()).await;
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

impl Batches {
    /// Removes what has expired by then.
    pub(super) async fn sweep(&self, now_ms: u64) {
        for id in self.files.expired(now_ms) {
            if let Err(error) = self.files.remove(&Caller::Operator, &id).await {
                tracing::warn!(file = id, error = error.for_log(), "it cannot be removed");
            }
        }
        self.batches.remove_old(now_ms).await;
    }
}
