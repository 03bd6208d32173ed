//! Answers to many callers at once.
//!
//! Waking a task of an idle runtime from another thread costs a system call, and a runtime that is woken for one task
//! may sleep again when the next answer comes. So all answers for one runtime are sent to it together, and it wakes its
//! tasks itself.

use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
};

use crate::error::Result;

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// Sends a result. The caller may be gone; its operation was done anyway.
pub(super) fn tell<T>(reply: Reply<T>, result: Result<T>) {
    let _ = reply.send(result);
}

/// The receiver of an answer.
pub(super) struct Caller {
    reply: Reply<()>,
    /// The runtime of its task; `None` outside of tokio.
    runtime: Option<Handle>,
}

impl Caller {
    /// The caller that runs this code.
    pub(super) fn new(reply: Reply<()>) -> Self {
        Self { reply, runtime: Handle::try_current().ok() }
    }
}

/// Answers that are being sent. They are delivered when this is dropped, on any thread.
#[derive(Default)]
struct Batch(Vec<(Reply<()>, Result<()>)>);

impl Drop for Batch {
    fn drop(&mut self) {
        for (reply, result) in self.0.drain(..) {
            tell(reply, result);
        }
    }
}

/// The answers to one group of records.
#[derive(Default)]
pub(super) struct Answers(Vec<(Option<Id>, Option<Handle>, Batch)>);

impl Answers {
    pub(super) fn add(&mut self, caller: Caller, result: Result<()>) {
        let id = caller.runtime.as_ref().map(Handle::id);
        let answer = (caller.reply, result);
        // There is almost never more than one runtime.
        match self.0.iter_mut().find(|(known, ..)| *known == id) {
            Some((_, _, batch)) => batch.0.push(answer),
            None => self.0.push((id, caller.runtime, Batch(vec![answer]))),
        }
    }

    pub(super) fn send(self) {
        for (_, runtime, batch) in self.0 {
            match runtime {
                // A runtime that is shutting down drops the task, and then the answers are delivered here.
                Some(runtime) if batch.0.len() > 1 => {
                    runtime.spawn(async move { drop(batch) });
                }
                _ => drop(batch),
            }
        }
    }
}
