//! Requests without a connection: read from a body, and turned into the body of the response that the route would have
//! sent.

use rbee_core::{CorrelationId, Error, ErrorKind, JobHandle, Priority, Request, Result};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    super::{Inner, caller::Caller},
    Origin, answer,
    embed_request::EmbedAsk,
    embeddings,
    kind::Kind,
    request::Ask,
};

/// A request for text or vectors, parsed and checked.
pub(in crate::server::queen) struct DetachedAsk(Body);

enum Body {
    Text(Ask),
    Vectors(Box<EmbedAsk>),
}

impl DetachedAsk {
    /// Parses the body of a chat.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(in crate::server::queen) fn chat(body: &[u8]) -> Result<Self> {
        Ok(Self(Body::Text(Ask::read(Kind::Chat, body)?)))
    }

    /// Parses the body of a completion.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(in crate::server::queen) fn completion(body: &[u8]) -> Result<Self> {
        Ok(Self(Body::Text(Ask::read(Kind::Completion, body)?)))
    }

    /// Parses the body of a request for vectors.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(in crate::server::queen) fn vectors(body: &[u8]) -> Result<Self> {
        Ok(Self(Body::Vectors(Box::new(EmbedAsk::read(body)?))))
    }

    /// The model, as requested.
    pub(in crate::server::queen) fn model(&self) -> &str {
        match &self.0 {
            Body::Text(ask) => &ask.model,
            Body::Vectors(ask) => &ask.model,
        }
    }

    /// The number of its jobs.
    pub(in crate::server::queen) fn jobs(&self) -> usize {
        match &self.0 {
            Body::Text(ask) => ask.requests.len(),
            Body::Vectors(_) => 1,
        }
    }

    /// The requests for its jobs.
    pub(in crate::server::queen) fn requests(&self) -> Vec<Request> {
        match &self.0 {
            Body::Text(ask) => ask.requests.clone(),
            Body::Vectors(ask) => vec![ask.request.clone()],
        }
    }

    /// True if the answer is to be streamed.
    pub(in crate::server::queen) fn is_streamed(&self) -> bool {
        matches!(&self.0, Body::Text(ask) if ask.stream.is_some())
    }

    /// The priority, if the body has one.
    pub(in crate::server::queen) fn priority(&self) -> Option<Priority> {
        match &self.0 {
            Body::Text(ask) => ask.clocks.priority(),
            Body::Vectors(ask) => ask.clocks.priority(),
        }
    }

    /// Waits for the answers of its jobs. The prompts or texts, which may be long, are not kept meanwhile.
    ///
    /// # Errors
    /// The error of a job; the others are then cancelled.
    pub(in crate::server::queen) async fn answer(
        self,
        server: &Inner,
        mut handles: Vec<JobHandle>,
        caller: Caller,
        mark: CorrelationId,
    ) -> Result<Box<RawValue>> {
        let model = self.model().to_owned();
        let answered = match self.0 {
            Body::Text(ask) => {
                let origin = Origin::new(&ask, &handles, caller, mark);
                drop(ask);
                answer::whole(handles, &origin).await
            }
            Body::Vectors(mut ask) => {
                ask.request = Request::embed("", [""; 0]);
                let handle = handles.pop().ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "a request for vectors has no job")
                })?;
                embeddings::vectors(handle, &ask).await
            }
        };
        let answer = answered.map_err(|error| server.by_requested_name(&model, error))?;
        to_raw_value(&answer.body).map_err(|cause| {
            Error::new(ErrorKind::Internal, format!("an answer cannot be written: {cause}"))
        })
    }
}
