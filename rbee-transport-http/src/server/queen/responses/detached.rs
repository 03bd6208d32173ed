//! Responses without a connection: the lines of a batch.

use rbee_core::{Error, ErrorKind, JobHandle, Priority, Request, Result, settings::KeepRequests};

use super::{
    super::{Inner, caller::Caller},
    Draft,
    request::{Ask, Places},
};
use crate::wire::responses::Response;

/// A request for a response, parsed and checked.
pub(in crate::server::queen) struct DetachedResponse {
    ask: Ask,
}

/// The same, with the conversation that it continues.
pub(in crate::server::queen) struct PreparedResponse {
    pub(in crate::server::queen) request: Request,
    places: Places,
    draft: Draft,
}

impl DetachedResponse {
    /// Parses a body. A stream and a response in the background are refused: no client waits.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    pub(in crate::server::queen) fn read(body: &[u8]) -> Result<Self> {
        let ask = Ask::read(body)?;
        for (name, is_set) in [("stream", ask.stream), ("background", ask.extras.background)] {
            if is_set {
                let message = format!("{name} is true; allowed is false in a batch");
                return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(name));
            }
        }
        Ok(Self { ask })
    }

    /// The model, as requested.
    pub(in crate::server::queen) fn model(&self) -> &str {
        &self.ask.extras.model
    }

    /// The priority, if the body has one.
    pub(in crate::server::queen) fn priority(&self) -> Option<Priority> {
        self.ask.clocks.priority()
    }

    /// Reads the conversation that it continues.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place, and the error of the store.
    pub(in crate::server::queen) async fn prepare(
        mut self,
        server: &Inner,
        caller: &Caller,
    ) -> Result<PreparedResponse> {
        if server.queen.settings().keep_requests == KeepRequests::Never {
            self.ask.extras.store = false;
        }
        let (request, places, draft) = server.prepare_response(caller, self.ask).await?;
        Ok(PreparedResponse { request, places, draft })
    }
}

impl PreparedResponse {
    /// An error about its job, with the place in the request and the name of the model that the client has sent.
    pub(in crate::server::queen) fn rename(&self, server: &Inner, error: Error) -> Error {
        self.places.rename(server.by_requested_name(&self.draft.extras.model, error))
    }

    /// Waits for the response.
    ///
    /// # Errors
    /// The error of the job.
    pub(in crate::server::queen) async fn answer(
        &self,
        server: &Inner,
        handle: JobHandle,
    ) -> Result<Response> {
        let answered = self.draft.answer(handle).await;
        let (response, _) = answered.map_err(|error| self.rename(server, error))?;
        Ok(response)
    }
}
