//! Payloads of frames that are JSON.

use rbee_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

use crate::wire::ErrorInfo;

/// Reads the error of an `ERROR` frame.
///
/// # Errors
/// [`ErrorKind::WorkerFault`] if it is malformed.
pub(super) fn read_error(payload: &[u8]) -> Result<Error> {
    read_json::<ErrorInfo>(payload).map(Error::from)
}

/// Reads JSON.
///
/// # Errors
/// [`ErrorKind::WorkerFault`] if it is not as expected.
pub(super) fn read_json<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    serde_json::from_slice(payload).map_err(|cause| {
        let message = format!("a frame of the worker is not understood: {cause}");
        Error::new(ErrorKind::WorkerFault, message).with_source(cause)
    })
}
