//! A timeout with an error that names what did not happen.

use std::{fmt::Display, time::Duration};

use crate::error::{Error, ErrorKind, Result};

/// The result of `work`, or an error of this kind after the timeout: `{what} within {limit}`, for instance "the hive
/// did not report within 5s".
pub(crate) async fn within<T>(
    limit: Duration,
    kind: ErrorKind,
    what: impl Display,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let late = |_| Err(Error::new(kind, format!("{what} within {limit:?}")));
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}
