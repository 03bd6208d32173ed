//! Weights by their role, from the tensors of a plan.

use rbee_decoder::weights::{
    DecoderWeights, FeedForwardWeights, GatedWeights, LayerWeights, Projection,
};

use super::{
    plan::{FeedForwardPlan, GatedPlan, LayerPlan, Plan, TensorRef},
    weights::LoadedWeights,
};
use crate::candle::files::Loaded;

/// The loaded tensors of this plan by their role. The matrices are not copied.
pub(in crate::candle) fn assemble(plan: &Plan, loaded: &LoadedWeights) -> Loaded<DecoderWeights> {
    Ok(DecoderWeights {
        embeddings: loaded.matrix(&plan.embedding)?,
        layers: plan.layers.iter().map(|plan| layer(plan, loaded)).collect::<Loaded<_>>()?,
        output_norm: loaded.vector(&plan.final_norm)?,
        output: plan.head.as_ref().map(|head| loaded.matrix(head)).transpose()?,
    })
}

fn layer(plan: &LayerPlan, loaded: &LoadedWeights) -> Loaded<LayerWeights> {
    let vector = |wanted: &TensorRef| loaded.vector(wanted);
    let optional = |wanted: &Option<TensorRef>| wanted.as_ref().map(vector).transpose();
    let projection = |matrix: &TensorRef, bias: &Option<TensorRef>| -> Loaded<Projection> {
        Ok(Projection { matrix: loaded.matrix(matrix)?, bias: optional(bias)? })
    };
    Ok(LayerWeights {
        attention_norm: vector(&plan.attention_norm)?,
        q: projection(&plan.q, &plan.q_bias)?,
        k: projection(&plan.k, &plan.k_bias)?,
        v: projection(&plan.v, &plan.v_bias)?,
        o: projection(&plan.o, &plan.o_bias)?,
        q_norm: optional(&plan.q_norm)?,
        k_norm: optional(&plan.k_norm)?,
        attention_post_norm: optional(&plan.attention_post_norm)?,
        feed_forward_norm: vector(&plan.feed_forward_norm)?,
        feed_forward: match &plan.feed_forward {
            FeedForwardPlan::Dense(plan) => FeedForwardWeights::Dense(gated(plan, loaded)?),
            FeedForwardPlan::Experts { router, experts } => FeedForwardWeights::Experts {
                router: loaded.matrix(router)?,
                experts: experts.iter().map(|plan| gated(plan, loaded)).collect::<Loaded<_>>()?,
            },
        },
        feed_forward_post_norm: optional(&plan.feed_forward_post_norm)?,
    })
}

fn gated(plan: &GatedPlan, loaded: &LoadedWeights) -> Loaded<GatedWeights> {
    Ok(GatedWeights {
        gate: loaded.matrix(&plan.gate)?,
        up: loaded.matrix(&plan.up)?,
        down: loaded.matrix(&plan.down)?,
    })
}
