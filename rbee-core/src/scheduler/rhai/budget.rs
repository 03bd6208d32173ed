//! The limits of one call of a script: time by the clock, and operations.
//!
//! Both are counted here and not by the language, which starts again with each closure that a function of the host
//! calls, and forgets what the closures before it have done.

use std::{cell::Cell, time::Instant};

use super::error::{LimitExceeded, Res, thrown};

/// The most operations of one call.
pub(super) const MOST_OPERATIONS: u64 = 2_000_000;
/// The number of operations after which the clock is read: some of them go through a list of a thousand values, and
/// most decisions take fewer operations.
const STRIDE: u64 = 64;
/// The number of looks at workers, hives or queues after which the clock is read.
pub(super) const LOOKS: u32 = 128;

const TURNS: u32 = 16;

struct Budget {
    deadline: Cell<Option<Instant>>,
    operations: Cell<u64>,
    looked: Cell<u32>,
    turns: Cell<u32>,
    /// It stays set, so that a script that catches the error is ended by its next operation.
    over: Cell<Option<LimitExceeded>>,
}

thread_local! {
    /// Without a grant no operation is allowed.
    static BUDGET: Budget = const {
        Budget {
            deadline: Cell::new(None),
            operations: Cell::new(0),
            looked: Cell::new(0),
            turns: Cell::new(0),
            over: Cell::new(Some(LimitExceeded::Time)),
        }
    };
}

impl Budget {
    fn read_clock(&self) {
        if self.over.get().is_none()
            && self.deadline.get().is_none_or(|deadline| Instant::now() >= deadline)
        {
            self.over.set(Some(LimitExceeded::Time));
        }
    }
}

/// Runs a script that must end by this deadline.
pub(super) fn grant<T>(deadline: Instant, run: impl FnOnce() -> T) -> T {
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            BUDGET.with(|budget| budget.over.set(Some(LimitExceeded::Time)));
        }
    }
    BUDGET.with(|budget| {
        budget.deadline.set(Some(deadline));
        budget.operations.set(0);
        budget.looked.set(0);
        budget.turns.set(0);
        budget.over.set(None);
    });
    let _guard = Guard;
    run()
}

/// Counts an operation of the language; returns the limit that is exceeded, if one is.
pub(super) fn operation() -> Option<LimitExceeded> {
    BUDGET.with(|budget| {
        let operations = budget.operations.get() + 1;
        budget.operations.set(operations);
        if operations % STRIDE == 0 {
            budget.read_clock();
            if operations > MOST_OPERATIONS && budget.over.get().is_none() {
                budget.over.set(Some(LimitExceeded::Operations));
            }
        }
        budget.over.get()
    })
}

/// Returns true every 16th time, for work that would take too long each time.
pub(super) fn is_turn() -> bool {
    BUDGET.with(|budget| {
        budget.turns.set((budget.turns.get() + 1) % TURNS);
        budget.turns.get() == 0
    })
}

/// Counts what a helper looks at; an error if the script must end.
pub(super) fn looked(count: u32) -> Res<()> {
    BUDGET.with(|budget| {
        let looked = budget.looked.get().saturating_add(count);
        budget.looked.set(looked);
        if looked >= LOOKS {
            budget.looked.set(0);
            budget.read_clock();
        }
        match budget.over.get() {
            None => Ok(()),
            Some(over) => Err(thrown(over)),
        }
    })
}
