//! Rules that all registries of this crate share: the day to which a time belongs, and the texts of refusals.

use std::fmt;

use crate::{
    error::{Error, ErrorKind},
    id::Epoch,
    time::WallTime,
};

/// The number of days, including today, for which the usage of tenants is kept.
pub(super) const USAGE_DAYS: u64 = 31;

/// The UTC day, counted from 1970-01-01.
pub(super) const fn day(at: WallTime) -> u64 {
    at.as_millis() / (24 * 3600 * 1000)
}

/// The first day whose usage is still kept.
pub(super) const fn first_day_kept(now: WallTime) -> u64 {
    (day(now) + 1).saturating_sub(USAGE_DAYS)
}

/// The row belongs to another owner.
pub(super) fn not_the_owner(
    row: impl fmt::Display,
    owner: impl fmt::Display,
    epoch: Epoch,
) -> Error {
    Error::new(
        ErrorKind::Fenced,
        format!("{row} belongs to epoch {owner}; epoch {epoch} may not write it"),
    )
}

/// The run is superseded: the same queen opened the store again, another queen took over, or the run was released.
pub(super) fn life_is_over(epoch: Epoch) -> Error {
    Error::new(
        ErrorKind::Fenced,
        format!(
            "epoch {epoch} is over: it was released, opened again or taken over; open begins a new one"
        ),
    )
}
