//! The tensors of a model: their names, their shapes, and the parts of fused ones.

use std::ops::Range;

use rbee_decoder::architecture::Architecture;

/// A matrix or a vector in the files: some rows of a tensor, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candle) struct TensorRef {
    /// The name of the tensor.
    pub(in crate::candle) name: String,
    /// The shape of the whole tensor, the outermost dimension first.
    pub(in crate::candle) shape: Vec<usize>,
    /// The rows that are meant, with all dimensions but the last one as one. Of a vector: its numbers.
    pub(in crate::candle) rows: Range<usize>,
}

impl TensorRef {
    fn whole(name: String, shape: Vec<usize>) -> Self {
        let rows = match shape.split_last() {
            Some((_, [])) | None => shape.first().copied().unwrap_or(0),
            Some((_, outer)) => outer.iter().product(),
        };
        Self { name, shape, rows: 0..rows }
    }

    fn part(&self, rows: Range<usize>) -> Self {
        Self { rows, ..self.clone() }
    }
}

/// The tensors of a gated feed-forward layer, or of one expert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candle) struct GatedPlan {
    pub(in crate::candle) gate: TensorRef,
    pub(in crate::candle) up: TensorRef,
    pub(in crate::candle) down: TensorRef,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candle) enum FeedForwardPlan {
    Dense(GatedPlan),
    Experts { router: TensorRef, experts: Vec<GatedPlan> },
}

/// The tensors of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candle) struct LayerPlan {
    pub(in crate::candle) attention_norm: TensorRef,
    pub(in crate::candle) q: TensorRef,
    pub(in crate::candle) k: TensorRef,
    pub(in crate::candle) v: TensorRef,
    pub(in crate::candle) o: TensorRef,
    pub(in crate::candle) q_bias: Option<TensorRef>,
    pub(in crate::candle) k_bias: Option<TensorRef>,
    pub(in crate::candle) v_bias: Option<TensorRef>,
    pub(in crate::candle) o_bias: Option<TensorRef>,
    /// The norm of every head of the queries.
    pub(in crate::candle) q_norm: Option<TensorRef>,
    pub(in crate::candle) k_norm: Option<TensorRef>,
    /// The norm of the output of the attention.
    pub(in crate::candle) attention_post_norm: Option<TensorRef>,
    pub(in crate::candle) feed_forward_norm: TensorRef,
    pub(in crate::candle) feed_forward: FeedForwardPlan,
    pub(in crate::candle) feed_forward_post_norm: Option<TensorRef>,
}

/// The tensors of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::candle) struct Plan {
    pub(in crate::candle) embedding: TensorRef,
    pub(in crate::candle) layers: Vec<LayerPlan>,
    pub(in crate::candle) final_norm: TensorRef,
    /// The matrix of the logits; `None` if it is that of the embeddings.
    pub(in crate::candle) head: Option<TensorRef>,
}

/// How a checkpoint stores its matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::candle) struct Layout {
    pub(in crate::candle) names: Names,
    /// True if queries, keys and values are one matrix, in this order.
    pub(in crate::candle) fused_qkv: bool,
    /// True if gate and up are one matrix, in this order.
    pub(in crate::candle) fused_gate: bool,
    /// True if one tensor has gate and up of all experts, and another the rest. (In GGUF files it is always three.)
    pub(in crate::candle) fused_experts: bool,
}

/// The names of tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::candle) enum Names {
    /// As the transformers library writes them: `model.layers.0.self_attn.q_proj.weight`.
    #[default]
    Transformers,
    /// The same after a prefix: `language_model.model.layers…`.
    Prefixed { model: &'static str, head: &'static str },
    /// As in GGUF files: `blk.0.attn_q.weight`.
    Gguf,
}

/// The names that differ between the formats.
struct Spelling {
    embedding: String,
    final_norm: String,
    head: String,
    layer: String,
    attention_norm: &'static str,
    q: &'static str,
    k: &'static str,
    v: &'static str,
    qkv: &'static str,
    o: &'static str,
    q_norm: &'static str,
    k_norm: &'static str,
    attention_post_norm: &'static str,
    feed_forward_norm: &'static str,
    feed_forward_post_norm: &'static str,
    gate: &'static str,
    up: &'static str,
    fused_gate: &'static str,
    down: &'static str,
    router: &'static str,
}

impl Names {
    fn spelling(self, post_norms: bool) -> Spelling {
        let (model, head) = match self {
            Self::Gguf => return Spelling::gguf(),
            Self::Transformers => ("model.", "lm_head.weight"),
            Self::Prefixed { model, head } => (model, head),
        };
        Spelling {
            embedding: format!("{model}embed_tokens.weight"),
            final_norm: format!("{model}norm.weight"),
            head: head.to_owned(),
            layer: format!("{model}layers"),
            attention_norm: "input_layernorm",
            q: "self_attn.q_proj",
            k: "self_attn.k_proj",
            v: "self_attn.v_proj",
            qkv: "self_attn.qkv_proj",
            o: "self_attn.o_proj",
            q_norm: "self_attn.q_norm",
            k_norm: "self_attn.k_norm",
            attention_post_norm: "post_attention_layernorm",
            // The name means two things.
            feed_forward_norm: if post_norms {
                "pre_feedforward_layernorm"
            } else {
                "post_attention_layernorm"
            },
            feed_forward_post_norm: "post_feedforward_layernorm",
            gate: "mlp.gate_proj",
            up: "mlp.up_proj",
            fused_gate: "mlp.gate_up_proj",
            down: "mlp.down_proj",
            router: "mlp.gate",
        }
    }
}

impl Spelling {
    fn gguf() -> Self {
        Self {
            embedding: "token_embd.weight".into(),
            final_norm: "output_norm.weight".into(),
            head: "output.weight".into(),
            layer: "blk".into(),
            attention_norm: "attn_norm",
            q: "attn_q",
            k: "attn_k",
            v: "attn_v",
            qkv: "attn_qkv",
            o: "attn_output",
            q_norm: "attn_q_norm",
            k_norm: "attn_k_norm",
            attention_post_norm: "post_attention_norm",
            feed_forward_norm: "ffn_norm",
            feed_forward_post_norm: "post_ffw_norm",
            gate: "ffn_gate",
            up: "ffn_up",
            fused_gate: "ffn_up",
            down: "ffn_down",
            router: "ffn_gate_inp",
        }
    }
}

impl Plan {
    /// The tensors of a model with this architecture.
    pub(in crate::candle) fn new(architecture: &Architecture, layout: &Layout) -> Self {
        let a = architecture;
        let names = layout.names.spelling(a.post_norms);
        let vector = |name: String, width| TensorRef::whole(name, vec![width]);
        Self {
            embedding: TensorRef::whole(names.embedding.clone(), vec![a.vocab, a.hidden]),
            final_norm: vector(names.final_norm.clone(), a.hidden),
            head: (!a.tied).then(|| TensorRef::whole(names.head.clone(), vec![a.vocab, a.hidden])),
            layers: (0..a.layers.len()).map(|layer| names.layer(a, layout, layer)).collect(),
        }
    }

    /// Every tensor that is used, in the order of the computation. Fused tensors occur several times.
    pub(in crate::candle) fn tensors(&self) -> impl Iterator<Item = &TensorRef> {
        let layers = self.layers.iter().flat_map(|layer| {
            let attention = [&layer.attention_norm, &layer.q, &layer.k, &layer.v, &layer.o];
            let optional = [
                &layer.q_bias,
                &layer.k_bias,
                &layer.v_bias,
                &layer.o_bias,
                &layer.q_norm,
                &layer.k_norm,
                &layer.attention_post_norm,
                &layer.feed_forward_post_norm,
            ];
            let (router, gated) = match &layer.feed_forward {
                FeedForwardPlan::Dense(gated) => (None, std::slice::from_ref(gated)),
                FeedForwardPlan::Experts { router, experts } => (Some(router), &experts[..]),
            };
            attention
                .into_iter()
                .chain(optional.into_iter().flatten())
                .chain([&layer.feed_forward_norm])
                .chain(router)
                .chain(gated.iter().flat_map(|gated| [&gated.gate, &gated.up, &gated.down]))
        });
        [&self.embedding].into_iter().chain(layers).chain([&self.final_norm]).chain(&self.head)
    }
}

impl Spelling {
    fn layer(&self, a: &Architecture, layout: &Layout, layer: usize) -> LayerPlan {
        let name = |part: &str| format!("{}.{layer}.{part}.weight", self.layer);
        let vector = |part: &str, width: usize| TensorRef::whole(name(part), vec![width]);
        let matrix =
            |part: &str, rows: usize, cols: usize| TensorRef::whole(name(part), vec![rows, cols]);
        let (q, kv) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let bias = |part: &str, width: usize| {
            TensorRef::whole(format!("{}.{layer}.{part}.bias", self.layer), vec![width])
        };
        let split = |whole: &TensorRef| {
            [whole.part(0..q), whole.part(q..q + kv), whole.part(q + kv..q + 2 * kv)]
        };
        let [q_weight, k_weight, v_weight] = if layout.fused_qkv {
            split(&matrix(self.qkv, q + 2 * kv, a.hidden))
        } else {
            [
                matrix(self.q, q, a.hidden),
                matrix(self.k, kv, a.hidden),
                matrix(self.v, kv, a.hidden),
            ]
        };
        let [q_bias, k_bias, v_bias] = match (a.qkv_bias, layout.fused_qkv) {
            (false, _) => [None, None, None],
            (true, true) => split(&bias(self.qkv, q + 2 * kv)).map(Some),
            (true, false) => [bias(self.q, q), bias(self.k, kv), bias(self.v, kv)].map(Some),
        };
        let experts = a.experts.filter(|_| a.layers.get(layer).is_some_and(|layer| layer.experts));
        let feed_forward = match experts {
            None if layout.fused_gate => {
                let whole = matrix(self.fused_gate, 2 * a.inner, a.hidden);
                FeedForwardPlan::Dense(GatedPlan {
                    gate: whole.part(0..a.inner),
                    up: whole.part(a.inner..2 * a.inner),
                    down: matrix(self.down, a.hidden, a.inner),
                })
            }
            None => FeedForwardPlan::Dense(GatedPlan {
                gate: matrix(self.gate, a.inner, a.hidden),
                up: matrix(self.up, a.inner, a.hidden),
                down: matrix(self.down, a.hidden, a.inner),
            }),
            Some(experts) => FeedForwardPlan::Experts {
                router: matrix(self.router, experts.count, a.hidden),
                experts: (0..experts.count)
                    .map(|expert| {
                        let prefix = format!("{}.{layer}", self.layer);
                        layout.expert(&prefix, expert, experts.count, experts.inner, a.hidden)
                    })
                    .collect(),
            },
        };
        LayerPlan {
            attention_norm: vector(self.attention_norm, a.hidden),
            q: q_weight,
            k: k_weight,
            v: v_weight,
            o: matrix(self.o, a.hidden, q),
            q_bias,
            k_bias,
            v_bias,
            o_bias: a.output_bias.then(|| bias(self.o, a.hidden)),
            q_norm: a.qk_norm.then(|| vector(self.q_norm, a.head_dim)),
            k_norm: a.qk_norm.then(|| vector(self.k_norm, a.head_dim)),
            attention_post_norm: a.post_norms.then(|| vector(self.attention_post_norm, a.hidden)),
            feed_forward_norm: vector(self.feed_forward_norm, a.hidden),
            feed_forward,
            feed_forward_post_norm: a
                .post_norms
                .then(|| vector(self.feed_forward_post_norm, a.hidden)),
        }
    }
}

impl Layout {
    fn expert(
        &self,
        layer: &str,
        expert: usize,
        count: usize,
        inner: usize,
        hidden: usize,
    ) -> GatedPlan {
        let stacked = |name: &str, rows: usize, cols: usize| {
            let whole = TensorRef::whole(format!("{layer}.{name}"), vec![count, rows, cols]);
            whole.part(expert * rows..(expert + 1) * rows)
        };
        match (self.names, self.fused_experts) {
            (Names::Gguf, _) => GatedPlan {
                gate: stacked("ffn_gate_exps.weight", inner, hidden),
                up: stacked("ffn_up_exps.weight", inner, hidden),
                down: stacked("ffn_down_exps.weight", hidden, inner),
            },
            (_, true) => {
                let both = stacked("mlp.experts.gate_up_proj", 2 * inner, hidden);
                let Range { start, end } = both.rows.clone();
                GatedPlan {
                    gate: both.part(start..start + inner),
                    up: both.part(start + inner..end),
                    down: stacked("mlp.experts.down_proj", hidden, inner),
                }
            }
            (_, false) => {
                let single = |name: &str, rows: usize, cols: usize| {
                    let name = format!("{layer}.mlp.experts.{expert}.{name}.weight");
                    TensorRef::whole(name, vec![rows, cols])
                };
                GatedPlan {
                    gate: single("gate_proj", inner, hidden),
                    up: single("up_proj", inner, hidden),
                    down: single("down_proj", hidden, inner),
                }
            }
        }
    }
}
