use std::{fs, io::Write};

use proptest::{prelude::*, sample::Index};
use serde_json::json;

use super::*;
use crate::candle::decoder::{
    plan::FeedForwardPlan,
    test_files::{self, Written},
};

/// A configuration of two layers for each form in which tensors are stored.
fn configs() -> Vec<Value> {
    let tiny = json!({
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 40, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "sliding_window": 16, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    });
    let of = |kind: &str| {
        let mut config = tiny.clone();
        config["model_type"] = kind.into();
        config
    };
    let kinds =
        ["llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "phi3"];
    let mut configs: Vec<_> = kinds.into_iter().map(of).collect();
    configs[0]["tie_word_embeddings"] = false.into();
    configs
}

/// What the configuration describes, before there are files.
fn plan_of(config: &Value) -> Plan {
    let dir = test_files::file("config.json", config.to_string().as_bytes());
    let map = model_info::families::read(&dir.path().join("config.json")).unwrap();
    let path = Path::new("config.json");
    let family = family_of(&ConfigFields::new(path, &map)).unwrap();
    let weights = StoredWeights::listed(&[]);
    let source =
        Source::config(ConfigFields::new(path, &map), &weights, CachePool::DEFAULT_CONTEXT);
    let Description { architecture, layout, .. } = family.describe(&source).unwrap();
    Plan::new(&architecture, &layout)
}

fn refused(path: &Path) -> String {
    Checkpoint::open(path, None).expect_err("it must be refused").to_string()
}

#[test]
fn every_family_is_opened_and_loaded_with_all_bytes_where_they_belong() {
    for config in configs() {
        let tensors = test_files::tensors(&plan_of(&config), WeightType::Bf16);
        let dir = test_files::directory(&config, &tensors);
        let checkpoint = Checkpoint::open(dir.path(), None).unwrap();
        let total: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
        assert_eq!(checkpoint.bytes(), total as u64);
        let mut last = (0, 0);
        let mapped = checkpoint
            .load(Residence::Mapped, |done, of| {
                last = (done, of);
                true
            })
            .unwrap();
        assert_eq!(last, (total as u64, total as u64));
        let copied = checkpoint.load(Residence::Copied, |_, _| true).unwrap();
        for wanted in checkpoint.plan.tensors() {
            let whole = tensors.iter().find(|tensor| tensor.name == wanted.name).unwrap();
            if wanted.shape.len() == 1 {
                let numbers: Vec<_> =
                    whole.bytes.as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect();
                assert_eq!(mapped.vector(wanted).unwrap(), numbers[wanted.rows.clone()]);
                assert_eq!(copied.vector(wanted).unwrap(), numbers[wanted.rows.clone()]);
                continue;
            }
            let row = 2 * wanted.shape.last().unwrap();
            let bytes = &whole.bytes[wanted.rows.start * row..wanted.rows.end * row];
            for matrix in [mapped.matrix(wanted).unwrap(), copied.matrix(wanted).unwrap()] {
                assert_eq!((matrix.kind, matrix.rows), (WeightType::Bf16, wanted.rows.len()));
                assert_eq!((matrix.cols * 2, &*matrix.bytes), (row, bytes), "{}", wanted.name);
            }
        }
    }
}

#[test]
fn fused_matrices_are_divided_in_the_order_of_the_library() {
    let plan = plan_of(&configs()[7]);
    let layer = &plan.layers[1];
    assert_eq!(
        [&layer.q, &layer.k, &layer.v].map(|part| part.rows.clone()),
        [0..32, 32..48, 48..64]
    );
    let FeedForwardPlan::Dense(gated) = &layer.feed_forward else { panic!("{layer:?}") };
    assert_eq!((gated.gate.rows.clone(), gated.up.rows.clone()), (0..48, 48..96));
}

#[test]
fn experts_in_one_tensor_are_found_too() {
    let config = &configs()[4];
    let mut tensors = test_files::tensors(&plan_of(config), WeightType::Bf16);
    tensors.retain(|tensor| !tensor.name.contains(".experts."));
    for layer in 0..2 {
        let name = |part: &str| format!("model.layers.{layer}.mlp.experts.{part}");
        tensors.push(Written::new(&name("gate_up_proj"), WeightType::Bf16, &[4, 32, 32]));
        tensors.push(Written::new(&name("down_proj"), WeightType::Bf16, &[4, 32, 16]));
    }
    let dir = test_files::directory(config, &tensors);
    let checkpoint = Checkpoint::open(dir.path(), None).unwrap();
    let FeedForwardPlan::Experts { experts, .. } = &checkpoint.plan.layers[0].feed_forward else {
        panic!("{:?}", checkpoint.plan)
    };
    let rows = [&experts[3].gate, &experts[3].up, &experts[3].down].map(|it| it.rows.clone());
    assert_eq!(rows, [96..112, 112..128, 96..128]);
}

fn gguf_values() -> Vec<(String, gguf::Value)> {
    test_files::values(&json!({
        "general.architecture": "gemma3", "gemma3.context_length": 64, "gemma3.embedding_length": 256,
        "gemma3.block_count": 2, "gemma3.feed_forward_length": 256, "gemma3.attention.head_count": 4,
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6, "gemma3.attention.key_length": 64,
        "gemma3.attention.value_length": 64, "gemma3.attention.sliding_window": 8,
        "gemma3.attention.head_count_kv": 1,
    }))
}

/// The tensors of [`gguf_values`]: each matrix of another type.
fn gguf_tensors() -> Vec<Written> {
    let mut tensors = vec![Written::new("token_embd.weight", WeightType::Q8_0, &[40, 256])];
    tensors.push(Written::new("output_norm.weight", WeightType::F32, &[256]));
    let mut kinds = WeightType::ALL.into_iter().cycle();
    for layer in 0..2 {
        for (part, shape) in [
            ("attn_norm", &[256][..]),
            ("attn_q", &[256, 256]),
            ("attn_k", &[64, 256]),
            ("attn_v", &[64, 256]),
            ("attn_output", &[256, 256]),
            ("attn_q_norm", &[64]),
            ("attn_k_norm", &[64]),
            ("post_attention_norm", &[256]),
            ("ffn_norm", &[256]),
            ("ffn_gate", &[256, 256]),
            ("ffn_up", &[256, 256]),
            ("ffn_down", &[256, 256]),
            ("post_ffw_norm", &[256]),
        ] {
            let kind = if shape.len() == 1 { WeightType::F32 } else { kinds.next().unwrap() };
            tensors.push(Written::new(&format!("blk.{layer}.{part}.weight"), kind, shape));
        }
    }
    tensors
}

#[test]
fn a_gguf_model_has_matrices_of_every_type_also_in_several_files() {
    let tensors = gguf_tensors();
    let whole = test_files::file("bee.gguf", &test_files::gguf(&gguf_values(), &tensors));
    let split = tempfile::tempdir().unwrap();
    let (first, second) = tensors.split_at(9);
    for (number, (values, tensors)) in
        [(gguf_values(), first), (Vec::new(), second)].into_iter().enumerate()
    {
        let more = json!({"split.no": number, "split.count": 2, "split.tensors.count": 28});
        let values = [values, test_files::values(&more)].concat();
        let name = format!("bee-{:05}-of-00002.gguf", number + 1);
        fs::write(split.path().join(name), test_files::gguf(&values, tensors)).unwrap();
    }
    for dir in [whole, split] {
        let checkpoint = Checkpoint::open(dir.path(), None).unwrap();
        assert_eq!((checkpoint.context, checkpoint.architecture.vocab), (64, 40));
        assert!(checkpoint.gguf.is_some());
        for residence in [Residence::Mapped, Residence::Copied] {
            let loaded = checkpoint.load(residence, |_, _| true).unwrap();
            for wanted in checkpoint.plan.tensors().filter(|wanted| wanted.shape.len() == 2) {
                let written = tensors.iter().find(|tensor| tensor.name == wanted.name).unwrap();
                let matrix = loaded.matrix(wanted).unwrap();
                assert_eq!((matrix.kind, matrix.cols), (written.kind, written.shape[1]));
                assert_eq!(*matrix.bytes, *written.bytes, "{}", wanted.name);
            }
        }
    }
}

#[test]
fn tensors_that_are_missing_too_many_or_different_are_refused_by_name() {
    let said = |change: &dyn Fn(&mut Vec<Written>)| {
        let mut tensors = gguf_tensors();
        change(&mut tensors);
        let dir = test_files::file("bee.gguf", &test_files::gguf(&gguf_values(), &tensors));
        refused(&test_files::path(&dir, "bee.gguf"))
    };
    let missing = said(&|tensors| tensors.retain(|it| it.name != "blk.1.ffn_down.weight"));
    assert!(
        missing.contains(
            "bee.gguf: tensor blk.1.ffn_down.weight is missing; its shape must be [256, 256]"
        ),
        "{missing}"
    );
    let more = said(&|tensors| {
        tensors.push(Written::new("blk.0.attn_sinks.weight", WeightType::F32, &[4]));
    });
    assert!(
        more.contains("tensor blk.0.attn_sinks.weight is not part of a Gemma3 model"),
        "{more}"
    );
    let shape = said(&|tensors| {
        tensors[3] = Written::new("blk.0.attn_q.weight", WeightType::F32, &[512, 128])
    });
    assert!(shape.contains("tensor blk.0.attn_q.weight has shape [512, 128]; by the configuration it must be [256, 256]"), "{shape}");
    let norm =
        said(&|tensors| tensors[1] = Written::new("output_norm.weight", WeightType::Q8_0, &[256]));
    assert!(
        norm.contains("tensor output_norm.weight has type Q8_0; allowed are F32, F16, BF16"),
        "{norm}"
    );
    let twice = said(&|tensors| tensors.push(tensors[4].clone()));
    assert!(twice.contains("tensor blk.0.attn_k.weight is listed twice"), "{twice}");

    let config = configs().remove(0);
    let tensors = test_files::tensors(&plan_of(&config), WeightType::F16);
    let said = |name: &str, kind: WeightType, shape: &[usize]| {
        let mut tensors = tensors.clone();
        tensors.retain(|tensor| tensor.name != name);
        tensors.push(Written::new(name, kind, shape));
        let dir = test_files::directory(&config, &tensors);
        Checkpoint::open(dir.path(), None).map(drop).map_err(|error| error.to_string())
    };
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    assert_eq!(said(name, WeightType::F32, &[4]), Ok(()));
    let bias = said("model.layers.0.self_attn.q_proj.bias", WeightType::F32, &[32]).unwrap_err();
    assert!(bias.contains("q_proj.bias is not part of a Llama model"), "{bias}");
}

#[test]
fn types_that_are_not_supported_are_refused_by_tensor_and_type() {
    let mut bytes = test_files::gguf(&gguf_values(), &gguf_tensors());
    // The number of the type follows the name, the count of dimensions and the dimensions: two of 8 bytes.
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let kind = at + name.len() + 4 + 16;
    for (number, said) in [(20_u32, "IQ4_NL"), (39, "MXFP4"), (24, "I8"), (77, "number 77")] {
        bytes[kind..kind + 4].copy_from_slice(&number.to_le_bytes());
        let dir = test_files::file("bee.gguf", &bytes);
        let error = refused(dir.path());
        let wanted =
            format!("tensor token_embd.weight has type {said}; allowed are F32, F16, BF16, Q4_0");
        assert!(error.contains(&wanted), "{number}: {error}");
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused_by_name() {
    let bytes = test_files::gguf(&gguf_values(), &gguf_tensors());
    let header =
        bytes.len() - gguf_tensors().iter().map(|tensor| tensor.bytes.len()).sum::<usize>();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    let lengths = (0..header + 64).step_by(7).chain([bytes.len() / 2, bytes.len() - 33]);
    for length in lengths {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = refused(&path);
        assert!(error.contains("bee.gguf"), "{length}: {error}");
    }
    let config = configs().remove(0);
    let tensors = test_files::tensors(&plan_of(&config), WeightType::F16);
    let dir = test_files::directory(&config, &tensors);
    let path = test_files::path(&dir, "model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(257) {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = refused(dir.path());
        assert!(error.contains("model.safetensors"), "{length}: {error}");
    }
}

#[test]
fn a_file_that_becomes_shorter_before_the_load_is_an_error() {
    let config = configs().remove(0);
    let tensors = test_files::tensors(&plan_of(&config), WeightType::F16);
    let dir = test_files::directory(&config, &tensors);
    let checkpoint = Checkpoint::open(dir.path(), None).unwrap();
    let path = test_files::path(&dir, "model.safetensors");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    for residence in [Residence::Mapped, Residence::Copied] {
        let error = checkpoint.load(residence, |_, _| true).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn a_replaced_file_does_not_change_a_loaded_model_and_a_load_can_be_stopped() {
    let config = configs().remove(0);
    let tensors = test_files::tensors(&plan_of(&config), WeightType::F16);
    let dir = test_files::directory(&config, &tensors);
    let checkpoint = Checkpoint::open(dir.path(), None).unwrap();
    let loaded = checkpoint.load(Residence::Mapped, |_, _| true).unwrap();
    let mut other = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
    other.write_all(b"another file").unwrap();
    other.persist(test_files::path(&dir, "model.safetensors")).unwrap();
    let embedding = loaded.matrix(&checkpoint.plan.embedding).unwrap();
    assert_eq!(*embedding.bytes, *tensors[0].bytes);
    let mut calls = 0;
    let stopped = checkpoint.load(Residence::Copied, |_, _| {
        calls += 1;
        calls < 3
    });
    assert!(matches!(stopped, Err(LoadFault::GivenUp)), "{stopped:?}");
    assert_eq!(calls, 3);
}

#[test]
fn the_scale_of_embeddings_has_their_precision() {
    let config = configs().remove(6);
    let scale = |kind: WeightType| {
        let tensors = test_files::tensors(&plan_of(&config), kind);
        let dir = test_files::directory(&config, &tensors);
        Checkpoint::open(dir.path(), None).unwrap().architecture.embedding_scale
    };
    assert_eq!(scale(WeightType::F32), 32_f32.sqrt());
    assert_eq!(scale(WeightType::Bf16), 5.65625);
    assert_eq!(scale(WeightType::F16), 5.65625);
}

#[test]
fn an_architecture_that_is_not_known_is_refused_with_those_that_are() {
    let values = test_files::values(&json!({"general.architecture": "mamba"}));
    let dir = test_files::file("bee.gguf", &test_files::gguf(&values, &gguf_tensors()));
    let error = refused(dir.path());
    assert!(
        error.contains("general.architecture is \"mamba\"; allowed is [\"llama\", \"qwen2\""),
        "{error}"
    );
    let config = json!({"model_type": "mamba", "architectures": ["MambaForCausalLM"]});
    let dir = test_files::directory(&config, &[]);
    let error = refused(dir.path());
    assert!(
        error.contains(
            "architectures is [\"MambaForCausalLM\"]; allowed is one of [\"LlamaForCausalLM\""
        ),
        "{error}"
    );
}

#[test]
fn the_tokens_that_end_a_text_come_from_both_files() {
    let mut config = configs().remove(0);
    config["eos_token_id"] = json!([2, 1]);
    let tensors = test_files::tensors(&plan_of(&config), WeightType::F16);
    let dir = test_files::directory(&config, &tensors);
    let eos = || Checkpoint::open(dir.path(), None).unwrap().eos;
    assert_eq!(eos(), [1, 2]);
    // A token without an embedding ends nothing.
    let path = test_files::path(&dir, "generation_config.json");
    fs::write(path, json!({"eos_token_id": [7, 40]}).to_string()).unwrap();
    assert_eq!(eos(), [1, 2, 7]);
}

#[test]
fn a_model_that_also_sees_images_names_tokens_that_end_a_text_outside_of_its_text_part() {
    let mut text = configs().remove(6);
    let mut tensors = test_files::tensors(&plan_of(&text), WeightType::F16);
    for tensor in &mut tensors {
        tensor.name = tensor.name.replacen("model.", "language_model.model.", 1);
    }
    tensors.push(Written::new("vision_tower.x.weight", WeightType::F16, &[2, 2]));
    text["eos_token_id"] = 3.into();
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "eos_token_id": [1, 7],
        "text_config": text,
    });
    let dir = test_files::directory(&config, &tensors);
    assert_eq!(Checkpoint::open(dir.path(), None).unwrap().eos, [1, 3, 7]);
}

#[test]
fn a_copy_of_tied_weights_is_left_out() {
    let config = configs().remove(6);
    let mut tensors = test_files::tensors(&plan_of(&config), WeightType::F16);
    let before: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    tensors.push(Written::new("lm_head.weight", WeightType::F16, &[40, 32]));
    let dir = test_files::directory(&config, &tensors);
    assert_eq!(Checkpoint::open(dir.path(), None).unwrap().bytes(), before as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_loaded_or_refused_by_name(
        edits in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        is_gguf in any::<bool>(), family in 0_usize..8, in_header in any::<bool>(),
    ) {
        let config = configs().swap_remove(family);
        let tensors = test_files::tensors(&plan_of(&config), WeightType::F16);
        let dir = test_files::directory(&config, &tensors);
        let name = match (is_gguf, in_header) {
            (true, _) => "bee.gguf",
            (false, true) => "config.json",
            (false, false) => "model.safetensors",
        };
        let path = test_files::path(&dir, name);
        let mut bytes = match is_gguf {
            true => test_files::gguf(&gguf_values(), &gguf_tensors()),
            false => fs::read(&path).unwrap(),
        };
        let length = if in_header { bytes.len().min(2_500) } else { bytes.len() };
        for (at, byte) in edits {
            bytes[at.index(length)] = byte;
        }
        fs::write(&path, bytes).unwrap();
        let opened = Checkpoint::open(if is_gguf { &path } else { dir.path() }, None);
        let loaded = opened.and_then(|checkpoint| {
            let loaded = checkpoint.load(Residence::Mapped, |_, _| true)?;
            for wanted in checkpoint.plan.tensors() {
                match wanted.shape.len() {
                    1 => drop(loaded.vector(wanted)?),
                    _ => drop(loaded.matrix(wanted)?),
                }
            }
            Ok(())
        });
        if let Err(error) = loaded {
            prop_assert!(matches!(error, LoadFault::File(_)), "{}", error);
            prop_assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{}", error);
        }
    }
}
