//! Routes of Ollama's API for what rbee does in another way. Each says what to do instead.

use rbee_core::{Error, ErrorKind};

use crate::{
    server::queen::middleware::HandlerResult,
    wire::{
        OllamaErrorBody,
        ollama::{BLOB, COPY, CREATE, PUSH},
    },
};

fn refuse(message: &'static str) -> HandlerResult {
    Err(Error::for_client(ErrorKind::Unsupported, message).into())
}

/// Copy a model: refused.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = COPY,
        tag = "ollama",
        responses((status = "default", description = "The error.", body = OllamaErrorBody)),
    )
)]
pub(in crate::server::queen) async fn copy() -> HandlerResult {
    refuse(
        "rbee does not copy models; to give a model another name, add an alias to the setting models of the queen",
    )
}

/// Create a model: refused.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = CREATE,
        tag = "ollama",
        responses((status = "default", description = "The error.", body = OllamaErrorBody)),
    )
)]
pub(in crate::server::queen) async fn create() -> HandlerResult {
    refuse(
        "rbee has no Modelfiles; to use a file as a model, add an alias with its path to the setting models of the \
         queen, and send the system prompt and the options with each request",
    )
}

/// Upload a model: refused.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = PUSH,
        tag = "ollama",
        responses((status = "default", description = "The error.", body = OllamaErrorBody)),
    )
)]
pub(in crate::server::queen) async fn push() -> HandlerResult {
    refuse("rbee does not upload models to a library; hives copy models from each other")
}

/// Upload a part of a model: refused.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = BLOB,
        tag = "ollama",
        params(("id" = String, Path, description = "The digest of the part.")),
        responses((status = "default", description = "The error.", body = OllamaErrorBody)),
    )
)]
pub(in crate::server::queen) async fn blob() -> HandlerResult {
    refuse(
        "rbee takes no files of models from clients; pull the model from a hub, or put the file on the machine and add \
         an alias with its path to the setting models of the queen",
    )
}
