//! The limit on the memory of request bodies.

use rbee_core::Result;

/// A limit on the memory of bodies that are read at the same time.
pub(super) trait BodyBudget {
    /// Refuses a body of this announced length if there is no room for it now. Takes nothing.
    ///
    /// # Errors
    /// Who holds too much, and when to try again.
    fn check(&self, bytes: usize) -> Result<()>;

    /// Takes this much more.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn take(&mut self, bytes: usize) -> Result<()>;

    /// Releases a part of what was taken.
    fn give_back(&mut self, bytes: usize);
}

/// No limit: for a daemon whose only client is its queen.
impl BodyBudget for () {
    fn check(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn take(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn give_back(&mut self, _: usize) {}
}
