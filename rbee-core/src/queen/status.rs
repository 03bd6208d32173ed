//! The state of the queen itself.

use std::sync::Arc;

use crate::{
    engine::{Counters, StoreFault},
    id::{JobId, QueenId},
    time::Time,
};

/// The state of a queen: its identity, its clock, and the figures by which its health is judged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueenStatus {
    /// The name of the queen.
    pub id: QueenId,
    /// The present time on the clock that the times of the [cluster](crate::Queen::cluster) are on.
    pub now: Time,
    /// The numbers of jobs, leases, commands and so on that are not finished.
    pub counters: Counters,
    /// The reason why the store cannot be written; `None` while it can. No job is admitted while there is one.
    pub store_fault: Option<StoreFault>,
    /// The unfinished jobs that this queen found in the registry at its start. It ran them again, or ended them.
    pub restored: Arc<[JobId]>,
}
