//! What one call of a script may take: time by the clock, and operations.
//!
//! Both are counted here rather than by the language, which begins anew with each closure that a function of the host
//! calls, and forgets what those have done.

use std::{cell::Cell, time::Instant};

use super::error::{LimitExceeded, Res, thrown};

/// Operations that one call may do.
pub(super) const MOST_OPERATIONS: u64 = 2_000_000;
/// Operations after which the clock is read: some of them go through a list of a thousand values, and most decisions are
/// made in fewer.
const STRIDE: u64 = 64;
/// Looks at workers, hives or queues after which the clock is read.
pub(super) const LOOKS: u32 = 128;

const TURNS: u32 = 16;

struct Budget {
    deadline: Cell<Option<Instant>>,
    operations: Cell<u64>,
    looked: Cell<u32>,
    turns: Cell<u32>,
    /// Stays as it is, so that a script which catches its end is ended by its next operation.
    over: Cell<Option<LimitExceeded>>,
}

thread_local! {
    /// Without a grant there is nothing to take.
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

/// Runs a script, which has until then.
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

/// Counts an operation of the language, and says whether it is one too many.
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

/// Says yes every now and then, where doing something each time would take too long.
pub(super) fn is_turn() -> bool {
    BUDGET.with(|budget| {
        budget.turns.set((budget.turns.get() + 1) % TURNS);
        budget.turns.get() == 0
    })
}

/// Counts what a helper looks at, and ends the script when its time is over.
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
