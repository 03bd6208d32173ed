//! Damaged or hostile GGUF files: loading them is an error that names the file, and never a panic.

use std::{fs, path::Path};

use proptest::{prelude::*, sample::Index};
use rbee_core::{
    Error, ErrorKind,
    test_gguf::{GgufFile, GgufType, GgufValue},
};

use crate::{
    hostile::{attempt, cases},
    support::tokenizer,
};

const HIDDEN: usize = 64;
const INNER: usize = 96;
const VOCAB: usize = 300;

/// A tensor: its name, its shape (the outermost dimension first), the number of its type, and its bytes.
type RawTensor = (String, Vec<usize>, u32, Vec<u8>);

/// A model whose parts can be changed.
#[derive(Clone)]
struct Model {
    values: Vec<(String, GgufValue)>,
    tensors: Vec<RawTensor>,
}

impl Model {
    fn new(family: &str) -> Self {
        let mut model = Self { values: Vec::new(), tensors: Vec::new() };
        model.describe(family);
        model.tokenize();
        model.tensor("token_embd", &[VOCAB, HIDDEN], GgufType::Q8_0);
        model.tensor("output_norm", &[HIDDEN], GgufType::F32);
        for layer in 0..2 {
            model.layer(family, layer);
        }
        model
    }

    fn put(&mut self, key: &str, value: impl Into<GgufValue>) {
        let value = value.into();
        match self.values.iter_mut().find(|(name, _)| name == key) {
            Some(old) => old.1 = value,
            None => self.values.push((key.to_owned(), value)),
        }
    }

    fn describe(&mut self, family: &str) {
        self.put("general.architecture", family);
        let mut put = |key: &str, value: GgufValue| self.put(&format!("{family}.{key}"), value);
        for (key, number) in [
            ("context_length", 96),
            ("embedding_length", HIDDEN as u32),
            ("block_count", 2),
            ("feed_forward_length", INNER as u32),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("attention.key_length", 16),
            ("rope.dimension_count", 16),
        ] {
            put(key, number.into());
        }
        put("attention.layer_norm_rms_epsilon", 1e-5_f32.into());
        put("rope.freq_base", 10_000_f32.into());
        let more: &[(&str, u32)] = match family {
            "gemma3" => &[("attention.sliding_window", 32)],
            "qwen3moe" => {
                &[("expert_count", 4), ("expert_used_count", 2), ("expert_feed_forward_length", 96)]
            }
            _ => &[],
        };
        for (key, number) in more {
            put(key, (*number).into());
        }
    }

    fn tokenize(&mut self) {
        let tokenizer = tokenizer();
        let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
        let mut tokens: Vec<String> = (0..VOCAB).map(|id| format!("unused {id}")).collect();
        for (token, id) in vocab {
            tokens[id.as_u64().unwrap() as usize].clone_from(token);
        }
        let part = |merge: &serde_json::Value, at: usize| merge[at].as_str().unwrap().to_owned();
        let merges = tokenizer["model"]["merges"].as_array().unwrap().iter();
        let merges: Vec<String> =
            merges.map(|merge| format!("{} {}", part(merge, 0), part(merge, 1))).collect();
        let array =
            |texts: Vec<String>| GgufValue::Array(texts.into_iter().map(GgufValue::Text).collect());
        let kind = |id: usize| GgufValue::I32(if id < 6 { 3 } else { 1 });
        self.put("tokenizer.ggml.model", "gpt2");
        self.put("tokenizer.ggml.pre", "gpt-2");
        self.put("tokenizer.ggml.tokens", array(tokens));
        self.put("tokenizer.ggml.token_type", GgufValue::Array((0..VOCAB).map(kind).collect()));
        self.put("tokenizer.ggml.merges", array(merges));
        self.put("tokenizer.ggml.bos_token_id", 1_u32);
        self.put("tokenizer.ggml.eos_token_id", 2_u32);
        self.put(
            "tokenizer.chat_template",
            "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}",
        );
    }

    fn tensor(&mut self, name: &str, shape: &[usize], kind: GgufType) {
        let numbers = shape.iter().product::<usize>();
        let bytes = match kind {
            GgufType::F32 => {
                (0..numbers).flat_map(|at| (at as f32 * 0.7).sin().to_le_bytes()).collect()
            }
            // Blocks of 32 numbers with a scale of 1/1024.
            _ => (0..numbers / 32)
                .flat_map(|block| {
                    let number = move |at: usize| ((block * 32 + at) * 97 % 251) as u8;
                    [0x00, 0x14].into_iter().chain((0..32).map(number))
                })
                .collect(),
        };
        self.tensors.push((format!("{name}.weight"), shape.to_vec(), kind as u32, bytes));
    }

    fn layer(&mut self, family: &str, layer: usize) {
        use GgufType::{F32, Q8_0};
        let mut tensor = |name: &str, shape: &[usize], kind| {
            self.tensor(&format!("blk.{layer}.{name}"), shape, kind);
        };
        tensor("attn_norm", &[HIDDEN], F32);
        tensor("attn_q", &[64, HIDDEN], Q8_0);
        tensor("attn_k", &[32, HIDDEN], F32);
        tensor("attn_v", &[32, HIDDEN], Q8_0);
        tensor("attn_output", &[HIDDEN, 64], Q8_0);
        tensor("ffn_norm", &[HIDDEN], F32);
        if family == "qwen3moe" {
            tensor("ffn_gate_inp", &[4, HIDDEN], F32);
            tensor("ffn_gate_exps", &[4, INNER, HIDDEN], Q8_0);
            tensor("ffn_up_exps", &[4, INNER, HIDDEN], Q8_0);
            tensor("ffn_down_exps", &[4, HIDDEN, INNER], Q8_0);
        } else {
            tensor("ffn_gate", &[INNER, HIDDEN], Q8_0);
            tensor("ffn_up", &[INNER, HIDDEN], Q8_0);
            tensor("ffn_down", &[HIDDEN, INNER], Q8_0);
        }
        if family != "llama" {
            tensor("attn_q_norm", &[16], F32);
            tensor("attn_k_norm", &[16], F32);
        }
        if family == "gemma3" {
            tensor("post_attention_norm", &[HIDDEN], F32);
            tensor("post_ffw_norm", &[HIDDEN], F32);
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let file = self
            .values
            .iter()
            .fold(GgufFile::empty(), |file, (key, value)| file.with(key, value.clone()));
        let add = |file: GgufFile, (name, shape, kind, bytes): &RawTensor| {
            file.tensor_of_number(name, shape, *kind, bytes.clone())
        };
        self.tensors.iter().fold(file, add).to_bytes()
    }
}

/// Loads a file with these bytes. It must load, or be refused by its name.
fn loads(bytes: &[u8]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    fs::write(&path, bytes).unwrap();
    let refused = |error: Error| {
        let kinds = [ErrorKind::ModelIncompatible, ErrorKind::ModelNotFound];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        assert!(error.message().contains("bee.gguf"), "{error}");
        assert!(!error.message().contains("panic"), "{error}");
    };
    attempt(&path).map_err(refused).is_ok()
}

const FAMILIES: [&str; 3] = ["llama", "gemma3", "qwen3moe"];

#[test]
fn the_models_that_are_changed_below_load() {
    for family in FAMILIES {
        assert!(loads(&Model::new(family).to_bytes()), "{family}");
    }
}

/// Keys that the models do not have.
const MORE: [&str; 14] = [
    "attention.causal",
    "attention.key_length_swa",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "expert_count",
    "expert_used_count",
    "final_logit_softcapping",
    "rope.dimension_count_swa",
    "rope.freq_base_swa",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "vocab_size",
];
/// The same with their whole names.
const ANY: [&str; 8] = [
    "general.alignment",
    "split.count",
    "split.no",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.unknown_token_id",
];

/// A value that is wrong for most keys.
fn odd() -> impl Strategy<Value = GgufValue> {
    let edge = prop_oneof![
        Just(0_u32),
        Just(1),
        Just(3),
        Just(15),
        Just(64),
        Just(1 << 20),
        Just(1_000_000_000),
        Just(u32::MAX),
    ];
    let fraction = prop_oneof![
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(-0.0_f32),
        Just(1e-45),
        Just(16.5),
        Just(-1.0),
        Just(f32::MAX),
    ];
    let word = prop_oneof![
        prop_oneof![Just(""), Just("yarn"), Just("longrope"), Just("llama"), Just("gpt2")]
            .prop_map(String::from),
        ".{0,40}",
        Just("x".repeat(70_000)),
    ];
    let single = prop_oneof![
        edge.prop_map(GgufValue::U32),
        any::<i32>().prop_map(GgufValue::I32),
        any::<u64>().prop_map(GgufValue::U64),
        fraction.prop_map(GgufValue::F32),
        any::<bool>().prop_map(GgufValue::Bool),
        word.prop_map(GgufValue::Text),
    ];
    let list =
        |value| (Just(value), prop_oneof![Just(0_usize), Just(1), Just(2), Just(300), Just(5_000)]);
    prop_oneof![
        3 => single.clone(),
        1 => single.prop_flat_map(list).prop_map(|(value, count)| GgufValue::Array(vec![value; count])),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_value_of_the_metadata_is_loaded_or_refused_by_name(
        which in 0..FAMILIES.len(), key: Index, value in proptest::option::weighted(0.9, odd()),
    ) {
        let mut model = Model::new(FAMILIES[which]);
        let own = MORE.iter().map(|key| format!("{}.{key}", FAMILIES[which]));
        let mut keys: Vec<String> = model.values.iter().map(|(key, _)| key.clone()).collect();
        keys.extend(own.chain(ANY.iter().map(|key| (*key).to_owned())));
        let key = key.get(&keys);
        match value {
            Some(value) => model.put(key, value),
            None => model.values.retain(|(other, _)| other != key),
        }
        loads(&model.to_bytes());
    }

    #[test]
    fn any_tensor_that_is_described_otherwise_is_loaded_or_refused_by_name(
        which in 0..FAMILIES.len(), tensor: Index, change in 0..9, number: u32,
    ) {
        let mut model = Model::new(FAMILIES[which]);
        let at = tensor.index(model.tensors.len());
        let (name, shape, kind, bytes) = &mut model.tensors[at];
        match change {
            0 => shape.reverse(),
            1 => *shape = vec![shape.iter().product()],
            2 => shape.insert(0, 1),
            3 => shape[0] = number as usize,
            4 => shape[0] = usize::MAX - number as usize,
            5 => *kind = number % 45,
            6 => *name = format!("blk.{}.attn_q.weight", number % 4),
            7 => bytes.truncate(number as usize % bytes.len()),
            _ => bytes.fill(0xff),
        }
        loads(&model.to_bytes());
    }

    #[test]
    fn any_bytes_of_a_header_changed_or_cut_off_are_loaded_or_refused_by_name(
        which in 0..FAMILIES.len(), edits in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        keep in proptest::option::of(any::<Index>()),
    ) {
        let mut bytes = Model::new(FAMILIES[which]).to_bytes();
        // The vocabulary is most of the header.
        let reach = 16_000.min(bytes.len());
        for (at, byte) in edits {
            bytes[at.index(reach)] = byte;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(reach));
        }
        loads(&bytes);
    }
}

/// Writes a model in two files, each changed, and returns the error of loading the first.
fn refusal(change: impl Fn(&mut Model, &mut Model), then: impl Fn(&Path)) -> Result<(), Error> {
    let mut first = Model::new("llama");
    let mut second = Model { values: Vec::new(), tensors: first.tensors.split_off(5) };
    for (number, part) in [&mut first, &mut second].into_iter().enumerate() {
        part.put("split.no", number as u32);
        part.put("split.count", 2_u32);
    }
    change(&mut first, &mut second);
    let dir = tempfile::tempdir().unwrap();
    for (name, part) in [("bee-00001-of-00002.gguf", first), ("bee-00002-of-00002.gguf", second)] {
        fs::write(dir.path().join(name), part.to_bytes()).unwrap();
    }
    then(&dir.path().join("bee-00002-of-00002.gguf"));
    attempt(&dir.path().join("bee-00001-of-00002.gguf")).map(drop)
}

#[test]
fn files_of_a_split_model_that_do_not_belong_together_are_refused_by_name() {
    let (same, nothing) = (|_: &mut Model, _: &mut Model| {}, |_: &Path| {});
    refusal(same, nothing).unwrap();
    let of = |error: Result<(), Error>, said: &str| {
        let error = error.unwrap_err();
        assert!(error.message().contains("bee-0000"), "{error}");
        assert!(error.message().contains(said), "{error}");
    };
    of(refusal(same, |path| fs::remove_file(path).unwrap()), "bee-00002-of-00002.gguf");
    of(
        refusal(same, |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        "is not a regular file",
    );
    of(
        refusal(same, |path| {
            fs::copy(path.with_file_name("bee-00001-of-00002.gguf"), path).unwrap();
        }),
        "is not file 2 of 2 by its header",
    );
    of(refusal(|_, second| second.put("split.count", 3_u32), nothing), "is not file 2 of 2");
    of(
        refusal(|first, _| first.put("split.count", 3_u32), nothing),
        "is one of 3 files by its header",
    );
    of(
        refusal(|first, second| second.tensors.push(first.tensors[0].clone()), nothing),
        "tensor token_embd.weight is listed twice",
    );
    of(
        refusal(|first, _| first.put("split.tensors.count", 400_u32), nothing),
        "is a model of 400 tensors",
    );
}
