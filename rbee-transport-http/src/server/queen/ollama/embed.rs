//! Vectors: texts turned into numbers.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use rbee_core::{Error, ErrorKind, JobAnswer, Result, event::Started};

use super::{
    keep_alive::{self, KeepAlive},
    load, options,
    request::model,
    rules,
};
use crate::{
    server::{
        queen::{
            Inner, Shared,
            bounds::BodyPermit,
            field_rules::finish,
            fields::{Fields, parse},
            middleware::HandlerResult,
            sender::{Sender, put_origin},
        },
        response,
    },
    wire::{
        OllamaErrorBody,
        ollama::{
            EMBED, EMBEDDINGS, EmbedRequest, EmbedResponse, EmbeddingsRequest, EmbeddingsResponse,
        },
    },
};
use tokio::time::Instant;

/// A request for vectors, parsed and checked.
struct Ask {
    model: String,
    texts: Vec<String>,
    dimensions: Option<u32>,
    keep_alive: Option<KeepAlive>,
}

impl Ask {
    fn read(body: &[u8], field: &str) -> Result<Self> {
        const TEXTS: &str = "a text or a list of texts";
        let mut fields = Fields::of_body(body)?;
        let model = model(&mut fields)?;
        let texts = match fields.take_raw(field) {
            None => Vec::new(),
            Some(list) if field == "input" && list.get().starts_with('[') => {
                parse(list, field, TEXTS)?
            }
            Some(text) => {
                let allowed = if field == "input" { TEXTS } else { "a text" };
                let text: String = parse(text, field, allowed)?;
                if text.is_empty() { Vec::new() } else { vec![text] }
            }
        };
        let dimensions = match field {
            "input" => fields.take_whole("dimensions", "a whole number, 1 or more")?,
            _ => None,
        };
        options::check(&mut fields)?;
        let keep_alive = keep_alive::take(&mut fields)?;
        finish(fields, &[rules::EMBED])?;
        Ok(Self { model, texts, dimensions, keep_alive })
    }

    /// Waits for the vectors. `None` if there is no text: the model is loaded instead.
    async fn vectors(
        &self,
        shared: &Inner,
        sender: &Sender,
        permit: BodyPermit,
    ) -> Result<Option<(rbee_core::JobId, JobAnswer)>> {
        if self.texts.is_empty() {
            // A model may take long to load.
            drop(permit);
            let who = (&sender.caller, &sender.locality);
            load::run(shared, who, &self.model, self.keep_alive).await?;
            return Ok(None);
        }
        let request = rbee_core::Request::embed(&self.model, self.texts.iter().map(String::as_str));
        let request = self.dimensions.into_iter().fold(request, rbee_core::Request::dimensions);
        let named = |error| shared.by_requested_name(&self.model, error);
        let handle = shared.submit_one(sender, permit, request).await.map_err(named)?;
        let job = handle.id();
        let answer = handle.answer().await.map_err(named)?;
        let (found, wanted) = (answer.vectors.len(), self.texts.len());
        if found != wanted {
            let message = format!("the worker gave {found} vectors for {wanted} texts");
            return Err(Error::new(ErrorKind::WorkerFault, message));
        }
        Ok(Some((job, answer)))
    }
}

/// Turn texts into vectors of length 1.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = EMBED,
        tag = "ollama",
        request_body = EmbedRequest,
        responses(
            (status = 200, description = "The vectors.", body = EmbedResponse),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn embed(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    let began = Instant::now();
    let body = shared.read_body(request).await?;
    let ask = Ask::read(body.bytes(), "input")?;
    let found = ask.vectors(&shared, &sender, body.into_permit()).await?;
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut answer = EmbedResponse {
        model: ask.model,
        embeddings: Vec::new(),
        total_duration: nanos(began.elapsed()),
        load_duration: 0,
        prompt_eval_count: 0,
    };
    let Some((job, vectors)) = found else {
        return Ok(response::json(StatusCode::OK, &answer));
    };
    answer.embeddings = vectors.vectors.iter().map(|vector| normalized(vector)).collect();
    answer.load_duration = nanos(vectors.queue_wait);
    answer.prompt_eval_count = vectors.usage.prompt_tokens.into();
    Ok(with_origin(response::json(StatusCode::OK, &answer), &sender, job, &vectors))
}

/// Turn one text into a vector.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = EMBEDDINGS,
        tag = "ollama",
        request_body = EmbeddingsRequest,
        responses(
            (status = 200, description = "The vector.", body = EmbeddingsResponse),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn embeddings(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let ask = Ask::read(body.bytes(), "prompt")?;
    let Some((job, vectors)) = ask.vectors(&shared, &sender, body.into_permit()).await? else {
        let nothing = EmbeddingsResponse { embedding: Vec::new() };
        return Ok(response::json(StatusCode::OK, &nothing));
    };
    let embedding = vectors.vectors.first().cloned().unwrap_or_default();
    let response = response::json(StatusCode::OK, &EmbeddingsResponse { embedding });
    Ok(with_origin(response, &sender, job, &vectors))
}

fn with_origin(
    mut response: Response,
    sender: &Sender,
    job: rbee_core::JobId,
    answer: &JobAnswer,
) -> Response {
    let JobAnswer { worker, queue_wait, format, .. } = *answer;
    let started = Started { worker, queue_wait, format };
    put_origin(response.headers_mut(), &sender.caller, job, Some(started));
    response
}

/// The vector with length 1. One that has it already stays as it is, to the last bit.
fn normalized(vector: &[f32]) -> Vec<f32> {
    let square: f64 = vector.iter().map(|number| f64::from(*number).powi(2)).sum();
    let length = square.sqrt();
    if length == 0.0 || (length - 1.0).abs() < 1e-3 {
        return vector.to_vec();
    }
    vector.iter().map(|number| (f64::from(*number) / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_get_the_length_1_if_they_have_one() {
        assert_eq!(normalized(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(normalized(&[0.0, 0.0]), [0.0, 0.0]);
        let unit = [0.600_01, 0.8];
        assert_eq!(normalized(&unit), unit);
        assert_eq!(normalized(&[]), [0.0_f32; 0]);
    }
}
