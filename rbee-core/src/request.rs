//! What an application asks for, before it is admitted.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    CorrelationId, Error, ErrorKind, Idempotency, Job, JobId, ModelRef, Priority, Result, Settings,
    TenantId, prefix::prefix_keys,
};

/// Who says a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name chat templates know it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// What a model continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompt {
    /// A conversation, rendered by the model's own chat template.
    Chat(Vec<Message>),
    /// Bare text. The text of a control token in it is text.
    Text(String),
    /// Bare text in which the text of a control token, like `<|fim_prefix|>`, stands for that token. Whoever writes it
    /// can write a system turn too, so it is for text that an application trusts.
    Raw(String),
}

/// How the next token is chosen, and when to stop.
///
/// The order of the steps: repetition penalty, temperature, top-k, top-p, min-p.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 (always the likeliest token) to 2.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability; above 0, at most 1 (off).
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; 0 is off.
    pub top_k: u32,
    /// Drop tokens less likely than this share of the likeliest one's probability; 0 (off) to 1.
    pub min_p: f32,
    /// Divides the logits of tokens already seen; above 0, at most 10; 1 is off.
    pub repetition_penalty: f32,
    /// Texts that end the answer and are not part of it; at most 4.
    pub stop: Vec<String>,
    /// The longest answer, in tokens; as long as the model's context allows where not given.
    pub max_tokens: Option<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            max_tokens: None,
        }
    }
}

impl Sampling {
    /// Checks every value against what is allowed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] that names the parameter, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        range("temperature", self.temperature, |v| (0.0..=2.0).contains(&v), "0 to 2")?;
        range("top_p", self.top_p, |v| v > 0.0 && v <= 1.0, "above 0, at most 1")?;
        range("min_p", self.min_p, |v| (0.0..=1.0).contains(&v), "0 to 1")?;
        range(
            "repetition_penalty",
            self.repetition_penalty,
            |v| v > 0.0 && v <= 10.0,
            "above 0, at most 10",
        )?;
        if self.stop.len() > 4 {
            return Err(invalid(format!(
                "stop has {} texts; allowed are at most 4",
                self.stop.len()
            ))
            .with_param("stop"));
        }
        for (index, stop) in self.stop.iter().enumerate() {
            if stop.is_empty() || stop.len() > 256 {
                return Err(invalid(format!(
                    "stop[{index}] has {} bytes; allowed are 1 to 256",
                    stop.len()
                ))
                .with_param("stop"));
            }
        }
        if self.max_tokens == Some(0) {
            return Err(
                invalid("max_tokens is 0; allowed is at least 1".into()).with_param("max_tokens")
            );
        }
        Ok(())
    }
}

fn range(name: &'static str, value: f32, ok: impl Fn(f32) -> bool, allowed: &str) -> Result<()> {
    // A comparison with NaN is false, so NaN is refused too.
    if ok(value) {
        Ok(())
    } else {
        Err(invalid(format!("{name} is {value}; allowed is {allowed}")).with_param(name))
    }
}

pub(crate) fn invalid(message: String) -> Error {
    Error::for_client(ErrorKind::InvalidRequest, message)
}

/// What is to be done with the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Continue a text, token by token.
    Generate {
        /// What to continue.
        prompt: Prompt,
        /// How.
        sampling: Sampling,
    },
    /// Turn each text into a vector.
    Embed {
        /// The texts.
        inputs: Vec<String>,
    },
}

impl Task {
    /// Size of all text in it, in bytes.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Generate { prompt: Prompt::Chat(messages), .. } => {
                messages.iter().map(|m| m.content.len()).sum()
            }
            Self::Generate { prompt: Prompt::Text(text) | Prompt::Raw(text), .. } => text.len(),
            Self::Embed { inputs } => inputs.iter().map(String::len).sum(),
        }
    }
}

/// One request to a [`Queen`](crate::Queen): what to do, with which model, and on what terms.
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
    detached: bool,
    correlation_id: Option<CorrelationId>,
    idempotency_key: Option<String>,
    /// Which one it is of so many that share the key.
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
            detached: false,
            correlation_id: None,
            idempotency_key: None,
            idempotency_part: None,
        }
    }

    /// A conversation; add its turns with [`user`](Self::user), [`system`](Self::system) and [`message`](Self::message).
    ///
    /// The model is a reference or an alias; it is checked when the request is submitted.
    pub fn chat(model: impl Into<String>) -> Self {
        let task =
            Task::Generate { prompt: Prompt::Chat(Vec::new()), sampling: Sampling::default() };
        Self::new(model, task)
    }

    /// Bare text to continue.
    pub fn completion(model: impl Into<String>, prompt: impl Into<String>) -> Self {
        let task =
            Task::Generate { prompt: Prompt::Text(prompt.into()), sampling: Sampling::default() };
        Self::new(model, task)
    }

    /// Texts to turn into vectors.
    pub fn embed(
        model: impl Into<String>,
        inputs: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self::new(model, Task::Embed { inputs: inputs.into_iter().map(Into::into).collect() })
    }

    /// Adds a turn of the conversation; on a bare text it is added to the text.
    pub fn message(mut self, role: Role, content: impl Into<String>) -> Self {
        match &mut self.task {
            Task::Generate { prompt: Prompt::Chat(messages), .. } => {
                messages.push(Message { role, content: content.into() });
            }
            Task::Generate { prompt: Prompt::Text(text) | Prompt::Raw(text), .. } => {
                text.push_str(&content.into());
            }
            Task::Embed { inputs } => inputs.push(content.into()),
        }
        self
    }

    /// The text of a control token in bare text stands for that token (see [`Prompt::Raw`]). Nothing changes for a
    /// conversation or a request for vectors.
    pub fn raw(mut self) -> Self {
        if let Task::Generate { prompt, .. } = &mut self.task
            && let Prompt::Text(text) = prompt
        {
            *prompt = Prompt::Raw(std::mem::take(text));
        }
        self
    }

    /// Adds what the person says.
    pub fn user(self, content: impl Into<String>) -> Self {
        self.message(Role::User, content)
    }

    /// Adds instructions.
    pub fn system(self, content: impl Into<String>) -> Self {
        self.message(Role::System, content)
    }

    /// Changes the sampling. On a request for vectors there is none, and nothing changes.
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

    /// 0 (always the likeliest token) to 2; 1 where not given.
    pub fn temperature(self, temperature: f32) -> Self {
        self.sampling(|sampling| sampling.temperature = temperature)
    }

    /// A text that ends the answer; up to 4 of them.
    pub fn stop(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.sampling(|sampling| sampling.stop.push(text))
    }

    /// The same seed gives the same tokens. A random one is taken where none is given.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Interactive, the default, or batch.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Whose quota it counts against.
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// How long it may run, counted from its start.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long everything may take, counted from now.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Goes on when its [`JobHandle`](crate::JobHandle) is dropped; the result is kept until the retention ends.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// The mark by which the request is found in the logs of every machine it touched.
    pub fn correlation_id(mut self, id: CorrelationId) -> Self {
        self.correlation_id = Some(id);
        self
    }

    /// Submitting the same again with the same key gives the job of the first time: 1 to 255 visible ASCII
    /// characters. The job goes on when its handle is dropped, and its answer is kept as long as its record: who uses a
    /// key means to come back for the answer.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// One of `count` requests that are submitted together under one key; `part` counts from 0. Each has a job of its own,
    /// which no other key leads to. The same key with another count is another request.
    pub fn idempotency_part(mut self, part: u32, count: u32) -> Self {
        self.idempotency_part = Some((part, count)).filter(|_| count > 1);
        self
    }

    /// The model, as it was given.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The tenant, where there is one.
    pub(crate) fn whose(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    /// Is the seed named? If not, the queen draws one.
    pub(crate) fn has_seed(&self) -> bool {
        self.seed.is_some()
    }

    /// Checks everything and fixes everything: from here on nothing about the job changes.
    pub(crate) fn into_job(
        self,
        model: ModelRef,
        settings: &Settings,
        fresh_seed: u64,
    ) -> Result<Job> {
        match &self.task {
            Task::Generate { prompt, sampling } => {
                sampling.validate()?;
                if matches!(prompt, Prompt::Chat(messages) if messages.is_empty()) {
                    return Err(invalid(
                        "messages is empty; allowed is at least one message".into(),
                    )
                    .with_param("messages"));
                }
            }
            Task::Embed { inputs } => {
                let (count, most) = (inputs.len(), settings.max_embed_inputs);
                if count == 0 || count > most {
                    return Err(invalid(format!(
                        "input has {count} texts; allowed are 1 to {most}"
                    ))
                    .with_param("input"));
                }
            }
        }
        let (bytes, most) = (self.task.text_bytes(), settings.max_prompt_bytes);
        if bytes > most {
            return Err(invalid(format!(
                "the prompt has {bytes} bytes; allowed are at most {most}"
            )));
        }
        let timeout = self.timeout.unwrap_or(settings.job_timeout);
        if timeout.is_zero() || timeout > settings.max_job_timeout {
            let most = settings.max_job_timeout;
            return Err(invalid(format!(
                "timeout is {timeout:?}; allowed is above 0, at most {most:?}"
            ))
            .with_param("timeout"));
        }
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Error::for_client(
                ErrorKind::DeadlineExceeded,
                "deadline is 0s; the job cannot be done by then",
            ));
        }
        let idempotency = match &self.idempotency_key {
            Some(key) => {
                let terms = (self.priority, timeout, self.deadline, self.detached);
                let asked = (&model, &self.task, self.seed, terms);
                Some(match self.idempotency_part {
                    None => Idempotency::new(key, 0, &asked)?,
                    Some((part, count)) => Idempotency::new(key, part, &(asked, count))?,
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
            deadline: self.deadline,
            detached: self.detached,
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
            refused(chat().sampling(|s| s.top_p = 0.0)),
            "top_p is 0; allowed is above 0, at most 1"
        );
        let ten = (0..10).fold(chat(), |request, n| request.stop(n.to_string()));
        assert_eq!(refused(ten), "stop has 10 texts; allowed are at most 4");
        assert_eq!(refused(chat().stop("")), "stop[0] has 0 bytes; allowed are 1 to 256");
        assert_eq!(refused(chat().max_tokens(0)), "max_tokens is 0; allowed is at least 1");
        assert!(refused(Request::chat("m")).contains("messages is empty"));
        assert!(refused(Request::embed("m", [""; 0])).contains("input has 0 texts"));
        assert!(
            refused(Request::completion("m", "x".repeat(2 << 20)))
                .contains("allowed are at most 1048576")
        );
        assert!(refused(chat().timeout(Duration::from_secs(3600))).contains("timeout is 3600s"));
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
