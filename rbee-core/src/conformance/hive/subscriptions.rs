//! The contract of a hive's subscriptions.

use futures_util::StreamExt;
use tokio::time::timeout;

use super::{Events, QUIET, Suite, bounded, find};
use crate::{
    error::ErrorKind,
    id::{Epoch, WorkerId},
};

impl Suite {
    pub(super) async fn a_subscription_begins_with_a_report(&self) {
        let id = WorkerId::random();
        self.spawn(id).await;
        let mut events = self.watch(1).await;
        let report = self.first_report(&mut events).await;
        must!(
            find(&report, id).is_some(),
            "the first report of a subscription does not list worker {id}, which was there before"
        );
        self.stop(id).await;
    }

    pub(super) async fn two_subscriptions_of_one_queen_live_side_by_side(&self) {
        let mut both = [self.watch(2).await, self.watch(2).await];
        for events in &mut both {
            self.first_report(events).await;
        }
        for events in &mut both {
            self.must_live(events, "next to another of the same queen").await;
        }
    }

    pub(super) async fn a_younger_queen_fences_an_older_one(&self) {
        let mut older = self.watch(3).await;
        self.first_report(&mut older).await;
        let mut younger = self.watch(4).await;
        self.first_report(&mut younger).await;
        let end = async { while older.next().await.is_some() {} };
        bounded("the end of a fenced queen's subscription", end).await;
        match bounded("watch", self.hive.watch(Epoch(3))).await {
            Ok(_) => must!(
                false,
                "a queen of epoch 3 may watch after one of epoch 4 has claimed the hive"
            ),
            Err(error) => must!(
                error.kind() == ErrorKind::Fenced,
                "a queen of an older epoch is refused with {}, not FENCED",
                error.kind()
            ),
        }
        self.must_live(&mut younger, "after an older queen was refused").await;
    }

    /// Checks that the subscription does not end.
    async fn must_live(&self, events: &mut Events, when: &str) {
        let end = async { while events.next().await.is_some() {} };
        must!(timeout(QUIET, end).await.is_err(), "a subscription ended {when}");
    }
}
