//! The state of the store: whether it takes writes.

use super::*;

/// The `retry_after` for clients if the store gives none.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The reason why the store cannot be written.
#[derive(Clone, Debug)]
pub struct StoreFault {
    /// Since when.
    pub since: Time,
    /// Why. Its [`retry_after`](Error::retry_after) is set if the cause may pass by itself.
    pub error: Error,
}

impl StoreFault {
    /// When a client may try again: the time that the store gives, or the time to the next attempts at a write, which
    /// show whether it was repaired.
    pub fn retry_after(&self) -> Duration {
        retry_after(&self.error)
    }
}

/// The records in progress, and the fault of the store.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) pending: BTreeMap<u64, PendingWrite>,
    pub(super) fault: Option<StoreFault>,
}

impl Engine {
    /// Why the store cannot be written now; `None` while it can.
    pub fn store_fault(&self) -> Option<&StoreFault> {
        self.storage.fault.as_ref()
    }

    /// The store failed to write, or writes again.
    pub(super) fn store(&mut self, now: Now, fault: Option<Error>, out: &mut Out) {
        match (fault, &mut self.storage.fault) {
            (Some(error), Some(known)) => known.error = error,
            (Some(error), none) => {
                out.push(Effect::Note(Note::StoreFailed(error.clone())));
                *none = Some(StoreFault { since: now.at, error });
            }
            (None, known) => {
                if let Some(fault) = known.take() {
                    out.push(Effect::Note(Note::StoreBack(now.at - fault.since)));
                }
            }
        }
    }

    /// A job that cannot be recorded is not accepted.
    pub(super) fn check_store(&self) -> Result<()> {
        self.storage.fault.as_ref().map_or(Ok(()), |fault| Err(refusal(&fault.error)))
    }
}

/// The error for a client. It does not name the file: only the operator needs that.
pub(super) fn refusal(error: &Error) -> Error {
    let message = match error.retry_after() {
        Some(_) => "no job is accepted at the moment: the queen's store cannot be written",
        None => {
            "no job is accepted: the queen's store cannot be written, and an operator must repair it"
        }
    };
    let refusal = Error::new(ErrorKind::Storage, message).with_source(error.clone());
    refusal.with_retry_after(retry_after(error))
}

fn retry_after(error: &Error) -> Duration {
    error.retry_after().unwrap_or(RETRY_AFTER)
}
