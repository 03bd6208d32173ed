//! Connects to hives that are added while the queen runs.

use std::{fmt, sync::Arc};

use rbee_core::{Error, ErrorKind, HiveBackend, HiveId, Result, async_trait};

use crate::{
    secret::Secret,
    wire::queen::{
        AddHive, AddSent, AddStep, HiveCheck, HiveDoctor, LogLine, RemoveHive, RemovedHive,
    },
};

/// Makes a [`HiveBackend`] from a client's request, and saves it for the next start if the daemon supports that.
#[async_trait]
pub trait HiveConnector: HiveMachines {
    /// Connects to the hive and learns its name. The queen adds it then. The request has passed
    /// [`AddHive::check`]. If the client disconnects, this is dropped: nothing must be saved before it is done.
    ///
    /// # Errors
    /// Any problem with the request, or [`ErrorKind::HiveUnreachable`].
    async fn connect(
        &self,
        request: AddHive,
        progress: AddProgress,
    ) -> Result<Arc<dyn HiveBackend>>;

    /// Checks whether the hive could be added, and changes nothing.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), if nothing could be checked.
    async fn try_out(&self, request: AddHive, progress: AddProgress) -> Result<HiveDoctor> {
        let _ = (request, progress);
        Err(unsupported("to try an addition out"))
    }

    /// The queen has removed this hive: the next start must not connect to it. Idempotent.
    async fn forget(&self, hive: &HiveId) -> Result<()>;
}

/// What a connector does for hives that are in the fleet, and on their machines. Every method has a default, for hives that
/// are reached by an address alone.
#[async_trait]
pub trait HiveMachines: fmt::Debug + Send + Sync + 'static {
    /// Takes the passphrase of the key with which this hive is reached. The next connection uses it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the hive is not reached with a key.
    fn unlock(&self, hive: &HiveId, passphrase: Secret) -> Result<()> {
        drop(passphrase);
        let message = format!("hive {hive} is not reached by SSH, so it needs no passphrase");
        Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param("passphrase"))
    }

    /// The URL at which this hive is reached, if it is reached by one. `None` by default: then it is shown with the
    /// host and the port of its [`HiveInfo`](rbee_core::hive::HiveInfo), over plain HTTP.
    fn url(&self, hive: &HiveId) -> Option<String> {
        let _ = hive;
        None
    }

    /// The error of this hive, with the field of a request that can make it succeed.
    fn explain(&self, hive: &HiveId, error: Error) -> Error {
        let _ = hive;
        error
    }

    /// Removes from its machine what was put there for this hive, which was stopped. `None` if nothing was put there.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`], and others with what is still there.
    async fn uninstall(&self, hive: &HiveId, order: RemoveHive) -> Result<Option<RemovedHive>> {
        let _ = (hive, order);
        Ok(None)
    }

    /// What is left of this hive on a machine that cannot be reached, in a sentence. `None` if the hive was not put
    /// there.
    fn left_behind(&self, hive: &HiveId) -> Option<String> {
        let _ = hive;
        None
    }

    /// Checks the way to this hive, and its machine. Empty if there is nothing to check for it.
    async fn examine(&self, hive: &HiveId) -> Vec<HiveCheck> {
        let _ = hive;
        Vec::new()
    }

    /// The last lines of the log of this hive, at most this many, the oldest first.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`], or [`ErrorKind::Unsupported`] if it has no log that can be read from here.
    async fn logs(&self, hive: &HiveId, lines: usize) -> Result<Vec<LogLine>> {
        let _ = lines;
        let message = format!(
            "the log of hive {hive} cannot be read from here; it is in the log of its own program"
        );
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("this queen was built without a way {what}"))
}

/// Something that happened during an addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddEvent {
    /// A step began or succeeded.
    Step(AddStep),
    /// Bytes were sent.
    Sent(AddSent),
}

/// Receives the progress of an addition.
#[derive(Clone)]
pub struct AddProgress(Arc<dyn Fn(AddEvent) + Send + Sync>);

impl AddProgress {
    /// Calls this for each event. It must return at once.
    pub fn new(receive: impl Fn(AddEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Ignores it.
    pub fn ignore() -> Self {
        Self::new(|_| ())
    }

    /// Reports an event.
    pub fn event(&self, event: AddEvent) {
        (self.0)(event);
    }
}

impl fmt::Debug for AddProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddProgress")
    }
}
