//! The bundled model compared with the output of the transformers library, token by token.

mod as_gguf;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use rbee_decoder::{
    backend::{CacheShape, CacheType},
    cpu::Cpu,
    forward::Decoder,
    model::Model,
    part::Part,
};
use serde::Deserialize;

use super::{
    CandleOptions, CausalLm, Engine,
    batch::{Clock, outlet::Outlet, slots::Slots, steps::Batch},
    causal_lm::Frontend,
    decoder::{assemble::assemble, checkpoint::Checkpoint, weights::Residence},
    generate::{Begun, Plan, Vocabulary},
    heartbeat::Heartbeat,
    load,
    text::prompt::PromptText,
};
use crate::{
    chat::{Chat, Message, Tool},
    event::{Finish, Output},
    progress::Progress,
    task::Sampling,
    worker::Resume,
};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    tokenizer_cases: Vec<TokenizerCase>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    messages: Option<Vec<Message>>,
    #[serde(default)]
    tools: Vec<Tool>,
    rendered: String,
    add_special_tokens: bool,
    input_ids: Vec<u32>,
    max_new_tokens: u32,
    output_ids: Vec<u32>,
    text: String,
    finish: String,
    /// The smallest difference between the two likeliest tokens, in logits.
    min_gap: f32,
}

#[derive(Deserialize)]
struct TokenizerCase {
    text: String,
    ids: Vec<u32>,
}

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/bee-tiny");

/// The bundled model, loaded.
pub(super) fn bundled_engine() -> CausalLm {
    engine_of(Path::new(DIR))
}

fn engine_of(dir: &Path) -> CausalLm {
    let options = CandleOptions::new("bee-tiny".parse().unwrap());
    match load(dir, &options, &Progress::ignore(), &|| false).unwrap().0 {
        Engine::Text(causal_lm) => *causal_lm,
        Engine::Vectors(_) | Engine::Scores(_) => panic!("it continues text"),
    }
}

fn golden() -> Golden {
    let golden = std::fs::read(Path::new(DIR).join("golden.json")).unwrap();
    serde_json::from_slice(&golden).unwrap()
}

#[derive(Default)]
struct Heard {
    ids: Vec<u32>,
    text: String,
    finish: Option<Finish>,
}

/// A batch of this model, and the answers to runs that are computed in it one after the other.
struct Answers {
    batch: Batch,
    frontend: Arc<Frontend>,
}

impl Answers {
    fn of(engine: CausalLm) -> Self {
        let CausalLm { model, frontend } = engine;
        let batch = Batch::new(model, frontend.vocabulary.clone(), Clock::system());
        Self { batch, frontend }
    }

    fn answer(&mut self, prompt: Vec<u32>, sampling: Sampling, seed: u64, resume: Resume) -> Heard {
        let Frontend { vocabulary, context, .. } = &*self.frontend;
        let plan = Plan::new(prompt, sampling, seed, resume, *context, vocabulary.size).unwrap();
        let run = plan.begin(vocabulary);
        assert!(matches!(run, Begun::Generation(_)));
        let (outlet, mut outputs) = Outlet::new(Slots::new(1).take().unwrap()).unwrap();
        self.batch.join(run, outlet);
        let (mut heard, heartbeat) = (Heard::default(), Heartbeat::new());
        while heard.finish.is_none() {
            self.batch.step(&heartbeat);
            self.batch.settle();
            while let Ok(output) = outputs.try_recv() {
                match output.unwrap() {
                    Output::Token { id, text, .. } => {
                        heard.ids.extend(id);
                        heard.text += &text;
                    }
                    Output::End { finish, .. } => heard.finish = Some(finish),
                    _ => {}
                }
            }
        }
        heard
    }
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let golden = golden();
    assert!(golden.cases.len() >= 10);
    check(bundled_engine(), &golden.cases);
}

#[test]
fn a_configuration_without_common_keys_gives_the_same_tokens() {
    let golden = golden();
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(DIR).unwrap().map(Result::unwrap) {
        if file.path().is_file() {
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
    }
    std::fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    let path = dir.path().join("config.json");
    let mut config: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for key in [
        "architectures",
        "attention_bias",
        "bos_token_id",
        "dtype",
        "head_dim",
        "hidden_act",
        "max_position_embeddings",
        "mlp_bias",
        "pad_token_id",
    ] {
        config.remove(key).unwrap();
    }
    // As older versions of the library write it.
    config.remove("rope_parameters").unwrap();
    config.insert("rope_theta".into(), 20_000.0.into());
    config.insert("rope_scaling".into(), serde_json::Value::Null);
    config.insert("torch_dtype".into(), "float16".into());
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    let engine = engine_of(dir.path());
    assert_eq!(engine.frontend.context, 2_048, "that of the configuration class");
    let info = crate::models::ModelInfo::read(dir.path()).unwrap();
    assert_eq!((info.context, info.task), (Some(2_048), crate::models::ModelTask::Generate));
    check(engine, &golden.cases);
    // Without a family nothing is known.
    config.remove("model_type").unwrap();
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    let options = CandleOptions::new("bee-tiny".parse().unwrap());
    let error = load(dir.path(), &options, &Progress::ignore(), &|| false).map(drop).unwrap_err();
    assert!(error.to_string().contains("config.json: architectures is missing"), "{error}");
}

#[test]
fn the_tokenizer_says_which_token_ends_a_text_if_no_configuration_does() {
    let dir = tempfile::tempdir().unwrap();
    for file in
        ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    {
        std::fs::copy(Path::new(DIR).join(file), dir.path().join(file)).unwrap();
    }
    let config = std::fs::read(Path::new(DIR).join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config["eos_token_id"].take();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let vocabulary = &engine_of(dir.path()).frontend.vocabulary;
    assert_eq!(vocabulary.eos, [vocabulary.codec.id("<|end|>").unwrap()]);
}

#[test]
fn a_cache_of_8_bit_integers_is_refused_on_other_devices_than_the_processor() {
    let mut options = CandleOptions::new("bee-tiny".parse().unwrap());
    options.device = super::CandleDevice::Cuda(0);
    options.cache_type = crate::models::CacheType::Q8;
    let error = load(Path::new(DIR), &options, &Progress::ignore(), &|| false).map(drop);
    let said = "cache_type is q8; allowed on cuda:0 are f32 and f16";
    let error = error.unwrap_err().to_string();
    assert!(error.contains(said), "{error}");
}

fn check(engine: CausalLm, cases: &[Case]) {
    let mut answers = Answers::of(engine);
    for case in cases {
        let name = &case.name;
        let sampling = Sampling {
            temperature: 0.0,
            max_tokens: Some(case.max_new_tokens),
            ..Sampling::default()
        };
        let heard = answers.answer(case.input_ids.clone(), sampling, 0, Resume::default());
        assert_eq!(heard.ids, case.output_ids, "{name}");
        assert_eq!(heard.text, case.text, "{name}");
        let finish = heard.finish.unwrap();
        assert_eq!(finish.as_str(), case.finish, "{name}");
        let eos = &answers.frontend.vocabulary.eos;
        assert!(finish == Finish::Length || eos.contains(heard.ids.last().unwrap()));
    }
}

#[test]
fn prompts_are_rendered_and_encoded_as_transformers_does() {
    check_prompts(&bundled_engine(), &golden());
}

fn check_prompts(engine: &CausalLm, golden: &Golden) {
    let codec = &engine.frontend.vocabulary.codec;
    for case in &golden.cases {
        let name = &case.name;
        if let Some(messages) = &case.messages {
            let chat = Chat { tools: case.tools.clone(), ..messages.clone().into() };
            let rendered =
                engine.frontend.template.as_ref().unwrap().render(&chat, codec.added()).unwrap();
            assert_eq!(rendered.text, case.rendered, "{name}");
            assert_eq!(codec.encode(&rendered, false).unwrap(), case.input_ids, "{name}");
        }
        let trusted = PromptText::trusted(case.rendered.as_str());
        let ids = codec.encode(&trusted, case.add_special_tokens).unwrap();
        assert_eq!(ids, case.input_ids, "{name}");
        assert_eq!(case.add_special_tokens, case.messages.is_none(), "{name}");
    }
    for case in &golden.tokenizer_cases {
        let trusted = PromptText::trusted(case.text.as_str());
        assert_eq!(codec.encode(&trusted, false).unwrap(), case.ids, "{:?}", case.text);
        if case.ids.iter().all(|id| !codec.added().control_ids().contains(id)) {
            let text = PromptText::from_caller(case.text.as_str());
            assert_eq!(codec.encode(&text, false).unwrap(), case.ids, "{:?}", case.text);
        }
    }
}

/// The exact logits of a model, one row after the other.
type Rows = Arc<Mutex<Vec<Vec<u32>>>>;

#[derive(Debug)]
struct Recorder(Box<dyn Model>, Rows);

impl Model for Recorder {
    fn vocab(&self) -> usize {
        self.0.vocab()
    }

    fn cache(&self) -> CacheShape {
        self.0.cache()
    }

    fn step(&mut self, parts: &[Part<'_>], logits: &mut Vec<f32>) -> candle_core::Result<()> {
        self.0.step(parts, logits)?;
        let rows = logits.chunks(self.0.vocab());
        let rows = rows.map(|row| row.iter().map(|logit| logit.to_bits()).collect());
        self.1.lock().unwrap().extend(rows);
        Ok(())
    }
}

#[test]
fn a_continued_run_computes_the_same_logits_to_the_last_bit() {
    let sampling = Sampling { max_tokens: Some(24), ..Sampling::default() };
    let prompt: Vec<u32> = (0..200).map(|n| 10 + n * 37 % 1000).collect();
    // The model's end tokens are ignored.
    let frontend = Arc::into_inner(bundled_engine().frontend).unwrap();
    let vocabulary = Arc::into_inner(frontend.vocabulary).unwrap();
    let vocabulary = Arc::new(Vocabulary { eos: Vec::new(), ..vocabulary });
    let frontend = Arc::new(Frontend { vocabulary, ..frontend });
    let checkpoint = Checkpoint::open(Path::new(DIR), None).unwrap();
    let loaded = checkpoint.load(Residence::Mapped, |_, _| true).unwrap();
    let run = |resume| {
        let rows = Rows::default();
        // Each with an empty cache.
        let weights = assemble(&checkpoint.plan, &loaded).unwrap();
        let shape = CacheShape::of(&checkpoint.architecture, CacheType::F16, 8);
        let model =
            Decoder::new(Cpu::new(), checkpoint.architecture.clone(), weights, shape).unwrap();
        let model = Box::new(Recorder(Box::new(model), rows.clone()));
        let engine = CausalLm { model, frontend: frontend.clone() };
        let heard = Answers::of(engine).answer(prompt.clone(), sampling.clone(), 5, resume);
        let rows = std::mem::take(&mut *rows.lock().unwrap());
        (heard.ids, rows)
    };
    let (ids, whole) = run(Resume::default());
    assert_eq!((ids.len(), whole.len()), (24, 24));
    for cut in 1..24 {
        let resume = Resume { tokens: ids[..cut].to_vec(), text_bytes: 0 };
        let (rest, continued) = run(resume);
        assert_eq!(rest, ids[cut..]);
        assert!(continued == whole[cut..], "the logits differ when continued at {cut}");
    }
}

#[test]
fn chunks_put_together_are_the_tokenizers_text_of_all_tokens() {
    let mut answers = Answers::of(bundled_engine());
    let wild = Sampling { temperature: 2.0, max_tokens: Some(30), ..Sampling::default() };
    let mut torn = 0;
    let frontend = answers.frontend.clone();
    let codec = &frontend.vocabulary.codec;
    for seed in 0..24 {
        let prompt = codec.encode(&PromptText::from_caller("🐝🌸 Zoé"), true).unwrap();
        let heard = answers.answer(prompt, wild.clone(), seed, Resume::default());
        assert_eq!(heard.text, codec.decode(&heard.ids), "seed {seed}");
        torn += usize::from(heard.text.contains('\u{fffd}'));
    }
    assert!(torn > 0, "no answer had bytes that are no character");
}
