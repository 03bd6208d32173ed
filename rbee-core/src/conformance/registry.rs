//! The contract of [`Registry`].
//!
//! Give [`check`] a function that creates an empty store, or call the checks one by one, each with a new store:
//!
//! ```
//! use std::sync::Arc;
//! use rbee_core::{MemoryRegistry, Registry, async_trait, conformance::registry::{self, Subject}};
//!
//! /// Clones of a `MemoryRegistry` share one store. Its clock cannot be moved here, so the suite waits.
//! struct InMemory(MemoryRegistry);
//!
//! #[async_trait]
//! impl Subject for InMemory {
//!     async fn handle(&self) -> Arc<dyn Registry> {
//!         Arc::new(self.0.clone())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! registry::records::changes_are_written_together_or_not_at_all(&InMemory(MemoryRegistry::new())).await;
//! # });
//! ```

pub mod ends;
pub mod jobs;
pub mod listing;
pub mod owners;
pub mod records;
pub mod rows;
mod samples;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{registry::Registry, time::WallTime};

/// One store, empty at first.
///
/// A store with an adjustable clock implements all methods, and the suite never waits. A store with the real clock
/// keeps the default methods: leases are short then, and the suite sleeps until they expire.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new handle of the store, like that of a process that opens it. Earlier handles may still be in use, as if by
    /// other processes; when all have been dropped, the next one is like the first after a restart.
    async fn handle(&self) -> Arc<dyn Registry>;

    /// The lease of the suite's queens. Until it expires, an owner with a handle counts as alive.
    fn lease(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Advances the clock of the store by this time. Sleeps by default.
    async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// The current time on the clock of the store.
    fn now(&self) -> WallTime {
        WallTime::now()
    }
}

macro_rules! suite {
    ($($module:ident: $($check:ident),+;)+) => {
        /// Runs every check, each on a new store.
        ///
        /// # Panics
        /// With a sentence that names the broken rule.
        pub async fn check<S: Subject>(mut fresh: impl AsyncFnMut() -> S) {
            $($($module::$check(&fresh().await).await;)+)+
        }

        /// The names of all checks, in the order in which [`check`] runs them.
        pub const CHECKS: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($check)),)+)+];
    };
}

suite! {
    owners:
        epochs_only_grow,
        a_new_life_of_the_same_queen_takes_over_at_once,
        a_superseded_life_can_write_nothing,
        a_living_queen_keeps_its_rows,
        an_expired_queen_is_taken_over_at_the_next_opening,
        an_expired_queen_is_taken_over_at_the_next_renewal,
        a_renewed_lease_lasts,
        a_released_queen_is_taken_over_at_once,
        an_epoch_that_never_was_is_fenced;
    jobs:
        jobs_come_back_in_the_order_of_the_queue,
        a_job_comes_back_whole,
        an_attempt_is_recorded,
        chunks_are_written_only_where_they_belong,
        numerics_stay_once_chunks_are_stored,
        a_job_that_is_queued_twice_stays_as_it_is,
        ends_of_a_queen_are_counted_while_a_job_runs;
    ends:
        the_first_end_stays,
        ends_that_are_kept_are_recorded_by_whoever_takes_over,
        every_outcome_comes_back,
        what_may_not_be_kept_is_erased,
        what_is_erased_later_is_gone_and_the_record_stays;
    records:
        changes_are_written_in_their_order,
        changes_together_do_what_they_do_one_by_one,
        changes_are_written_together_or_not_at_all,
        what_is_not_there_is_passed_over,
        a_record_without_changes_succeeds,
        callers_at_the_same_time_do_not_disturb_each_other;
    rows:
        hives_and_their_models_come_back,
        a_hive_that_is_gone_takes_its_models_along,
        what_is_remembered_of_workers_comes_back_until_they_or_their_hive_are_gone,
        tenants_come_back_for_every_queen,
        policies_come_back_for_every_queen_and_the_oldest_are_dropped,
        usage_is_counted_once_and_by_the_day;
    listing:
        jobs_are_listed_newest_first_and_page_by_page,
        a_filter_lets_through_what_it_names,
        text_is_listed_only_where_it_is_asked_for;
}
