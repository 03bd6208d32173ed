//! The paths and bodies of Ollama's API, as far as rbee supports it.
//!
//! How the queen reads a request, and what it does with every other field that Ollama's clients can send, is defined
//! with its routes; this is what clients build and receive.

mod answers;
mod models;
mod requests;

pub use answers::{
    ChatResponse, EmbedResponse, EmbeddingsResponse, GenerateResponse, LogprobOf, Timings,
    TokenLogprob,
};
pub use models::{
    DeleteRequest, ListedModel, LoadedModel, LoadedModels, ModelDetails, ModelList, PullRequest,
    PullStatus, ShowRequest, ShowResponse, Version,
};
pub use requests::{
    CalledFunction, ChatRequest, EmbedRequest, EmbeddingsRequest, GenerateRequest, KeepAlive,
    Message, Options, Think, ToolCall,
};

/// `GET`: the version of Ollama whose features rbee has ([`Version`]).
pub const VERSION: &str = "/api/version";
/// `GET`: the available models ([`ModelList`]).
pub const TAGS: &str = "/api/tags";
/// `POST` ([`ShowRequest`]): one model ([`ShowResponse`]).
pub const SHOW: &str = "/api/show";
/// `GET`: the loaded models ([`LoadedModels`]).
pub const PS: &str = "/api/ps";
/// `POST` ([`ChatRequest`]): continue a conversation ([`ChatResponse`], one or a stream of them).
pub const CHAT: &str = "/api/chat";
/// `POST` ([`GenerateRequest`]): answer one prompt ([`GenerateResponse`], one or a stream of them).
pub const GENERATE: &str = "/api/generate";
/// `POST` ([`EmbedRequest`]): turn texts into vectors ([`EmbedResponse`]).
pub const EMBED: &str = "/api/embed";
/// `POST` ([`EmbeddingsRequest`]): turn one text into a vector ([`EmbeddingsResponse`]).
pub const EMBEDDINGS: &str = "/api/embeddings";
/// `POST` ([`PullRequest`]): put a model on the disks ([`PullStatus`], one or a stream of them).
pub const PULL: &str = "/api/pull";
/// `DELETE` ([`DeleteRequest`]): remove a model from the disks.
pub const DELETE: &str = "/api/delete";
/// `POST`: copy a model. rbee refuses it.
pub const COPY: &str = "/api/copy";
/// `POST`: create a model. rbee refuses it.
pub const CREATE: &str = "/api/create";
/// `POST`: upload a model. rbee refuses it.
pub const PUSH: &str = "/api/push";
/// `POST`: upload a part of a model; the id is its digest. rbee refuses it.
pub const BLOB: &str = "/api/blobs/{id}";

/// The whole text of `GET /`, by which clients find out that a server has this API.
pub const RUNNING: &str = "Ollama is running";

/// The version of Ollama that rbee reports. Clients compare it with the lowest version that they need. rbee has the
/// features that this version has in the routes above, as far as its documentation says; the newest of them that clients
/// ask for are log probabilities, and `thinking` in answers.
pub const API_VERSION: &str = "0.13.0";

/// The content type of a stream: one JSON object in each line.
pub const NDJSON: &str = "application/x-ndjson";
