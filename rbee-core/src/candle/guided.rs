//! Answers that follow a grammar: which grammar a job needs, and the mask that enforces it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    call_syntax::{Calls, calls_of, of_tools},
    closed_schema::closed,
    generate::Vocabulary,
    guide::{self, Grammar as Guide, GuideFactory, Mask, Matcher, TokenTable},
    token_mask::{FORBIDDEN, TokenMask},
};
use crate::{
    answer::{AnswerFormat, ReasoningFormat},
    error::{Error, ErrorKind, Result},
    grammar::Grammar,
    task::{Prompt, Sampling},
};

/// The grammars of one model. What they need of its tokens is made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Guides {
    factory: OnceLock<std::result::Result<GuideFactory, guide::Error>>,
    /// The tokens that can end the reasoning and begin the answer at once.
    crossing: OnceLock<CrossingTokens>,
}

/// Tokens, each with its bytes.
type CrossingTokens = Arc<[(u32, Box<[u8]>)]>;

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
        let tags = reasoning.map(ReasoningFormat::tags);
        let [open, close] = tags.map_or_else(Default::default, |tags| [tags.open, tags.close]);
        let crossing =
            reasoning.map(|_| self.crossing.get_or_init(|| crossing(vocabulary, &close)));
        Ok(Some(Box::new(GuideMask {
            matcher: Matcher::new(&grammar),
            mask: Mask::new(vocabulary.size),
            reasoning: match reasoning {
                Some(ReasoningFormat::Thinking) => Reasoning::Inside(Vec::new()),
                // A grammar that is needed leaves no room for reasoning before it.
                Some(_) if !is_needed => Reasoning::Before(Vec::new()),
                Some(_) | None => Reasoning::After,
            },
            open: open.into_bytes(),
            close: close.into_bytes(),
            crossing: crossing.cloned().unwrap_or_default(),
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

/// The tokens with text after the last character of this tag. The answer would begin with this text, and the grammar
/// would not know it.
fn crossing(vocabulary: &Vocabulary, close: &str) -> CrossingTokens {
    let Some(last) = close.bytes().last() else { return CrossingTokens::default() };
    let tokens = (0..u32::try_from(vocabulary.size).unwrap_or(u32::MAX)).filter_map(|token| {
        let bytes = vocabulary.codec.token_bytes(token);
        let end = bytes.iter().position(|byte| *byte == last)?;
        let has_text = !bytes[end + 1..].trim_ascii().is_empty();
        has_text.then(|| (token, bytes.into_boxed_slice()))
    });
    tokens.collect()
}

/// Returns true if the tag is in the text, with other text than white space after it.
fn crosses(text: &[u8], close: &[u8]) -> bool {
    let at = text.windows(close.len()).position(|window| window == close);
    at.is_some_and(|at| !text[at + close.len()..].trim_ascii().is_empty())
}

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
    /// The tags around the reasoning.
    open: Vec<u8>,
    close: Vec<u8>,
    crossing: CrossingTokens,
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
        if let Reasoning::Inside(text) = &self.reasoning {
            let mut forbid = |token: u32| {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = FORBIDDEN;
                }
            };
            // The answer comes after it.
            self.vocabulary.eos.iter().for_each(|end| forbid(*end));
            for (token, bytes) in self.crossing.iter() {
                if crosses(&[text, &**bytes].concat(), &self.close) {
                    forbid(*token);
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
                if contains(text, &self.close) {
                    self.reasoning = Reasoning::After;
                } else {
                    let old = text.len().saturating_sub(self.close.len());
                    text.drain(..old);
                }
                return;
            }
            Reasoning::Before(text) => {
                text.extend_from_slice(&self.vocabulary.codec.token_bytes(token));
                let begun = text.trim_ascii_start();
                if begun.starts_with(&self.open) {
                    self.reasoning = Reasoning::Inside(Vec::new());
                } else if !self.open.starts_with(begun) {
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
mod tests {
    use std::path::Path;

    use super::*;
    use crate::candle::text::tokenizer::Codec;

    #[test]
    fn a_token_must_not_end_the_reasoning_and_begin_the_answer_at_once() {
        let close = b"</think>";
        for (text, expected) in [
            (&b"so</think>{"[..], true),
            (b"</think>\n\n{", true),
            (b"</think>\n\n", false),
            (b"</think>", false),
            (b"</think", false),
            (b"a > b", false),
        ] {
            assert_eq!(crosses(text, close), expected, "{}", String::from_utf8_lossy(text));
        }
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/bee-tiny");
        let codec = Codec::load(Path::new(dir), 1_024, "").unwrap();
        let vocabulary = Vocabulary { codec, size: 1_024, eos: vec![6] };
        // The model has no such token for a tag, but some for a letter.
        let found = crossing(&vocabulary, "</the");
        assert!(found.iter().any(|(_, bytes)| **bytes == *b"er"), "{found:?}");
        for (token, bytes) in found.iter() {
            assert_eq!(**bytes, *vocabulary.codec.token_bytes(*token));
            let at = bytes.iter().position(|byte| *byte == b'e').unwrap();
            assert!(!bytes[at + 1..].trim_ascii().is_empty(), "{bytes:?}");
        }
    }
}
