//! Sampling: the choice of the next token.
//!
//! The steps are those of [`Sampling`], in its order. Everything after the logits is computed in 64-bit floats from the
//! logits, the seed, the position and the tokens so far. Nothing else is kept from one choice to the next: this allows
//! another worker to continue a stream.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use super::token_mask::{FORBIDDEN, MinTokens, TokenMask};
use crate::{
    error::{Error, ErrorKind, Result, invalid},
    task::Sampling,
};

/// The bias that forbids a token, as OpenAI's API describes it.
const FORBIDDING_BIAS: f32 = -100.0;

/// The reason that no token can be chosen.
#[derive(Debug, PartialEq)]
pub(super) enum SamplerFault {
    /// A logit is not a finite number: the model, or the device, is broken.
    NotFinite {
        /// The first token with such a logit.
        token: usize,
    },
    /// The request forbids every token.
    AllForbidden,
    /// A mask cannot be computed.
    Mask(Error),
}

impl From<SamplerFault> for Error {
    fn from(fault: SamplerFault) -> Self {
        match fault {
            SamplerFault::NotFinite { token } => Self::new(
                ErrorKind::WorkerFault,
                format!("the model gave no number as the logit of token {token}"),
            ),
            SamplerFault::AllForbidden => {
                invalid(
                    "logit_bias, min_tokens and the format of the answer forbid every token of the model"
                        .into(),
                )
                    .with_param("logit_bias")
            }
            SamplerFault::Mask(error) => error,
        }
    }
}

/// Checks the tokens of `logit_bias` against the vocabulary.
///
/// # Errors
/// [`InvalidRequest`](ErrorKind::InvalidRequest) for a token that the model does not have.
pub(super) fn check_logit_bias(sampling: &Sampling, vocab: usize) -> Result<()> {
    // The ids are ordered.
    match sampling.logit_bias.last_key_value() {
        Some((token, _)) if *token as usize >= vocab => Err(invalid(format!(
            "logit_bias has token {token}; allowed for this model are those below {vocab}"
        ))
        .with_param("logit_bias")),
        _ => Ok(()),
    }
}

/// The token at a position.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) token: u32,
    /// If they are requested.
    pub(super) logprobs: Option<Box<TopLogprobs>>,
}

/// The log probabilities at a position.
#[derive(Debug, PartialEq)]
pub(super) struct TopLogprobs {
    /// That of the chosen token.
    pub(super) chosen: f32,
    /// The likeliest tokens, with theirs.
    pub(super) top: Vec<(u32, f32)>,
}

/// Draws tokens for one answer.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    key: u64,
    masks: Vec<Box<dyn TokenMask>>,
    bias: Vec<(u32, f32)>,
    repetition_penalty: f32,
    /// The tokens of prompt and answer; empty if the repetition penalty is off.
    seen: BTreeSet<u32>,
    presence_penalty: f32,
    frequency_penalty: f32,
    /// How often the answer has each token; empty if both penalties are off.
    counts: BTreeMap<u32, u32>,
    /// How many of the likeliest tokens get a log probability.
    logprobs: Option<usize>,
}

impl Sampler {
    /// A sampler for an answer that any of the tokens in `ends` ends.
    pub(super) fn new(sampling: &Sampling, seed: u64, ends: &[u32]) -> Self {
        let mut sampler = Self {
            temperature: sampling.temperature.into(),
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p.into(),
            min_p: sampling.min_p.into(),
            // Seeds are often small numbers; the mixing makes the keys of neighboring seeds unrelated.
            key: mix(seed ^ 0x7262_6565_2d63_616e),
            masks: Vec::new(),
            bias: sampling.logit_bias.iter().map(|(token, bias)| (*token, *bias)).collect(),
            repetition_penalty: sampling.repetition_penalty,
            seen: BTreeSet::new(),
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            counts: BTreeMap::new(),
            logprobs: sampling.logprobs.map(usize::from),
        };
        if sampling.min_tokens > 0 {
            sampler.add_mask(Box::new(MinTokens::new(sampling.min_tokens, ends)));
        }
        sampler
    }

    /// Restricts the tokens of the answer. A mask sees only the tokens that are noted after this.
    pub(super) fn add_mask(&mut self, mask: Box<dyn TokenMask>) {
        // The minimum length comes last: it gives way to the others.
        self.masks.insert(0, mask);
    }

    /// Records tokens of the prompt.
    pub(super) fn note_prompt(&mut self, tokens: &[u32]) {
        if self.repetition_penalty != 1.0 {
            self.seen.extend(tokens);
        }
    }

    /// Records tokens of the answer: those of earlier attempts, then each chosen one.
    pub(super) fn note_answer(&mut self, tokens: &[u32]) {
        // It treats both in the same way.
        self.note_prompt(tokens);
        if self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 {
            for token in tokens {
                *self.counts.entry(*token).or_default() += 1;
            }
        }
        if !self.masks.is_empty() {
            self.masks.retain_mut(|mask| {
                tokens.iter().for_each(|token| mask.advance(*token));
                !mask.is_over()
            });
        }
    }

    /// The token at this position of the answer (0 is its first).
    pub(super) fn choose(
        &mut self,
        logits: &mut [f32],
        position: u64,
    ) -> Result<Choice, SamplerFault> {
        let top = finite_max(logits)?;
        let Some(count) = self.logprobs else {
            let token = self.adjust_and_draw(logits, top, position)?;
            return Ok(Choice { token, logprobs: None });
        };
        let measure = Softmax::of(logits, top);
        let best = largest(logits, count);
        let raw = self.adjusts().then(|| logits.to_vec());
        let token = self.adjust_and_draw(logits, top, position)?;
        let chosen = raw.as_deref().unwrap_or(logits)[token as usize];
        let top = best.into_iter().map(|(token, logit)| (token, measure.log(logit))).collect();
        let logprobs = Some(Box::new(TopLogprobs { chosen: measure.log(chosen), top }));
        Ok(Choice { token, logprobs })
    }

    fn adjust_and_draw(
        &mut self,
        logits: &mut [f32],
        mut top: f32,
        position: u64,
    ) -> Result<u32, SamplerFault> {
        if self.adjusts() {
            self.adjust(logits)?;
            top = logits.iter().copied().fold(FORBIDDEN, f32::max);
            if top == FORBIDDEN {
                return Err(SamplerFault::AllForbidden);
            }
        }
        Ok(self.draw(logits, top, position))
    }

    /// Draws from logits whose largest is `top`.
    fn draw(&self, logits: &[f32], top: f32, position: u64) -> u32 {
        if self.temperature == 0.0 || self.top_k == 1 {
            return logits.iter().position(|logit| *logit == top).unwrap_or_default() as u32;
        }
        let weight = |logit: f32| ((f64::from(logit) - f64::from(top)) / self.temperature).exp();
        let draw = uniform(self.key, position);
        if self.top_k == 0 && self.top_p >= 1.0 && self.min_p == 0.0 {
            return pick(logits.iter().map(|logit| weight(*logit)).zip(0..), draw);
        }
        let kept = self.filter(logits, weight);
        pick(kept.iter().copied(), draw)
    }

    /// Returns true if a step changes the logits.
    fn adjusts(&self) -> bool {
        !(self.masks.is_empty()
            && self.bias.is_empty()
            && self.seen.is_empty()
            && self.counts.is_empty())
    }

    /// The steps between the model's own logits and the temperature. Allowed tokens keep finite logits.
    fn adjust(&mut self, logits: &mut [f32]) -> Result<(), SamplerFault> {
        for mask in &mut self.masks {
            mask.apply(logits).map_err(SamplerFault::Mask)?;
        }
        for (token, bias) in &self.bias {
            change(logits, *token, |logit| {
                if *bias == FORBIDDING_BIAS { FORBIDDEN } else { finite(logit + bias) }
            });
        }
        let penalty = self.repetition_penalty;
        for token in &self.seen {
            // A negative logit becomes less likely by multiplication.
            change(logits, *token, |logit| {
                finite(if logit > 0.0 { logit / penalty } else { logit * penalty })
            });
        }
        for (token, count) in &self.counts {
            let penalty = self.frequency_penalty * *count as f32 + self.presence_penalty;
            change(logits, *token, |logit| finite(logit - penalty));
        }
        Ok(())
    }

    /// Each filter keeps the beginning of the list in order of likelihood, so the list is sorted only as far as the
    /// filters need.
    fn filter(&self, logits: &[f32], weight: impl Fn(f32) -> f64) -> Vec<(f64, u32)> {
        let likelier = |a: &u32, b: &u32| -> Ordering {
            let (x, y) = (logits[*a as usize], logits[*b as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
        let order = |tokens: &mut [u32], first: usize| {
            if first < tokens.len() {
                tokens.select_nth_unstable_by(first, likelier);
            }
            let first = first.min(tokens.len());
            tokens[..first].sort_unstable_by(likelier);
        };
        if self.top_k > 0 && self.top_k < tokens.len() {
            order(&mut tokens, self.top_k);
            tokens.truncate(self.top_k);
        }
        // min-p compares with the likeliest token, whose weight is 1.
        let unlikely = |token: &u32| weight(logits[*token as usize]) < self.min_p;
        if self.top_p >= 1.0 {
            tokens.retain(|token| !unlikely(token));
            let all = tokens.len();
            order(&mut tokens, all);
        } else {
            let total: f64 = tokens.iter().map(|token| weight(logits[*token as usize])).sum();
            let enough = self.top_p * total;
            let mut ordered = 256;
            loop {
                order(&mut tokens, ordered);
                let mut mass = 0.0;
                let needed = tokens.iter().take(ordered).position(|token| {
                    mass += weight(logits[*token as usize]);
                    mass >= enough
                });
                if let Some(last) = needed {
                    tokens.truncate(last + 1);
                    break;
                }
                if ordered >= tokens.len() {
                    break;
                }
                ordered = ordered.saturating_mul(8);
            }
            tokens.retain(|token| !unlikely(token));
        }
        tokens.into_iter().map(|token| (weight(logits[token as usize]), token)).collect()
    }
}

/// Changes the logit of a token that is still allowed.
fn change(logits: &mut [f32], token: u32, new: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(token as usize)
        && *logit != FORBIDDEN
    {
        *logit = new(*logit);
    }
}

fn finite(logit: f32) -> f32 {
    logit.clamp(f32::MIN, f32::MAX)
}

/// The largest logit, if all are finite numbers. One pass for both: each lane is independent, so the compiler uses
/// vector instructions.
fn finite_max(logits: &[f32]) -> Result<f32, SamplerFault> {
    const LANES: usize = 16;
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let (mut tops, mut zeros) = ([FORBIDDEN; LANES], [0.0_f32; LANES]);
    for chunk in chunks {
        for ((top, zero), logit) in tops.iter_mut().zip(&mut zeros).zip(chunk) {
            *top = if *logit > *top { *logit } else { *top };
            // NaN for infinity and NaN, and it stays NaN.
            *zero += *logit * 0.0;
        }
    }
    let top = tops.iter().chain(rest).copied().fold(FORBIDDEN, f32::max);
    if zeros.iter().any(|zero| zero.is_nan()) || rest.iter().any(|logit| !logit.is_finite()) {
        let token = logits.iter().position(|logit| !logit.is_finite()).unwrap_or_default();
        return Err(SamplerFault::NotFinite { token });
    }
    Ok(top)
}

/// The largest logits, in order, with their tokens; of equal ones the lower token first.
fn largest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    let mut least = FORBIDDEN;
    for (token, logit) in logits.iter().enumerate() {
        if count == 0 || (best.len() == count && *logit <= least) {
            continue;
        }
        let place = best.partition_point(|(_, other)| *other >= *logit);
        best.insert(place, (token as u32, *logit));
        best.truncate(count);
        least = best.last().map_or(FORBIDDEN, |(_, logit)| *logit);
    }
    best
}

/// What turns logits into logarithms of probabilities.
struct Softmax {
    top: f64,
    /// The logarithm of the sum of all weights; that of the likeliest token is 1.
    log_sum: f64,
}

impl Softmax {
    fn of(logits: &[f32], top: f32) -> Self {
        let top = f64::from(top);
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - top).exp()).sum();
        Self { top, log_sum: sum.ln() }
    }

    fn log(&self, logit: f32) -> f32 {
        // JSON has no infinity.
        finite((f64::from(logit) - self.top - self.log_sum) as f32)
    }
}

/// The candidate for this random number, which is from 0 up to 1.
fn pick(candidates: impl Iterator<Item = (f64, u32)> + Clone, draw: f64) -> u32 {
    let total: f64 = candidates.clone().map(|(weight, _)| weight).sum();
    let mut left = draw * total;
    let mut last = 0;
    for (weight, token) in candidates {
        if weight > 0.0 {
            last = token;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

/// The finalizing step of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014), which maps a counter to well-mixed bits.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The number of SplitMix64's sequence from `key` at this position, as a fraction from 0 up to 1.
fn uniform(key: u64, position: u64) -> f64 {
    let step = position.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mix(key.wrapping_add(step)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
