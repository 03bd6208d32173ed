//! The description of a decoder-only transformer.

/// Everything about a model's computation but its weights.
///
/// The computation for a token `x` of width `hidden`, in each layer:
///
/// ```text
/// h = norm(x);  q, k, v = h·Wq + bq, h·Wk + bk, h·Wv + bv
/// if qk_norm: every head of q and k is normalized;  q, k are rotated
/// a = attention(q · query_scale, k, v)·Wo + bo;      if post_norms: a = norm(a);   x += a
/// h = norm(x);  m = (activation(h·Wgate) * h·Wup)·Wdown;  if post_norms: m = norm(m);   x += m
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// The name of the family, for messages: `Llama`.
    pub family: &'static str,
    /// The number of tokens that have an embedding.
    pub vocab: usize,
    /// The width of a token's vector.
    pub hidden: usize,
    /// The heads of the queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// The heads of keys and values.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// The inner width of the dense feed-forward layers.
    pub inner: usize,
    /// The longest context that the model was made for, in tokens.
    pub positions: u32,
    /// One entry per layer.
    pub layers: Vec<Layer>,
    /// The rotations that layers refer to.
    pub ropes: Vec<Rope>,
    /// Added to the mean of squares in every norm.
    pub norm_eps: f32,
    /// Added to every weight of a norm: 1 for Gemma in safetensors, else 0.
    pub norm_shift: f32,
    /// True if the outputs of attention and feed-forward are normalized before they are added.
    pub post_norms: bool,
    /// True if every head of queries and keys is normalized before its rotation.
    pub qk_norm: bool,
    /// True if queries, keys and values have biases.
    pub qkv_bias: bool,
    /// True if the output of the attention has a bias.
    pub output_bias: bool,
    /// Multiplies the scores: usually `head_dim^-0.5`.
    pub query_scale: f32,
    /// Limits the scores to ±this by `c·tanh(s/c)`.
    pub attention_softcap: Option<f32>,
    /// Limits the logits in the same way.
    pub final_softcap: Option<f32>,
    /// The activation of the feed-forward layers.
    pub activation: Activation,
    /// Multiplies the embeddings; 1 for most families.
    pub embedding_scale: f32,
    /// True if the logits are computed with the matrix of the embeddings.
    pub tied: bool,
    /// The experts of the layers whose [`Layer::experts`] is true.
    pub experts: Option<Experts>,
}

/// What differs between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The most tokens that a token attends to, itself included; `None`: all before it.
    pub window: Option<usize>,
    /// The index of its rotation in [`Architecture::ropes`].
    pub rope: usize,
    /// True if its feed-forward layer is a mixture of experts.
    pub experts: bool,
}

/// A rotary position embedding (Su and others, "RoFormer", 2021) after all scaling.
///
/// Pair `i` of a head is rotated by `position · inverse_frequencies[i]` radians. Of a head, the first
/// `2 · inverse_frequencies.len()` numbers are rotated, and the rest stay as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// One per pair, in radians per position.
    pub inverse_frequencies: Vec<f32>,
    /// Multiplies sine and cosine: 1 but for YaRN and LongRoPE.
    pub magnitude: f32,
    /// Which numbers are a pair.
    pub pairs: Pairs,
}

/// Which numbers of a head make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `i` and `i + n` of `2·n` rotated numbers.
    Halves,
    /// `2·i` and `2·i + 1`; Llama in GGUF.
    Neighbors,
}

/// The activation between gate and product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// GELU with the error function.
    Gelu,
}

/// A mixture of experts: a router's softmax over all experts selects the best ones of each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// The number of experts.
    pub count: usize,
    /// The number that computes each token.
    pub used: usize,
    /// The inner width of one.
    pub inner: usize,
    /// True if the weights of the selected experts are scaled so that their sum is 1.
    pub normalized: bool,
}
