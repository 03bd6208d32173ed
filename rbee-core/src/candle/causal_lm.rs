//! A loaded model that continues text, with everything that converts a job into tokens.

use std::sync::Arc;

use candle_core::Device;
use rbee_decoder::{
    architecture::Architecture,
    backend::{self, BLOCK, CacheShape},
    cpu::Cpu,
    forward::Decoder,
    model::Model,
    tensors::Tensors,
};

use super::{
    CandleDevice, CandleOptions, Facts, Loading,
    batch::rows,
    decoder::{assemble::assemble, checkpoint::Checkpoint, weights::Residence},
    files::{CacheSize, LoadFault, Loaded},
    generate::{Plan, Vocabulary},
    guided::Guides,
    numerics, sampler,
    text::{
        self,
        gguf::GgufText,
        infill::InfillTokens,
        prompt::PromptText,
        template::{self, ChatTemplate},
        tokenizer::Codec,
    },
};
use crate::{
    error::{Error, ErrorKind, Result},
    model_info::{CachePool, CacheType},
    task::{Prompt, Task},
    worker::{Capabilities, Run},
};

// The rule of the pool counts in the blocks of the cache.
const _: () = assert!(CachePool::BLOCK as usize == BLOCK);

impl From<CacheType> for backend::CacheType {
    fn from(kind: CacheType) -> Self {
        match kind {
            CacheType::F32 => Self::F32,
            CacheType::F16 => Self::F16,
            CacheType::Q8 => Self::Q8,
        }
    }
}

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
    pub(super) capabilities: Capabilities,
    /// The control tokens for what goes between two texts, if the model has some.
    pub(super) infill: Option<InfillTokens>,
    pub(super) guides: Guides,
}

impl CausalLm {
    /// Loads a model that continues text.
    pub(super) fn load(loading: &Loading<'_>) -> Loaded<(Self, Facts)> {
        let Loading { path, options, .. } = loading;
        let checkpoint = Checkpoint::open(path, options.context)?;
        let vocab = checkpoint.architecture.vocab;
        let GgufText { codec, template, eos } = match &checkpoint.gguf {
            Some(file) => text::gguf::load(file, vocab)?,
            None => text_of_directory(&checkpoint)?,
        };
        let (slots, pool) = (options.slots.get(), options.pool());
        let tokens = pool.tokens(checkpoint.context, slots);
        let blocks = usize::try_from(tokens / BLOCK as u64).unwrap_or(usize::MAX);
        let context = u32::try_from(tokens).unwrap_or(u32::MAX).min(checkpoint.context);
        loading.check_cache_type()?;
        let shape = CacheShape::of(&checkpoint.architecture, options.cache_type.into(), blocks);
        let cache_bytes = shape.bytes();
        let cache =
            CacheSize { bytes: cache_bytes, tokens, kind: options.cache_type, context, slots };
        let (weights, work) =
            (checkpoint.bytes(), work_bytes(&checkpoint.architecture, tokens, slots));
        let rest = work.saturating_add(cache_bytes);
        let (mapped, own) =
            if options.copy_weights { (0, weights.saturating_add(rest)) } else { (weights, rest) };
        loading.check_memory(
            mapped,
            own,
            || {
                format!(
                    "{weights} bytes for its weights, {work} bytes for its computation and {cache}"
                )
            },
            "Set a shorter context, fewer slots or fewer cache_tokens, or choose a smaller model",
        )?;
        let model = loading.model(&checkpoint, shape)?;
        let answer = template.as_ref().map(ChatTemplate::answer_format).unwrap_or_default();
        let infill = InfillTokens::of(&codec);
        let thinking = template.as_ref().and_then(ChatTemplate::thinking_switch);
        let facts = Facts {
            capabilities: Capabilities {
                generate: true,
                embed: false,
                rerank: false,
                resume: true,
                context_tokens: Some(context),
                heartbeats: true,
                logprobs: true,
                logit_bias: true,
                penalties: true,
                min_tokens: true,
                grammar: true,
                infill: infill.is_some(),
                answer,
                thinking,
            },
            numerics: loading.numerics(options.cache_type),
            memory_bytes: weights.saturating_add(cache_bytes),
        };
        let vocabulary = Arc::new(Vocabulary { codec, eos, size: vocab });
        let guides = Guides::default();
        let frontend = Arc::new(Frontend {
            vocabulary,
            template,
            context,
            capabilities: facts.capabilities.clone(),
            infill,
            guides,
        });
        Ok((Self { model, frontend }, facts))
    }
}

impl Loading<'_> {
    /// Brings the weights into memory, and makes the model of them on its device.
    fn model(&self, checkpoint: &Checkpoint, shape: CacheShape) -> Loaded<Box<dyn Model>> {
        let device = self.options.device.open()?;
        let residence = match self.options.copy_weights {
            true => Residence::Copied,
            false => Residence::Mapped,
        };
        let loaded = checkpoint.load(residence, |done, total| self.goes_on(done, total))?;
        let weights = assemble(&checkpoint.plan, &loaded)?;
        let architecture = checkpoint.architecture.clone();
        let does_not_fit = |source| self.does_not_fit(source);
        Ok(match device {
            Device::Cpu => {
                let decoder = Decoder::new(Cpu::new(), architecture, weights, shape);
                Box::new(decoder.map_err(does_not_fit)?)
            }
            device => {
                let decoder = Decoder::new(Tensors::new(device), architecture, weights, shape);
                Box::new(decoder.map_err(does_not_fit)?)
            }
        })
    }

    fn check_cache_type(&self) -> Loaded<()> {
        let CandleOptions { device, cache_type, .. } = self.options;
        if *device == CandleDevice::Cpu || *cache_type != CacheType::Q8 {
            return Ok(());
        }
        let what = format!("cache_type is {cache_type}; allowed on {device} are f32 and f16");
        Err(LoadFault::Option { what })
    }

    fn numerics(&self, cache: CacheType) -> String {
        let at = match self.options.device {
            CandleDevice::Cpu => None,
            CandleDevice::Cuda(_) | CandleDevice::Metal(_) => Some(self.place()),
        };
        numerics::of_decoder(at.as_deref(), cache.into())
    }
}

/// The memory that the largest step takes, with a cache of this many tokens: the decoder keeps its rows.
fn work_bytes(architecture: &Architecture, cache_tokens: u64, slots: u32) -> u64 {
    let a = architecture;
    // Every sequence has a block of its own.
    let sequences = u64::from(slots).min(cache_tokens / BLOCK as u64);
    let rows = (rows::MOST as u64).saturating_add(sequences).min(cache_tokens);
    let inner = a.experts.map_or(a.inner, |experts| experts.inner.max(a.inner));
    // Five rows of the model's width, three of the queries', two of the keys' and the feed-forward network's.
    let numbers = 5 * a.hidden + a.head_dim * (3 * a.heads + 2 * a.kv_heads) + 2 * inner;
    // Logits are copied once.
    let logits = sequences.saturating_mul(2 * a.vocab as u64);
    rows.saturating_mul(numbers as u64).saturating_add(logits).saturating_mul(4)
}

/// Tokenizer, template and end tokens of a directory.
fn text_of_directory(checkpoint: &Checkpoint) -> Loaded<GgufText> {
    let Checkpoint { dir, architecture, .. } = checkpoint;
    let (template, names) = template::load(dir)?;
    let written = template.as_ref().map(ChatTemplate::written).unwrap_or_default();
    let codec = Codec::load(dir, architecture.vocab, &written)?;
    let mut eos = checkpoint.eos.clone();
    if eos.is_empty() {
        // No token in the configuration ends a text; the tokenizer may have one.
        eos.extend(names.eos.and_then(|token| codec.id(&token)));
    }
    Ok(GgufText { codec, template, eos })
}

impl Frontend {
    /// The tokens of a prompt, which may be longer than the context.
    pub(super) fn tokens(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Text(text) => {
                self.vocabulary.codec.encode(&PromptText::from_caller(text.as_str()), true)
            }
            Prompt::Raw(text) => {
                self.vocabulary.codec.encode(&PromptText::trusted(text.as_str()), true)
            }
            Prompt::Infill { prefix, suffix } => {
                let infill = self.infill.as_ref().ok_or_else(|| {
                    let message = "suffix is not supported by this model: it has no control tokens for what goes \
                                   between two texts";
                    Error::for_client(ErrorKind::Unsupported, message).with_param("suffix")
                })?;
                self.vocabulary.codec.encode(&infill.prompt(prefix, suffix), true)
            }
            Prompt::Chat(chat) => {
                chat.validate()?;
                let template = self.template.as_ref().ok_or_else(|| {
                    let message =
                        "the model has no chat template; send bare text instead of messages";
                    Error::for_client(ErrorKind::Unsupported, message).with_param("messages")
                })?;
                let codec = &self.vocabulary.codec;
                codec.encode(&template.render(chat, codec.added())?, false)
            }
        }
    }

    /// Checks everything about a run that can be refused, before anything is computed.
    pub(super) fn plan(&self, run: Run) -> Result<Plan> {
        let Task::Generate { prompt, sampling } = &run.job.task else {
            return Err(Error::for_client(
                ErrorKind::Unsupported,
                "the model makes no embeddings; it continues text",
            ));
        };
        sampling.validate()?;
        sampler::check_logit_bias(sampling, self.vocabulary.size)?;
        let tokens = self.tokens(prompt)?;
        let (context, vocab) = (self.context, self.vocabulary.size);
        if tokens.len() >= context as usize {
            return Err(run.job.task.too_long(None, tokens.len() as u64, context));
        }
        let plan = Plan::new(tokens, sampling.clone(), run.job.seed, run.resume, context, vocab)?;
        let mask = self.guides.mask(
            prompt,
            sampling,
            self.capabilities.answer_to(prompt),
            &self.vocabulary,
        )?;
        Ok(plan.of(run.job.as_ref().into()).with_mask(mask))
    }
}
