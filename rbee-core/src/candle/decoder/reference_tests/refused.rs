//! Steps and weights that a decoder refuses.

use candle_core::Result;
use rbee_decoder::{
    architecture::{Architecture, Experts},
    backend::CacheShape,
    weights::{DecoderWeights, FeedForwardWeights, GatedWeights},
};

use super::*;

/// The first case, on candle's tensors.
fn first() -> Pair<Tensors> {
    let case = &cases::all()[0];
    pair(tensors(), safetensors(case, WeightType::F32), CacheType::F32)
}

#[test]
fn a_step_outside_of_tables_and_cache_is_refused() {
    let mut pair = first();
    let good = Part { tokens: &[5, 6], start: 0, blocks: &[3], logits: true };
    let mut expected = Vec::new();
    pair.decoder.step(&[good], &mut expected).unwrap();
    let blocks = [0_u32; 9];
    let long = [1_u32; 257];
    for (bad, said) in [
        (Part { tokens: &[], ..good }, "no tokens"),
        (Part { tokens: &[198, 199], ..good }, "token 199; the vocabulary is 199"),
        (Part { start: 31, ..good }, "1 blocks for 33 positions"),
        (Part { blocks: &[], ..good }, "0 blocks for 2 positions"),
        (Part { blocks: &[8], ..good }, "block 8; the cache has 8"),
        (Part { tokens: &long, blocks: &blocks, ..good }, "position 257 of 256"),
        (Part { start: usize::MAX, blocks: &blocks, ..good }, "of 256"),
    ] {
        let mut logits = vec![1.0];
        let error = pair.decoder.step(&[good, bad], &mut logits).unwrap_err().to_string();
        assert!(error.contains("part 1") && error.contains(said), "{error}");
        assert!(logits.is_empty());
    }
    let mut again = Vec::new();
    pair.decoder.step(&[good], &mut again).unwrap();
    assert_eq!(again, expected);
}

#[test]
fn only_the_parts_that_want_logits_get_them() {
    let mut pair = first();
    let part =
        |tokens, block: &'static [u32], logits| Part { tokens, start: 0, blocks: block, logits };
    let parts = [part(&[5, 6], &[3], false), part(&[8], &[2], true), part(&[9], &[1], false)];
    let (mut batched, mut alone) = (Vec::new(), Vec::new());
    pair.decoder.step(&parts, &mut batched).unwrap();
    pair.decoder.step(&parts[1..2], &mut alone).unwrap();
    assert_eq!(batched.len(), pair.decoder.vocab());
    let difference = batched.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-4, "{difference}");
    pair.decoder.step(&parts[..1], &mut alone).unwrap();
    assert!(alone.is_empty());
    pair.decoder.step(&[], &mut alone).unwrap();
    assert!(alone.is_empty());
}

/// What a decoder says about changed weights or a changed description.
fn refusal(change: impl FnOnce(&mut Architecture, &mut DecoderWeights)) -> String {
    let (mut architecture, mut weights) = safetensors(&cases::all()[0], WeightType::F32);
    change(&mut architecture, &mut weights);
    let shape = CacheShape {
        kind: CacheType::F32,
        layers: 3,
        blocks: 1,
        kv_heads: 2,
        head_dim: architecture.head_dim,
    };
    let made: Result<Decoder<Tensors>> = Decoder::new(tensors(), architecture, weights, shape);
    format!("{:#}", made.unwrap_err())
}

#[test]
fn weights_of_another_shape_are_refused() {
    for (said, got) in [
        ("embeddings is 199 × 64; expected is 200 × 64", refusal(|model, _| model.vocab = 200)),
        (
            "last norm has 63 numbers",
            refusal(|_, weights| {
                let _ = weights.output_norm.pop();
            }),
        ),
        ("output is missing", refusal(|_, weights| weights.output = None)),
        ("weights for 2 of 3 layers", refusal(|_, weights| drop(weights.layers.pop()))),
        ("the norm of q is missing", refusal(|model, _| model.qk_norm = true)),
        ("the bias of q is missing", refusal(|model, _| model.qkv_bias = true)),
        (
            "no place for the bias of v",
            refusal(|_, weights| weights.layers[1].v.bias = Some(vec![0.0; 32])),
        ),
        (
            "k is 31 × 64; expected is 32 × 64",
            refusal(|_, weights| {
                let k = &mut weights.layers[1].k.matrix;
                *k = k.slice(0..31);
            }),
        ),
        (
            "up has 24576 bytes; expected are 12288",
            refusal(|_, weights| {
                let FeedForwardWeights::Dense(gated) = &mut weights.layers[0].feed_forward else {
                    panic!("it is dense");
                };
                gated.up.kind = WeightType::F16;
            }),
        ),
        (
            "Q2_K has blocks of 256",
            refusal(|_, weights| weights.layers[2].o.matrix.kind = WeightType::Q2K),
        ),
    ] {
        assert!(got.contains(said), "{said}: {got}");
    }
}

/// The same of a mixture of experts, with the index of a layer that has them.
fn mixture_refusal(change: impl FnOnce(&mut Architecture, &mut DecoderWeights, usize)) -> String {
    let cases = cases::all();
    let case = cases.iter().find(|case| case.name == "qwen3-moe").unwrap();
    let (mut architecture, mut weights) = safetensors(case, WeightType::F32);
    let shape = CacheShape::of(&architecture, CacheType::F32, 1);
    let layer = architecture.layers.iter().position(|layer| layer.experts).unwrap();
    change(&mut architecture, &mut weights, layer);
    format!("{:#}", Decoder::new(tensors(), architecture, weights, shape).unwrap_err())
}

fn experts(weights: &mut DecoderWeights, layer: usize) -> &mut Vec<GatedWeights> {
    match &mut weights.layers[layer].feed_forward {
        FeedForwardWeights::Experts { experts, .. } => experts,
        dense @ FeedForwardWeights::Dense(_) => panic!("{dense:?}"),
    }
}

#[test]
fn a_mixture_with_other_experts_is_refused() {
    for (said, got) in [
        ("of 6 experts", mixture_refusal(|_, weights, layer| drop(experts(weights, layer).pop()))),
        (
            "the experts are missing",
            mixture_refusal(|_, weights, layer| {
                let expert = experts(weights, layer).remove(0);
                weights.layers[layer].feed_forward = FeedForwardWeights::Dense(expert);
            }),
        ),
        (
            "there are experts",
            mixture_refusal(|model, _, layer| model.layers[layer].experts = false),
        ),
    ] {
        assert!(got.contains(said), "{said}: {got}");
    }
}

#[test]
fn a_description_that_contradicts_itself_is_refused() {
    for (said, got) in [
        ("4 heads of queries cannot share 3", refusal(|model, _| model.kv_heads = 3)),
        ("4 heads of queries cannot share 0", refusal(|model, _| model.kv_heads = 0)),
        ("layer 2 has rotation 1 of 1", refusal(|model, _| model.layers[2].rope = 1)),
        ("window of layer 1 is 0", refusal(|model, _| model.layers[1].window = Some(0))),
        ("layer 0 has experts", refusal(|model, _| model.layers[0].experts = true)),
        ("18 of 16 numbers", refusal(|model, _| model.ropes[0].inverse_frequencies.push(0.5))),
        (
            "uses 3 of 2 experts",
            refusal(|model, _| {
                model.experts = Some(Experts { count: 2, used: 3, inner: 8, normalized: false });
            }),
        ),
    ] {
        assert!(got.contains(said), "{said}: {got}");
    }
}

#[test]
fn a_cache_of_another_shape_is_refused() {
    let (architecture, weights) = safetensors(&cases::all()[0], WeightType::F32);
    let shape =
        CacheShape { kind: CacheType::F32, layers: 2, blocks: 1, kv_heads: 2, head_dim: 16 };
    let error = Decoder::new(tensors(), architecture, weights, shape).unwrap_err().to_string();
    assert!(error.contains("layers: 2") && error.contains("layers: 3"), "{error}");
}
