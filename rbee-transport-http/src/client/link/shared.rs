//! The state that a link's task and the runs share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bytes::BytesMut;
use rbee_core::{Error, ErrorKind, Result};
use tokio::sync::Notify;

use super::{
    payload::read_error,
    queue::{Lost, RunQueue},
};
use crate::link::{self, FrameBuffer, RunMap, kind};

/// While there are this many unsent bytes, no new run is sent.
const MOST_UNSENT: usize = 1 << 20;
/// A buffer that has grown beyond this is released once it is sent.
pub(super) const MAX_KEPT_BYTES: usize = 256 << 10;

/// A link, held by the worker's client and by each run. When the last one drops it, the link is closed.
#[derive(Debug)]
pub(super) struct Link(Arc<Shared>);

/// The state of a link.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Notified when there is room for new runs, or there never will be.
    has_room: Notify,
    authority: Arc<str>,
}

#[derive(Debug, Default)]
struct State {
    runs: RunMap<Arc<RunQueue>>,
    /// The number of the last run.
    last: u32,
    /// Frames that are not sent yet.
    unsent: BytesMut,
    /// The task of the link, if it waits.
    task: Option<Waker>,
    /// The reason why the link is over.
    lost: Option<Lost>,
    /// True once nobody uses it any more.
    is_unused: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_unused = true;
        let task = state.task.take();
        drop(state);
        task.into_iter().for_each(Waker::wake);
    }
}

impl Link {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self(shared.clone()))
    }

    /// False once the connection is lost, or has no numbers left for new runs.
    pub(super) fn is_open(&self) -> bool {
        let state = self.0.lock();
        state.lost.is_none() && state.last < u32::MAX
    }

    /// Sends the frame of a run with this credit, with the next number, once there is room.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerUnreachable`] if the link is lost.
    pub(super) async fn send_run(
        &self,
        mut frame: BytesMut,
        credit: u32,
    ) -> Result<(u32, Arc<RunQueue>)> {
        loop {
            // Registered before the check, so that no notification is lost between the two.
            let mut has_room = std::pin::pin!(self.0.has_room.notified());
            has_room.as_mut().enable();
            {
                let mut state = self.0.lock();
                if let Some(lost) = &state.lost {
                    return Err(self.lost(lost, ErrorKind::WorkerUnreachable));
                }
                if state.unsent.len() < MOST_UNSENT {
                    let run = state.last.checked_add(1).ok_or_else(|| {
                        let message = "the link has no numbers left for new runs";
                        Error::new(ErrorKind::WorkerUnreachable, message)
                    })?;
                    state.last = run;
                    link::set_run(&mut frame, run);
                    let queue = Arc::new(RunQueue::new(credit));
                    state.runs.insert(run, queue.clone());
                    if state.unsent.is_empty() {
                        state.unsent = frame;
                    } else {
                        state.unsent.extend_from_slice(&frame);
                    }
                    wake(state);
                    return Ok((run, queue));
                }
            }
            has_room.await;
        }
    }

    /// Returns credit to a run.
    pub(super) fn send_credit(&self, run: u32, bytes: u32) {
        let mut state = self.0.lock();
        // A run that has ended needs none.
        if let Some(queue) = state.runs.get(&run) {
            queue.add_credit(bytes);
            link::put(&mut state.unsent, kind::CREDIT, run, &bytes.to_le_bytes());
            wake(state);
        }
    }

    /// The reader of a run is gone: the run is cancelled, if it has not ended.
    pub(super) fn forget(&self, run: u32) {
        let mut state = self.0.lock();
        if state.runs.remove(&run).is_some() {
            link::put(&mut state.unsent, kind::CANCEL, run, b"");
            wake(state);
        }
    }

    /// Ends the link, because the worker breaks the protocol.
    pub(super) fn fail(&self, why: &str) {
        self.0.lose(why);
    }

    /// The error of a run on a link that is lost.
    pub(super) fn lost(&self, Lost(why): &Lost, kind: ErrorKind) -> Error {
        Error::new(kind, format!("the link to {} is lost: {why}", self.0.authority))
    }
}

/// Wakes the link's task, if it waits.
fn wake(mut state: MutexGuard<'_, State>) {
    let task = state.task.take();
    drop(state);
    task.into_iter().for_each(Waker::wake);
}

impl Shared {
    pub(super) fn new(authority: Arc<str>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), has_room: Notify::new(), authority })
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Takes the unsent frames if `unsent` is empty, and wakes this task when there are more. Returns false if the link is
    /// over.
    pub(super) fn take_unsent(&self, unsent: &mut BytesMut, task: &Waker) -> bool {
        let mut state = self.lock();
        if !state.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            state.task = Some(task.clone());
        }
        if unsent.is_empty() && !state.unsent.is_empty() {
            let was_full = state.unsent.len() >= MOST_UNSENT;
            std::mem::swap(unsent, &mut state.unsent);
            if was_full {
                self.has_room.notify_waiters();
            }
        }
        state.lost.is_none() && !state.is_unused
    }

    /// Hands the frames that have arrived to their runs. Appends the readers that wait to `readers`.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerFault`] for a frame whose length is not allowed, or that is beyond the credit of its run; the error
    /// of the connection, if the worker sends one.
    pub(super) fn dispatch(&self, input: &mut FrameBuffer, readers: &mut Vec<Waker>) -> Result<()> {
        let mut state = self.lock();
        while let Some((frame, bytes)) = input.next_frame()? {
            if frame.run == link::CONNECTION {
                if frame.kind == kind::ERROR {
                    return Err(read_error(frame.payload)?);
                }
                continue;
            }
            // Of a run that was cancelled.
            let Some(queue) = state.runs.get(&frame.run) else { continue };
            let Ok(reader) = queue.push(frame, bytes) else {
                let message =
                    format!("the worker has sent more than the credit of run {}", frame.run);
                return Err(Error::new(ErrorKind::WorkerFault, message));
            };
            readers.extend(reader);
            if matches!(frame.kind, kind::END | kind::ERROR) {
                state.runs.remove(&frame.run);
            }
        }
        Ok(())
    }

    /// The link is over, and its runs with it.
    pub(super) fn lose(&self, why: &str) {
        let lost = Lost(why.into());
        let mut state = self.lock();
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(lost.clone());
        state.unsent = BytesMut::new();
        let runs = std::mem::take(&mut state.runs);
        let task = state.task.take();
        drop(state);
        self.has_room.notify_waiters();
        let readers = runs.values().filter_map(|queue| queue.lose(&lost));
        task.into_iter().chain(readers).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
