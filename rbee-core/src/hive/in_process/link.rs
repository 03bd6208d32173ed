//! The reachability and the owner of a hive.

use crate::{
    error::{Error, ErrorKind, Result},
    id::{Epoch, HiveId},
};

/// The state of the connection to a hive; every call and every subscription checks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) state: LinkState,
    /// Grows when the connection is cut: operations that began before do not continue after.
    pub(super) generation: u64,
    /// The newest queen that has claimed the hive.
    pub(super) owner: Epoch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkState {
    #[default]
    Up,
    /// Shut down; it can be started again.
    Down,
    /// A test cut the connection; the hive itself continues.
    #[cfg(feature = "test-util")]
    Cut,
}

impl Link {
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] if it is not up.
    pub(super) fn check(&self, hive: &HiveId) -> Result<()> {
        let why = match self.state {
            LinkState::Up => return Ok(()),
            LinkState::Down => "is shut down",
            #[cfg(feature = "test-util")]
            LinkState::Cut => "does not answer: the link is cut",
        };
        Err(Error::new(ErrorKind::HiveUnreachable, format!("hive {hive} {why}")))
    }

    /// True if an operation that began with `earlier` may continue.
    pub(super) fn carries(&self, earlier: &Link) -> bool {
        self.state == LinkState::Up && self.generation == earlier.generation
    }

    pub(super) fn end(&mut self, state: LinkState) {
        self.state = state;
        self.generation += 1;
    }
}
