//! A model's probabilities of given tokens, for tests and benchmarks.

use std::path::Path;

use candle_core::Error as CandleError;
use rbee_decoder::{backend::BLOCK, part::Part};

use super::{CandleOptions, Engine, causal_lm::CausalLm, load, text::prompt::PromptText};
use crate::{
    error::{Error, ErrorKind, Result},
    progress::Progress,
};

/// Positions that are computed in one step.
const AT_ONCE: usize = 64;

/// A model that continues text, without the engine's thread: to look at its tokens and probabilities.
///
/// It computes on the calling thread, so do not call it from async code.
#[derive(Debug)]
pub struct Evaluation {
    causal_lm: CausalLm,
}

/// What a model expects at a position of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The natural logarithm of the probability of the token that is there.
    pub logprob: f64,
    /// The likeliest token; of equal ones the lowest id.
    pub likeliest: u32,
    /// The natural logarithm of its probability.
    pub likeliest_logprob: f64,
}

impl Evaluation {
    /// Loads a model from its directory or file.
    ///
    /// # Errors
    /// Those of [`CandleWorker::load`](super::CandleWorker::load), and [`ErrorKind::Unsupported`] for a model that makes
    /// vectors.
    pub fn load(path: impl AsRef<Path>, options: &CandleOptions) -> Result<Self> {
        match load(path.as_ref(), options, &Progress::ignore(), &|| false)?.0 {
            Engine::Text(causal_lm) => Ok(Self { causal_lm: *causal_lm }),
            Engine::Vectors(_) | Engine::Scores(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "the model makes vectors, and continues no text",
            )),
        }
    }

    /// The tokens of a bare text, with those that the model expects around it. If `control` is true, the text of a
    /// control token stands for that token.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the text cannot be encoded.
    pub fn tokens(&self, text: &str, control: bool) -> Result<Vec<u32>> {
        let text = if control { PromptText::trusted(text) } else { PromptText::from_caller(text) };
        self.causal_lm.frontend.vocabulary.codec.encode(&text, true)
    }

    /// What the model expects at every position of these tokens but the first, from the tokens before it.
    ///
    /// # Errors
    /// [`ErrorKind::ContextExceeded`] if there are more tokens than the context allows; [`ErrorKind::WorkerFault`] if
    /// the computation fails.
    pub fn predictions(&mut self, tokens: &[u32]) -> Result<Vec<Prediction>> {
        let context = self.causal_lm.frontend.context as usize;
        if tokens.len() > context {
            let message = format!("there are {} tokens; allowed are {context}", tokens.len());
            return Err(Error::new(ErrorKind::ContextExceeded, message));
        }
        let fault = |source: CandleError| {
            Error::new(ErrorKind::WorkerFault, format!("the computation failed: {source}"))
        };
        let blocks: Vec<u32> = (0..tokens.len().div_ceil(BLOCK) as u32).collect();
        let model = &mut self.causal_lm.model;
        let vocab = model.vocab();
        let (mut logits, mut found) = (Vec::new(), Vec::new());
        let inputs = &tokens[..tokens.len().saturating_sub(1)];
        for (number, chunk) in inputs.chunks(AT_ONCE).enumerate() {
            let first = number * AT_ONCE;
            let part = |(offset, token)| Part {
                tokens: std::slice::from_ref(token),
                start: first + offset,
                blocks: &blocks,
                logits: true,
            };
            let parts: Vec<Part<'_>> = chunk.iter().enumerate().map(part).collect();
            model.step(&parts, &mut logits).map_err(fault)?;
            let next = tokens.iter().skip(first + 1);
            found.extend(
                logits.chunks_exact(vocab).zip(next).map(|(row, next)| prediction(row, *next)),
            );
        }
        Ok(found)
    }
}

fn prediction(logits: &[f32], next: u32) -> Prediction {
    let mut likeliest = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[likeliest] {
            likeliest = token;
        }
    }
    let top = f64::from(logits[likeliest]);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - top).exp()).sum();
    let logprob = |token: usize| f64::from(logits[token]) - top - sum.ln();
    Prediction {
        logprob: logprob(next as usize),
        likeliest: likeliest as u32,
        likeliest_logprob: logprob(likeliest),
    }
}
