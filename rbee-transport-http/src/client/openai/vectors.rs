//! Reads responses that are not streamed: vectors.

use bytes::Bytes;
use http::Response;
use rbee_core::{Error, ErrorKind, Finish, Output, Result};
use serde::Deserialize;

use super::{Body, Counted, HttpError, OpenAiWorker};

/// The longest response, in bytes.
const MOST_VECTORS: usize = 256 << 20;

impl OpenAiWorker {
    /// The vectors of the response, one for each input, and the end.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerFault`] if there are others.
    pub(super) async fn vectors(
        &self,
        answer: Response<Body>,
        inputs: usize,
        dimensions: Option<u32>,
    ) -> Result<[Result<Output>; 2]> {
        #[derive(Deserialize)]
        struct Vectors {
            data: Vec<Vector>,
            #[serde(default)]
            usage: Option<Counted>,
        }
        #[derive(Deserialize)]
        struct Vector {
            index: usize,
            embedding: Vec<f32>,
        }
        let bytes = self.whole(answer, "vectors").await?;
        let Vectors { mut data, usage } = serde_json::from_slice(&bytes)
            .map_err(|cause| self.fault(format_args!("no vectors: {cause}")).with_source(cause))?;
        data.sort_by_key(|vector| vector.index);
        if data.len() != inputs || data.iter().enumerate().any(|(n, vector)| vector.index != n) {
            return Err(self.fault(format_args!("{} vectors for {inputs} inputs", data.len())));
        }
        let vectors: Vec<_> = data.into_iter().map(|vector| vector.embedding).collect();
        // Some servers ignore the field.
        if let Some(asked) = dimensions
            && let Some(length) =
                vectors.iter().map(Vec::len).find(|length| *length != asked as usize)
        {
            let message = format!("dimensions is {asked}; allowed for this model is {length}");
            return Err(
                Error::for_client(ErrorKind::InvalidRequest, message).with_param("dimensions")
            );
        }
        Ok(outputs(vectors, usage.map_or(0, |usage| usage.prompt_tokens)))
    }

    /// The body of a response that is not streamed.
    pub(super) async fn whole(&self, answer: Response<Body>, what: &str) -> Result<Bytes> {
        answer.into_body().read(MOST_VECTORS).await.map_err(|cause| match cause {
            HttpError::TooLarge(most) => {
                self.fault(format_args!("more than {most} bytes of {what}"))
            }
            cause => self.lost(cause),
        })
    }
}

/// The outputs of a run that is not streamed.
pub(super) fn outputs(vectors: Vec<Vec<f32>>, prompt_tokens: u32) -> [Result<Output>; 2] {
    let usage = rbee_core::Usage { prompt_tokens, ..rbee_core::Usage::default() };
    [Ok(Output::Vectors(vectors)), Ok(Output::End { finish: Finish::Stop, usage, stop_text: None })]
}
