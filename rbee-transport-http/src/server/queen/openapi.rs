//! The description of the routes, generated from them.

use std::collections::BTreeMap;

use axum::response::Response;
use http::StatusCode;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Object, OpenApi as Document, RefOr, Schema,
        schema::AdditionalProperties,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    batches, catalog, doctor, estimate, health, hives, jobs, logs, messages, ollama, openai,
    policy, replays, rerank, responses, shutdown, tenants, workers,
};
use crate::server::response;

/// The name of the bearer token in the description.
const TOKEN: &str = "token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rbee",
        description = "A queen: the APIs of OpenAI, Anthropic and Ollama for applications, and its own for operators.\n\n\
            Every answer carries `x-correlation-id`. Errors are in the shape of the API on the routes of the three, and \
            `{\"error\": {\"code\", \"message\", \"details\", \"correlation_id\"}}` elsewhere.",
    ),
    paths(
        openai::chat, openai::completions, openai::embeddings, openai::models, openai::model,
        rerank::rerank, rerank::rerank_v2, rerank::rerank_plain,
        batches::upload_file, batches::list_files, batches::show_file, batches::content, batches::delete_file,
        batches::create, batches::list, batches::show, batches::cancel,
        responses::create, responses::retrieve, responses::delete, responses::cancel, responses::input_items,
        messages::create, messages::count_tokens,
        ollama::version, ollama::tags, ollama::show, ollama::ps, ollama::chat, ollama::generate,
        ollama::embed, ollama::embeddings, ollama::pull, ollama::delete,
        ollama::copy, ollama::create, ollama::push, ollama::blob,
        jobs::submit, jobs::list, jobs::show, jobs::cancel, jobs::events,
        hives::list, hives::add, hives::show, hives::remove, hives::start, hives::stop, hives::drain,
        hives::doctor, hives::logs,
        workers::list, workers::spawn, workers::show, workers::stop, workers::pin, workers::unpin,
        catalog::list, catalog::show, catalog::remove, catalog::pull,
        policy::show, policy::set, policy::reset, policy::check, replays::replay, policy::versions, policy::version, policy::roll_back,
        policy::schema, policy::why, estimate::estimate,
        tenants::list, tenants::show, tenants::put, tenants::remove, tenants::issue, tenants::revoke,
        doctor::doctor, logs::logs, shutdown::shutdown,
        health::health, health::metrics,
    ),
    components(schemas(
        crate::wire::openai::ChatChunk,
        crate::wire::batches::BatchLine,
        crate::wire::batches::BatchResult,
        crate::wire::messages::StreamEvent,
        crate::wire::queen::Started,
        crate::wire::queen::Metrics,
        crate::wire::queen::LogLine,
        crate::wire::queen::AddStep,
        crate::wire::queen::AddSent,
        crate::wire::queen::PullProgress,
        crate::wire::queen::Pulled,
    )),
    modifiers(&Bearer, &Closed),
)]
struct Description;

/// The token that every route but `/health` requires, if there is one.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme(TOKEN, scheme);
        // Either is valid: a queen at home has no token.
        let with_token = SecurityRequirement::new(TOKEN, Vec::<String>::new());
        document.security = Some(vec![SecurityRequirement::default(), with_token]);
    }
}

/// Closes the schemas of requests of OpenAI's, Anthropic's and Ollama's APIs: fields that are not described are refused.
struct Closed;

impl Modify for Closed {
    fn modify(&self, document: &mut Document) {
        let schemas = &mut document.components.get_or_insert_default().schemas;
        let closed = [
            "ChatRequest",
            "CompletionRequest",
            "EmbeddingRequest",
            "RerankRequest",
            "ResponseRequest",
            "JobRequest",
            "MessagesRequest",
            "CountTokensRequest",
            "OllamaChatRequest",
            "OllamaEmbedRequest",
            "OllamaEmbeddingsRequest",
            "OllamaGenerateRequest",
        ];
        for name in closed {
            let Some(RefOr::T(schema)) = schemas.get(name).cloned() else { continue };
            if let Some(mut whole) = merged(&schema, schemas) {
                // A job is any of the three; its text says so.
                let is_open = name == "JobRequest";
                whole.additional_properties =
                    Some(Box::new(AdditionalProperties::FreeForm(is_open)));
                schemas.insert(name.to_owned(), RefOr::T(Schema::Object(whole)));
            }
        }
    }
}

/// One object in place of several that all apply.
fn merged(schema: &Schema, schemas: &BTreeMap<String, RefOr<Schema>>) -> Option<Object> {
    match schema {
        Schema::Object(object) => Some(object.clone()),
        Schema::AllOf(parts) => {
            let mut whole = Object::new();
            whole.description.clone_from(&parts.description);
            for part in &parts.items {
                let part = match part {
                    RefOr::T(schema) => schema,
                    RefOr::Ref(to) => {
                        let name = to.ref_location.rsplit('/').next()?;
                        let RefOr::T(schema) = schemas.get(name)? else { return None };
                        schema
                    }
                };
                let part = merged(part, schemas)?;
                whole.properties.extend(part.properties);
                whole.required.extend(part.required);
            }
            Some(whole)
        }
        _ => None,
    }
}

/// Serves the description of the API.
pub(super) async fn serve() -> Response {
    response::json(StatusCode::OK, &Description::openapi())
}
