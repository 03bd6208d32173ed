//! The runs that a worker may have at a time.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// A number of slots.
#[derive(Clone, Debug)]
pub(in crate::candle) struct Slots {
    most: u32,
    busy: Arc<AtomicU32>,
}

/// The right to one run; released when dropped.
#[derive(Debug)]
pub(in crate::candle) struct Slot(Arc<AtomicU32>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Slots {
    pub(in crate::candle) fn new(most: u32) -> Self {
        Self { most, busy: Arc::default() }
    }

    /// The number of slots.
    pub(in crate::candle) fn most(&self) -> u32 {
        self.most
    }

    /// The number of slots that are taken.
    pub(in crate::candle) fn busy(&self) -> u32 {
        self.busy.load(Ordering::Acquire)
    }

    /// A slot; `None` if all are taken.
    pub(in crate::candle) fn take(&self) -> Option<Slot> {
        let more = |busy: u32| (busy < self.most).then(|| busy + 1);
        self.busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Slot(self.busy.clone()))
    }
}
