//! Connections that a handler takes over for another protocol (`101 Switching Protocols`).

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::dial::Io;

/// A connection that is taken over.
pub(super) struct TakenOver {
    /// The connection itself.
    pub(super) io: Box<dyn Io>,
    /// Bytes that were read already.
    pub(super) read: Bytes,
    /// Cancelled when the server stops: the protocol should end once its work in progress is done.
    pub(super) stop: CancellationToken,
}

impl fmt::Debug for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TakenOver")
    }
}

type Protocol =
    Box<dyn FnOnce(TakenOver) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static>;

/// An extension of every request to a [`Server`](super::Server): a handler that responds with 101 leaves here what goes on
/// with the connection. It runs in the task of the connection, so the server's limits and its end apply to it.
#[derive(Clone, Default)]
pub(super) struct Takeover(Arc<Mutex<Option<Protocol>>>);

impl Takeover {
    /// Serves the connection with this protocol after the response, which must be 101.
    pub(super) fn with<F, S>(&self, protocol: F)
    where
        F: FnOnce(TakenOver) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let protocol: Protocol = Box::new(|connection| Box::pin(protocol(connection)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(protocol);
    }

    /// The protocol that a handler has left.
    pub(super) fn take(&self) -> Option<Protocol> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
