//! The signal to every connection that the server stops.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

/// Signals every connection that the server stops. A connection is polled for every token, so a check costs one
/// atomic load: the waker is registered once, because a task keeps its waker.
#[derive(Debug, Default)]
pub(super) struct ShutdownSignal {
    sent: AtomicBool,
    announced: AtomicBool,
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    wakers: HashMap<u64, Waker>,
}

impl ShutdownSignal {
    pub(super) fn send(&self) {
        self.sent.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut self.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    /// Announces the signal: from now on every response ends its connection.
    pub(super) fn announce(&self) {
        self.announced.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed)
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::SeqCst)
    }

    /// Wakes this task when the signal is sent, until the returned listener is dropped.
    pub(super) fn listen(self: &Arc<Self>, waker: &Waker) -> Listener {
        let mut listeners = self.lock();
        listeners.next += 1;
        let key = listeners.next;
        listeners.wakers.insert(key, waker.clone());
        Listener { signal: self.clone(), key }
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Listener {
    signal: Arc<ShutdownSignal>,
    key: u64,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.signal.lock().wakers.remove(&self.key);
    }
}
