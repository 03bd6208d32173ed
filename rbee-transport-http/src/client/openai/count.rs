//! Counts the tokens of prompts, with the routes that llama.cpp's server and vLLM have besides OpenAI's.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use rbee_core::{
    Error, ErrorKind, Result,
    request::{Prompt, Task},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{OpenAiWorker, chat::ChatWords};

/// The longest response, in bytes: the tokens of a prompt as numbers.
const MOST_BYTES: usize = 64 << 20;

/// How long a server that has no such route is not asked again: a gateway may have answered for it.
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// How a server counts tokens, once that is known, and since when it is.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<Option<(Routes, Instant)>>);

/// The routes of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Routes {
    /// `/apply-template` and `/tokenize` with `content`.
    LlamaCpp,
    /// `/tokenize` with `messages` or `prompt`.
    Vllm,
    /// It has no such route.
    None,
}

impl Counter {
    fn known(&self) -> Option<Routes> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (routes, since) = known?;
        (routes != Routes::None || since.elapsed() < ASK_AGAIN).then_some(routes)
    }

    fn learn(&self, routes: Routes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((routes, Instant::now()));
    }
}

/// A prompt as vLLM's `/tokenize` and llama.cpp's `/apply-template` take it.
#[derive(Serialize)]
struct Conversation<'a> {
    model: &'a str,
    #[serde(flatten)]
    words: ChatWords<'a>,
    add_generation_prompt: bool,
}

/// A bare text as vLLM's `/tokenize` takes it.
#[derive(Serialize)]
struct BareText<'a> {
    model: &'a str,
    prompt: &'a str,
    add_special_tokens: bool,
}

/// A text as llama.cpp's `/tokenize` takes it, read as its completions read it.
#[derive(Serialize)]
struct Content<'a> {
    content: &'a str,
    add_special: bool,
    parse_special: bool,
}

#[derive(Deserialize)]
struct Applied {
    prompt: String,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Count {
    count: u32,
}

impl OpenAiWorker {
    /// The number of tokens of a prompt.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without a parameter if the server has no route for this, and the error of the server.
    pub(super) async fn count(&self, task: &Task) -> Result<u32> {
        let prompt = match task {
            Task::Generate { prompt, .. } if !matches!(prompt, Prompt::Infill { .. }) => prompt,
            _ => return Err(self.cannot_count()),
        };
        let known = self.counter.known();
        if matches!(known, None | Some(Routes::LlamaCpp))
            && let Some(tokens) = self.count_by_llama_cpp(prompt).await?
        {
            self.counter.learn(Routes::LlamaCpp);
            return Ok(tokens);
        }
        if matches!(known, None | Some(Routes::Vllm))
            && let Some(tokens) = self.count_by_vllm(prompt).await?
        {
            self.counter.learn(Routes::Vllm);
            return Ok(tokens);
        }
        // A server whose routes are known has lost them for a while only.
        if known.is_none() {
            self.counter.learn(Routes::None);
        }
        Err(self.cannot_count())
    }

    fn cannot_count(&self) -> Error {
        let message = format!("{} cannot count the tokens of this prompt", self.base);
        Error::new(ErrorKind::Unsupported, message)
    }

    /// `None` if the server has no such routes.
    async fn count_by_llama_cpp(&self, prompt: &Prompt) -> Result<Option<u32>> {
        // Only llama.cpp has this route; both have the other one, for different bodies.
        let empty = Conversation::empty(&self.model);
        let conversation = match prompt {
            Prompt::Chat(chat) => self.conversation(chat)?,
            Prompt::Text(_) | Prompt::Raw(_) | Prompt::Infill { .. } => empty,
        };
        let needs_template = matches!(prompt, Prompt::Chat(_));
        let mut applied = None;
        if needs_template || self.counter.known().is_none() {
            match self.post_beside::<Applied>("/apply-template", &conversation).await {
                Ok(None) => return Ok(None),
                Ok(Some(found)) => applied = Some(found.prompt),
                Err(error) if needs_template => return Err(error),
                // It has the route, and a model without a template.
                Err(_) => {}
            }
        }
        let content = match (prompt, &applied) {
            (Prompt::Text(text) | Prompt::Raw(text), _) => text,
            (_, Some(applied)) => applied,
            (_, None) => return Ok(None),
        };
        let body = Content { content, add_special: true, parse_special: true };
        let found = self.post_beside::<Tokens>("/tokenize", &body).await?;
        Ok(found.and_then(|found| found.tokens.len().try_into().ok()))
    }

    /// `None` if the server has no such route.
    async fn count_by_vllm(&self, prompt: &Prompt) -> Result<Option<u32>> {
        let found: Option<Count> = match prompt {
            Prompt::Chat(chat) => self.post_beside("/tokenize", &self.conversation(chat)?).await?,
            Prompt::Text(prompt) | Prompt::Raw(prompt) => {
                let body = BareText { model: &self.model, prompt, add_special_tokens: true };
                self.post_beside("/tokenize", &body).await?
            }
            Prompt::Infill { .. } => None,
        };
        Ok(found.map(|found| found.count))
    }

    fn conversation<'a>(&'a self, chat: &'a rbee_core::request::Chat) -> Result<Conversation<'a>> {
        let words = ChatWords::new(chat, None, self.extended)?;
        Ok(Conversation { model: &self.model, words, add_generation_prompt: true })
    }

    /// Posts to a route beside OpenAI's, which are below `/v1`. `None` if there is no such route.
    async fn post_beside<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Option<T>> {
        let body = serde_json::to_vec(body).map_err(|cause| self.unsendable(cause))?;
        let root = self.base.strip_suffix("/v1").unwrap_or(&self.base);
        let mut request = http::Request::builder()
            .method(Method::POST)
            .uri(format!("{root}{path}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key);
        }
        let response = self.send(request.body(Bytes::from(body))).await?;
        let status = response.status();
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(self.refusal(response, None).await);
        }
        let read = response.into_body().read(MOST_BYTES).await;
        let bytes = read.map_err(|cause| self.fault(format_args!("{path}: {cause}")))?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|cause| self.fault(format_args!("{path}: {cause}")))
    }
}

impl<'a> Conversation<'a> {
    fn empty(model: &'a str) -> Self {
        Self { model, words: ChatWords::empty(), add_generation_prompt: true }
    }
}
