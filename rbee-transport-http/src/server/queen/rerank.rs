//! Reranking: documents scored by their relevance to a query.

use axum::extract::{Request as HttpRequest, State};
use http::StatusCode;
use rbee_core::{Error, ErrorKind, JobAnswer, JobId, Request, Result, event::Started};
use serde_json::value::RawValue;

use super::{
    Shared,
    field_rules::{
        Rule::{self, AnyObject, AnyText, False, Nothing, TextAlone, True},
        finish,
    },
    fields::{Fields, missing, not_allowed, parse},
    middleware::HandlerResult,
    openai::Clocks,
    sender::{Sender, put_origin},
};
use crate::{
    server::response,
    wire::{
        OpenAiErrorBody,
        rerank::{
            RERANK, RERANK_PLAIN, RERANK_V2, RerankApiVersion, RerankMeta, RerankRequest,
            RerankResponse, RerankResult, RerankText, RerankTokens, RerankUsage,
        },
    },
};

/// All tables.
#[cfg(test)]
pub(super) const TABLES: [&[(&str, Rule)]; 1] = [FIELDS];

/// The fields of Jina's, Cohere's, vLLM's and Hugging Face's APIs that are not read. A document that is too long is always
/// cut at its end, and nothing else is.
const FIELDS: &[(&str, Rule)] = &[
    ("instruction", Nothing),
    ("max_chunks_per_doc", Nothing),
    ("max_tokens_per_doc", Nothing),
    ("max_tokens_per_query", Nothing),
    ("metadata", AnyObject),
    // Cohere's name for the parts of a document that count.
    ("rank_fields", TextAlone),
    ("raw_scores", False),
    ("return_embeddings", False),
    ("truncate", True),
    ("truncate_prompt_tokens", Nothing),
    ("truncation", True),
    ("truncation_side", Nothing),
    ("user", AnyText),
];

const DOCUMENTS: &str = "a list of texts, or of objects with a text";

/// A request, parsed and checked.
struct Ask {
    model: String,
    request: Request,
    /// The number of documents.
    count: usize,
    /// The texts of the documents, if the results have them.
    texts: Option<Vec<String>>,
    top_n: Option<u32>,
}

impl Ask {
    /// Parses a body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field.
    fn read(body: &[u8]) -> Result<Self> {
        let mut fields = Fields::of_body(body)?;
        let model: String = fields.require("model", "the name of a model")?;
        let query: String = fields.require("query", "a text")?;
        let given = fields.take_raw("documents").ok_or_else(|| missing("documents", DOCUMENTS))?;
        let documents = documents(given)?;
        const TOP_N: &str = "a whole number, 1 or more";
        let top_n = fields.take_raw("top_n");
        let top_n = match top_n {
            None => None,
            Some(value) => match super::fields::whole(value, "top_n", TOP_N)? {
                0 => return Err(not_allowed(value, "top_n", TOP_N)),
                most => Some(most),
            },
        };
        let has_texts = fields.take("return_documents", "true or false")?.unwrap_or(true);
        let clocks = Clocks::take(&mut fields)?;
        finish(fields, &[FIELDS])?;
        let (count, texts) = (documents.len(), has_texts.then(|| documents.clone()));
        let request = clocks.apply(Request::rerank(&model, query, documents));
        Ok(Self { model, request, count, texts, top_n })
    }

    /// The response for this answer.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerFault`] if the worker did not give a score for each document.
    fn response(self, job: JobId, answer: &JobAnswer) -> Result<RerankResponse> {
        let scores = answer.scores();
        if scores.len() != self.count || !scores.iter().all(|score| score.is_finite()) {
            let (found, count) = (scores.len(), self.count);
            let message = format!(
                "the worker gave {found} scores for {count} documents, or a score that is no number"
            );
            return Err(Error::new(ErrorKind::WorkerFault, message));
        }
        let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
        // The sort is stable: equal documents stay in their order.
        ranked.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        ranked.truncate(self.top_n.map_or(usize::MAX, |most| most as usize));
        let mut texts = self.texts;
        let mut text = |index: usize| {
            let text = texts.as_mut()?.get_mut(index)?;
            Some(RerankText { text: std::mem::take(text) })
        };
        let results = ranked.into_iter().map(|(index, relevance_score)| RerankResult {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            relevance_score,
            document: text(index),
        });
        let tokens = u64::from(answer.usage.prompt_tokens);
        Ok(RerankResponse {
            id: job.to_string(),
            model: self.model,
            usage: RerankUsage { prompt_tokens: tokens, total_tokens: tokens },
            results: results.collect(),
            meta: RerankMeta {
                api_version: RerankApiVersion { version: "2".into() },
                tokens: RerankTokens { input_tokens: tokens, output_tokens: 0 },
            },
        })
    }
}

/// The texts of the documents.
fn documents(value: &RawValue) -> Result<Vec<String>> {
    let items: Vec<&RawValue> = parse(value, "documents", DOCUMENTS)?;
    let items = items.into_iter().enumerate();
    let texts = items.map(|(at, item)| {
        let name = format!("documents[{at}]");
        if item.get().starts_with('"') {
            return parse(item, &name, "a text");
        }
        if !item.get().starts_with('{') {
            return Err(not_allowed(item, &name, "a text, or an object with a text"));
        }
        let mut fields = Fields::of(item, &name)?;
        let text = fields.require("text", "a text")?;
        finish(fields, &[])?;
        Ok(text)
    });
    texts.collect()
}

/// Score documents by their relevance to a query.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = RERANK,
        tag = "rerank",
        request_body = RerankRequest,
        responses(
            (status = 200, description = "The documents, the most relevant first.", body = RerankResponse),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn rerank(
    State(shared): State<Shared>,
    sender: Sender,
    request: HttpRequest,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let mut ask = Ask::read(body.bytes())?;
    // A text of its own is kept only for the response; that of the request is the job's.
    let request = std::mem::replace(&mut ask.request, Request::rerank("", "", [""; 0]));
    let named = |error| shared.by_requested_name(&ask.model, error);
    let submitted = shared.submit_one(&sender, body.into_permit(), request).await;
    let handle = submitted.map_err(named)?;
    let job = handle.id();
    let answer = handle.answer().await.map_err(named)?;
    let started =
        Started { worker: answer.worker, queue_wait: answer.queue_wait, format: answer.format };
    let mut response = response::json(StatusCode::OK, &ask.response(job, &answer)?);
    put_origin(response.headers_mut(), &sender.caller, job, Some(started));
    Ok(response)
}

/// Score documents by their relevance to a query: the same as `/v1/rerank`, for clients of Cohere's newer API.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = RERANK_V2,
        tag = "rerank",
        request_body = RerankRequest,
        responses(
            (status = 200, description = "The documents, the most relevant first.", body = RerankResponse),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn rerank_v2(
    state: State<Shared>,
    sender: Sender,
    request: HttpRequest,
) -> HandlerResult {
    rerank(state, sender, request).await
}

/// Score documents by their relevance to a query: the same as `/v1/rerank`, for clients of vLLM and Infinity.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = RERANK_PLAIN,
        tag = "rerank",
        request_body = RerankRequest,
        responses(
            (status = 200, description = "The documents, the most relevant first.", body = RerankResponse),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(super) async fn rerank_plain(
    state: State<Shared>,
    sender: Sender,
    request: HttpRequest,
) -> HandlerResult {
    rerank(state, sender, request).await
}
