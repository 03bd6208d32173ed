//! One run: prompt in, tokens out. It uses no thread and no channel, and only the clock that measures the prefill.
//!
//! A run that continues another makes exactly the calls of the first one: the prompt in the same chunks, then each
//! generated token separately. The matrix kernels round differently for one row than for many, so tokens that were
//! computed one by one must be computed one by one again for a stream that is equal bit for bit. This costs as much as
//! generating them.

use std::time::Instant;

use super::{
    logprobs,
    model::{Model, Sequence},
    sampler::{Choice, Sampler},
    text::detokenizer::{Detokenizer, ResumeFault},
    text::tokenizer::Codec,
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Finish, Metrics, Output, Usage},
    task::Sampling,
    worker::Resume,
};

/// Tokens of the prompt that are computed at once. The exact numbers depend on it, so it never varies.
pub(super) const PREFILL_CHUNK: usize = 128;

/// A run, checked against the model.
#[derive(Debug)]
pub(super) struct Plan {
    prompt: Vec<u32>,
    sampling: Sampling,
    seed: u64,
    resume: Resume,
    /// Tokens of the answer, those of earlier attempts included.
    limit: usize,
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
        Ok(Self { prompt, sampling, seed, resume, limit })
    }

    fn usage(&self, completion: usize) -> Usage {
        Usage { prompt_tokens: self.prompt.len() as u32, completion_tokens: completion as u32 }
    }
}

fn invalid(message: String) -> Error {
    Error::for_client(ErrorKind::InvalidRequest, message)
}

/// The receiver of a run's outputs.
pub(super) trait Sink {
    /// Takes an output; returns false if the run was cancelled.
    fn put(&mut self, output: Output) -> bool;
    /// A step of the computation begins, with this many tokens.
    fn step(&mut self, _tokens: usize) {}
    /// The step has ended without an output.
    fn beat(&mut self) {}
    /// Returns true if the run was cancelled.
    fn closed(&self) -> bool;
}

/// The parts of a model that the generation needs.
#[derive(Debug)]
pub(super) struct GenerationModel {
    pub(super) model: Box<dyn Model>,
    pub(super) codec: Codec,
    pub(super) eos: Vec<u32>,
    pub(super) vocab: usize,
}

/// Generates until the end, which is returned; `None` if the run was cancelled.
pub(super) fn generate(
    model: &GenerationModel,
    plan: &Plan,
    sink: &mut impl Sink,
) -> Result<Option<Output>> {
    let codec = &model.codec;
    let Resume { tokens: done, text_bytes } = &plan.resume;
    let mut text = Detokenizer::new(codec, &plan.sampling.stop, plan.sampling.min_tokens);
    let ends = |token: &u32| model.eos.binary_search(token).is_ok();
    let end = |finish, count| Ok(Some(Output::End { finish, usage: plan.usage(count) }));

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
        return end(Finish::Stop, done.len());
    }
    if done.len() == plan.limit {
        text.finish(codec);
        return end(last_word(&text), done.len());
    }
    text.said(*text_bytes).map_err(misfit)?;

    let begun = Instant::now();
    let mut sequence = model.model.sequence();
    let Some(mut logits) = prefill(&mut *sequence, plan, sink)? else {
        return Ok(None);
    };
    let metrics = Metrics {
        prompt_tokens: (plan.prompt.len() + done.len()) as u32,
        prefill: begun.elapsed(),
    };
    if !sink.put(Output::Metrics(metrics)) {
        return Ok(None);
    }

    let mut sampler = Sampler::new(&plan.sampling, plan.seed, &model.eos);
    sampler.note_prompt(&plan.prompt);
    sampler.note_answer(done);
    let mut count = done.len();
    loop {
        let Choice { token, logprobs } = sampler.choose(&mut logits, count as u64)?;
        count += 1;
        sampler.note_answer(&[token]);
        let over = ends(&token);
        let mut chunk = if over { String::new() } else { text.push(codec, token) };
        let finish = if over || text.stopped() {
            Some(Finish::Stop)
        } else if count == plan.limit {
            Some(Finish::Length)
        } else {
            None
        };
        if finish.is_some() {
            chunk += &text.finish(codec);
        }
        let logprobs = logprobs.map(|found| logprobs::with_text(codec, token, &found));
        let output = Output::Token { id: Some(token), text: chunk.into(), logprobs };
        if !sink.put(output) {
            return Ok(None);
        }
        if let Some(finish) = finish {
            let finish = if over { finish } else { last_word(&text) };
            return end(finish, count);
        }
        sink.step(1);
        logits = sequence.forward(&[token]).map_err(fault)?;
    }
}

/// The end of an answer of maximum length: its last bytes, if they are not a whole character, may still have completed
/// a stop text.
fn last_word(text: &Detokenizer) -> Finish {
    if text.stopped() { Finish::Stop } else { Finish::Length }
}

/// The logits after the prompt and earlier tokens; `None` if the run was cancelled.
fn prefill(
    sequence: &mut dyn Sequence,
    plan: &Plan,
    sink: &mut impl Sink,
) -> Result<Option<Vec<f32>>> {
    let steps = plan.prompt.chunks(PREFILL_CHUNK).chain(plan.resume.tokens.chunks(1));
    let mut logits = Vec::new();
    for tokens in steps {
        if sink.closed() {
            return Ok(None);
        }
        sink.step(tokens.len());
        logits = sequence.forward(tokens).map_err(fault)?;
        sink.beat();
    }
    Ok(Some(logits))
}

fn fault(cause: candle_core::Error) -> Error {
    Error::new(ErrorKind::WorkerFault, format!("the engine failed: {cause}")).with_source(cause)
}
