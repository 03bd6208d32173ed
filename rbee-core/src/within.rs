//! Waiting for as long as a limit says, and an error that names what did not happen.

use std::{fmt::Display, time::Duration};

use crate::error::{Error, ErrorKind, Result};

/// The result of `work`, or else an error of this kind: `{what} within {limit}`, "the hive did not report within 5s" for
/// instance.
pub(crate) async fn within<T>(
    limit: Duration,
    kind: ErrorKind,
    what: impl Display,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let late = |_| Err(Error::new(kind, format!("{what} within {limit:?}")));
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}
