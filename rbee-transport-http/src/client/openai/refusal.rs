//! The errors of OpenAI-compatible servers, which differ from server to server.

use http::StatusCode;
use rbee_core::ErrorKind;

/// The error of a server.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    message: Option<String>,
    /// Its codes and types, in lower case.
    marks: String,
    /// The tokens of a prompt that is too long, and the context, in tokens.
    pub(super) numbers: Option<(u64, u32)>,
}

impl Refusal {
    /// Reads OpenAI's shape, and the variants of other servers.
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
            return Self::default();
        };
        // vLLM puts it at the top level, others under "error", which for some is the text itself.
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(&value);
        let text = |name: &str| error.get(name).and_then(|text| text.as_str());
        let message = error.as_str().or_else(|| text("message")).or_else(|| text("detail"));
        let marks =
            [text("type"), text("code")].into_iter().flatten().collect::<Vec<_>>().join(" ");
        // llama.cpp has them as fields.
        let field = |name: &str| error.get(name).and_then(serde_json::Value::as_u64);
        let fields = field("n_prompt_tokens").zip(field("n_ctx"));
        let message = message.map(shortened);
        let numbers = fields
            .or_else(|| message.as_deref().and_then(numbers))
            .and_then(|(tokens, context)| Some((tokens, u32::try_from(context).ok()?)));
        Self { message, marks: marks.to_ascii_lowercase(), numbers }
    }

    pub(super) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or("the server did not say why")
    }

    /// True if the model cannot answer messages, because it has no chat template.
    pub(super) fn has_no_template(&self, status: StatusCode) -> bool {
        let words = self.message().to_ascii_lowercase();
        matches!(status.as_u16(), 400 | 422) && NO_TEMPLATE.iter().any(|said| words.contains(said))
    }

    pub(super) fn kind(&self, status: StatusCode) -> ErrorKind {
        let words = self.message().to_ascii_lowercase();
        let too_long =
            self.marks.contains("context") || TOO_LONG.iter().any(|said| words.contains(said));
        match status.as_u16() {
            // llama.cpp has 500 for a text to embed that is longer than its batch.
            400 | 413 | 422 | 500 if too_long => ErrorKind::ContextExceeded,
            400 | 413 | 415 | 422 => ErrorKind::InvalidRequest,
            404 => ErrorKind::ModelNotFound,
            429 => ErrorKind::WorkerBusy,
            501 => ErrorKind::Unsupported,
            // 401 and 403 are about the key of rbee, and no fault of the client.
            _ => ErrorKind::WorkerFault,
        }
    }
}

/// What servers say if a model has no chat template: vLLM, TGI, and those that let the transformers library render it.
const NO_TEMPLATE: [&str; 3] =
    ["you must provide a chat template", "template not found", "chat_template is not set"];

/// What servers say if a prompt is too long: vLLM, SGLang, llama.cpp, Ollama, TEI and OpenAI.
const TOO_LONG: [&str; 8] = [
    "maximum context length",
    "maximum model length",
    "exceeds the available context",
    "longer than the model's context",
    "exceeds the context length",
    "exceeds the model's context",
    "is too large to process. increase the physical batch size",
    "must have less than",
];

/// The number of tokens and the context in such a message, if it has both and they fit together.
fn numbers(message: &str) -> Option<(u64, u64)> {
    let words = message.to_ascii_lowercase();
    let context = [
        "context length is ",
        "context length of ",
        "model length of ",
        "context length (",
        "context size (",
        "batch size: ",
        "less than ",
    ];
    let tokens =
        ["resulted in ", "request (", "input (", "input length (", "prompt (length ", "given: "];
    let context = context.iter().find_map(|begin| after(&words, begin))?;
    let before = ["in the messages", "in your prompt", "input tokens"];
    let tokens = before
        .iter()
        .find_map(|end| number_before(&words, end))
        .or_else(|| tokens.iter().find_map(|begin| after(&words, begin)))?;
    // A prompt that fits was refused for its answer: the message says something else than "the prompt is too long".
    (tokens >= context).then_some((tokens, context))
}

/// The number right after this text.
fn after(words: &str, begin: &str) -> Option<u64> {
    words.match_indices(begin).find_map(|(at, _)| {
        let rest = &words[at + begin.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

/// The number right before this text.
fn number_before(words: &str, end: &str) -> Option<u64> {
    let rest = words[..words.find(end)?].trim_end();
    let begin = rest.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    // The character before a number is ASCII in all these messages; if it is not, there is no number.
    rest.get(begin..)?.parse().ok()
}

fn shortened(text: &str) -> String {
    const MOST: usize = 1_000;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_is_too_long_is_told_by_what_each_server_says_with_its_numbers() {
        for (status, body, numbers) in [
            (
                400,
                r#"{"error":{"code":400,"message":"request (601 tokens) exceeds the available context size (512 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":601,"n_ctx":512}}"#,
                Some((601, 512)),
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error"}}"#,
                None,
            ),
            (
                500,
                r#"{"error":{"code":500,"message":"input (513 tokens) is too large to process. increase the physical batch size (current batch size: 512)","type":"server_error"}}"#,
                Some((513, 512)),
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4996 in the messages, 4 in the completion). Please reduce the length of the messages or completion.","type":"BadRequestError","param":null,"code":400}"#,
                Some((4996, 4096)),
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 4096 tokens. However, your request has 4100 input tokens. Please reduce the length of the input messages.","type":"BadRequestError","param":null,"code":400}}"#,
                Some((4100, 4096)),
            ),
            (
                400,
                r#"{"message":"The decoder prompt (length 6000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller.","code":400}"#,
                Some((6000, 4096)),
            ),
            (
                400,
                r#"{"object":"error","message":"The input (5005 tokens) is longer than the model's context length (4096 tokens).","type":"BadRequestError","code":400}"#,
                Some((5005, 4096)),
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 10010 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                Some((10010, 8192)),
            ),
            (
                413,
                r#"{"message":"Input validation error: `inputs` must have less than 512 tokens. Given: 600","type":"Validation"}"#,
                Some((600, 512)),
            ),
            (400, r#"{"error":"the input length exceeds the context length"}"#, None),
            (
                400,
                r#"{"error":{"message":"'max_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has 10 input tokens","type":"BadRequestError"}}"#,
                None,
            ),
        ] {
            let refusal = Refusal::read(body.as_bytes());
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refusal.kind(status), ErrorKind::ContextExceeded, "{body}");
            assert_eq!(refusal.numbers, numbers, "{body}");
        }
    }

    #[test]
    fn a_model_without_a_chat_template_is_told_by_what_each_server_says() {
        let has_none = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            Refusal::read(body.as_bytes()).has_no_template(status)
        };
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the tokenizer does not define one. None","type":"BadRequestError","param":null,"code":400}}"#,
            ),
            (
                422,
                r#"{"error":"Template error: template not found","error_type":"template_error"}"#,
            ),
            (
                400,
                r#"{"object":"error","message":"Cannot use chat template functions because tokenizer.chat_template is not set and no template argument was passed!","type":"BadRequestError","code":400}"#,
            ),
        ] {
            assert!(has_none(status, body), "{body}");
            assert!(!has_none(503, body), "{body}");
        }
        for body in [
            r#"{"error":{"message":"Template error: Conversation roles must alternate"}}"#,
            r#"{"error":{"message":"chat_template is not supported for Mistral tokenizers."}}"#,
        ] {
            assert!(!has_none(400, body), "{body}");
        }
    }

    #[test]
    fn other_errors_are_not_taken_for_a_prompt_that_is_too_long() {
        for (status, body, kind) in [
            (400, r#"{"error":{"message":"seed must be an integer"}}"#, ErrorKind::InvalidRequest),
            (500, r#"{"error":{"message":"CUDA error"}}"#, ErrorKind::WorkerFault),
            (400, "\u{e9}", ErrorKind::InvalidRequest),
        ] {
            let refusal = Refusal::read(body.as_bytes());
            assert_eq!(refusal.kind(StatusCode::from_u16(status).unwrap()), kind, "{body}");
            assert_eq!(refusal.numbers, None);
        }
    }
}
