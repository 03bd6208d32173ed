//! The queen that owns a hive, and for how long.

use std::time::Duration;

use rbee_core::{Error, ErrorKind, HiveId, Result, id::Epoch};
use tokio::time::Instant;

/// How far a new epoch may be above the epoch of an owner that is alive.
///
/// A store counts the starts of its queens, so the next run of the owner has the next number, or a slightly higher
/// one if several queens share the store. The hive heard from a live owner within one lease, and a thousand starts do
/// not fit into that time. A larger step comes from another store, or is a mistake.
///
/// The baseline is the live owner, not the highest number ever received: a bound that outlives its owner, for example
/// in a file, would lock out a queen with another database until somebody removes the file by hand. A hive without an
/// owner accepts any epoch, and a wrong one costs at most one lease.
const MAX_STEP: u64 = 1_000;

/// The queen that a hive belongs to. It stays the owner until another one takes over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnerLease {
    owner: Option<Owner>,
    /// Increases with every change of the owner.
    term: u64,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    epoch: Epoch,
    /// When others may take over, whatever their epoch.
    until: Instant,
}

impl OwnerLease {
    /// Makes this queen the owner, or renews its lease. Returns true if the owner has changed.
    ///
    /// A later run of the same queen, whose epoch is at most [`MAX_STEP`] higher, replaces an owner at once. Any
    /// other epoch has to wait until the lease has expired: then the owner is gone, or is not the queen that this
    /// hive is meant for. So neither a wrong number nor a database that was restored from a backup leads to a
    /// permanent refusal.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] with both epochs and the time until the lease expires.
    pub(super) fn claim(
        &mut self,
        hive: &HiveId,
        epoch: Epoch,
        now: Instant,
        lease: Duration,
    ) -> Result<bool> {
        let mut has_changed = true;
        if let Some(owner) = self.owner {
            has_changed = owner.epoch != epoch;
            if has_changed && owner.until > now {
                owner.yields_to(epoch, hive, now)?;
            }
        }
        self.owner = Some(Owner { epoch, until: now + lease });
        self.term += u64::from(has_changed);
        Ok(has_changed)
    }

    /// The term of the owner, as the hive counts them: terms only increase, whatever the epochs do.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if this queen is not the owner.
    pub(super) fn term_of(&self, hive: &HiveId, epoch: Epoch) -> Result<u64> {
        let owner = match self.owner {
            Some(owner) if owner.epoch == epoch => return Ok(self.term),
            Some(owner) => format!("is owned by a queen of epoch {}", owner.epoch),
            None => "has no owner".to_owned(),
        };
        let message = format!(
            "hive {hive} {owner}, and epoch {epoch} has no lease on it: POST to {} first",
            crate::wire::LEASE
        );
        Err(Error::new(ErrorKind::Fenced, message))
    }

    /// True if this is still the term of the owner.
    pub(super) fn is_in(&self, term: u64) -> bool {
        self.term == term
    }
}

impl Owner {
    /// Checks that this epoch may take over from an owner that is alive.
    fn yields_to(&self, epoch: Epoch, hive: &HiveId, now: Instant) -> Result<()> {
        let owner = self.epoch;
        let left = self.until.saturating_duration_since(now);
        let why = match epoch.0.checked_sub(owner.0) {
            Some(1..=MAX_STEP) => return Ok(()),
            Some(step) => format!(
                "which is {step} higher; allowed is up to {MAX_STEP}, because a restart of the owner explains no \
                 larger step"
            ),
            None => "which is lower: a previous run of the owner, a queen whose database was restored from a backup, \
                     or one with another database"
                .to_owned(),
        };
        let message = format!(
            "hive {hive} is owned by a queen of epoch {owner}; this queen has epoch {epoch}, {why}. If this queen \
             should have the hive, stop the other one: the hive is free when its lease has expired, in {} s, and this \
             queen takes it with its next request",
            left.as_millis().div_ceil(1_000)
        );
        Err(Error::new(ErrorKind::Fenced, message).with_retry_after(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(90);

    struct Hive {
        lease: OwnerLease,
        began: Instant,
    }

    impl Hive {
        fn new() -> Self {
            Self { lease: OwnerLease::default(), began: Instant::now() }
        }

        /// Claims the hive this many seconds after the beginning.
        fn claim(&mut self, epoch: u64, seconds: u64) -> Result<bool> {
            let now = self.began + Duration::from_secs(seconds);
            self.lease.claim(&HiveId::local(), Epoch(epoch), now, LEASE)
        }

        fn refused(&mut self, epoch: u64, seconds: u64) -> String {
            let before = self.lease.term;
            let error = self.claim(epoch, seconds).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
            assert!(self.lease.is_in(before), "a refusal changes nothing");
            error.message().to_owned()
        }
    }

    #[test]
    fn the_same_epoch_renews_and_the_next_one_takes_over() {
        let mut hive = Hive::new();
        assert!(hive.claim(41, 0).unwrap());
        assert!(!hive.claim(41, 60).unwrap());
        let term = hive.lease.term_of(&HiveId::local(), Epoch(41)).unwrap();
        assert!(hive.claim(42, 61).unwrap());
        assert!(!hive.lease.is_in(term));
        assert!(hive.claim(42 + MAX_STEP, 62).unwrap(), "the bound itself is allowed");
    }

    #[test]
    fn a_step_that_is_too_large_is_refused_with_both_numbers_and_the_owner_goes_on() {
        let mut hive = Hive::new();
        hive.claim(41, 0).unwrap();
        for huge in [41 + MAX_STEP + 1, u64::MAX] {
            let message = hive.refused(huge, 10);
            assert!(message.contains("epoch 41;"), "{message}");
            assert!(
                message.contains(&format!("epoch {huge}, which is {}", huge - 41)),
                "{message}"
            );
            assert!(
                message.contains("allowed is up to 1000") && message.contains("in 80 s"),
                "{message}"
            );
        }
        assert!(!hive.claim(41, 20).unwrap());
        assert!(hive.claim(42, 21).unwrap(), "and so does its next run");
    }

    #[test]
    fn a_lower_epoch_waits_for_the_end_of_the_lease_and_is_told_so() {
        let mut hive = Hive::new();
        hive.claim(41, 0).unwrap();
        hive.claim(41, 30).unwrap();
        let message = hive.refused(7, 119);
        for part in ["epoch 41;", "epoch 7, which is lower", "backup", "in 1 s"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(hive.claim(7, 120).unwrap());
        assert!(hive.claim(8, 121).unwrap(), "it counts on from there");
    }

    #[test]
    fn a_wrong_epoch_on_a_hive_without_an_owner_lasts_for_one_lease() {
        let mut hive = Hive::new();
        hive.claim(u64::MAX, 0).unwrap();
        hive.refused(5, 89);
        hive.claim(5, 90).unwrap();
        hive.refused(u64::MAX, 91);
        assert!(!hive.claim(5, 120).unwrap());
    }

    #[test]
    fn an_owner_that_nobody_replaced_comes_back_after_its_lease() {
        let mut hive = Hive::new();
        hive.claim(5, 0).unwrap();
        let term = hive.lease.term_of(&HiveId::local(), Epoch(5)).unwrap();
        assert!(!hive.claim(5, 1_000).unwrap());
        assert!(hive.lease.is_in(term), "its watch continues");
    }

    #[test]
    fn only_the_owner_has_a_term() {
        let mut hive = Hive::new();
        let id = HiveId::local();
        let error = hive.lease.term_of(&id, Epoch(5)).unwrap_err();
        assert!(error.message().contains("has no owner"), "{error}");
        hive.claim(5, 0).unwrap();
        hive.lease.term_of(&id, Epoch(5)).unwrap();
        for other in [4, 6, u64::MAX] {
            let error = hive.lease.term_of(&id, Epoch(other)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fenced);
            assert!(error.message().contains("owned by a queen of epoch 5"), "{error}");
        }
    }
}
