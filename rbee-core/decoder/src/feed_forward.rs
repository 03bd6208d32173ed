//! Feed-forward layers: one gated network, or a mixture of them.

use candle_core::Result;

use super::{
    architecture::{Activation, Architecture, Experts},
    backend::{Backend, Product},
    math,
    weights::{FeedForwardWeights, GatedWeights},
};

/// A feed-forward layer on a backend.
#[derive(Debug)]
pub(super) enum FeedForward<B: Backend> {
    Dense(Gated<B>),
    Experts { router: B::Matrix, experts: Vec<Gated<B>> },
}

/// A gated network on a backend.
#[derive(Debug)]
pub(super) struct Gated<B: Backend> {
    gate: B::Matrix,
    up: B::Matrix,
    down: B::Matrix,
}

/// Memory that is used again.
#[derive(Debug)]
pub(super) struct Space<B: Backend> {
    gate: B::Rows,
    up: B::Rows,
    /// The inputs and outputs of one expert.
    x: B::Rows,
    y: B::Rows,
    scores: Vec<f32>,
    selection: Selection,
}

impl<B: Backend> Default for Space<B> {
    fn default() -> Self {
        Self {
            gate: B::Rows::default(),
            up: B::Rows::default(),
            x: B::Rows::default(),
            y: B::Rows::default(),
            scores: Vec::new(),
            selection: Selection::default(),
        }
    }
}

impl<B: Backend> FeedForward<B> {
    pub(super) fn new(backend: &B, weights: FeedForwardWeights) -> Result<Self> {
        Ok(match weights {
            FeedForwardWeights::Dense(gated) => Self::Dense(Gated::new(backend, &gated)?),
            FeedForwardWeights::Experts { router, experts } => Self::Experts {
                router: backend.matrix(&router)?,
                experts: experts
                    .iter()
                    .map(|expert| Gated::new(backend, expert))
                    .collect::<Result<_>>()?,
            },
        })
    }

    /// Replaces `out` by the output for these rows.
    pub(super) fn compute(
        &self,
        backend: &B,
        architecture: &Architecture,
        x: &B::Rows,
        rows: usize,
        space: &mut Space<B>,
        out: &mut B::Rows,
    ) -> Result<()> {
        let Space { gate, up, x: expert_x, y: expert_y, scores, selection } = space;
        let activation = architecture.activation;
        let (router, experts, spec) = match (self, &architecture.experts) {
            (Self::Dense(gated), _) => {
                return gated.compute(backend, activation, x, gate, up, out);
            }
            (Self::Experts { router, experts }, Some(spec)) => (router, experts, spec),
            (Self::Experts { .. }, None) => {
                candle_core::bail!("a layer has experts, and the architecture has none")
            }
        };
        backend.linear(x, &mut [Product { matrix: router, bias: None, out: &mut *gate }])?;
        backend.read(gate, scores)?;
        selection.fill(spec, scores)?;
        backend.zeros(rows, architecture.hidden, out)?;
        // In the order of the experts, so that the sum of a token does not depend on the other tokens.
        for (expert, (rows, weights)) in experts.iter().zip(selection.experts()) {
            if rows.is_empty() {
                continue;
            }
            backend.select(x, rows, expert_x)?;
            expert.compute(backend, activation, expert_x, gate, up, expert_y)?;
            backend.add_scaled(out, rows, weights, expert_y)?;
        }
        Ok(())
    }
}

impl<B: Backend> Gated<B> {
    fn new(backend: &B, weights: &GatedWeights) -> Result<Self> {
        Ok(Self {
            gate: backend.matrix(&weights.gate)?,
            up: backend.matrix(&weights.up)?,
            down: backend.matrix(&weights.down)?,
        })
    }

    fn compute(
        &self,
        backend: &B,
        activation: Activation,
        x: &B::Rows,
        gate: &mut B::Rows,
        up: &mut B::Rows,
        out: &mut B::Rows,
    ) -> Result<()> {
        let mut products = [
            Product { matrix: &self.gate, bias: None, out: &mut *gate },
            Product { matrix: &self.up, bias: None, out: &mut *up },
        ];
        backend.linear(x, &mut products)?;
        backend.gate(activation, gate, up)?;
        backend.linear(gate, &mut [Product { matrix: &self.down, bias: None, out }])
    }
}

/// The experts of the tokens of a step.
#[derive(Debug, Default)]
struct Selection {
    /// For each expert the rows that it computes, and the weight of each.
    experts: Vec<(Vec<u32>, Vec<f32>)>,
    /// The probabilities of one token.
    probabilities: Vec<f32>,
    /// The experts of one token, the best first.
    best: Vec<usize>,
}

impl Selection {
    /// Selects the experts of each token by the router's scores, one row of `count` numbers per token.
    fn fill(&mut self, spec: &Experts, scores: &[f32]) -> Result<()> {
        self.experts.resize_with(spec.count, Default::default);
        for (rows, weights) in &mut self.experts {
            rows.clear();
            weights.clear();
        }
        for (row, scores) in scores.chunks_exact(spec.count).enumerate() {
            let row = u32::try_from(row)?;
            let total = self.select(spec, scores);
            for expert in &self.best {
                let (rows, weights) = &mut self.experts[*expert];
                rows.push(row);
                weights.push(self.probabilities[*expert] / total);
            }
        }
        Ok(())
    }

    /// Fills `probabilities` and `best` for one token, and returns the number to divide the weights by.
    fn select(&mut self, spec: &Experts, scores: &[f32]) -> f32 {
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        self.probabilities.clear();
        self.probabilities.extend(scores.iter().map(|score| math::exp(score - highest)));
        let sum: f32 = self.probabilities.iter().sum();
        self.probabilities.iter_mut().for_each(|probability| *probability /= sum);
        let by_score = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
        self.best.clear();
        self.best.extend(0..spec.count);
        if spec.used < spec.count {
            self.best.select_nth_unstable_by(spec.used, by_score);
            self.best.truncate(spec.used);
        }
        self.best.sort_unstable_by(by_score);
        if spec.normalized {
            self.best.iter().map(|expert| self.probabilities[*expert]).sum()
        } else {
            1.0
        }
    }

    fn experts(&self) -> impl Iterator<Item = (&[u32], &[f32])> {
        self.experts.iter().map(|(rows, weights)| (rows.as_slice(), weights.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(spec: Experts, scores: &[f32]) -> Vec<(Vec<u32>, Vec<f32>)> {
        let mut selection = Selection::default();
        selection.fill(&spec, scores).unwrap();
        selection.experts
    }

    const SPEC: Experts = Experts { count: 4, used: 2, inner: 8, normalized: true };

    #[test]
    fn the_weights_of_the_selected_experts_add_up_to_one() {
        let experts = selected(SPEC, &[0.0, 2_f32.ln(), -1.0, 6_f32.ln()]);
        assert_eq!(experts[0].0, [] as [u32; 0]);
        let weights = [experts[1].1[0], experts[3].1[0]];
        assert!(
            (weights[0] - 0.25).abs() < 1e-6 && (weights[1] - 0.75).abs() < 1e-6,
            "{weights:?}"
        );
    }

    #[test]
    fn without_normalization_a_weight_is_the_probability_among_all_experts() {
        let spec = Experts { normalized: false, ..SPEC };
        let experts = selected(spec, &[0.0, 2_f32.ln(), 0.0, 6_f32.ln()]);
        let weights = [experts[1].1[0], experts[3].1[0]];
        assert!((weights[0] - 0.2).abs() < 1e-6 && (weights[1] - 0.6).abs() < 1e-6, "{weights:?}");
    }

    #[test]
    fn scores_of_any_size_give_weights() {
        let experts = selected(SPEC, &[1e30, 1e30, -1e30, 0.0]);
        assert_eq!([&experts[0].1, &experts[1].1], [&[0.5], &[0.5]]);
    }

    #[test]
    fn equal_scores_select_the_experts_of_lower_index() {
        let experts = selected(SPEC, &[1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0]);
        let rows: Vec<&[u32]> = experts.iter().map(|(rows, _)| rows.as_slice()).collect();
        assert_eq!(rows, [&[0_u32][..], &[0, 1], &[1], &[]]);
    }

    #[test]
    fn a_token_gets_the_same_weights_beside_others() {
        let scores: Vec<f32> = (0..64).map(|at| ((at * 37 % 101) as f32) * 0.1).collect();
        let batched = selected(SPEC, &scores);
        for (row, scores) in scores.chunks(SPEC.count).enumerate() {
            for (expert, (rows, weights)) in selected(SPEC, scores).iter().enumerate() {
                let at = batched[expert].0.iter().position(|other| *other as usize == row);
                assert_eq!(at.is_some(), !rows.is_empty());
                assert_eq!(at.map(|at| batched[expert].1[at]), weights.first().copied());
            }
        }
    }
}
