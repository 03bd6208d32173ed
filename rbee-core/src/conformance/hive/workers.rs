//! The contract of a hive's workers.

use futures_util::{FutureExt, StreamExt, future::join_all};

use super::{QUIET, Suite, bounded, find};
use crate::{error::ErrorKind, hive::HiveEvent, id::WorkerId, progress::Progress};

impl Suite {
    pub(super) async fn a_spawned_worker_is_usable_and_reported(&self) {
        let id = WorkerId::random();
        let before = self.report().await.rev;
        let worker = self.spawn(id).await;
        let info = worker.info();
        must!(info.id == id, "asked for worker {id}, the hive made {}", info.id);
        must!(
            info.model == self.good.model,
            "asked for a worker with {}, the hive made one with {}",
            self.good.model,
            info.model
        );
        must!(info.slots >= 1, "worker {id} has no slots");
        must!(
            info.since > before,
            "worker {id} is said to have appeared at revision {}, and was not in the report of {before}",
            info.since
        );
        self.ok("health", worker.health()).await;
        let report = self.report().await;
        match find(&report, id) {
            Some(found) => {
                must!(found.info == **info, "worker {id} is {info:?}, reported as {:?}", found.info)
            }
            None => must!(false, "worker {id} was spawned and is not reported"),
        }
        let again = self.ok("worker", self.hive.worker(id)).await;
        must!(again.info() == info, "worker {id} is returned as {:?}", again.info());
        self.stop(id).await;
        let after = self.report().await.rev;
        must!(after > report.rev, "the revision is {after} before and after a stop");
    }

    pub(super) async fn a_spawn_is_idempotent_by_name(&self) {
        let id = WorkerId::random();
        let count = self.report().await.workers.len();
        let all = join_all((0..4).map(|_| self.spawn(id))).await;
        let late = self.spawn(id).await;
        for worker in &all {
            must!(
                worker.info() == late.info(),
                "five spawns of worker {id} gave {:?} and {:?}",
                worker.info(),
                late.info()
            );
        }
        let now = self.report().await.workers.len();
        must!(now == count + 1, "five spawns of one worker made {}", now - count);
        self.stop(id).await;
        self.must_be_gone(id, "it was spawned five times and stopped once").await;
    }

    pub(super) async fn a_spawn_that_nobody_waits_for_leaves_no_orphan(&self) {
        let id = WorkerId::random();
        // Polled once and dropped: the caller disconnects.
        let _ = self.hive.spawn(id, &self.good, Progress::ignore()).now_or_never();
        self.stop(id).await;
        tokio::time::sleep(QUIET).await;
        self.must_be_gone(id, "its spawn was abandoned and it was stopped").await;
    }

    pub(super) async fn a_bad_spawn_is_a_typed_error_and_leaves_nothing(&self) {
        let id = WorkerId::random();
        let spawn = self.hive.spawn(id, &self.bad, Progress::ignore());
        match bounded("the spawn of a bad model", spawn).await {
            Ok(_) => must!(false, "{}, which is no model, was spawned", self.bad.model),
            Err(error) => {
                must!(
                    error.kind() != ErrorKind::Internal,
                    "a bad model is an internal error: {error:?}"
                );
                must!(!error.message().is_empty(), "a bad model is an error without a message");
            }
        }
        self.must_be_gone(id, "its spawn failed").await;
        let other = WorkerId::random();
        self.spawn(other).await;
        self.stop(other).await;
    }

    pub(super) async fn a_stop_is_idempotent_and_no_exit(&self) {
        let mut events = self.watch(1).await;
        self.first_report(&mut events).await;
        let id = WorkerId::random();
        self.spawn(id).await;
        self.stop(id).await;
        self.must_be_gone(id, "it was stopped").await;
        self.stop(id).await;
        let over = tokio::time::sleep(QUIET);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => break,
                event = events.next() => match event {
                    Some(HiveEvent::Report(report)) => self.look_at(&report),
                    Some(HiveEvent::Exited { worker, why }) => must!(
                        worker != id,
                        "worker {id} was asked to stop, and its exit was reported: {why}"
                    ),
                    None => must!(false, "the subscription ended when a worker was stopped"),
                },
            }
        }
    }

    pub(super) async fn an_unknown_worker_is_not_found(&self) {
        let id = WorkerId::random();
        self.stop(id).await;
        self.must_not_be_found(id, "nobody had spawned it").await;
    }

    async fn must_be_gone(&self, id: WorkerId, after: &str) {
        let report = self.report().await;
        must!(find(&report, id).is_none(), "worker {id} is still reported after {after}");
        self.must_not_be_found(id, after).await;
    }

    async fn must_not_be_found(&self, id: WorkerId, after: &str) {
        match bounded("worker", self.hive.worker(id)).await {
            Ok(_) => must!(false, "worker {id} is still returned after {after}"),
            Err(error) => must!(
                error.kind() == ErrorKind::NotFound,
                "asked for worker {id} after {after}, the hive says {}, not NOT_FOUND",
                error.kind()
            ),
        }
    }
}
