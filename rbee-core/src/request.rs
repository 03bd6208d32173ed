//! The request of an application, before it is admitted.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{Error, ErrorKind, Result, invalid},
    id::{CorrelationId, JobId, TenantId},
    idempotency::Idempotency,
    job::Job,
    model_ref::ModelRef,
    prefix::prefix_keys,
    priority::Priority,
    settings::{KeepRequests, Settings},
    time::WallTime,
};

pub use crate::{
    chat::{CallableTool, Chat, Message, Role, Tool, ToolCall, ToolChoice},
    grammar::Grammar,
    task::{EmbedInput, Prompt, Sampling, Task},
};

/// The longest metadata of a request, in bytes.
const MAX_METADATA_BYTES: usize = 64 << 10;

/// One request to a [`Queen`](crate::Queen): the task, the model, and the conditions.
///
/// ```
/// use rbee_core::Request;
///
/// let request = Request::chat("bee-tiny")
///     .system("Answer in one sentence.")
///     .user("Tell me about a flower.")
///     .max_tokens(64)
///     .temperature(0.7)
///     .seed(42);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    model: String,
    task: Task,
    seed: Option<u64>,
    priority: Priority,
    tenant: Option<TenantId>,
    timeout: Option<Duration>,
    deadline: Option<Duration>,
    end_by: Option<WallTime>,
    detached: bool,
    stored: bool,
    metadata: Option<Arc<str>>,
    streamed: bool,
    correlation_id: Option<CorrelationId>,
    idempotency_key: Option<String>,
    /// Its index and the number of requests that share the key.
    idempotency_part: Option<(u32, u32)>,
}

impl Request {
    fn new(model: impl Into<String>, task: Task) -> Self {
        Self {
            model: model.into(),
            task,
            seed: None,
            priority: Priority::default(),
            tenant: None,
            timeout: None,
            deadline: None,
            end_by: None,
            detached: false,
            stored: false,
            metadata: None,
            streamed: true,
            correlation_id: None,
            idempotency_key: None,
            idempotency_part: None,
        }
    }

    /// A conversation; add its turns with [`user`](Self::user), [`system`](Self::system) and
    /// [`message`](Self::message).
    ///
    /// The model is a reference or an alias; it is checked when the request is submitted.
    pub fn chat(model: impl Into<String>) -> Self {
        let task =
            Task::Generate { prompt: Prompt::Chat(Chat::default()), sampling: Sampling::default() };
        Self::new(model, task)
    }

    /// Bare text to continue.
    pub fn completion(model: impl Into<String>, prompt: impl Into<String>) -> Self {
        let task =
            Task::Generate { prompt: Prompt::Text(prompt.into()), sampling: Sampling::default() };
        Self::new(model, task)
    }

    /// Two bare texts: the model writes what goes between them. Only workers whose model has control tokens for this
    /// take it.
    pub fn infill(
        model: impl Into<String>,
        prefix: impl Into<String>,
        suffix: impl Into<String>,
    ) -> Self {
        let prompt = Prompt::Infill { prefix: prefix.into(), suffix: suffix.into() };
        Self::new(model, Task::Generate { prompt, sampling: Sampling::default() })
    }

    /// Texts to turn into vectors; each is a text, or the ids of its tokens.
    pub fn embed(
        model: impl Into<String>,
        inputs: impl IntoIterator<Item = impl Into<EmbedInput>>,
    ) -> Self {
        Self::new(model, Task::embed(inputs))
    }

    /// Documents to score by their relevance to a query.
    pub fn rerank(
        model: impl Into<String>,
        query: impl Into<String>,
        documents: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self::new(model, Task::rerank(query, documents))
    }

    /// Sets the length of the vectors, for a model that was trained for several. No effect on other requests.
    pub fn dimensions(mut self, length: u32) -> Self {
        if let Task::Embed { dimensions, .. } = &mut self.task {
            *dimensions = Some(length);
        }
        self
    }

    /// Adds a turn to the conversation; for a bare text, it is appended to the text, or to the one before the gap; for
    /// others, it is another text or document.
    pub fn message(self, role: Role, content: impl Into<String>) -> Self {
        self.turn(Message::new(role, content))
    }

    /// Adds a turn to the conversation, with the name of its author. As [`message`](Self::message) for other requests.
    pub fn turn(mut self, message: Message) -> Self {
        match &mut self.task {
            Task::Generate { prompt: Prompt::Chat(chat), .. } => chat.messages.push(message),
            Task::Generate {
                prompt: Prompt::Text(text) | Prompt::Raw(text) | Prompt::Infill { prefix: text, .. },
                ..
            } => {
                text.push_str(&message.content);
            }
            Task::Embed { inputs, .. } => inputs.push(message.content.into()),
            Task::Rerank { documents, .. } => documents.push(message.content),
        }
        self
    }

    /// The text of a control token in bare text stands for that token (see [`Prompt::Raw`]). No effect on other requests.
    pub fn raw(mut self) -> Self {
        if let Task::Generate { prompt, .. } = &mut self.task
            && let Prompt::Text(text) = prompt
        {
            *prompt = Prompt::Raw(std::mem::take(text));
        }
        self
    }

    /// Adds a tool that the model may call. No effect on other requests than conversations.
    pub fn tool(self, tool: Tool) -> Self {
        self.chat_with(|chat| chat.tools.push(tool))
    }

    /// Which tools the model calls: by default it decides. No effect on other requests than conversations.
    pub fn tool_choice(self, choice: ToolChoice) -> Self {
        self.chat_with(|chat| chat.tool_choice = choice)
    }

    /// Whether an answer may have several tool calls; true by default.
    pub fn parallel_tool_calls(self, parallel: bool) -> Self {
        self.chat_with(|chat| chat.parallel_tool_calls = parallel)
    }

    /// Turns the thinking of the model on or off (see [`Chat::thinking`]). No effect on other requests than
    /// conversations.
    pub fn thinking(self, thinking: bool) -> Self {
        self.chat_with(|chat| chat.thinking = Some(thinking))
    }

    fn chat_with(mut self, change: impl FnOnce(&mut Chat)) -> Self {
        if let Task::Generate { prompt: Prompt::Chat(chat), .. } = &mut self.task {
            change(chat);
        }
        self
    }

    /// Adds a message of the user.
    pub fn user(self, content: impl Into<String>) -> Self {
        self.message(Role::User, content)
    }

    /// Adds instructions.
    pub fn system(self, content: impl Into<String>) -> Self {
        self.message(Role::System, content)
    }

    /// Changes the sampling. No effect on a request for vectors or scores, which has no sampling.
    pub fn sampling(mut self, change: impl FnOnce(&mut Sampling)) -> Self {
        if let Task::Generate { sampling, .. } = &mut self.task {
            change(sampling);
        }
        self
    }

    /// The longest answer, in tokens.
    pub fn max_tokens(self, tokens: u32) -> Self {
        self.sampling(|sampling| sampling.max_tokens = Some(tokens))
    }

    /// 0 (always the likeliest token) to 2; 1 by default.
    pub fn temperature(self, temperature: f32) -> Self {
        self.sampling(|sampling| sampling.temperature = temperature)
    }

    /// A text that ends the answer; up to 4 of them.
    pub fn stop(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.sampling(|sampling| sampling.stop.push(text))
    }

    /// Sets the seed. The same seed gives the same tokens. Random by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Interactive, the default, or batch.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The tenant whose quota it counts against.
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The longest time that it may run, from its start.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The longest time for everything, from now.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The time by which everything must have ended, by this machine's clock. With a [`deadline`](Self::deadline) too,
    /// the earlier of the two counts. It is a part of what an [idempotency key](Self::idempotency_key) stands for, which a
    /// `deadline` that is computed anew each time is not.
    pub fn end_by(mut self, time: WallTime) -> Self {
        self.end_by = Some(time);
        self
    }

    /// Whether somebody reads the answer while it is generated; true by default. Otherwise a worker may send several
    /// tokens together: the answer costs less, and its events come in groups.
    pub fn streamed(mut self, streamed: bool) -> Self {
        self.streamed = streamed;
        self
    }

    /// Makes the job continue when its [`JobHandle`](crate::JobHandle) is dropped; the result is kept until the
    /// retention ends.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Keeps the request and its whole answer as long as the job's record, so that the client can read both later, and
    /// continue the conversation. No effect if the queen may not keep requests
    /// ([`KeepRequests::Never`]).
    pub fn stored(mut self, stored: bool) -> Self {
        self.stored = stored;
        self
    }

    /// Sets a text of the client that is kept with the request and that no worker and no policy reads: at most 64 KiB.
    pub fn metadata(mut self, text: impl Into<Arc<str>>) -> Self {
        self.metadata = Some(text.into());
        self
    }

    /// The identifier of the request in the logs of every machine.
    pub fn correlation_id(mut self, id: CorrelationId) -> Self {
        self.correlation_id = Some(id);
        self
    }

    /// Sets the idempotency key, 1 to 255 visible ASCII characters: submitting the same request again with the same key
    /// returns the first job. The job continues when its handle is dropped, and its answer is kept as long as its
    /// record, because the client may come back for the answer.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Marks it as one of `count` requests that are submitted together under one key; `part` counts from 0. Each has
    /// its own job, which no other key can return. The same key with another count is another request.
    pub fn idempotency_part(mut self, part: u32, count: u32) -> Self {
        self.idempotency_part = Some((part, count)).filter(|_| count > 1);
        self
    }

    /// The model, as it was given.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The task, as far as it was set.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The tenant, if any.
    pub(crate) fn whose(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    /// True if the seed is set. If not, the queen chooses one at random.
    pub(crate) fn has_seed(&self) -> bool {
        self.seed.is_some()
    }

    /// Checks and fixes all values: from here on nothing about the job changes.
    pub(crate) fn into_job(
        self,
        model: ModelRef,
        settings: &Settings,
        fresh_seed: u64,
    ) -> Result<Job> {
        match &self.task {
            Task::Generate { prompt, sampling } => {
                sampling.validate()?;
                if let Prompt::Chat(chat) = prompt {
                    chat.validate()?;
                    let is_text =
                        matches!(&sampling.grammar, Some(Grammar::Regex(_) | Grammar::Lark(_)));
                    if is_text && chat.can_call() {
                        let message = "response_format can only be a JSON object or a JSON schema together with tools; \
                                       leave out one of them, or set tool_choice to \"none\"";
                        return Err(invalid(message.into()).with_param("response_format"));
                    }
                }
            }
            Task::Embed { inputs, dimensions } => {
                if *dimensions == Some(0) {
                    return Err(invalid("dimensions is 0; allowed is at least 1".into())
                        .with_param("dimensions"));
                }
                let (count, most) = (inputs.len(), settings.max_embed_inputs);
                if count == 0 || count > most {
                    return Err(invalid(format!(
                        "input has {count} texts; allowed are 1 to {most}"
                    ))
                    .with_param("input"));
                }
            }
            Task::Rerank { query, documents } => {
                if query.is_empty() {
                    let message = "query is empty; allowed is a text";
                    return Err(invalid(message.into()).with_param("query"));
                }
                let (count, most) = (documents.len(), settings.max_embed_inputs);
                if count == 0 || count > most {
                    let message =
                        format!("documents has {count} documents; allowed are 1 to {most}");
                    return Err(invalid(message).with_param("documents"));
                }
            }
        }
        let (bytes, most) = (self.task.text_bytes(), settings.max_prompt_bytes);
        if bytes > most {
            let message = format!("the prompt has {bytes} bytes; allowed are at most {most}");
            return Err(Error::for_client(ErrorKind::ContextExceeded, message)
                .with_param(self.task.text_param()));
        }
        if let Some(bytes) = self
            .metadata
            .as_ref()
            .map(|text| text.len())
            .filter(|bytes| *bytes > MAX_METADATA_BYTES)
        {
            let message =
                format!("metadata has {bytes} bytes; allowed are at most {MAX_METADATA_BYTES}");
            return Err(invalid(message).with_param("metadata"));
        }
        let timeout = self.timeout.unwrap_or(settings.job_timeout);
        if timeout.is_zero() || timeout > settings.max_job_timeout {
            let most = settings.max_job_timeout;
            return Err(invalid(format!(
                "timeout is {timeout:?}; allowed is above 0, at most {most:?}"
            ))
            .with_param("timeout"));
        }
        let left = self.end_by.map(|end| end - WallTime::now());
        let deadline = self.deadline.into_iter().chain(left).min();
        if deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Error::for_client(
                ErrorKind::DeadlineExceeded,
                "deadline is 0s; the job cannot be done by then",
            ));
        }
        let idempotency = match &self.idempotency_key {
            Some(key) => {
                let terms = (self.priority, timeout, self.deadline, self.detached);
                let asked = (&model, &self.task, self.seed, terms);
                let part = self.idempotency_part.map_or(0, |(part, _)| part);
                let count = self.idempotency_part.map(|(_, count)| count);
                Some(match (count, self.end_by) {
                    (None, None) => Idempotency::new(key, part, &asked)?,
                    (Some(count), None) => Idempotency::new(key, part, &(asked, count))?,
                    (count, Some(end)) => Idempotency::new(key, part, &(asked, count, end))?,
                })
            }
            None => None,
        };
        let id = idempotency.as_ref().map(|key| key.job(self.tenant.as_ref()));
        Ok(Job {
            id: id.unwrap_or_else(JobId::random),
            model,
            priority: self.priority,
            prefix: prefix_keys(&self.task),
            task: self.task,
            seed: self.seed.unwrap_or(fresh_seed),
            timeout,
            deadline,
            detached: self.detached,
            stored: self.stored && settings.keep_requests != KeepRequests::Never,
            metadata: self.metadata,
            streamed: self.streamed,
            tenant: self.tenant,
            rank: 0,
            correlation_id: self.correlation_id.unwrap_or_else(CorrelationId::random),
            idempotency: idempotency.map(Arc::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(request: Request) -> String {
        let model = "m".parse().unwrap();
        let error = request.into_job(model, &Settings::default(), 1).expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        error.message().to_owned()
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_name_with_what_is_allowed() {
        let chat = || Request::chat("m").user("hi");
        assert_eq!(refused(chat().temperature(-1.0)), "temperature is -1; allowed is 0 to 2");
        assert_eq!(refused(chat().temperature(f32::NAN)), "temperature is NaN; allowed is 0 to 2");
        assert_eq!(
            refused(chat().sampling(|s| s.top_p = -0.1)),
            "top_p is -0.1; allowed is 0 to 1"
        );
        let ten = (0..10).fold(chat(), |request, n| request.stop(n.to_string()));
        assert_eq!(refused(ten), "stop has 10 texts; allowed are at most 4");
        assert_eq!(refused(chat().stop("")), "stop[0] has 0 bytes; allowed are 1 to 256");
        assert_eq!(refused(chat().max_tokens(0)), "max_tokens is 0; allowed is at least 1");
        assert!(refused(Request::chat("m")).contains("messages is empty"));
        assert!(refused(Request::embed("m", [""; 0])).contains("input has 0 texts"));
        assert_eq!(
            refused(Request::rerank("m", "q", [""; 0])),
            "documents has 0 documents; allowed are 1 to 2048"
        );
        assert_eq!(
            refused(Request::rerank("m", "q", vec!["x"; 2_049])),
            "documents has 2049 documents; allowed are 1 to 2048"
        );
        assert_eq!(refused(Request::rerank("m", "", ["x"])), "query is empty; allowed is a text");
        assert_eq!(
            refused(Request::embed("m", ["x"]).dimensions(0)),
            "dimensions is 0; allowed is at least 1"
        );
        assert_eq!(
            refused(chat().metadata("x".repeat(65_537))),
            "metadata has 65537 bytes; allowed are at most 65536"
        );
        assert!(refused(chat().timeout(Duration::from_secs(3600))).contains("timeout is 3600s"));
    }

    #[test]
    fn a_text_that_is_longer_than_any_context_is_too_long_in_each_of_its_forms() {
        let text = || "x".repeat(2 << 20);
        for (request, param) in [
            (Request::chat("m").user(text()), "messages"),
            (Request::completion("m", text()), "prompt"),
            (Request::embed("m", [text()]), "input"),
            (Request::embed("m", [vec![1_u32; 300_000]]), "input"),
            (Request::rerank("m", "q", [text()]), "documents"),
            (Request::rerank("m", text(), ["x"]), "documents"),
        ] {
            let model = "m".parse().unwrap();
            let error = request.into_job(model, &Settings::default(), 1).unwrap_err();
            assert_eq!((error.kind(), error.param()), (ErrorKind::ContextExceeded, Some(param)));
            assert!(error.message().contains("allowed are at most 1048576"), "{error}");
        }
    }

    #[test]
    fn a_job_has_a_seed_even_where_the_request_has_none() {
        let job = |request: Request| {
            request.into_job("m".parse().unwrap(), &Settings::default(), 99).unwrap()
        };
        assert_eq!(job(Request::chat("m").user("hi")).seed, 99);
        assert_eq!(job(Request::chat("m").user("hi").seed(5)).seed, 5);
    }
}
