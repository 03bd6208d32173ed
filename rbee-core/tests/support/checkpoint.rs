//! A model of random weights, small enough to create for each test and complete enough to load.

#![allow(unreachable_pub, reason = "a module of a test binary")]

use std::{fs, path::Path, sync::Arc};

use rbee_core::{
    CorrelationId, Error, Finish, Job, JobId, Output, OutputStream, Priority, Result, Run, Usage,
    Worker,
    candle::{CandleOptions, CandleWorker},
    event::Logprobs,
    hive::Progress,
    request::{Prompt, Sampling, Task},
    worker::Resume,
};
use serde_json::{Map, Value, json};

pub const VOCAB: usize = 300;
pub const CONTEXT: u32 = 96;
const HIDDEN: usize = 32;
const INNER: usize = 64;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;

/// One tensor of a file: name, type, shape, bytes.
pub type RawTensor = (String, &'static str, Vec<usize>, Vec<u8>);

/// Writes a whole model into a directory.
pub fn write_model(dir: &Path) {
    write_json(dir, "config.json", &config());
    write_json(dir, "generation_config.json", &json!({"eos_token_id": 2}));
    write_json(dir, "tokenizer.json", &tokenizer());
    write_json(dir, "tokenizer_config.json", &tokenizer_config());
    fs::write(dir.join("model.safetensors"), safetensors(&tensors())).unwrap();
}

pub fn write_json(dir: &Path, name: &str, value: &Value) {
    fs::write(dir.join(name), value.to_string()).unwrap();
}

pub fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "vocab_size": VOCAB,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0},
        "eos_token_id": 2,
        "tie_word_embeddings": true,
    })
}

pub fn tokenizer_config() -> Value {
    let template = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content|trim }}<|end|>{% endfor %}\
        {% if messages[0].content == 'refuse' %}{{ raise_exception('not that') }}{% endif %}<|assistant|>";
    json!({"bos_token": "<|bos|>", "eos_token": "<|end|>", "chat_template": template})
}

/// A byte-level tokenizer: six special tokens, the 256 bytes, and pairs of letters.
pub fn tokenizer() -> Value {
    let specials = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"];
    let mut vocab = Map::new();
    for special in specials {
        vocab.insert(special.into(), vocab.len().into());
    }
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let hidden: Vec<u8> = (0..=255).filter(|byte| !seen(*byte)).collect();
    for byte in 0..=255_u8 {
        let code = hidden
            .iter()
            .position(|other| *other == byte)
            .map_or(byte.into(), |at| 256 + at as u32);
        let character = char::from_u32(code).unwrap();
        vocab.insert(character.to_string(), vocab.len().into());
    }
    let mut merges = Vec::new();
    for pair in
        ["th", "he", "in", "er", "an", "re", "on", "at", "en", "nd", "be", "ee", "ho", "ne", "ey"]
    {
        vocab.insert(pair.into(), vocab.len().into());
        merges.push(json!([&pair[..1], &pair[1..]]));
    }
    let added: Vec<Value> = specials
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [1], "tokens": ["<|bos|>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
                  "merges": merges},
    })
}

/// All tensors of the model, with fixed random numbers.
pub fn tensors() -> Vec<RawTensor> {
    let kv = HIDDEN / HEADS * KV_HEADS;
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![kv, HIDDEN]),
            ("self_attn.v_proj", vec![kv, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}"), shape));
        }
    }
    let mut state = 1_u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 * 2.0 - 1.0
    };
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let norm = shape.len() == 1;
            let bytes = (0..shape.iter().product())
                .flat_map(|_| {
                    if norm { 1.0 + 0.1 * random() } else { 0.4 * random() }.to_le_bytes()
                })
                .collect();
            (format!("{name}.weight"), "F32", shape, bytes)
        })
        .collect()
}

/// A safetensors file with these tensors.
pub fn safetensors(tensors: &[RawTensor]) -> Vec<u8> {
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

pub async fn load(path: impl AsRef<Path>) -> Result<CandleWorker> {
    let mut options = CandleOptions::new("tiny".parse().unwrap());
    // One thread, because other tests use the machine too.
    options.threads = std::num::NonZeroUsize::new(1);
    CandleWorker::load(path, options, Progress::ignore()).await
}

/// The tiny model, loaded.
pub async fn tiny() -> Arc<CandleWorker> {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    Arc::new(load(dir.path()).await.unwrap())
}

/// A job with this task.
pub fn job(task: Task, seed: u64) -> Arc<Job> {
    Arc::new(Job {
        id: JobId::random(),
        model: "tiny".parse().unwrap(),
        priority: Priority::Interactive,
        task,
        seed,
        prefix: [].into(),
        timeout: std::time::Duration::from_secs(60),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    })
}

pub fn run(prompt: &str, seed: u64, resume: Resume, change: impl FnOnce(&mut Sampling)) -> Run {
    let mut sampling = Sampling::default();
    change(&mut sampling);
    let task = Task::Generate { prompt: Prompt::Text(prompt.into()), sampling };
    Run { job: job(task, seed), attempt: 1, resume }
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub tokens: Vec<(u32, String)>,
    pub logprobs: Vec<Option<Box<Logprobs>>>,
    pub finish: Finish,
    pub usage: Usage,
    pub stop_text: Option<Box<str>>,
}

impl Answer {
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|(id, _)| *id).collect()
    }

    pub fn text(&self) -> String {
        self.tokens.iter().map(|(_, text)| text.as_str()).collect()
    }
}

pub async fn collect(mut stream: OutputStream) -> Result<Answer> {
    use futures_util::StreamExt;
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    while let Some(output) = stream.next().await {
        match output? {
            Output::Token { id, text, logprobs: more } => {
                tokens.push((id.expect("an id"), text.into()));
                logprobs.push(more);
            }
            Output::Metrics(_) | Output::Heartbeat => {}
            Output::Vectors(_) => panic!("vectors"),
            Output::End { finish, usage, stop_text } => {
                assert!(stream.next().await.is_none());
                return Ok(Answer { tokens, logprobs, finish, usage, stop_text });
            }
        }
    }
    Err(Error::new(rbee_core::ErrorKind::WorkerFault, "no end"))
}

pub async fn answer(worker: &dyn Worker, run: Run) -> Answer {
    collect(worker.execute(run).await.unwrap()).await.unwrap()
}
