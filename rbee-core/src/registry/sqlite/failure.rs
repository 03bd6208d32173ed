//! What is stored of an error beside its code and its message, so that it is told again as it was told first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{fault::Fault, ops::json};
use crate::Error;

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    /// What a client reads in place of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    short_bytes: Option<u64>,
}

/// The details as JSON; nothing if there are none.
pub(super) fn encode(error: &Error) -> Result<Option<String>, Fault> {
    let millis = |after: Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    let details = Details {
        client_message: error.client_message().map(ToOwned::to_owned),
        param: error.param().map(ToOwned::to_owned),
        retry_after_ms: error.retry_after().map(millis),
        short_bytes: error.short_bytes(),
    };
    (details != Details::default()).then(|| json(&details)).transpose()
}

/// The error with its details. Details that cannot be read are left out: the code and the message say what happened.
pub(super) fn decode(mut error: Error, details: Option<&str>) -> Error {
    let Some(details) = details.and_then(|text| serde_json::from_str::<Details>(text).ok()) else {
        return error;
    };
    if let Some(message) = details.client_message {
        error = error.with_client_message(message);
    }
    if let Some(param) = details.param {
        error = error.with_param(param);
    }
    if let Some(after) = details.retry_after_ms {
        error = error.with_retry_after(Duration::from_millis(after));
    }
    if let Some(bytes) = details.short_bytes {
        error = error.with_short_bytes(bytes);
    }
    error
}
