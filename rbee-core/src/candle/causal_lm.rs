//! A loaded model that continues text, with everything that converts a job into tokens.

use std::{num::NonZeroU32, sync::Arc};

use candle_core::DType;

use super::{
    Facts, Loading,
    batch::cache_blocks,
    config::ModelConfig,
    decoder::{backend::BLOCK, model::Model},
    files::Loaded,
    generate::{Plan, Vocabulary},
    model::LlamaModel,
    numerics::numerics,
    text::prompt::PromptText,
    text::template::{self, ChatTemplate},
    text::tokenizer::Codec,
    weights::{Checkpoint, Part},
};
use crate::{
    error::{Error, ErrorKind, Result},
    task::{Prompt, Task},
    worker::{Capabilities, Run},
};

/// The model, with its tokenizer and its template.
#[derive(Debug)]
pub(super) struct CausalLm {
    pub(super) model: Box<dyn Model>,
    pub(super) frontend: Arc<Frontend>,
}

/// Everything about a model but its computation. Runs are checked with it on other threads than the engine's.
#[derive(Debug)]
pub(super) struct Frontend {
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) template: Option<ChatTemplate>,
    pub(super) context: u32,
}

impl CausalLm {
    /// Loads a model of the Llama family.
    pub(super) fn load(loading: &Loading<'_>) -> Loaded<(Self, Facts)> {
        let Loading { dir, file, options, .. } = loading;
        let mut config = ModelConfig::load(dir, options.context)?;
        let mut checkpoint = Checkpoint::open(dir, file.as_deref())?;
        let parts: Vec<Part> = config.tensors().collect();
        // Old files contain tables, and some contain a copy of tied weights.
        checkpoint.check("Llama", &parts, |name| {
            name.ends_with(".rotary_emb.inv_freq")
                || (name == "lm_head.weight" && config.llama.tie_word_embeddings)
        })?;
        let vocab = config.llama.vocab_size;
        let (template, names) = template::load(dir)?;
        let written = template.as_ref().map(ChatTemplate::written).unwrap_or_default();
        let codec = Codec::load(dir, vocab, &written)?;
        if config.eos.is_empty() {
            // No token in the configuration ends a text; the tokenizer may have one.
            config.eos.extend(names.eos.and_then(|token| codec.id(&token)));
        }
        let device = options.device.open()?;
        let dtype: DType = options.dtype(checkpoint.stored_dtype("model.embed_tokens.weight"))?;
        let slots = options.slots.get();
        let blocks = cache_blocks(config.context, slots, options.cache_tokens.map(NonZeroU32::get));
        let context = u32::try_from(blocks * BLOCK).unwrap_or(u32::MAX).min(config.context);
        let (tensors, weight_bytes) = loading.read(&mut checkpoint, &parts, dtype, &device)?;
        let model = LlamaModel::new(&config, tensors, dtype, &device, blocks)
            .map_err(|source| loading.does_not_fit(source))?;
        let cache_bytes = (blocks * model.cache().block_bytes()) as u64;
        let facts = Facts {
            capabilities: Capabilities {
                generate: true,
                embed: false,
                resume: true,
                context_tokens: Some(context),
                heartbeats: true,
            },
            numerics: numerics(&device, &loading.place(), dtype, "any batch"),
            memory_bytes: weight_bytes + cache_bytes,
        };
        let vocabulary = Arc::new(Vocabulary { codec, eos: config.eos, size: vocab });
        let frontend = Arc::new(Frontend { vocabulary, template, context });
        Ok((Self { model: Box::new(model), frontend }, facts))
    }
}

impl Frontend {
    /// Checks everything about a run that can be refused, before anything is computed.
    pub(super) fn plan(&self, run: Run) -> Result<Plan> {
        let Task::Generate { prompt, sampling } = &run.job.task else {
            return Err(Error::for_client(
                ErrorKind::Unsupported,
                "the model makes no embeddings; it continues text",
            ));
        };
        sampling.validate()?;
        let tokens = match prompt {
            Prompt::Text(text) => {
                self.vocabulary.codec.encode(&PromptText::from_caller(text.as_str()), true)?
            }
            Prompt::Raw(text) => {
                self.vocabulary.codec.encode(&PromptText::trusted(text.as_str()), true)?
            }
            Prompt::Chat(messages) => {
                if messages.is_empty() {
                    let message = "messages is empty; allowed is at least 1";
                    return Err(Error::for_client(ErrorKind::InvalidRequest, message));
                }
                let template = self.template.as_ref().ok_or_else(|| {
                    let message =
                        "the model has no chat template; send bare text instead of messages";
                    Error::for_client(ErrorKind::Unsupported, message)
                })?;
                let codec = &self.vocabulary.codec;
                codec.encode(&template.render(messages, codec.added())?, false)?
            }
        };
        let (context, vocab) = (self.context, self.vocabulary.size);
        if tokens.len() >= context as usize {
            return Err(run.job.task.too_long(None, tokens.len() as u64, context));
        }
        let plan = Plan::new(tokens, sampling.clone(), run.job.seed, run.resume, context, vocab)?;
        Ok(plan.of(run.job.as_ref().into()))
    }
}
