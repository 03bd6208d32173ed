//! Streams of events.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use http::Response;
use rbee_transport_http::{
    client::Body,
    wire::sse::{Event, Parser},
};
use serde::de::DeserializeOwned;

use super::About;
use crate::failure::Failure;

/// The timeout of a silent stream. The queen sends comments more often while there are no events.
const SILENCE: Duration = Duration::from_secs(120);

/// A stream of events from the queen.
#[derive(Debug)]
pub struct Events {
    response: Response<Body>,
    about: About,
    parser: Parser,
    received: Instant,
}

impl Events {
    pub(super) fn new(response: Response<Body>, about: About) -> Self {
        Self { response, about, parser: Parser::default(), received: Instant::now() }
    }

    /// A header of the answer, or `None` if it is missing or unreadable.
    pub fn header(&self, name: &str) -> Option<String> {
        Some(self.response.headers().get(name)?.to_str().ok()?.to_owned())
    }

    /// The next event, or `None` if the stream has ended. Dropping this future loses nothing.
    ///
    /// # Errors
    /// If the connection breaks, or is silent for too long.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            let event = self.parser.next_event();
            if let Some(event) = event.map_err(|cause| self.about.stranger(cause.message()))? {
                return Ok(Some(event));
            }
            match tokio::time::timeout(SILENCE, self.response.body_mut().next()).await {
                Ok(Some(Ok(bytes))) => {
                    self.received = Instant::now();
                    self.parser.push(&bytes);
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(cause))) => return Err(self.about.lost(&cause)),
                Err(_) => return Err(self.about.silent(SILENCE)),
            }
        }
    }

    /// The time at which the newest bytes arrived: for an event that [`next`](Self::next) has just returned, the time
    /// of its arrival, and not of its turn.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Reads the data of an event.
    ///
    /// # Errors
    /// If the data is not what was expected.
    pub fn read<T: DeserializeOwned>(&self, event: &Event) -> Result<T, Failure> {
        serde_json::from_slice(&event.data).map_err(|cause| {
            self.about.stranger(&format!("its event {:?} is unreadable: {cause}", event.name))
        })
    }

    /// The failure of a stream that ended before its subject did. It says when to connect again, if the queen did.
    pub fn cut(&self) -> Failure {
        let address = &self.about.address;
        let Some(after) = self.parser.retry() else {
            let message = format!("the queen at {address} ended the connection too early");
            return self.about.broken(&message);
        };
        let message = format!("the queen at {address} goes down before the end");
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.about.broken(&message).with_retry_after(Some(after))
    }

    /// The correlation id of the request in the logs.
    pub fn correlation_id(&self) -> &str {
        &self.about.correlation_id
    }
}
