//! One run: from the checked prompt to the outputs, token by token. It uses no thread, no channel and no clock.
//!
//! A run that continues another computes the prompt and the earlier tokens like one long prompt: the logits after them
//! are the same bit for bit, because they do not depend on how a sequence was divided into steps.

use std::{sync::Arc, time::Duration};

use super::{
    logprobs,
    sampler::{Choice, Sampler},
    text::detokenizer::{Detokenizer, ResumeFault},
    text::tokenizer::Codec,
    token_mask::TokenMask,
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Finish, Metrics, Output, Usage},
    id::TenantId,
    job::Job,
    task::Sampling,
    worker::Resume,
};

/// The tokens of a model.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) codec: Codec,
    /// The tokens that end a text, in ascending order.
    pub(super) eos: Vec<u32>,
    /// The number of tokens.
    pub(super) size: usize,
}

impl Vocabulary {
    fn ends(&self, token: u32) -> bool {
        self.eos.binary_search(&token).is_ok()
    }
}

/// A run, checked against the model.
#[derive(Debug)]
pub(super) struct Plan {
    prompt: Vec<u32>,
    sampling: Sampling,
    seed: u64,
    resume: Resume,
    /// Tokens of the answer, those of earlier attempts included.
    limit: usize,
    origin: Origin,
    mask: Option<Box<dyn TokenMask>>,
}

/// The values of a job that the cache of prefixes needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// Cached prefixes are shared within a tenant only.
    pub(super) tenant: Option<TenantId>,
    /// The keys of the prompt's prefixes.
    pub(super) keys: Arc<[u64]>,
}

impl From<&Job> for Origin {
    fn from(job: &Job) -> Self {
        Self { tenant: job.tenant.clone(), keys: job.prefix.clone() }
    }
}

impl Plan {
    /// Checks a prompt and the tokens to continue against the context and the vocabulary.
    pub(super) fn new(
        prompt: Vec<u32>,
        sampling: Sampling,
        seed: u64,
        resume: Resume,
        context: u32,
        vocab: usize,
    ) -> Result<Self> {
        let most = context as usize - 1;
        if prompt.is_empty() {
            return Err(invalid("the prompt has 0 tokens; allowed is at least 1".into()));
        }
        if prompt.len() > most {
            // The caller has refused it, with the parameter of the request.
            let message = format!("the prompt has {} tokens; allowed are {most}", prompt.len());
            return Err(Error::for_client(ErrorKind::ContextExceeded, message));
        }
        let room = context as usize - prompt.len();
        let limit = sampling.max_tokens.map_or(room, |most| room.min(most as usize));
        if resume.tokens.len() > limit {
            let count = resume.tokens.len();
            return Err(invalid(format!("resume has {count} tokens; this run allows {limit}")));
        }
        if let Some(bad) = resume.tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(invalid(format!(
                "resume has token {bad}; allowed are those below {vocab}"
            )));
        }
        Ok(Self { prompt, sampling, seed, resume, limit, origin: Origin::default(), mask: None })
    }

    /// The same for a job with this origin.
    pub(super) fn of(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// The same with a mask of the tokens of the answer.
    pub(super) fn with_mask(self, mask: Option<Box<dyn TokenMask>>) -> Self {
        Self { mask, ..self }
    }

    fn usage(&self, completion: usize) -> Usage {
        let prompt_tokens = self.prompt.len() as u32;
        Usage { prompt_tokens, completion_tokens: completion as u32, cached_tokens: None }
    }

    /// Processes the tokens of an earlier attempt.
    pub(super) fn begin(self, vocabulary: &Vocabulary) -> Begun {
        match self.replay(vocabulary) {
            Ok((text, None)) => Begun::Generation(Box::new(self.generation(text, vocabulary))),
            Ok((_, Some(end))) => Begun::Over(Ok(end)),
            Err(error) => Begun::Over(Err(error)),
        }
    }

    /// The text of the tokens of an earlier attempt, and the end, if they are the whole answer.
    fn replay(&self, vocabulary: &Vocabulary) -> Result<(Detokenizer, Option<Output>)> {
        let codec = &vocabulary.codec;
        let Resume { tokens: done, text_bytes } = &self.resume;
        let mut text = Detokenizer::new(codec, &self.sampling.stop, self.sampling.min_tokens);
        let ends = |token: &u32| vocabulary.ends(*token);
        let end = |text: &Detokenizer, finish| {
            let stop_text = text.stop_text().map(Box::from);
            Some(Output::End { finish, usage: self.usage(done.len()), stop_text })
        };

        if let Some(at) = done.iter().position(ends).filter(|at| at + 1 < done.len()) {
            let message = format!(
                "resume has the end of the text at {at} of {} tokens; allowed is the last",
                done.len()
            );
            return Err(invalid(message));
        }
        let misfit = |cause: ResumeFault| invalid(format!("resume has {cause}")).with_source(cause);
        text.replay(codec, done).map_err(misfit)?;
        if text.stopped() || done.last().is_some_and(ends) {
            let end = end(&text, Finish::Stop);
            return Ok((text, end));
        }
        if done.len() == self.limit {
            text.finish(codec);
            let end = end(&text, last_word(&text));
            return Ok((text, end));
        }
        text.said(*text_bytes).map_err(misfit)?;
        Ok((text, None))
    }

    fn generation(self, text: Detokenizer, vocabulary: &Vocabulary) -> Generation {
        let mut sampler = Sampler::new(&self.sampling, self.seed, &vocabulary.eos);
        if let Some(mask) = self.mask {
            sampler.add_mask(mask);
        }
        sampler.note_prompt(&self.prompt);
        sampler.note_answer(&self.resume.tokens);
        let prompt = self.prompt.len();
        let mut tokens = self.prompt;
        tokens.extend_from_slice(&self.resume.tokens);
        Generation {
            prompt,
            measured: tokens.len(),
            cached: tokens.len(),
            tokens,
            limit: self.limit,
            sampler,
            text,
            origin: self.origin,
        }
    }
}

fn invalid(message: String) -> Error {
    Error::for_client(ErrorKind::InvalidRequest, message)
}

/// A run that can be computed, or whose result is known without a computation.
#[derive(Debug)]
pub(super) enum Begun {
    /// It generates.
    Generation(Box<Generation>),
    /// It is over: its earlier tokens are the whole answer, or do not match.
    Over(Result<Output>),
}

/// A run that generates.
#[derive(Debug)]
pub(super) struct Generation {
    /// Prompt and answer.
    tokens: Vec<u32>,
    /// The length of the prompt.
    prompt: usize,
    /// The tokens that were known at the beginning.
    measured: usize,
    /// The first ones of them, which this run did not compute.
    cached: usize,
    limit: usize,
    sampler: Sampler,
    text: Detokenizer,
    pub(super) origin: Origin,
}

/// The results of one token.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) token: Output,
    /// The end, if this was the last token.
    pub(super) end: Option<Output>,
}

impl Generation {
    /// Prompt and answer so far.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens of the prompt.
    pub(super) fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt]
    }

    /// True if no token was generated in this run.
    pub(super) fn is_new(&self) -> bool {
        self.tokens.len() == self.measured
    }

    /// Tokens from this position on were computed. Those that are computed again after the first new one do not count.
    pub(super) fn computed_from(&mut self, start: usize) {
        if self.is_new() {
            self.cached = self.cached.min(start);
        }
    }

    /// The measurements of a run whose first token took this long.
    pub(super) fn metrics(&self, prefill: Duration) -> Output {
        let (prompt_tokens, cached) = (self.measured as u32, self.cached as u32);
        Output::Metrics(Metrics { prompt_tokens, prefill, cached_tokens: Some(cached) })
    }

    /// Selects the next token by these logits.
    pub(super) fn next(&mut self, vocabulary: &Vocabulary, logits: &mut [f32]) -> Result<Next> {
        let count = self.tokens.len() - self.prompt;
        let Choice { token, logprobs } = self.sampler.choose(logits, count as u64)?;
        let count = count + 1;
        self.tokens.push(token);
        self.sampler.note_answer(&[token]);
        let over = vocabulary.ends(token);
        let codec = &vocabulary.codec;
        let mut chunk = if over { String::new() } else { self.text.push(codec, token) };
        let mut finish = if over || self.text.stopped() {
            Some(Finish::Stop)
        } else if count == self.limit {
            Some(Finish::Length)
        } else {
            None
        };
        if let Some(finish) = &mut finish {
            chunk += &self.text.finish(codec);
            if !over {
                *finish = last_word(&self.text);
            }
        }
        let logprobs = logprobs.map(|found| logprobs::with_text(codec, token, &found));
        let usage = Usage {
            prompt_tokens: self.prompt as u32,
            completion_tokens: count as u32,
            cached_tokens: Some(self.cached.min(self.prompt) as u32),
        };
        Ok(Next {
            token: Output::Token { id: Some(token), text: chunk.into(), logprobs },
            end: finish.map(|finish| Output::End {
                finish,
                usage,
                stop_text: self.text.stop_text().map(Box::from),
            }),
        })
    }
}

/// The end of an answer of maximum length: its last bytes, if they are not a whole character, may still have completed
/// a stop text.
fn last_word(text: &Detokenizer) -> Finish {
    if text.stopped() { Finish::Stop } else { Finish::Length }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
