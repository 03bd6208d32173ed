//! The wall clock of a registry, which a test or a simulation can replace.

use std::{fmt, sync::Arc};

use crate::time::WallTime;

/// Returns the time; by default that of the machine's clock.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> WallTime + Send + Sync>);

impl Clock {
    pub(super) fn new(tell: impl Fn() -> WallTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn now(&self) -> WallTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(WallTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now().as_millis())
    }
}
