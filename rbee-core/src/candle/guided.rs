//! Answers that follow a grammar: which grammar a job needs, and the mask that enforces it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    closed_schema::{closed, closed_arguments},
    generate::Vocabulary,
    guide::{
        self, Grammar as Guide, GuideFactory, Mask, Matcher, StructuralTag, StructuralTags,
        TokenTable,
    },
    token_mask::{FORBIDDEN, TokenMask},
};
use crate::{
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    chat::{Chat, Tool, ToolChoice},
    error::{Error, ErrorKind, Result},
    grammar::Grammar,
    task::{Prompt, Sampling},
};

/// The grammars of one model. What they need of its tokens is made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Guides {
    factory: OnceLock<std::result::Result<GuideFactory, guide::Error>>,
}

impl Guides {
    /// The mask for an answer to this prompt; `None` if every token is allowed. It takes up to a second.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a grammar that is invalid or too complex, [`ErrorKind::Unsupported`] if the
    /// tokens of the model cannot be restricted.
    pub(super) fn mask(
        &self,
        prompt: &Prompt,
        sampling: &Sampling,
        format: AnswerFormat,
        vocabulary: &Arc<Vocabulary>,
    ) -> Result<Option<Box<dyn TokenMask>>> {
        let chat = match prompt {
            Prompt::Chat(chat) => Some(chat),
            Prompt::Text(_) | Prompt::Raw(_) | Prompt::Infill { .. } => None,
        };
        let calls =
            chat.filter(|chat| chat.can_call()).map(|chat| (chat, calls_of(chat, sampling)));
        let (guide, param, is_needed) = match (&sampling.grammar, calls) {
            (_, Some((chat, calls))) => {
                let param = calls.param();
                let is_needed = !matches!(calls, Calls::Optional);
                let Some(guide) = of_tools(chat, format.tools, calls)? else { return Ok(None) };
                (guide, param, is_needed)
            }
            (Some(grammar), None) => (of_grammar(grammar), "response_format", true),
            (None, None) => return Ok(None),
        };
        let factory = self.factory.get_or_init(|| {
            let table = TokenTable::of(&vocabulary.codec, vocabulary.size)?;
            GuideFactory::from_table(table, &vocabulary.eos)
        });
        let refused = |error: &guide::Error| refused(error, param);
        let factory = match factory {
            Ok(factory) => factory,
            // A model that decides itself writes calls as it has learned to.
            Err(_) if !is_needed => return Ok(None),
            Err(error) => return Err(refused(error)),
        };
        let grammar = match factory.compile(&guide) {
            Ok(grammar) => grammar,
            // So does one with a tool whose schema cannot be enforced.
            Err(_) if !is_needed => return Ok(None),
            Err(error) => return Err(refused(&error)),
        };
        let reasoning = format.reasoning.filter(|_| chat.is_some());
        Ok(Some(Box::new(GuideMask {
            matcher: Matcher::new(&grammar),
            mask: Mask::new(vocabulary.size),
            reasoning: match reasoning {
                Some(ReasoningFormat::Thinking) => Reasoning::Inside(Vec::new()),
                // A grammar that is needed leaves no room for reasoning before it.
                Some(ReasoningFormat::Think) if !is_needed => Reasoning::Before(Vec::new()),
                Some(ReasoningFormat::Think) | None => Reasoning::After,
            },
            failed: None,
            param,
            vocabulary: vocabulary.clone(),
        })))
    }
}

/// The error of a request for what the guide says.
fn refused(error: &guide::Error, param: &'static str) -> Error {
    let kind = match error {
        guide::Error::InvalidGrammar { .. } | guide::Error::TooComplex { .. } => {
            ErrorKind::InvalidRequest
        }
        guide::Error::Tokenizer { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::WorkerFault,
    };
    let message = format!("{param}: {error}");
    let error = match kind {
        ErrorKind::WorkerFault => Error::new(kind, message),
        _ => Error::for_client(kind, message),
    };
    error.with_param(param)
}

fn of_grammar(grammar: &Grammar) -> Guide {
    match grammar {
        Grammar::JsonObject => Guide::JsonObject,
        Grammar::JsonSchema(schema) => Guide::JsonSchema(closed(schema)),
        Grammar::Regex(pattern) => Guide::Regex(pattern.clone()),
        Grammar::Lark(text) => Guide::Lark(text.clone()),
    }
}

/// Which calls an answer has.
enum Calls {
    /// As the model decides, anywhere in the text.
    Optional,
    /// At least one, and no other text.
    Required,
    /// At least one and no other text, or a value of this schema instead.
    OrValue(String),
}

impl Calls {
    /// The parameter of the request that says so.
    fn param(&self) -> &'static str {
        match self {
            Self::Optional => "tools",
            Self::Required => "tool_choice",
            Self::OrValue(_) => "response_format",
        }
    }
}

/// Which calls an answer to this conversation has, whose tools can be called.
fn calls_of(chat: &Chat, sampling: &Sampling) -> Calls {
    match &sampling.grammar {
        _ if chat.requires_call() => Calls::Required,
        Some(Grammar::JsonSchema(schema)) => Calls::OrValue(closed(schema)),
        Some(Grammar::JsonObject) => Calls::OrValue(r#"{"type": "object"}"#.into()),
        // The request was refused.
        Some(Grammar::Regex(_) | Grammar::Lark(_)) | None => Calls::Optional,
    }
}

/// The grammar of answers with calls; `None` if the format has no mark that begins a call, and none is required.
fn of_tools(chat: &Chat, format: Option<ToolFormat>, calls: Calls) -> Result<Option<Guide>> {
    let syntax = match (format, &calls) {
        (Some(ToolFormat::Hermes), _) => &HERMES,
        (Some(ToolFormat::Mistral), _) => &MISTRAL,
        (Some(ToolFormat::Llama), Calls::Required) => &LLAMA,
        (Some(ToolFormat::Llama), Calls::OrValue(schema)) => {
            if may_look_like_call(schema) {
                let message = "response_format: an answer of this schema could look like a call of this model, which begins \
                               with {\"name\": …}. Give the schema the type object without the properties name and type \
                               and without further properties, leave out tools, or set tool_choice to \"none\"";
                let error = Error::for_client(ErrorKind::InvalidRequest, message);
                return Err(error.with_param("response_format"));
            }
            &LLAMA
        }
        (Some(ToolFormat::Pythonic), Calls::Required) => {
            let message = "tool_choice can only be \"auto\" or \"none\" for this model: it writes calls in the syntax of \
                           Python, which rbee does not enforce";
            let error = Error::for_client(ErrorKind::Unsupported, message);
            return Err(error.with_param("tool_choice"));
        }
        (Some(ToolFormat::Pythonic), Calls::OrValue(_)) => {
            let message = "response_format cannot be used together with tools for this model: it writes calls in the syntax \
                           of Python, which rbee does not enforce; leave out one of them, or set tool_choice to \"none\"";
            let error = Error::for_client(ErrorKind::Unsupported, message);
            return Err(error.with_param("response_format"));
        }
        // The answer may be JSON without being a call.
        (Some(ToolFormat::Llama | ToolFormat::Pythonic), Calls::Optional) | (None, _) => {
            return Ok(None);
        }
    };
    let (required, otherwise) = match calls {
        Calls::Optional => (false, None),
        Calls::Required => (true, None),
        Calls::OrValue(schema) => (true, Some(schema)),
    };
    let is_chosen = |tool: &&Tool| match &chat.tool_choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    };
    let tags = chat.tools.iter().filter(is_chosen).map(|tool| StructuralTag {
        begin: syntax.begin.replace("NAME", &tool.name),
        schema: tool.parameters.as_deref().map_or_else(|| NO_PARAMETERS.into(), closed_arguments),
        end: syntax.end.into(),
    });
    Ok(Some(Guide::StructuralTags(StructuralTags {
        tags: tags.collect(),
        triggers: vec![syntax.trigger.into()],
        required,
        // One tool that must be called is called once, as in other servers.
        parallel: chat.parallel_tool_calls
            && syntax.parallel
            && !matches!(chat.tool_choice, ToolChoice::Named(_)),
        separator: syntax.separator.into(),
        otherwise,
    })))
}

/// Returns false if no value of this schema can be taken for a call in bare JSON: it is no object, or an object with
/// named properties only, none of which a call begins with.
fn may_look_like_call(schema: &str) -> bool {
    let Ok(serde_json::Value::Object(schema)) = serde_json::from_str(schema) else { return true };
    let kind = schema.get("type").and_then(serde_json::Value::as_str);
    if matches!(kind, Some("array" | "string" | "number" | "integer" | "boolean" | "null")) {
        return false;
    }
    let is_closed = schema.get("additionalProperties") == Some(&serde_json::Value::Bool(false))
        && !schema.contains_key("patternProperties");
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    let begins_no_call = properties.is_some_and(|properties| {
        ["name", "type"].iter().all(|name| !properties.contains_key(*name))
    });
    !(kind == Some("object") && is_closed && begins_no_call)
}

const NO_PARAMETERS: &str =
    r#"{"type": "object", "properties": {}, "additionalProperties": false}"#;

/// The texts of a call.
struct Syntax {
    trigger: &'static str,
    begin: &'static str,
    end: &'static str,
    separator: &'static str,
    /// False if the templates of such models refuse an answer with several calls.
    parallel: bool,
}

const HERMES: Syntax = Syntax {
    trigger: "<tool_call>",
    begin: "<tool_call>\n{\"name\": \"NAME\", \"arguments\": ",
    end: "}\n</tool_call>",
    separator: "\n",
    parallel: true,
};

const MISTRAL: Syntax = Syntax {
    trigger: "[TOOL_CALLS]",
    begin: "[TOOL_CALLS][{\"name\": \"NAME\", \"arguments\": ",
    end: "}]",
    separator: "",
    parallel: true,
};

const LLAMA: Syntax = Syntax {
    trigger: "{\"name\": \"",
    begin: "{\"name\": \"NAME\", \"parameters\": ",
    end: "}",
    separator: "; ",
    parallel: false,
};

/// The tag that ends reasoning.
const END_OF_REASONING: &[u8] = b"</think>";

/// The tag that begins it.
const BEGIN_OF_REASONING: &[u8] = b"<think>";

/// Where an answer is. The grammar restricts nothing in the reasoning but its end.
enum Reasoning {
    /// The answer may begin with the tag; this is its text so far.
    Before(Vec<u8>),
    /// The last bytes of the reasoning.
    Inside(Vec<u8>),
    After,
}

/// Allows the tokens that continue an answer by its grammar.
struct GuideMask {
    matcher: Matcher,
    mask: Mask,
    reasoning: Reasoning,
    failed: Option<guide::Error>,
    param: &'static str,
    vocabulary: Arc<Vocabulary>,
}

impl fmt::Debug for GuideMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuideMask").field("matcher", &self.matcher).finish_non_exhaustive()
    }
}

impl TokenMask for GuideMask {
    fn apply(&mut self, logits: &mut [f32]) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(refused(error, self.param));
        }
        if let Reasoning::Inside(_) = self.reasoning {
            // The answer comes after it.
            for end in &self.vocabulary.eos {
                if let Some(logit) = logits.get_mut(*end as usize) {
                    *logit = FORBIDDEN;
                }
            }
            return Ok(());
        }
        self.matcher.mask(&mut self.mask).map_err(|error| refused(&error, self.param))?;
        self.mask.apply(logits);
        Ok(())
    }

    fn advance(&mut self, token: u32) {
        match &mut self.reasoning {
            Reasoning::Inside(text) => {
                text.extend_from_slice(&self.vocabulary.codec.token_bytes(token));
                if contains(text, END_OF_REASONING) {
                    self.reasoning = Reasoning::After;
                } else {
                    let old = text.len().saturating_sub(END_OF_REASONING.len());
                    text.drain(..old);
                }
                return;
            }
            Reasoning::Before(text) => {
                text.extend_from_slice(&self.vocabulary.codec.token_bytes(token));
                let begun = text.trim_ascii_start();
                if begun.starts_with(BEGIN_OF_REASONING) {
                    self.reasoning = Reasoning::Inside(Vec::new());
                } else if !BEGIN_OF_REASONING.starts_with(begun) {
                    self.reasoning = Reasoning::After;
                }
            }
            Reasoning::After => {}
        }
        // The next mask reports it.
        if let Err(error) = self.matcher.accept(token) {
            self.failed.get_or_insert(error);
        }
    }

    fn is_over(&self) -> bool {
        false
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
#[path = "guided_tests.rs"]
mod tests;
