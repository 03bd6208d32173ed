//! Whether a hive can be reached, and who owns it.

use crate::{
    error::{Error, ErrorKind, Result},
    id::{Epoch, HiveId},
};

/// The state of the link to a hive; every call and every subscription looks at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) state: LinkState,
    /// Grows when the link is cut: what began before does not go on after.
    pub(super) generation: u64,
    /// The youngest queen that has claimed the hive.
    pub(super) owner: Epoch,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkState {
    #[default]
    Up,
    /// Shut down; it can be started again.
    Down,
    /// A test cut the link; the hive lives on behind it.
    #[cfg(feature = "test-util")]
    Cut,
}

impl Link {
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] where it is not up.
    pub(super) fn check(&self, hive: &HiveId) -> Result<()> {
        let why = match self.state {
            LinkState::Up => return Ok(()),
            LinkState::Down => "is shut down",
            #[cfg(feature = "test-util")]
            LinkState::Cut => "does not answer: the link is cut",
        };
        Err(Error::new(ErrorKind::HiveUnreachable, format!("hive {hive} {why}")))
    }

    /// Does what began on `earlier` still go on?
    pub(super) fn carries(&self, earlier: &Link) -> bool {
        self.state == LinkState::Up && self.generation == earlier.generation
    }

    pub(super) fn end(&mut self, state: LinkState) {
        self.state = state;
        self.generation += 1;
    }
}
