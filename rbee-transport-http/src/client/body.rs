//! The body of a response, as it arrives.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt;
use hyper::body::{Body as _, Incoming};

use super::http_error::HttpError;

/// The body of a response: a stream of bytes. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct Body(Incoming);

impl Body {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(incoming)
    }

    /// Reads what is left, up to this number of bytes. Has no timeout of its own.
    ///
    /// # Errors
    /// [`HttpError::Broken`] if the connection breaks, [`HttpError::TooLarge`] if there are more bytes.
    pub async fn read(&mut self, most: usize) -> Result<Bytes, HttpError> {
        // The announced size, if there is one.
        if self.0.size_hint().lower() > most as u64 {
            return Err(HttpError::TooLarge(most));
        }
        let mut all = BytesMut::new();
        while let Some(bytes) = self.next().await {
            let bytes = bytes?;
            if all.len() + bytes.len() > most {
                return Err(HttpError::TooLarge(most));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }
}

impl Stream for Body {
    type Item = Result<Bytes, HttpError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::task::ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(cause)) => {
                    return Poll::Ready(Some(Err(HttpError::Broken(cause.into()))));
                }
                // A frame without data has trailers, which are ignored.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }
}
