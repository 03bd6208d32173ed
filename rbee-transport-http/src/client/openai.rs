//! [`OpenAiWorker`]: a server with an OpenAI-compatible API, as a worker.

mod ask;
mod chat;
mod count;
mod logprobs;
mod parts;
mod refusal;
mod rerank;
mod stream;
mod vectors;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream as streams;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use rbee_core::{
    Error, ErrorKind, OutputStream, Result, Run, Worker, WorkerInfo,
    answer::AnswerFormat,
    request::{Prompt, Task},
    worker::WorkerHealth,
};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use super::{Body, HttpClient, HttpError, Trust, chain};
use ask::Ask;
use count::Counter;
use refusal::Refusal;
use stream::Chunks;

/// The time limit for a health check, and for the text of an error.
const ANSWER: Duration = Duration::from_secs(4);
/// The longest error text that is read, in bytes.
const MOST_ERROR: usize = 64 << 10;
/// The allowed addresses of an API.
const ALLOWED: &str = "allowed is http://HOST:PORT/v1 or https://HOST/v1";

/// A server with an OpenAI-compatible API as a worker: llama.cpp, vLLM or another one, also one that rbee did not
/// start.
///
/// It reports no token ids, so a stream that it began cannot be continued on another worker. Prompts are rendered by
/// the server's own chat template.
///
/// ```
/// use rbee_core::WorkerInfo;
/// use rbee_transport_http::client::OpenAiWorker;
///
/// let mut info = WorkerInfo::new("qwen3".parse()?, "vllm");
/// info.slots = 16;
/// let worker = OpenAiWorker::new("http://127.0.0.1:8000/v1", info)?.with_model("Qwen/Qwen3-8B");
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone)]
pub struct OpenAiWorker {
    client: HttpClient,
    base: Arc<str>,
    key: Option<HeaderValue>,
    model: Arc<str>,
    extended: bool,
    info: Arc<WorkerInfo>,
    busy: Arc<AtomicU32>,
    /// How the server counts tokens.
    counter: Arc<Counter>,
}

impl fmt::Debug for OpenAiWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenAiWorker({} at {})", self.model, self.base)
    }
}

impl OpenAiWorker {
    /// The server at this address, which usually ends in `/v1`. `info` describes it; resuming is turned off here, and what
    /// OpenAI's API has is turned on: log probabilities, `logit_bias`, and the penalties. A
    /// certificate is checked against those that the system trusts. A server on another machine is reached through
    /// the proxy that the environment names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the address is invalid, or if the system has no certificates to check an `https`
    /// server against.
    pub fn new(base: &str, mut info: WorkerInfo) -> Result<Self> {
        let wrong = |why: String| {
            let message = format!("{base:?} is not the address of an API: {why}");
            Error::new(ErrorKind::Config, message)
        };
        let after_scheme = base.split_once("://").map_or(base, |(_, rest)| rest);
        if after_scheme.split('/').next().is_some_and(|authority| authority.contains('@')) {
            // Messages show the address, so they would show a name and a password in it.
            return Err(Error::new(
                ErrorKind::Config,
                "an API's address must not contain a name or a password",
            ));
        }
        let url: Uri = base.parse().map_err(|cause| wrong(format!("{cause}; {ALLOWED}")))?;
        let trust = match url.scheme_str() {
            _ if base.contains(['?', '#']) => return Err(wrong(ALLOWED.into())),
            Some("http") => None,
            Some("https") => Some(Trust::system().map_err(|error| error.context(base))?),
            _ => return Err(wrong(ALLOWED.into())),
        };
        let client = HttpClient::new(trust);
        let can = &mut info.capabilities;
        can.resume = false;
        // OpenAI's API has these.
        (can.logprobs, can.logit_bias, can.penalties) = (can.generate, can.generate, can.generate);
        can.min_tokens = false;
        (can.grammar, can.infill) = (false, false);
        // Servers that find the reasoning send it apart; others send it with its tags.
        can.answer = match can.generate {
            true => AnswerFormat { tools: None, ..parts::FORMAT },
            false => AnswerFormat::default(),
        };
        can.thinking = None;
        Ok(Self {
            client,
            base: base.trim_end_matches('/').into(),
            key: None,
            model: info.model.as_str().into(),
            extended: false,
            info: Arc::new(info),
            busy: Arc::default(),
            counter: Arc::default(),
        })
    }

    /// Sets the server's name for the model; its reference by default.
    pub fn with_model(mut self, name: &str) -> Self {
        self.model = name.into();
        self
    }

    /// Sets the key that the server requires.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it cannot be sent; the message does not repeat it.
    pub fn with_key(mut self, key: &str) -> Result<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
            let message = "the API key has characters that cannot be sent";
            Error::new(ErrorKind::Config, message)
        })?;
        value.set_sensitive(true);
        self.key = Some(value);
        Ok(self)
    }

    /// Says that the server knows `top_k`, `min_p` and `repetition_penalty`, as llama.cpp and vLLM do. Without this,
    /// requests that use them are refused: OpenAI's own API does not know them.
    pub fn with_extended_sampling(mut self) -> Self {
        self.extended = true;
        self
    }

    /// Says that the server knows `min_tokens`, as vLLM does. Without this, jobs that use it do not run here.
    pub fn with_min_tokens(mut self) -> Self {
        let info = Arc::make_mut(&mut self.info);
        info.capabilities.min_tokens = info.capabilities.generate;
        self
    }

    /// Says that the server knows `tools` in a chat. Without this, jobs with tools do not run here.
    pub fn with_tools(mut self) -> Self {
        let can = &mut Arc::make_mut(&mut self.info).capabilities;
        can.answer.tools = parts::FORMAT.tools.filter(|_| can.generate);
        self
    }

    /// Says that the server enforces a `response_format` of the types `json_object` and `json_schema`, and calls of
    /// tools that a request requires. Without this, jobs that use one of them do not run here.
    pub fn with_json_schema(mut self) -> Self {
        let can = &mut Arc::make_mut(&mut self.info).capabilities;
        can.grammar = can.generate;
        self
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.header(header::AUTHORIZATION, key),
            None => request,
        }
    }

    /// Sends a request, and waits for the head of the response.
    async fn send(&self, request: http::Result<Request<Bytes>>) -> Result<Response<Body>> {
        let request = request.map_err(|cause| self.unsendable(cause))?;
        self.client.send(request).await.map_err(|cause| self.lost(cause))
    }

    /// Sends a `POST`, and waits for the head of a successful response.
    async fn post(&self, ask: &Ask<'_>, run: &Run) -> Result<Response<Body>> {
        let body = serde_json::to_vec(ask).map_err(|cause| self.unsendable(cause))?;
        let request = self
            .request(Method::POST, ask.path())
            .header(header::CONTENT_TYPE, "application/json")
            .header(crate::wire::CORRELATION_ID, run.job.correlation_id.as_str())
            .body(body.into());
        let answer = self.send(request).await?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(self.refusal(answer, Some(&run.job.task)).await)
        }
    }

    fn unsendable(&self, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        let message = format!("the request to {} cannot be made: {cause}", self.base);
        Error::new(ErrorKind::Internal, message).with_source(cause)
    }

    fn lost(&self, cause: HttpError) -> Error {
        let message = format!("{} cannot be reached: {}", self.base, chain(&cause));
        // Once there is a connection, the run may have begun: some servers respond only when they have the first
        // token.
        let kind = match cause {
            HttpError::Connect(_) => ErrorKind::WorkerUnreachable,
            HttpError::Broken(_) | HttpError::TooLarge(_) => ErrorKind::WorkerLost,
        };
        Error::new(kind, message).with_source(cause)
    }

    fn fault(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::WorkerFault, format!("{}: {what}", self.base))
    }

    /// The error that the server responded with, for this task.
    async fn refusal(&self, answer: Response<Body>, task: Option<&Task>) -> Error {
        let status = answer.status();
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|after| {
            let seconds: u64 = after.to_str().ok()?.parse().ok()?;
            Some(Duration::from_secs(seconds.min(3600)))
        });
        let mut body = answer.into_body();
        let body = timeout(ANSWER, body.read(MOST_ERROR)).await;
        let refusal = match body {
            Ok(Ok(body)) => Refusal::read(&body),
            Ok(Err(_)) | Err(_) => Refusal::default(),
        };
        let message = format!("{} ({status})", refusal.message());
        let error = match (refusal.kind(status), task) {
            (ErrorKind::ContextExceeded, Some(task)) => return self.too_long(&refusal, task),
            (_, Some(Task::Generate { prompt: Prompt::Chat(_), .. }))
                if refusal.has_no_template(status) =>
            {
                let told = "the model has no chat template; send bare text instead of messages";
                Error::new(ErrorKind::Unsupported, message)
                    .with_client_message(told)
                    .with_param("messages")
            }
            (kind, _) => Error::new(kind, message),
        };
        let error = match after {
            Some(after) => error.with_retry_after(after),
            None => error,
        };
        error.context(&self.info.backend)
    }

    /// The error for a prompt that is too long for the server, with the numbers that it gave.
    fn too_long(&self, refusal: &Refusal, task: &Task) -> Error {
        let said = format!("{}: {}", self.info.backend, refusal.message());
        if let Some((tokens, context)) = refusal.numbers {
            let error = task.too_long(None, tokens, context);
            let (sentence, param) = (error.message().to_owned(), error.param().map(str::to_owned));
            let error = Error::new(ErrorKind::ContextExceeded, format!("{sentence} ({said})"))
                .with_client_message(sentence);
            return param.into_iter().fold(error, Error::with_param);
        }
        let param = match task {
            Task::Generate { prompt: Prompt::Chat(_), .. } => "messages",
            Task::Generate { .. } => "prompt",
            Task::Embed { .. } => "input",
            Task::Rerank { .. } => "documents",
        };
        Error::new(ErrorKind::ContextExceeded, said)
            .with_client_message(ErrorKind::ContextExceeded.summary())
            .with_param(param)
    }

    fn slot(&self) -> Result<Slot> {
        let slots = self.info.slots;
        let more = |busy: u32| (busy < slots).then_some(busy + 1);
        match self.busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Slot(self.busy.clone())),
            Err(busy) => {
                Err(Error::new(ErrorKind::WorkerBusy, format!("{busy} of {slots} slots are taken")))
            }
        }
    }

    fn check(&self, run: &Run) -> Result<()> {
        let unsupported = |what: &str| {
            let message = format!("{} with {} {what}", self.info.backend, self.info.model);
            Err(Error::new(ErrorKind::Unsupported, message)
                .with_client_message(format!("the model {what}")))
        };
        let can = &self.info.capabilities;
        match &run.job.task {
            Task::Generate { .. } if !can.generate => unsupported("does not generate text"),
            Task::Embed { .. } if !can.embed => unsupported("makes no vectors"),
            Task::Rerank { .. } if !can.rerank => unsupported("does not rerank documents"),
            // Some servers accept even this.
            Task::Generate { prompt: Prompt::Chat(chat), .. } if chat.messages.is_empty() => {
                let message = "messages is empty; allowed is at least one message";
                Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param("messages"))
            }
            task if !can.can(task) => Err(self.info.incapable(task)),
            _ if !run.resume.is_empty() => unsupported("cannot continue another worker's answer"),
            _ => Ok(()),
        }
    }
}

/// A run in progress.
#[derive(Debug)]
struct Slot(Arc<AtomicU32>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Worker for OpenAiWorker {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        self.check(&run)?;
        let slot = self.slot()?;
        let ask = Ask::new(&self.model, &run.job, self.extended)?;
        let answer = self.post(&ask, &run).await?;
        match &run.job.task {
            Task::Generate { sampling, prompt } => {
                let needs_call = matches!(prompt, Prompt::Chat(chat) if chat.requires_call());
                let chunks = Chunks::new(answer, self.base.clone(), sampling, needs_call, slot)?;
                Ok(Box::pin(chunks))
            }
            Task::Embed { inputs, dimensions } => {
                let outputs = self.vectors(answer, inputs.len(), *dimensions).await?;
                drop(slot);
                Ok(Box::pin(streams::iter(outputs)))
            }
            Task::Rerank { documents, .. } => {
                let outputs = self.scores(answer, documents.len()).await?;
                drop(slot);
                Ok(Box::pin(streams::iter(outputs)))
            }
        }
    }

    /// Asks llama.cpp's server and vLLM, which have routes for this.
    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        self.count(&task).await
    }

    /// Asks the server for its models, to check that it responds and accepts the key.
    async fn health(&self) -> Result<WorkerHealth> {
        let asked = self.send(self.request(Method::GET, "/models").body(Bytes::new()));
        let late = |_| {
            let message = format!("{} did not answer within {ANSWER:?}", self.base);
            Error::new(ErrorKind::WorkerLost, message)
        };
        let answer = timeout(ANSWER, asked).await.map_err(late)??;
        // Not every server lists models; one that refuses the key is of no use.
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            || answer.status().is_server_error()
        {
            return Err(self.refusal(answer, None).await);
        }
        let busy = self.busy.load(Ordering::Acquire);
        Ok(WorkerHealth { busy, ..WorkerHealth::default() })
    }
}

/// Token counts, as the server reports them.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    /// Tokens of the prompt that it had cached.
    #[serde(default, rename = "prompt_tokens_details", deserialize_with = "cached_tokens")]
    cached_tokens: Option<u32>,
}

fn cached_tokens<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    whole_number(from, "cached_tokens")
}

/// The number with this key. Servers differ here, so anything else counts as none.
fn whole_number<'de, D: Deserializer<'de>>(from: D, key: &str) -> Result<Option<u32>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.get(key).and_then(serde_json::Value::as_u64).and_then(|number| number.try_into().ok()))
}
