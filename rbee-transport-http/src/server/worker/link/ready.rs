//! Which runs of a link have something to do.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

/// The runs that were woken since they were polled last.
#[derive(Debug, Default)]
pub(super) struct ReadyRuns(Mutex<Woken>);

#[derive(Debug, Default)]
struct Woken {
    runs: Vec<u32>,
    /// The task of the link.
    task: Option<Waker>,
}

impl ReadyRuns {
    /// Moves the woken runs to `into`. From now on the next one wakes this task.
    pub(super) fn take(&self, into: &mut Vec<u32>, task: &Waker) {
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        into.append(&mut woken.runs);
        if !woken.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            woken.task = Some(task.clone());
        }
    }

    fn push(&self, run: u32) {
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        woken.runs.push(run);
        // The task takes all runs at once, so one call is enough.
        let task = if woken.runs.len() == 1 { woken.task.clone() } else { None };
        drop(woken);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The waker of one run.
#[derive(Debug)]
pub(super) struct RunWaker {
    run: u32,
    /// True if it is among the woken runs.
    is_woken: AtomicBool,
    ready: Arc<ReadyRuns>,
}

impl RunWaker {
    pub(super) fn new(run: u32, ready: &Arc<ReadyRuns>) -> Arc<Self> {
        Arc::new(Self { run, is_woken: AtomicBool::new(false), ready: ready.clone() })
    }

    /// The caller polls the run: until then no call wakes it. Returns false if it was woken already.
    pub(super) fn set_woken(&self) -> bool {
        !self.is_woken.swap(true, Ordering::SeqCst)
    }

    /// The run is about to be polled: from now on a call wakes it again.
    pub(super) fn rearm(&self) {
        self.is_woken.store(false, Ordering::SeqCst);
    }
}

impl Wake for RunWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.set_woken() {
            self.ready.push(self.run);
        }
    }
}
