//! Grammars of one model, compiled.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use llguidance::{
    ParserFactory,
    api::{GrammarWithLexer, StopReason, TopLevelGrammar},
    earley::SlicedBiasComputer,
    toktrie::InferenceCapabilities,
};
use serde_json::Value;
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use super::{
    Grammar,
    cache::Cache,
    error::{Error, detail, is_limit, is_panic},
    lark, limits, schema, tags,
    token_table::TokenTable,
};

/// What a grammar of a model needs to know about its tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    vocab: usize,
    ends: Box<[u32]>,
}

impl Tokens {
    /// The number of logits.
    pub(super) fn vocab(&self) -> usize {
        self.vocab
    }

    /// The tokens that end an answer.
    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }
}

/// Compiles grammars for one model, and keeps those that were used lately.
///
/// Making one takes about a second for a vocabulary of 150,000 tokens, so make it at the first use.
pub(in crate::candle) struct GuideFactory {
    parsers: ParserFactory,
    tokens: Arc<Tokens>,
    table: TokenTable,
    cache: Mutex<Cache<CompiledGrammar>>,
    /// Held while a grammar is compiled: one at a time, so that grammars of clients never take more than one core.
    compiling: Mutex<()>,
}

impl GuideFactory {
    /// A factory for a model with these tokens, and with these end-of-text tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if there is no end-of-text token below the number of tokens.
    pub(in crate::candle) fn from_table(
        mut table: TokenTable,
        ends: &[u32],
    ) -> Result<Self, Error> {
        let vocab = table.len();
        if let Some(end) = ends.iter().find(|end| **end as usize >= vocab) {
            return Err(Error::tokenizer(format!(
                "the model has end-of-text token {end}; allowed are those below {vocab}"
            )));
        }
        let Some(first) = ends.first() else {
            return Err(Error::tokenizer(
                "the model has no end-of-text token; constrained decoding needs one",
            ));
        };
        table.mark_ends(ends);
        let words: Vec<Vec<u8>> = (0..vocab).map(|token| table.word(token)).collect();
        let size = u32::try_from(vocab).unwrap_or(u32::MAX);
        let trie = TokTrie::from(&TokRxInfo::new(size, *first), &words).with_eos_tokens(ends);
        // Never forces tokens: the model chooses how to spell a text, and masks depend on the text alone.
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::json_slices();
        let mut parsers = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
            .map_err(|error| Error::internal(detail(&error.to_string())))?;
        parsers.quiet();
        *parsers.limits_mut() = limits::parser_limits();
        Ok(Self {
            parsers,
            tokens: Arc::new(Tokens { vocab, ends: ends.into() }),
            table,
            cache: Mutex::default(),
            compiling: Mutex::default(),
        })
    }

    /// Compiles a grammar, or returns the one that was compiled before. It can take a second of processor time, and
    /// waits for other grammars of this model; call it outside of asynchronous tasks.
    ///
    /// # Errors
    /// [`Error::InvalidGrammar`] and [`Error::TooComplex`], with a message for whoever wrote the grammar.
    pub(in crate::candle) fn compile(&self, grammar: &Grammar) -> Result<CompiledGrammar, Error> {
        // Bounds what is hashed and kept as a key.
        check_bytes(grammar)?;
        if let Some(compiled) = lock(&self.cache).get(grammar) {
            return Ok(compiled);
        }
        let _one = lock(&self.compiling);
        if let Some(compiled) = lock(&self.cache).get(grammar) {
            return Ok(compiled);
        }
        let (compiled, bytes) = on_large_stack(|| self.build(grammar))?;
        lock(&self.cache).insert(grammar.clone(), compiled.clone(), bytes);
        Ok(compiled)
    }

    /// The compiled grammar, and an estimate of its size in bytes.
    fn build(&self, grammar: &Grammar) -> Result<(CompiledGrammar, usize), Error> {
        let (source, what) = match grammar {
            Grammar::JsonObject => (json(schema::any_object()), "the grammar"),
            Grammar::JsonSchema(text) => (json(schema::normalize(text)?), "the JSON schema"),
            Grammar::Regex(pattern) => {
                (GrammarWithLexer::from_lark(lark::whole_regex(pattern)?), "the regular expression")
            }
            Grammar::Lark(text) => {
                lark::check(text)?;
                (GrammarWithLexer::from_lark(text.clone()), "the Lark grammar")
            }
            Grammar::StructuralTags(tags) => {
                let lark = tags::to_lark(tags, &self.table, &self.tokens.ends)?;
                (GrammarWithLexer::from_lark(lark), "the structural tags")
            }
        };
        let refused = |error: String| self.refused(grammar, what, &error);
        let bytes = std::mem::size_of_val(grammar) + BYTES_PER_SOURCE_BYTE * source_bytes(&source);
        let parser = self
            .parsers
            .create_parser(TopLevelGrammar::from_grammar(source))
            .map_err(|error| refused(error.to_string()))?;
        let bytes = bytes + parser.parser.lexer_stats().num_bytes;
        let mut matcher = llguidance::Matcher::new(Ok(parser));
        // Notices a grammar whose only text is empty. Other mistakes show in the first mask, whose states are also of
        // use to each answer.
        matcher.consume_tokens(&[]).map_err(|error| refused(error.to_string()))?;
        if matcher.stop_reason() == StopReason::NotStopped {
            matcher.compute_mask().map_err(|error| refused(error.to_string()))?;
        }
        let inner = Compiled { start: Mutex::new(matcher), tokens: self.tokens.clone() };
        Ok((CompiledGrammar(Arc::new(inner)), bytes))
    }

    /// The error for a grammar that the library refuses.
    fn refused(&self, grammar: &Grammar, what: &str, error: &str) -> Error {
        let detail = detail(error);
        if is_panic(error) {
            return Error::internal(format!("{what} could not be compiled: {detail}"));
        }
        if is_limit(error) {
            return Error::too_complex(format!(
                "{what} takes too much work ({detail}); make it simpler: fewer alternatives, smaller repetitions"
            ));
        }
        if error.starts_with("NoExtensionBias") {
            return Error::invalid(format!(
                "{what} allows no beginning of an answer that the model's vocabulary can write"
            ));
        }
        match grammar {
            Grammar::JsonSchema(text) => schema::explain(text, &detail),
            Grammar::Regex(_) if detail.contains("look") => Error::invalid(format!(
                "{what} has look-around, a word boundary, or an anchor that is not at an end, which are not supported; it \
                 always matches the whole answer"
            )),
            _ => Error::invalid(format!("{what} is not valid: {detail}")),
        }
    }

    #[cfg(test)]
    pub(super) fn keeps(&self, grammar: &Grammar) -> bool {
        lock(&self.cache).get(grammar).is_some()
    }

    #[cfg(test)]
    pub(super) fn cached(&self) -> (usize, usize) {
        lock(&self.cache).size()
    }
}

impl fmt::Debug for GuideFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuideFactory").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// A grammar, ready for the answers of one model. A clone is cheap.
#[derive(Clone)]
pub(in crate::candle) struct CompiledGrammar(Arc<Compiled>);

struct Compiled {
    /// The state before the first token. Answers start with a copy, so what one answer does never changes another's
    /// masks, and the library's limits count for each alone.
    start: Mutex<llguidance::Matcher>,
    tokens: Arc<Tokens>,
}

impl CompiledGrammar {
    /// A copy of the state before the first token.
    pub(super) fn start(&self) -> llguidance::Matcher {
        lock(&self.0.start).deep_clone()
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }
}

impl fmt::Debug for CompiledGrammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledGrammar").finish_non_exhaustive()
    }
}

/// Rules and names of a compiled grammar, by estimate, for each byte of its source.
const BYTES_PER_SOURCE_BYTE: usize = 64;

fn source_bytes(source: &GrammarWithLexer) -> usize {
    let schema = source.json_schema.as_ref().map_or(0, |schema| schema.to_string().len());
    schema + source.lark_grammar.as_ref().map_or(0, String::len)
}

fn json(schema: Value) -> GrammarWithLexer {
    GrammarWithLexer::from_json_schema(schema)
}

/// Checks the size of the texts in a grammar.
fn check_bytes(grammar: &Grammar) -> Result<(), Error> {
    let (what, bytes, most) = match grammar {
        Grammar::JsonObject => return Ok(()),
        Grammar::JsonSchema(text) => ("the JSON schema", text.len(), limits::MAX_GRAMMAR_BYTES),
        Grammar::Regex(text) => ("the regular expression", text.len(), limits::MAX_GRAMMAR_BYTES),
        Grammar::Lark(text) => ("the Lark grammar", text.len(), limits::MAX_LARK_BYTES),
        Grammar::StructuralTags(tags) => return tags::check_bytes(tags),
    };
    if bytes > most {
        return Err(Error::too_complex(format!("{what} has {bytes} bytes; allowed are {most}")));
    }
    Ok(())
}

/// Runs the work on a thread whose stack is large enough for the recursion of the library.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("rbee-grammar".into())
            .stack_size(limits::COMPILE_STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| Error::internal(format!("no thread for the grammar: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(Error::internal("the compilation of the grammar panicked")))
    })
}

/// A lock whose data are whole even if a holder panicked: they are replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
