//! The computation of a decoder, over the operations of a backend.

use std::mem;

use candle_core::{Result, bail};

use super::{
    architecture::Architecture,
    backend::{Attention, BLOCK, Backend, CacheShape, Product},
    feed_forward::{self, FeedForward},
    math,
    model::Model,
    part::Part,
    weights::{DecoderWeights, LayerWeights, Projection},
};

/// A decoder on a backend: its weights, and the keys and values of all sequences.
#[derive(Debug)]
pub struct Decoder<B: Backend> {
    backend: B,
    architecture: Architecture,
    embeddings: B::Matrix,
    layers: Vec<Block<B>>,
    output_norm: B::Vector,
    /// `None` if the logits are computed with the matrix of the embeddings.
    output: Option<B::Matrix>,
    rotations: Vec<B::Rotation>,
    /// The rotations have entries for this many positions.
    positions: usize,
    shape: CacheShape,
    cache: B::Cache,
    space: Space<B>,
}

/// The weights of a layer on the backend.
#[derive(Debug)]
struct Block<B: Backend> {
    attention_norm: B::Vector,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    o: Linear<B>,
    q_norm: Option<B::Vector>,
    k_norm: Option<B::Vector>,
    attention_post_norm: Option<B::Vector>,
    feed_forward_norm: B::Vector,
    feed_forward: FeedForward<B>,
    feed_forward_post_norm: Option<B::Vector>,
}

/// A matrix with its bias.
#[derive(Debug)]
struct Linear<B: Backend> {
    matrix: B::Matrix,
    bias: Option<B::Vector>,
}

impl<B: Backend> Linear<B> {
    fn new(backend: &B, stored: Projection) -> Result<Self> {
        let bias = stored.bias.map(|bias| backend.vector(bias)).transpose()?;
        Ok(Self { matrix: backend.matrix(&stored.matrix)?, bias })
    }

    fn product<'a>(&'a self, out: &'a mut B::Rows) -> Product<'a, B> {
        Product { matrix: &self.matrix, bias: self.bias.as_ref(), out }
    }
}

/// Memory that is used again in every layer of every step.
#[derive(Debug)]
struct Space<B: Backend> {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    /// The indexes of the rows whose logits are wanted.
    last: Vec<u32>,
    /// The sum of the outputs of all layers so far.
    x: B::Rows,
    normed: B::Rows,
    q: B::Rows,
    k: B::Rows,
    v: B::Rows,
    attended: B::Rows,
    /// The output of attention or feed-forward.
    y: B::Rows,
    /// Wider than all others, and so apart: a change of width would write zeros first.
    logits: B::Rows,
    feed_forward: feed_forward::Space<B>,
}

impl<B: Backend> Default for Space<B> {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            last: Vec::new(),
            x: B::Rows::default(),
            normed: B::Rows::default(),
            q: B::Rows::default(),
            k: B::Rows::default(),
            v: B::Rows::default(),
            attended: B::Rows::default(),
            y: B::Rows::default(),
            logits: B::Rows::default(),
            feed_forward: feed_forward::Space::default(),
        }
    }
}

impl<B: Backend> Decoder<B> {
    /// Takes the weights of a model, and makes an empty cache of this shape.
    ///
    /// # Errors
    /// The weights or the cache do not have the shapes of the architecture, or the backend does not take them.
    pub fn new(
        backend: B,
        architecture: Architecture,
        weights: DecoderWeights,
        shape: CacheShape,
    ) -> Result<Self> {
        architecture.check()?;
        weights.check(&architecture)?;
        let wanted = CacheShape {
            layers: architecture.layers.len(),
            kv_heads: architecture.kv_heads,
            head_dim: architecture.head_dim,
            ..shape
        };
        if shape != wanted {
            bail!("the cache is {shape:?}; the model needs {wanted:?}");
        }
        let positions = (shape.blocks * BLOCK).min(architecture.positions as usize);
        let shift = architecture.norm_shift;
        let layers = weights.layers.into_iter().map(|layer| Block::new(&backend, layer, shift));
        Ok(Self {
            embeddings: backend.matrix(&weights.embeddings)?,
            layers: layers.collect::<Result<_>>()?,
            output_norm: norm_vector(&backend, weights.output_norm, shift)?,
            output: weights.output.map(|output| backend.matrix(&output)).transpose()?,
            rotations: architecture
                .ropes
                .iter()
                .map(|rope| backend.rotation(rope, positions))
                .collect::<Result<_>>()?,
            positions,
            cache: backend.cache(&shape)?,
            shape,
            space: Space::default(),
            architecture,
            backend,
        })
    }

    /// Refuses a step that would read or write outside of tables and cache.
    fn check(&self, parts: &[Part<'_>]) -> Result<()> {
        for (number, part) in parts.iter().enumerate() {
            let end = part.start.saturating_add(part.tokens.len());
            if part.tokens.is_empty() {
                bail!("part {number} of the step has no tokens");
            }
            if end > self.positions {
                bail!("part {number} of the step ends at position {end} of {}", self.positions);
            }
            if end > part.blocks.len().saturating_mul(BLOCK) {
                let blocks = part.blocks.len();
                bail!("part {number} of the step has {blocks} blocks for {end} positions");
            }
            if let Some(token) =
                part.tokens.iter().find(|token| **token as usize >= self.architecture.vocab)
            {
                let vocab = self.architecture.vocab;
                bail!("part {number} of the step has token {token}; the vocabulary is {vocab}");
            }
            if let Some(block) =
                part.blocks.iter().find(|block| **block as usize >= self.shape.blocks)
            {
                let blocks = self.shape.blocks;
                bail!("part {number} of the step has block {block}; the cache has {blocks}");
            }
        }
        Ok(())
    }

    /// Attention of a layer, added to `space.x`.
    fn attention(&mut self, index: usize, parts: &[Part<'_>]) -> Result<()> {
        let Self { backend, architecture, layers, rotations, cache, space, .. } = self;
        let (block, layer) = (&layers[index], &architecture.layers[index]);
        let (eps, head_dim) = (architecture.norm_eps, architecture.head_dim);
        backend.norm(&space.x, &block.attention_norm, eps, &mut space.normed)?;
        backend.linear(
            &space.normed,
            &mut [
                block.q.product(&mut space.q),
                block.k.product(&mut space.k),
                block.v.product(&mut space.v),
            ],
        )?;
        // `normed` is free now.
        if let Some(weight) = &block.q_norm {
            backend.norm(&space.q, weight, eps, &mut space.normed)?;
            mem::swap(&mut space.q, &mut space.normed);
        }
        if let Some(weight) = &block.k_norm {
            backend.norm(&space.k, weight, eps, &mut space.normed)?;
            mem::swap(&mut space.k, &mut space.normed);
        }
        let rotation = &rotations[layer.rope];
        backend.rotate(&mut space.q, rotation, head_dim, &space.positions)?;
        backend.rotate(&mut space.k, rotation, head_dim, &space.positions)?;
        backend.store(cache, index, parts, &space.k, &space.v)?;
        let spec = Attention {
            heads: architecture.heads,
            kv_heads: architecture.kv_heads,
            head_dim,
            scale: architecture.query_scale,
            softcap: architecture.attention_softcap,
            window: layer.window,
        };
        backend.attend(cache, index, parts, &space.q, &spec, &mut space.attended)?;
        backend.linear(&space.attended, &mut [block.o.product(&mut space.y)])?;
        space.add(backend, block.attention_post_norm.as_ref(), eps)
    }

    /// The feed-forward network of a layer, added to `space.x`.
    fn feed_forward(&mut self, index: usize) -> Result<()> {
        let Self { backend, architecture, layers, space, .. } = self;
        let (block, eps) = (&layers[index], architecture.norm_eps);
        backend.norm(&space.x, &block.feed_forward_norm, eps, &mut space.normed)?;
        block.feed_forward.compute(
            backend,
            architecture,
            &space.normed,
            space.tokens.len(),
            &mut space.feed_forward,
            &mut space.y,
        )?;
        space.add(backend, block.feed_forward_post_norm.as_ref(), eps)
    }

    /// The logits of the rows in `space.last`.
    fn logits(&mut self, logits: &mut Vec<f32>) -> Result<()> {
        let Self { backend, architecture, embeddings, output_norm, output, space, .. } = self;
        if space.last.is_empty() {
            return Ok(());
        }
        let matrix = output.as_ref().unwrap_or(embeddings);
        backend.select(&space.x, &space.last, &mut space.y)?;
        backend.norm(&space.y, output_norm, architecture.norm_eps, &mut space.normed)?;
        let product = Product { matrix, bias: None, out: &mut space.logits };
        backend.linear(&space.normed, &mut [product])?;
        backend.read(&space.logits, logits)?;
        if let Some(cap) = architecture.final_softcap {
            logits.iter_mut().for_each(|logit| *logit = cap * math::tanh(*logit / cap));
        }
        Ok(())
    }
}

impl<B: Backend> Model for Decoder<B> {
    fn vocab(&self) -> usize {
        self.architecture.vocab
    }

    fn cache(&self) -> CacheShape {
        self.shape
    }

    fn step(&mut self, parts: &[Part<'_>], logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        self.check(parts)?;
        self.space.list(parts)?;
        if parts.is_empty() {
            return Ok(());
        }
        let (scale, space) = (self.architecture.embedding_scale, &mut self.space);
        self.backend.embed(&self.embeddings, &space.tokens, scale, &mut space.x)?;
        for index in 0..self.layers.len() {
            self.attention(index, parts)?;
            self.feed_forward(index)?;
        }
        self.logits(logits)
    }
}

impl<B: Backend> Space<B> {
    /// Lists the tokens of all parts with their positions, and the rows whose logits are wanted.
    fn list(&mut self, parts: &[Part<'_>]) -> Result<()> {
        self.tokens.clear();
        self.positions.clear();
        self.last.clear();
        for part in parts {
            for (offset, token) in part.tokens.iter().enumerate() {
                self.tokens.push(*token);
                self.positions.push(u32::try_from(part.start + offset)?);
            }
            if part.logits {
                self.last.push(u32::try_from(self.tokens.len() - 1)?);
            }
        }
        Ok(())
    }

    /// Adds `y`, normalized if the layer does so.
    fn add(&mut self, backend: &B, post_norm: Option<&B::Vector>, eps: f32) -> Result<()> {
        match post_norm {
            Some(weight) => {
                backend.norm(&self.y, weight, eps, &mut self.normed)?;
                backend.add(&mut self.x, &self.normed)
            }
            None => backend.add(&mut self.x, &self.y),
        }
    }
}

impl<B: Backend> Block<B> {
    fn new(backend: &B, weights: LayerWeights, shift: f32) -> Result<Self> {
        let norm = |weight| norm_vector(backend, weight, shift);
        let optional = |weight: Option<Vec<f32>>| weight.map(norm).transpose();
        Ok(Self {
            attention_norm: norm(weights.attention_norm)?,
            q: Linear::new(backend, weights.q)?,
            k: Linear::new(backend, weights.k)?,
            v: Linear::new(backend, weights.v)?,
            o: Linear::new(backend, weights.o)?,
            q_norm: optional(weights.q_norm)?,
            k_norm: optional(weights.k_norm)?,
            attention_post_norm: optional(weights.attention_post_norm)?,
            feed_forward_norm: norm(weights.feed_forward_norm)?,
            feed_forward: FeedForward::new(backend, weights.feed_forward)?,
            feed_forward_post_norm: optional(weights.feed_forward_post_norm)?,
        })
    }
}

fn norm_vector<B: Backend>(backend: &B, mut weight: Vec<f32>, shift: f32) -> Result<B::Vector> {
    weight.iter_mut().for_each(|weight| *weight += shift);
    backend.vector(weight)
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
