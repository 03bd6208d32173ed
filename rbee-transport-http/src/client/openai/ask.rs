//! Requests to an OpenAI-compatible server.

use std::{collections::BTreeMap, num::NonZeroU32};

use rbee_core::{
    Error, ErrorKind, Job, Result,
    request::{EmbedInput, Prompt, Sampling, Task},
};
use serde::Serialize;

use super::chat::{self, ChatWords};

/// The body of a request, and its path.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Ask<'a> {
    Chat(Generate<'a>),
    Text(Generate<'a>),
    Embed(Embed<'a>),
    Rerank(Rerank<'a>),
}

#[derive(Debug, Serialize)]
pub(super) struct Generate<'a> {
    model: &'a str,
    #[serde(flatten)]
    prompt: Words<'a>,
    stream: bool,
    stream_options: StreamOptions,
    temperature: f32,
    top_p: f32,
    /// Only 31 bits: some servers accept no more, and for some the highest value means "any".
    seed: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    /// Also sent if `None`: without the field, OpenAI's rules limit a completion to 16 tokens.
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "is_off")]
    presence_penalty: f32,
    #[serde(skip_serializing_if = "is_off")]
    frequency_penalty: f32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    logit_bias: &'a BTreeMap<u32, f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_tokens: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Wanted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
    #[serde(flatten)]
    more: Option<Extended>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Words<'a> {
    Chat(ChatWords<'a>),
    Text { prompt: &'a str },
}

/// What requests log probabilities: true in a chat, the number of them in a completion.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum Wanted {
    Any(bool),
    Top(u8),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_off(penalty: &f32) -> bool {
    *penalty == 0.0
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// Fields that only servers other than OpenAI's know. All are always sent, because some servers have them on by
/// default.
#[derive(Debug, Serialize)]
struct Extended {
    top_k: u32,
    min_p: f32,
    /// vLLM's name for it.
    repetition_penalty: f32,
    /// llama.cpp's name for it.
    repeat_penalty: f32,
}

#[derive(Debug, Serialize)]
pub(super) struct Embed<'a> {
    model: &'a str,
    input: &'a [EmbedInput],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct Rerank<'a> {
    model: &'a str,
    query: &'a str,
    documents: &'a [String],
    /// Some servers send the documents back by default.
    return_documents: bool,
}

impl<'a> Ask<'a> {
    pub(super) fn new(model: &'a str, job: &'a Job, extended: bool) -> Result<Self> {
        let (prompt, sampling) = match &job.task {
            Task::Embed { inputs, dimensions } => {
                let (input, dimensions) = (inputs, *dimensions);
                return Ok(Self::Embed(Embed {
                    model,
                    input,
                    encoding_format: "float",
                    dimensions,
                }));
            }
            Task::Rerank { query, documents } => {
                return Ok(Self::Rerank(Rerank {
                    model,
                    query,
                    documents,
                    return_documents: false,
                }));
            }
            Task::Generate { prompt, sampling } => (prompt, sampling),
        };
        // Always the likeliest token; vLLM accepts no top_p of 0.
        let (temperature, top_p) =
            if sampling.top_p == 0.0 { (0.0, 1.0) } else { (sampling.temperature, sampling.top_p) };
        // llama.cpp takes 0 as none at all; what was not asked for is left out of the answer.
        let top = sampling.logprobs.map(|top| top.max(1));
        let is_chat = matches!(prompt, Prompt::Chat(_));
        let generate = |prompt| -> Result<Generate<'a>> {
            Ok(Generate {
                model,
                prompt,
                stream: true,
                stream_options: StreamOptions { include_usage: true },
                temperature,
                top_p,
                seed: job.seed & 0x7fff_ffff,
                stop: &sampling.stop,
                max_tokens: sampling.max_tokens,
                presence_penalty: sampling.presence_penalty,
                frequency_penalty: sampling.frequency_penalty,
                logit_bias: &sampling.logit_bias,
                min_tokens: NonZeroU32::new(sampling.min_tokens),
                logprobs: top.map(|top| if is_chat { Wanted::Any(true) } else { Wanted::Top(top) }),
                top_logprobs: top.filter(|_| is_chat),
                more: more(sampling, extended)?,
            })
        };
        Ok(match prompt {
            Prompt::Chat(chat) => {
                let grammar = match &sampling.grammar {
                    // The answer is a call.
                    Some(_) if chat.requires_call() => None,
                    // Some servers then allow no calls.
                    Some(_) if chat.can_call() => return Err(with_tools()),
                    grammar => grammar.as_ref(),
                };
                let words = ChatWords::new(chat, grammar, extended)?;
                Self::Chat(generate(Words::Chat(words))?)
            }
            Prompt::Text(_) | Prompt::Raw(_) if sampling.grammar.is_some() => {
                return Err(chat::refused("set for bare text"));
            }
            // The worker says that it cannot.
            Prompt::Infill { .. } => {
                let message = "suffix is not passed on to other engines";
                return Err(Error::new(ErrorKind::Unsupported, message).with_param("suffix"));
            }
            // Whether control tokens in a prompt count is up to the engine: the protocol has no field for it.
            Prompt::Text(prompt) | Prompt::Raw(prompt) => {
                Self::Text(generate(Words::Text { prompt })?)
            }
        })
    }

    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Chat(_) => "/chat/completions",
            Self::Text(_) => "/completions",
            Self::Embed(_) => "/embeddings",
            Self::Rerank(_) => "/rerank",
        }
    }
}

fn more(sampling: &Sampling, extended: bool) -> Result<Option<Extended>> {
    let Sampling { top_k, min_p, repetition_penalty, .. } = *sampling;
    if extended {
        let repeat_penalty = repetition_penalty;
        return Ok(Some(Extended { top_k, min_p, repetition_penalty, repeat_penalty }));
    }
    let off = Sampling::default();
    let asked = [
        ("top_k", top_k != off.top_k),
        ("min_p", min_p != off.min_p),
        ("repetition_penalty", repetition_penalty != off.repetition_penalty),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        None => Ok(None),
        Some((name, _)) => {
            let message = format!("{name} is not known to the server that has this model");
            Err(Error::new(ErrorKind::Unsupported, message)
                .with_client_message(format!("{name} is not known to the engine of this model"))
                .with_param(name))
        }
    }
}

/// The error for a format of an answer that may also be calls.
fn with_tools() -> Error {
    let message = "response_format together with tools is not passed on to other engines; leave out one of them, or set \
                   tool_choice to \"none\"";
    Error::for_client(ErrorKind::Unsupported, message).with_param("response_format")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(task: serde_json::Value, extended: bool) -> Result<serde_json::Value> {
        let job = serde_json::json!({
            "id": "67e55044-10b1-426f-9247-bb680e5fe0c8", "model": "m", "priority": "interactive", "task": task,
            "seed": u64::MAX, "prefix": [], "timeout": {"secs": 60, "nanos": 0}, "deadline": null,
            "detached": false, "tenant": null, "correlation_id": "test",
        });
        let job: Job = serde_json::from_value(job).unwrap();
        Ask::new("m", &job, extended).map(|ask| serde_json::to_value(ask).unwrap())
    }

    fn sampling(top_k: u32) -> serde_json::Value {
        serde_json::json!({
            "temperature": 0.5, "top_p": 1.0, "top_k": top_k, "min_p": 0.0, "repetition_penalty": 1.0,
            "stop": ["\n"], "max_tokens": null,
        })
    }

    #[test]
    fn a_run_becomes_a_request_as_openai_has_it() {
        let task = serde_json::json!({"generate": {
            "prompt": {"chat": [{"role": "user", "content": "hi"}]}, "sampling": sampling(0),
        }});
        assert_eq!(
            body(task, false).unwrap(),
            serde_json::json!({
                "model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
                "stream_options": {"include_usage": true}, "temperature": 0.5, "top_p": 1.0, "seed": 0x7fff_ffff_u32,
                "stop": ["\n"], "max_tokens": null,
            })
        );
    }

    #[test]
    fn a_rerank_is_sent_as_vllm_and_llama_cpp_have_it() {
        let task = serde_json::json!({"rerank": {"query": "q", "documents": ["a", "b"]}});
        assert_eq!(
            body(task, true).unwrap(),
            serde_json::json!({
                "model": "m", "query": "q", "documents": ["a", "b"], "return_documents": false,
            })
        );
    }

    #[test]
    fn tools_calls_and_formats_are_sent_as_openai_has_them() {
        let schema = r#"{"type": "object", "properties": {"z": {}, "a": {}}}"#;
        let mut sampling = sampling(0);
        sampling["grammar"] = serde_json::json!({"json_schema": schema});
        let chat = serde_json::json!({
            "messages": [
                {"role": "user", "content": "Go"},
                {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "name": "f", "arguments": "{}"}]},
                {"role": "tool", "content": "done", "tool_call_id": "c"},
            ],
            "tools": [{"name": "f", "description": "Does it.", "parameters": schema}, {"name": "g"}],
            "tool_choice": {"named": "f"}, "parallel_tool_calls": false, "thinking": false,
        });
        let task =
            serde_json::json!({"generate": {"prompt": {"chat": chat}, "sampling": sampling}});
        let sent = body(task.clone(), true).unwrap();
        let function = |mut fields: serde_json::Value, name: &str| {
            fields["name"] = name.into();
            serde_json::json!({"type": "function", "function": fields})
        };
        let mut call = function(serde_json::json!({"arguments": "{}"}), "f");
        call["id"] = "c".into();
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        assert_eq!(
            sent["messages"],
            serde_json::json!([
                {"role": "user", "content": "Go"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "done", "tool_call_id": "c"},
            ])
        );
        let described = serde_json::json!({"description": "Does it.", "parameters": schema});
        let tools = [function(described, "f"), function(serde_json::json!({}), "g")];
        assert_eq!(sent["tools"], serde_json::json!(tools));
        assert_eq!(sent["tool_choice"], function(serde_json::json!({}), "f"));
        assert_eq!(sent["parallel_tool_calls"], false);
        let json_schema = serde_json::json!({"name": "answer", "schema": schema, "strict": true});
        let format = serde_json::json!({"type": "json_schema", "json_schema": json_schema});
        assert!(sent.get("response_format").is_none(), "the answer is a call");
        assert_eq!(sent["chat_template_kwargs"], serde_json::json!({"enable_thinking": false}));
        let with_choice = |choice: &str| {
            let mut task = task.clone();
            task["generate"]["prompt"]["chat"]["tool_choice"] = choice.into();
            body(task, true)
        };
        assert_eq!(with_choice("none").unwrap()["response_format"], format);
        assert_eq!(with_choice("auto").unwrap_err().param(), Some("response_format"));
        let plain = body(task, false).unwrap();
        assert!(plain.get("chat_template_kwargs").is_none(), "OpenAI does not know it");
    }

    #[test]
    fn formats_that_openai_does_not_have_are_refused_by_name() {
        for grammar in
            [serde_json::json!({"regex": "a+"}), serde_json::json!({"lark": "start: \"a\""})]
        {
            let mut sampling = sampling(0);
            sampling["grammar"] = grammar;
            let chat = serde_json::json!([{"role": "user", "content": "hi"}]);
            let task =
                serde_json::json!({"generate": {"prompt": {"chat": chat}, "sampling": sampling}});
            let error = body(task, true).unwrap_err();
            assert_eq!(
                (error.kind(), error.param()),
                (ErrorKind::Unsupported, Some("response_format"))
            );
        }
    }

    #[test]
    fn the_likeliest_token_is_asked_for_in_the_way_that_every_server_accepts() {
        let mut sampling = sampling(0);
        sampling["top_p"] = 0.0.into();
        let task =
            serde_json::json!({"generate": {"prompt": {"text": "hi"}, "sampling": sampling}});
        let sent = body(task, false).unwrap();
        assert_eq!((&sent["temperature"], &sent["top_p"]), (&0.0.into(), &1.0.into()));
    }

    #[test]
    fn what_openai_does_not_know_is_sent_where_it_is_known_and_refused_by_name_elsewhere() {
        let task =
            serde_json::json!({"generate": {"prompt": {"text": "hi"}, "sampling": sampling(7)}});
        let sent = body(task.clone(), true).unwrap();
        assert_eq!((&sent["top_k"], &sent["prompt"]), (&7.into(), &"hi".into()));
        let error = body(task, false).unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("top_k")));
    }
}
