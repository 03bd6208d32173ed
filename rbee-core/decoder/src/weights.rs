//! The weights of a decoder, by their role in the computation.

use super::matrix::StoredMatrix;

/// All weights of a model. The names of tensors, and tensors that hold several roles at once, are resolved already.
///
/// Vectors are as the files have them: [`Architecture::norm_shift`](super::architecture::Architecture::norm_shift) is
/// not added yet.
#[derive(Debug)]
pub struct DecoderWeights {
    /// `vocab` rows of `hidden`.
    pub embeddings: StoredMatrix,
    /// In the order of the computation.
    pub layers: Vec<LayerWeights>,
    /// The norm after the last layer.
    pub output_norm: Vec<f32>,
    /// `vocab` rows of `hidden`, which give the logits; `None` if the model is
    /// [`tied`](super::architecture::Architecture::tied).
    pub output: Option<StoredMatrix>,
}

/// The weights of a layer. `q_width` is `heads · head_dim`, `kv_width` is `kv_heads · head_dim`.
#[derive(Debug)]
pub struct LayerWeights {
    /// The norm before the attention.
    pub attention_norm: Vec<f32>,
    /// `q_width` rows of `hidden`.
    pub q: Projection,
    /// `kv_width` rows of `hidden`.
    pub k: Projection,
    /// `kv_width` rows of `hidden`.
    pub v: Projection,
    /// `hidden` rows of `q_width`.
    pub o: Projection,
    /// The norm of every head of the queries, `head_dim` numbers.
    pub q_norm: Option<Vec<f32>>,
    /// The norm of every head of the keys, `head_dim` numbers.
    pub k_norm: Option<Vec<f32>>,
    /// The norm of the output of the attention.
    pub attention_post_norm: Option<Vec<f32>>,
    /// The norm before the feed-forward layer.
    pub feed_forward_norm: Vec<f32>,
    /// The feed-forward network.
    pub feed_forward: FeedForwardWeights,
    /// The norm of the output of the feed-forward layer.
    pub feed_forward_post_norm: Option<Vec<f32>>,
}

/// A matrix and its bias, one number per row.
#[derive(Debug)]
pub struct Projection {
    /// The matrix.
    pub matrix: StoredMatrix,
    /// Added to the outputs.
    pub bias: Option<Vec<f32>>,
}

/// The weights of a feed-forward layer.
#[derive(Debug)]
pub enum FeedForwardWeights {
    /// One network for all tokens.
    Dense(GatedWeights),
    /// A mixture of experts.
    Experts {
        /// One row of `hidden` per expert.
        router: StoredMatrix,
        /// In the order of their indexes.
        experts: Vec<GatedWeights>,
    },
}

/// The matrices of a gated feed-forward network.
#[derive(Debug)]
pub struct GatedWeights {
    /// `inner` rows of `hidden`.
    pub gate: StoredMatrix,
    /// `inner` rows of `hidden`.
    pub up: StoredMatrix,
    /// `hidden` rows of `inner`.
    pub down: StoredMatrix,
}
