//! [`HttpError`]: why a request got no response.

/// An error of any type that can be sent to and shared with other threads.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request got no response, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection could be made, so nothing was sent.
    #[error(transparent)]
    Connect(BoxError),
    /// The connection broke, or the bytes are not HTTP. The server may have acted on the request.
    #[error(transparent)]
    Broken(BoxError),
    /// The body is larger than the caller's limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}
