//! Rotary position embeddings with all their scalings.
//!
//! Every scaling gives fixed frequencies: those that depend on the length of a sequence are chosen by the context that
//! the worker offers, because the results of a sequence must not depend on how long it becomes.

use std::f64::consts::TAU;

use rbee_decoder::architecture::{Pairs, Rope};

/// How the frequencies differ from those of the first paper.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::candle) enum Scaling {
    None,
    /// All positions are divided by this (Chen and others, "Position Interpolation", 2023).
    Linear(f64),
    /// Low frequencies are divided by a factor, with a smooth transition; Llama 3.1.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// Peng and others, "YaRN", 2023.
    Yarn {
        factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        /// True if the limits of the transition are whole numbers.
        truncate: bool,
        original: f64,
        magnitude: f64,
    },
    /// Each frequency is divided by a factor of its own; LongRoPE (Ding and others, 2024).
    Factors {
        factors: Vec<f64>,
        magnitude: f64,
    },
}

/// A rotation before its frequencies are computed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::candle) struct RopeSpec {
    /// The base of the frequencies.
    pub(in crate::candle) theta: f64,
    /// The numbers of a head that are rotated: even, and at least 2.
    pub(in crate::candle) dims: usize,
    pub(in crate::candle) scaling: Scaling,
}

impl RopeSpec {
    pub(in crate::candle) fn resolve(&self, pairs: Pairs) -> Rope {
        let plain = |pair: usize| 1.0 / libm::pow(self.theta, (2 * pair) as f64 / self.dims as f64);
        let (scaled, magnitude): (Vec<f64>, f64) = {
            let plain = (0..self.dims / 2).map(plain);
            match &self.scaling {
                Scaling::None => (plain.collect(), 1.0),
                Scaling::Linear(factor) => (plain.map(|f| f / factor).collect(), 1.0),
                Scaling::Llama3 { factor, low, high, original } => {
                    let scale = |f: f64| {
                        let turns = f * original / TAU;
                        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                        (1.0 - smooth) * f / factor + smooth * f
                    };
                    (plain.map(scale).collect(), 1.0)
                }
                Scaling::Yarn { factor, beta_fast, beta_slow, truncate, original, magnitude } => {
                    let dims = self.dims as f64;
                    // The pair that turns this often within the original context.
                    let pair = |turns: f64| {
                        dims * libm::log(original / (turns * TAU)) / (2.0 * libm::log(self.theta))
                    };
                    let (mut low, mut high) = (pair(*beta_fast), pair(*beta_slow));
                    if *truncate {
                        (low, high) = (low.floor(), high.ceil());
                    }
                    (low, high) = (low.max(0.0), high.min(dims - 1.0));
                    if low == high {
                        high += 0.001;
                    }
                    let scale = |(pair, f): (usize, f64)| {
                        let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                        f / factor * ramp + f * (1.0 - ramp)
                    };
                    (plain.enumerate().map(scale).collect(), *magnitude)
                }
                Scaling::Factors { factors, magnitude } => {
                    (plain.zip(factors).map(|(f, factor)| f / factor).collect(), *magnitude)
                }
            }
        };
        Rope {
            inverse_frequencies: scaled.into_iter().map(|f| f as f32).collect(),
            magnitude: magnitude as f32,
            pairs,
        }
    }
}

/// The factor of sine and cosine that YaRN recommends for this scale.
pub(in crate::candle) fn yarn_magnitude(factor: f64, weight: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * weight * libm::log(factor) + 1.0 }
}

/// The factor of sine and cosine that LongRoPE recommends for this scale.
pub(in crate::candle) fn longrope_magnitude(factor: f64, original: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { (1.0 + libm::log(factor) / libm::log(original)).sqrt() }
}
