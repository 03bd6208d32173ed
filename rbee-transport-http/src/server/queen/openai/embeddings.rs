//! Embeddings: texts turned into vectors.

use axum::extract::{Request, State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rbee_core::{Error, ErrorKind, JobHandle, Result};

use super::{
    super::{Shared, middleware::HandlerResult, sender::Sender},
    answer::{AnswerBody, WholeAnswer},
    embed_request::EmbedAsk,
};
use crate::wire::{
    OpenAiErrorBody,
    openai::{Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EncodingFormat, Vector},
    queen::EMBEDDINGS,
};

/// Turn texts into vectors.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = EMBEDDINGS,
        tag = "openai",
        request_body = EmbeddingRequest,
        responses(
            (status = 200, description = "The answer.", body = EmbeddingList),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn embeddings(
    State(shared): State<Shared>,
    sender: Sender,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let ask = EmbedAsk::read(body.bytes())?;
    let named = |error| shared.by_requested_name(&ask.model, error);
    let request = ask.request.clone();
    let handle = shared.submit_one(&sender, body.into_permit(), request).await.map_err(named)?;
    Ok(vectors(handle, &ask).await.map_err(named)?.into_response(&sender.caller))
}

/// Waits for the vectors.
pub(super) async fn vectors(handle: JobHandle, ask: &EmbedAsk) -> Result<WholeAnswer> {
    let job = handle.id();
    let answer = handle.answer().await?;
    if answer.vectors.len() != ask.inputs {
        let found = answer.vectors.len();
        let message = format!("the worker gave {found} vectors for {} texts", ask.inputs);
        return Err(Error::new(ErrorKind::WorkerFault, message));
    }
    let tokens = u64::from(answer.usage.prompt_tokens);
    let list = EmbeddingList {
        object: "list".into(),
        data: answer
            .vectors
            .iter()
            .zip(0..)
            .map(|(vector, index)| embedding(vector, index, ask.format))
            .collect(),
        model: ask.model.clone(),
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    };
    let started = Some(super::started(answer.worker, answer.queue_wait));
    Ok(WholeAnswer { body: AnswerBody::Vectors(list), job, started })
}

fn embedding(vector: &[f32], index: u32, format: EncodingFormat) -> Embedding {
    let embedding = match format {
        EncodingFormat::Float => Vector::Float(vector.to_vec()),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        }
    };
    Embedding { object: "embedding".into(), index, embedding }
}
