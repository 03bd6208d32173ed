//! Checks that the weights of a decoder have the shapes of its architecture.

use candle_core::{Result, bail};

use super::{
    architecture::Architecture,
    matrix::StoredMatrix,
    weights::{DecoderWeights, FeedForwardWeights, GatedWeights, LayerWeights, Projection},
};

impl Architecture {
    /// Refuses a description that contradicts itself.
    ///
    /// # Errors
    /// A number of heads, a rotation or the experts do not fit the rest.
    pub(super) fn check(&self) -> Result<()> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        if kv_heads == 0 || heads == 0 || heads % kv_heads != 0 {
            bail!("{heads} heads of queries cannot share {kv_heads} heads of keys");
        }
        for (index, rope) in self.ropes.iter().enumerate() {
            let rotated = rope.inverse_frequencies.len() * 2;
            if rotated > self.head_dim {
                bail!("rotation {index} is for {rotated} of {} numbers of a head", self.head_dim);
            }
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if layer.rope >= self.ropes.len() {
                bail!("layer {index} has rotation {} of {}", layer.rope, self.ropes.len());
            }
            if layer.window == Some(0) {
                bail!("the attention window of layer {index} is 0; allowed is at least 1");
            }
            if layer.experts && self.experts.is_none() {
                bail!("layer {index} has experts, and the model has none");
            }
        }
        match self.experts {
            Some(experts) if experts.used == 0 || experts.used > experts.count => {
                bail!("a token uses {} of {} experts", experts.used, experts.count)
            }
            _ => Ok(()),
        }
    }
}

impl DecoderWeights {
    /// Refuses weights of other shapes.
    ///
    /// # Errors
    /// A matrix or a vector is missing, or has another size.
    pub(super) fn check(&self, model: &Architecture) -> Result<()> {
        matrix("the embeddings", &self.embeddings, model.vocab, model.hidden)?;
        vector("the last norm", Some(&self.output_norm), true, model.hidden)?;
        match &self.output {
            Some(output) => matrix("the output", output, model.vocab, model.hidden)?,
            None if model.tied => {}
            None => bail!("the matrix of the output is missing"),
        }
        if self.layers.len() != model.layers.len() {
            bail!("there are weights for {} of {} layers", self.layers.len(), model.layers.len());
        }
        for (index, (layer, spec)) in self.layers.iter().zip(&model.layers).enumerate() {
            layer
                .check(model, spec.experts)
                .map_err(|error| error.context(format!("layer {index} does not fit the model")))?;
        }
        Ok(())
    }
}

impl LayerWeights {
    fn check(&self, model: &Architecture, with_experts: bool) -> Result<()> {
        let (hidden, head_dim) = (model.hidden, model.head_dim);
        let (q_width, kv_width) = (model.heads * head_dim, model.kv_heads * head_dim);
        vector("the norm of the attention", Some(&self.attention_norm), true, hidden)?;
        projection("q", &self.q, q_width, hidden, model.qkv_bias)?;
        projection("k", &self.k, kv_width, hidden, model.qkv_bias)?;
        projection("v", &self.v, kv_width, hidden, model.qkv_bias)?;
        projection("the output of the attention", &self.o, hidden, q_width, model.output_bias)?;
        vector("the norm of q", self.q_norm.as_deref(), model.qk_norm, head_dim)?;
        vector("the norm of k", self.k_norm.as_deref(), model.qk_norm, head_dim)?;
        let attention_post_norm = self.attention_post_norm.as_deref();
        vector("the norm after the attention", attention_post_norm, model.post_norms, hidden)?;
        vector("the norm of the feed-forward layer", Some(&self.feed_forward_norm), true, hidden)?;
        let post_norm = self.feed_forward_post_norm.as_deref();
        vector("the norm after the feed-forward layer", post_norm, model.post_norms, hidden)?;
        match (&self.feed_forward, with_experts.then_some(model.experts).flatten()) {
            (FeedForwardWeights::Dense(gated), None) => gated.check(hidden, model.inner),
            (FeedForwardWeights::Experts { router, experts }, Some(spec)) => {
                matrix("the router", router, spec.count, hidden)?;
                if experts.len() != spec.count {
                    bail!("there are {} of {} experts", experts.len(), spec.count);
                }
                experts.iter().try_for_each(|expert| expert.check(hidden, spec.inner))
            }
            (FeedForwardWeights::Dense(_), Some(_)) => bail!("the experts are missing"),
            (FeedForwardWeights::Experts { .. }, None) => bail!("there are experts"),
        }
    }
}

impl GatedWeights {
    fn check(&self, hidden: usize, inner: usize) -> Result<()> {
        matrix("gate", &self.gate, inner, hidden)?;
        matrix("up", &self.up, inner, hidden)?;
        matrix("down", &self.down, hidden, inner)
    }
}

fn projection(
    role: &str,
    projection: &Projection,
    rows: usize,
    cols: usize,
    with_bias: bool,
) -> Result<()> {
    matrix(role, &projection.matrix, rows, cols)?;
    vector(&format!("the bias of {role}"), projection.bias.as_deref(), with_bias, rows)
}

fn matrix(role: &str, matrix: &StoredMatrix, rows: usize, cols: usize) -> Result<()> {
    if (matrix.rows, matrix.cols) != (rows, cols) {
        bail!("{role} is {} × {}; expected is {rows} × {cols}", matrix.rows, matrix.cols);
    }
    let block = matrix.kind.block();
    if !cols.is_multiple_of(block) {
        let name = matrix.kind.name();
        bail!("{role} has rows of {cols} numbers, and {name} has blocks of {block}");
    }
    if matrix.bytes.len() != rows * matrix.kind.bytes(cols) {
        bail!(
            "{role} has {} bytes; expected are {}",
            matrix.bytes.len(),
            rows * matrix.kind.bytes(cols)
        );
    }
    Ok(())
}

fn vector(role: &str, vector: Option<&[f32]>, expected: bool, len: usize) -> Result<()> {
    match vector {
        Some(_) if !expected => bail!("the model has no place for {role}"),
        None if expected => bail!("{role} is missing"),
        Some(vector) if vector.len() != len => {
            bail!("{role} has {} numbers; expected are {len}", vector.len())
        }
        _ => Ok(()),
    }
}
