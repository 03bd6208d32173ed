//! Random models of the Llama family, as GGUF files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rbee_core::test_gguf::{GgufFile, GgufType};

use crate::Result;

const HIDDEN: usize = 1_024;
const INNER: usize = 2_816;
const LAYERS: usize = 16;
const HEADS: usize = 16;
const KV_HEADS: usize = 8;
const HEAD: usize = 64;
const VOCAB: usize = 32_000;
const CONTEXT: u32 = 32_768;

/// A model to measure.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) vocab: u32,
    pub(crate) bytes: u64,
    /// The bytes of weights that are read for each token.
    pub(crate) per_token: u64,
    /// True if candle-transformers' loop for Llama models can run it.
    pub(crate) is_llama: bool,
}

impl Model {
    /// A file of the user.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let info = rbee_core::models::ModelInfo::read(path)?;
        let bytes = info.weights_bytes;
        Ok(Self {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_owned(),
            vocab: info.vocab.ok_or("the file does not state the size of its vocabulary")?,
            bytes,
            // The embeddings of tied models are read for the logits.
            per_token: bytes,
            is_llama: info.architecture == "llama",
        })
    }
}

/// Writes the random models into a directory: of one type each, and the usual mixture `Q4_K_M`.
pub(crate) fn make(directory: &Path) -> Result<Vec<Model>> {
    let all = [
        ("Q8_0", GgufType::Q8_0, GgufType::Q8_0),
        ("Q4_K_M", GgufType::Q4K, GgufType::Q6K),
        ("F16", GgufType::F16, GgufType::F16),
        ("BF16", GgufType::Bf16, GgufType::Bf16),
    ];
    all.into_iter().map(|(name, most, some)| write(directory, name, most, some)).collect()
}

/// Removes a file from the cache of the system, as a restart of the machine does. The cache keeps a file that was just
/// written in smaller pages than one that was read, and an engine that maps the file reads it more slowly.
pub(crate) fn evict(path: &Path) -> Result<()> {
    let file = fs::File::open(path)?;
    file.sync_all()?;
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

fn write(directory: &Path, name: &str, most: GgufType, some: GgufType) -> Result<Model> {
    let path = directory.join(format!("llama-250m-{name}.gguf"));
    let mut random = Random(name.len() as u64);
    let mut per_token = 0;
    let mut file = header();
    let mut matrix = |file: GgufFile, name: &str, rows: usize, cols: usize, kind: GgufType| {
        let bytes = random.weights(kind, rows * cols);
        if name != "token_embd.weight" {
            per_token += bytes.len() as u64;
        }
        file.tensor(name, &[rows, cols], kind, bytes)
    };
    let ones = |width: usize| 1_f32.to_le_bytes().repeat(width);
    file = matrix(file, "token_embd.weight", VOCAB, HIDDEN, most);
    file = matrix(file, "output.weight", VOCAB, HIDDEN, some);
    file = file.tensor("output_norm.weight", &[HIDDEN], GgufType::F32, ones(HIDDEN));
    for layer in 0..LAYERS {
        // The mixture has more bits in half of the layers.
        let more = if layer % 2 == 0 { some } else { most };
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        for (part, rows, cols, kind) in [
            ("attn_q", HEADS * HEAD, HIDDEN, most),
            ("attn_k", KV_HEADS * HEAD, HIDDEN, most),
            ("attn_v", KV_HEADS * HEAD, HIDDEN, more),
            ("attn_output", HIDDEN, HEADS * HEAD, most),
            ("ffn_gate", INNER, HIDDEN, most),
            ("ffn_up", INNER, HIDDEN, most),
            ("ffn_down", HIDDEN, INNER, more),
        ] {
            file = matrix(file, &name(part), rows, cols, kind);
        }
        for norm in ["attn_norm", "ffn_norm"] {
            file = file.tensor(&name(norm), &[HIDDEN], GgufType::F32, ones(HIDDEN));
        }
    }
    fs::write(&path, file.to_bytes())?;
    Ok(Model {
        name: format!("Llama, 250M random parameters, {name}"),
        bytes: fs::metadata(&path)?.len(),
        path,
        vocab: VOCAB as u32,
        per_token,
        is_llama: true,
    })
}

fn header() -> GgufFile {
    // The characters of byte-level vocabularies, and tokens that no text has.
    let visible = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255_u32).filter(|byte| !visible(byte)).zip(256..);
    let bytes = (0..=255_u32).filter(visible).chain(others.map(|(_, code)| code));
    let mut tokens: Vec<String> = bytes.filter_map(char::from_u32).map(String::from).collect();
    // The only merge's.
    tokens.push("!!".into());
    tokens.extend((tokens.len()..VOCAB).map(|number| format!("unused{number}")));
    GgufFile::new("llama")
        .with("general.name", "random")
        .with("llama.context_length", CONTEXT)
        .with("llama.embedding_length", HIDDEN as u32)
        .with("llama.block_count", LAYERS as u32)
        .with("llama.feed_forward_length", INNER as u32)
        .with("llama.attention.head_count", HEADS as u32)
        .with("llama.attention.head_count_kv", KV_HEADS as u32)
        .with("llama.rope.dimension_count", HEAD as u32)
        .with("llama.rope.freq_base", 500_000_f32)
        .with("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)
        .with("llama.vocab_size", VOCAB as u32)
        .with("tokenizer.ggml.model", "gpt2")
        .with("tokenizer.ggml.pre", "gpt-2")
        .with("tokenizer.ggml.tokens", tokens.iter().map(String::as_str).collect::<Vec<_>>())
        .with("tokenizer.ggml.token_type", vec![1_i32; VOCAB])
        .with("tokenizer.ggml.merges", vec!["! !"])
        .with("tokenizer.ggml.bos_token_id", 0_u32)
        .with("tokenizer.ggml.eos_token_id", 1_u32)
        .with("tokenizer.ggml.add_bos_token", false)
}

/// A generator of random weights: only their speed matters.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }

    /// Blocks of random bits, with scales that make weights of a usual size.
    fn weights(&mut self, kind: GgufType, count: usize) -> Vec<u8> {
        // Numbers and bytes of a block, the place of its 16-bit scales, and their bits.
        let (block, bytes, scales): (usize, usize, &[(usize, u16)]) = match kind {
            GgufType::Q8_0 => (32, 34, &[(0, 0x0a00)]),
            GgufType::Q4K => (256, 144, &[(0, 0x0600), (2, 0x0600)]),
            GgufType::Q6K => (256, 210, &[(208, 0x0100)]),
            _ => return self.plain(kind, count),
        };
        let mut out = Vec::with_capacity(count / block * bytes + 8);
        for _ in 0..count / block {
            let start = out.len();
            while out.len() < start + bytes {
                out.extend(self.next().to_le_bytes());
            }
            out.truncate(start + bytes);
            for (at, bits) in scales {
                out[start + at..start + at + 2].copy_from_slice(&bits.to_le_bytes());
            }
        }
        out
    }

    fn plain(&mut self, kind: GgufType, count: usize) -> Vec<u8> {
        // Sign and fraction are random; the exponent is the one of 0.03.
        let exponent = if kind == GgufType::F16 { 0x2400 } else { 0x3cc0 };
        let fraction = if kind == GgufType::F16 { 0x83ff } else { 0x803f };
        (0..count)
            .flat_map(|_| ((self.next() as u16 & fraction) | exponent).to_le_bytes())
            .collect()
    }
}
