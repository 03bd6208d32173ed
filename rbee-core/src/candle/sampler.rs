//! Sampling: the choice of the next token.
//!
//! The steps are those of [`Sampling`], in its order. Everything after the logits is computed in 64-bit floats from the
//! logits, the seed and the position, so the choice at a position does not depend on earlier choices: this allows
//! another worker to continue a stream.

use std::cmp::Ordering;

use crate::task::Sampling;

/// The error for logits that are not finite numbers: the model, or the device, is broken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotFinite {
    /// The first token with such a logit.
    pub(super) token: usize,
}

/// Draws tokens for one answer.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    penalty: f32,
    key: u64,
    /// The tokens of prompt and answer, for the repetition penalty.
    seen: Vec<bool>,
}

impl Sampler {
    pub(super) fn new(sampling: &Sampling, seed: u64, vocab: usize) -> Self {
        Self {
            temperature: sampling.temperature.into(),
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p.into(),
            min_p: sampling.min_p.into(),
            penalty: sampling.repetition_penalty,
            // Seeds are often small numbers; the mixing makes the keys of neighboring seeds unrelated.
            key: mix(seed ^ 0x7262_6565_2d63_616e),
            seen: vec![false; vocab],
        }
    }

    /// Records tokens of the prompt or of the answer.
    pub(super) fn note(&mut self, tokens: &[u32]) {
        for token in tokens {
            if let Some(seen) = self.seen.get_mut(*token as usize) {
                *seen = true;
            }
        }
    }

    /// The token at this position of the answer (0 is its first).
    pub(super) fn choose(&self, logits: &mut [f32], position: u64) -> Result<u32, NotFinite> {
        if let Some(token) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(NotFinite { token });
        }
        self.penalise(logits);
        if self.temperature == 0.0 || self.top_k == 1 {
            return Ok(argmax(logits));
        }
        let top = logits.iter().copied().fold(f32::MIN, f32::max);
        let weight = |logit: f32| ((f64::from(logit) - f64::from(top)) / self.temperature).exp();
        let draw = uniform(self.key, position);
        if self.top_k == 0 && self.top_p >= 1.0 && self.min_p == 0.0 {
            return Ok(pick(logits.iter().map(|logit| weight(*logit)).zip(0..), draw));
        }
        let kept = self.filter(logits, weight);
        Ok(pick(kept.iter().copied(), draw))
    }

    fn penalise(&self, logits: &mut [f32]) {
        if self.penalty == 1.0 {
            return;
        }
        for (logit, seen) in logits.iter_mut().zip(&self.seen) {
            if *seen {
                // A negative logit becomes less likely by multiplication.
                let penalised =
                    if *logit > 0.0 { *logit / self.penalty } else { *logit * self.penalty };
                *logit = penalised.clamp(f32::MIN, f32::MAX);
            }
        }
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

/// The first of the largest.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
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
