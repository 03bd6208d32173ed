//! The description of the routes, made of them.

use axum::response::Response;
use http::StatusCode;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{catalog, doctor, health, hives, jobs, logs, openai, workers};
use crate::server::reply;

/// The name by which the description calls the bearer token.
const TOKEN: &str = "token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "rbee",
        description = "A queen: OpenAI's API for applications, and her own for those who look after her.\n\n\
            Every answer carries `x-correlation-id`. Errors are in OpenAI's shape on OpenAI's routes, and \
            `{\"error\": {\"code\", \"message\", \"details\", \"correlation_id\"}}` elsewhere.",
    ),
    paths(
        openai::chat, openai::completions, openai::embeddings, openai::models, openai::model,
        jobs::submit, jobs::list, jobs::show, jobs::cancel, jobs::events,
        hives::list, hives::add, hives::show, hives::remove, hives::start, hives::stop, hives::drain,
        workers::list, workers::spawn, workers::show, workers::stop, workers::pin, workers::unpin,
        catalog::list, catalog::show, catalog::remove, catalog::pull,
        doctor::policy, doctor::doctor, logs::logs,
        health::health, health::metrics,
    ),
    components(schemas(
        crate::wire::openai::ChatChunk,
        crate::wire::queen::Started,
        crate::wire::queen::Metrics,
        crate::wire::queen::LogLine,
        crate::wire::queen::PullProgress,
        crate::wire::queen::Pulled,
    )),
    modifiers(&Bearer),
)]
struct Description;

/// The token that every route but `/health` wants, where there is one.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme(TOKEN, scheme);
        // Either will do: a queen at home has no token.
        let with_token = SecurityRequirement::new(TOKEN, Vec::<String>::new());
        document.security = Some(vec![SecurityRequirement::default(), with_token]);
    }
}

/// The description of the API.
pub(super) async fn serve() -> Response {
    reply::json(StatusCode::OK, &Description::openapi())
}
