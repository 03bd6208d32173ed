//! A loaded model that continues text, with everything that converts a job into tokens.

use candle_core::DType;

use super::{
    Facts, Loading,
    config::ModelConfig,
    files::Loaded,
    generate::{GenerationModel, PREFILL_CHUNK, Plan},
    model::LlamaModel,
    numerics::numerics,
    sampler,
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

/// The model, its tokenizer and its template.
#[derive(Debug)]
pub(super) struct CausalLm {
    pub(super) model: GenerationModel,
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
        let (tensors, weight_bytes) = loading.read(&mut checkpoint, &parts, dtype, &device)?;
        let facts = Facts {
            capabilities: Capabilities {
                generate: true,
                embed: false,
                resume: true,
                context_tokens: Some(config.context),
                heartbeats: true,
                logprobs: true,
                logit_bias: true,
                penalties: true,
                min_tokens: true,
            },
            numerics: numerics(
                &device,
                &loading.place(),
                dtype,
                &format!("prefill/{PREFILL_CHUNK}"),
            ),
            weight_bytes,
        };
        let model = LlamaModel::new(&config, tensors, dtype, &device)
            .map_err(|source| loading.does_not_fit(source))?;
        let model = GenerationModel { model: Box::new(model), codec, eos: config.eos, vocab };
        Ok((Self { model, template, context: config.context }, facts))
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
        sampler::check_logit_bias(sampling, self.model.vocab)?;
        let tokens = match prompt {
            Prompt::Text(text) => {
                self.model.codec.encode(&PromptText::from_caller(text.as_str()), true)?
            }
            Prompt::Raw(text) => {
                self.model.codec.encode(&PromptText::trusted(text.as_str()), true)?
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
                let codec = &self.model.codec;
                codec.encode(&template.render(messages, codec.added())?, false)?
            }
        };
        let (context, vocab) = (self.context, self.model.vocab);
        if tokens.len() >= context as usize {
            return Err(run.job.task.too_long(None, tokens.len() as u64, context));
        }
        Plan::new(tokens, sampling.clone(), run.job.seed, run.resume, context, vocab)
    }
}
