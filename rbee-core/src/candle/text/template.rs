//! The model's chat template: converts a conversation into one text.
//!
//! Templates are written for Jinja as the transformers library configures it, and are as untrusted as the weights:
//! their steps and their output are limited.
//!
//! The control tokens that a template writes count, and those in the text of a message do not. So a conversation is
//! rendered twice. First with stand-ins (see [`PromptText`]) only for text that could be taken for a control token:
//! this gives the text. Then with stand-ins for all characters of the messages, which shows the origin of each
//! character of the text, however the template has cut and joined the messages. A template that compares messages with
//! its own words, or changes their letters, may give another text in the second pass: then it is rendered with
//! stand-ins for all characters except letters and digits. If that also gives another text (for example a template that
//! removes the text before `</think>`, in a message that contains it), the result of the first pass is used.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use minijinja::{Environment, ErrorKind as TemplateError, Value, context};
use serde_json::Map;

use super::{
    super::files::{self, LoadFault, Loaded, MAX_CONFIG_BYTES},
    added_tokens::AddedTokens,
    conversation::{Conversation, Place},
    jinja::{self, RAISED},
    late_instructions,
    prompt::{PromptText, StandIns, places, without},
    single_calls,
    tools::{self, ToolSyntax},
};
use crate::{
    answer::{AnswerFormat, ThinkingSwitch},
    chat::{Chat, Message, Role},
    error::{Error, ErrorKind, Result, cut},
};

/// The most steps of a template; the largest known templates take some thousands for each message.
const FUEL: u64 = 20_000_000;
/// The longest text of a template's own refusal, in bytes. The template may put whole messages into it.
const MAX_RAISED_BYTES: usize = 500;
/// The longest rendered conversation, in bytes.
const MAX_RENDERED_BYTES: usize = 8 << 20;
const NAME: &str = "chat_template";

/// A compiled chat template.
#[derive(Debug)]
pub(in crate::candle) struct ChatTemplate {
    path: PathBuf,
    source: String,
    environment: Environment<'static>,
    bos: Option<String>,
    eos: Option<String>,
    tools: ToolSyntax,
}

/// The special tokens that a model's files name.
#[derive(Debug, Default)]
pub(in crate::candle) struct TokenNames {
    pub(in crate::candle) bos: Option<String>,
    pub(in crate::candle) eos: Option<String>,
}

/// The chat template of a model's directory, if it has one, and the names of its special tokens.
pub(in crate::candle) fn load(dir: &Path) -> Loaded<(Option<ChatTemplate>, TokenNames)> {
    let config_path = dir.join("tokenizer_config.json");
    let config = files::read_object(&config_path, MAX_CONFIG_BYTES)?.unwrap_or_default();
    let names = TokenNames {
        bos: token(&config_path, &config, "bos_token")?,
        eos: token(&config_path, &config, "eos_token")?,
    };
    let jinja_path = dir.join("chat_template.jinja");
    let (path, source) = match files::read_optional(&jinja_path, MAX_CONFIG_BYTES)? {
        Some(bytes) => {
            let source = String::from_utf8(bytes)
                .map_err(|source| LoadFault::malformed(&jinja_path, "is not UTF-8", source))?;
            (jinja_path, Some(source))
        }
        None => {
            let source = configured(&config_path, &config)?;
            (config_path, source)
        }
    };
    let template = source.map(|source| ChatTemplate::compile(path, source, &names)).transpose()?;
    Ok((template, names))
}

/// A special token: its text, or an object with it.
fn token(
    path: &Path,
    config: &Map<String, serde_json::Value>,
    key: &str,
) -> Loaded<Option<String>> {
    use serde_json::Value as Json;
    match config.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(Json::Object(token)) if token.get("content").is_some_and(Json::is_string) => {
            Ok(token.get("content").and_then(Json::as_str).map(str::to_owned))
        }
        Some(other) => {
            let what = format!(
                "{key} is {}; allowed is a text, or an object with one as content",
                files::shown(other)
            );
            Err(LoadFault::defect(path, what))
        }
    }
}

/// The template in `tokenizer_config.json`: a text, or the one named `default` of a list.
fn configured(path: &Path, config: &Map<String, serde_json::Value>) -> Loaded<Option<String>> {
    use serde_json::Value as Json;
    let odd = || {
        LoadFault::defect(path, "chat_template is neither a text nor a list of name and template")
    };
    let list = match config.get("chat_template") {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::String(source)) => return Ok(Some(source.clone())),
        Some(Json::Array(list)) => list,
        Some(_) => return Err(odd()),
    };
    let of = |entry: &Json, key: &str| entry.get(key).and_then(Json::as_str).map(str::to_owned);
    for entry in list {
        let (Some(name), Some(source)) = (of(entry, "name"), of(entry, "template")) else {
            return Err(odd());
        };
        if name == "default" {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

impl ChatTemplate {
    /// Compiles the template of a file.
    pub(super) fn compile(path: PathBuf, source: String, names: &TokenNames) -> Loaded<Self> {
        let environment = jinja::environment(NAME, &source, FUEL).map_err(|source| {
            LoadFault::malformed(&path, "the chat template does not compile", source)
        })?;
        let (bos, eos) = (names.bos.clone(), names.eos.clone());
        let tools = ToolSyntax::of(&source);
        Ok(Self { path, source, environment, bos, eos, tools })
    }

    /// The source of the template, with the names of special tokens: the control tokens in it are those that it writes.
    pub(in crate::candle) fn written(&self) -> String {
        [Some(&*self.source), self.bos.as_deref(), self.eos.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<&str>>()
            .join("\n")
    }

    /// The syntax of the answers to its prompts.
    pub(in crate::candle) fn answer_format(&self) -> AnswerFormat {
        tools::answer_format(self.tools, &self.source, &self.sample(None))
    }

    /// The syntax of reasoning if thinking is turned on or off; `None` if that changes nothing.
    pub(in crate::candle) fn thinking_switch(&self) -> Option<ThinkingSwitch> {
        let [on, off] = [true, false].map(|thinking| self.sample(Some(thinking)));
        let of = |prompt: &str| tools::answer_format(self.tools, &self.source, prompt).reasoning;
        (on != off).then(|| ThinkingSwitch { on: of(&on), off: of(&off) })
    }

    /// A short prompt. A template that refuses it has no prompt that ends inside of reasoning.
    fn sample(&self, thinking: Option<bool>) -> String {
        let chat = Chat { thinking, ..vec![Message::new(Role::User, "Hi")].into() };
        self.render(&chat, &AddedTokens::default()).unwrap_or_default().text
    }

    /// The conversation as the model must read it, up to the start of the model's answer.
    pub(in crate::candle) fn render(
        &self,
        chat: &Chat,
        tokens: &AddedTokens,
    ) -> Result<PromptText> {
        let error = match self.render_with_tools(chat, tokens) {
            Err(error) => error,
            rendered => return rendered,
        };
        let others = match error.kind() {
            ErrorKind::InvalidRequest => {
                // Many templates allow instructions only as the first message, some none, and some only one call in an
                // answer.
                let late = late_instructions::of_user(chat);
                let both = late.as_ref().and_then(single_calls::of_several);
                let all = late_instructions::all_of_user(chat);
                let all_single = all.as_ref().and_then(single_calls::of_several);
                vec![late, single_calls::of_several(chat), both, all, all_single]
            }
            // Some templates cannot write a tool without a description.
            _ => vec![tools::with_descriptions(chat)],
        };
        let mut others = others.into_iter().flatten();
        others.find_map(|other| self.render_with_tools(&other, tokens).ok()).ok_or(error)
    }

    fn render_with_tools(&self, chat: &Chat, tokens: &AddedTokens) -> Result<PromptText> {
        if !chat.has_tools() || self.tools.is_native {
            return self.render_chat(chat, tokens);
        }
        // Some templates refuse instructions.
        match self.render_chat(&tools::described(chat, true), tokens) {
            Err(error) if error.kind() == ErrorKind::InvalidRequest => {
                self.render_chat(&tools::described(chat, false), tokens).map_err(|_| error)
            }
            rendered => rendered,
        }
    }

    fn render_chat(&self, chat: &Chat, tokens: &AddedTokens) -> Result<PromptText> {
        let conversation = Conversation::new(chat, self.tools.format);
        let texts = conversation.texts();
        let mut stand_ins = StandIns::for_texts(texts.iter().map(String::as_str));
        // An answer that is sent back gives the same tokens as when it was generated.
        let shown = |text: &str, place| match place {
            Place::Answer => tokens.shown(text),
            Place::Key | Place::Text => Vec::new(),
        };
        let suspicious = |text: &str, place| without(&tokens.suspicious(text), &shown(text, place));
        let rendered =
            self.render_with(&conversation, &mut stand_ins, MAX_RENDERED_BYTES, suspicious);
        let rendered = rendered.map(|text| stand_ins.take_out(&text));
        let prompt = rendered.map_err(|error| {
            let message = stand_ins.take_out(error.message());
            if message.is_trusted() { error } else { Error::new(error.kind(), message.text) }
        })?;
        for is_traced in [|_| true, |c: char| !c.is_alphanumeric()] {
            let traced = |text: &str, place| match place {
                Place::Key => suspicious(text, place),
                Place::Answer | Place::Text => {
                    without(&places(text, is_traced), &shown(text, place))
                }
            };
            // A stand-in takes four bytes.
            let most = 4 * MAX_RENDERED_BYTES;
            if let Ok(rendered) = self.render_with(&conversation, &mut stand_ins, most, traced) {
                let traced = stand_ins.take_out(&rendered);
                if traced.text == prompt.text {
                    return Ok(traced);
                }
            }
        }
        Ok(prompt)
    }

    /// Renders the conversation with stand-ins in these ranges of each text.
    fn render_with(
        &self,
        conversation: &Conversation,
        stand_ins: &mut StandIns,
        most: usize,
        ranges: impl Fn(&str, Place) -> Vec<Range<usize>>,
    ) -> Result<String> {
        let mut put = |text: &str, place| stand_ins.put_in(text, &ranges(text, place));
        let (messages, tools) = (conversation.messages(&mut put)?, conversation.tools(&mut put)?);
        let values = (messages, tools, conversation.thinking());
        stand_ins.originals().during(|| self.render_values(values, most))
    }

    fn render_values(
        &self,
        (messages, tools, thinking): (Value, Value, Value),
        most: usize,
    ) -> Result<String> {
        let fault = |cause: minijinja::Error| self.fault(&cause);
        let template = self.environment.get_template(NAME).map_err(fault)?;
        // A token that the model does not have is undefined, as in transformers; null would be written as "none".
        let name = |token: &Option<String>| token.as_deref().map_or(Value::UNDEFINED, Value::from);
        let context = context! {
            messages => messages,
            tools => tools,
            add_generation_prompt => true,
            // The two names that templates have for it.
            enable_thinking => thinking.clone(),
            thinking => thinking,
            bos_token => name(&self.bos),
            eos_token => name(&self.eos),
        };
        let mut text = Bounded { text: Vec::new(), most };
        template.render_captured_to(context, &mut text).map_err(fault)?;
        String::from_utf8(text.text).map_err(|cause| {
            let message = format!("the chat template of {} writes no UTF-8", self.path.display());
            Error::new(ErrorKind::ModelIncompatible, message).with_source(cause)
        })
    }

    /// A refusal by the template is about the messages; any other failure is about the template.
    fn fault(&self, cause: &minijinja::Error) -> Error {
        if let Some(said) = cause.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
            let said = cut(said.into(), MAX_RAISED_BYTES);
            let message = format!("messages are refused by the model's chat template: {said}");
            return Error::for_client(ErrorKind::InvalidRequest, message);
        }
        let path = self.path.display();
        let message = match cause.kind() {
            TemplateError::OutOfFuel => {
                format!(
                    "the chat template of {path} takes more than {FUEL} steps for these messages"
                )
            }
            TemplateError::WriteFailure => {
                format!("the chat template of {path} writes more than {MAX_RENDERED_BYTES} bytes")
            }
            _ => format!("the chat template of {path} fails for these messages: {cause}"),
        };
        Error::new(ErrorKind::ModelIncompatible, message)
    }
}

struct Bounded {
    text: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
