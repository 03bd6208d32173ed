//! A loaded model that makes vectors of texts.
//!
//! Texts of similar length are computed together, in batches that are small enough to check for cancellation between
//! them. The padding after a text in its batch is masked and does not change its vector, up to rounding.

use std::{cmp::Reverse, path::Path, time::Instant};

use candle_core::Tensor;

use super::{
    Facts, LoadFault, Loading,
    bert::{self, Bert, BertConfig},
    encoder::Encoder,
    files::{self, Loaded, MAX_CONFIG_BYTES, first_line, shown},
    numerics,
    text::prompt::PromptText,
    text::tokenizer::Codec,
    weights::Checkpoint,
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Finish, Metrics, Output, Usage},
    model_info::{
        Pooling,
        embedding::{Lengths, Pipeline},
    },
    task::{EmbedInput, Task},
    worker::{Capabilities, Run},
};

/// Tokens of a batch, padding included; a longer text is a separate batch. Larger batches are hardly faster on a
/// processor, and a batch must be short.
pub(super) const BATCH_TOKENS: usize = 512;
/// Vectors shorter than this are not normalized, to avoid a division by zero.
const LEAST_LENGTH: f32 = 1e-12;

/// The model, and the pooling of its vectors.
#[derive(Debug)]
pub(super) struct Embedder {
    model: Box<dyn Encoder>,
    codec: Codec,
    pooling: Pooling,
    normalize: bool,
    /// The longest text, in tokens.
    longest: usize,
    /// The number of tokens that the model knows.
    vocab: usize,
    /// The length of its vectors.
    length: u32,
    /// The shorter lengths that it was trained for.
    shorter: Lengths,
}

/// The receiver of a run's outputs.
pub(super) trait Sink {
    /// Takes an output; returns false if the run was cancelled.
    fn put(&mut self, output: Output) -> bool;
    /// A step of the computation begins, with this many tokens.
    fn step(&mut self, _tokens: usize) {}
    /// The step has ended without an output.
    fn beat(&mut self) {}
    /// Returns true if the run was cancelled.
    fn closed(&self) -> bool;
}

/// Texts that were checked against the model.
#[derive(Debug)]
pub(super) struct Plan {
    texts: Vec<Vec<u32>>,
    tokens: u32,
    /// The length of the vectors.
    length: usize,
}

impl Embedder {
    /// Loads a model of the BERT family.
    pub(super) fn load(loading: &Loading<'_>, config: BertConfig) -> Loaded<(Self, Facts)> {
        let Loading { dir, file, options, .. } = loading;
        let pipeline = Pipeline::read(dir)?;
        let pooling = supported(&pipeline, loading)?;
        let mut longest = config.longest();
        for limit in [pipeline.max_tokens, options.context].into_iter().flatten() {
            longest = longest.min(limit as usize);
        }
        let mut checkpoint = Checkpoint::open(dir, file.as_deref())?;
        let parts = config.check(&checkpoint)?;
        let codec = Codec::load(dir, config.vocab, "")?;
        let shorter = Lengths::read(dir)?;
        let device = bert::open_for(loading, &parts)?;
        let (tensors, weight_bytes) =
            loading.read(&mut checkpoint, &parts, bert::DTYPE, &device)?;
        let model =
            Bert::new(&config, tensors, &device).map_err(|source| loading.does_not_fit(source))?;
        let at_once = format!("batch/{BATCH_TOKENS}");
        let facts = Facts {
            capabilities: Capabilities {
                generate: false,
                embed: true,
                resume: false,
                context_tokens: Some(longest as u32),
                heartbeats: true,
                ..Capabilities::default()
            },
            numerics: numerics::of_encoder(&device, &loading.place(), bert::DTYPE, &at_once),
            memory_bytes: weight_bytes,
        };
        let embedder = Self {
            model: Box::new(model),
            codec,
            pooling,
            normalize: pipeline.normalize,
            longest,
            vocab: config.vocab,
            length: u32::try_from(config.hidden).unwrap_or(u32::MAX),
            shorter,
        };
        Ok((embedder, facts))
    }

    /// Checks everything about a run that can be refused, before anything is computed.
    pub(super) fn plan(&self, run: &Run) -> Result<Plan> {
        let unsupported = |what| Err(Error::for_client(ErrorKind::Unsupported, what));
        let Task::Embed { inputs, dimensions } = &run.job.task else {
            return unsupported(
                "the model continues no text and scores no documents; it makes embeddings",
            );
        };
        if !run.resume.is_empty() {
            return unsupported("embeddings cannot be continued; they are computed again");
        }
        let refuse = |kind, message| Err(Error::for_client(kind, message).with_param("input"));
        if inputs.is_empty() {
            return refuse(
                ErrorKind::InvalidRequest,
                "input has 0 texts; allowed is at least 1".into(),
            );
        }
        let length = self.allowed_length(*dimensions)?;
        let mut texts = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            let tokens = match input {
                EmbedInput::Text(text) => {
                    self.codec.encode(&PromptText::from_caller(text.as_str()), true)?
                }
                EmbedInput::Tokens(ids) => ids.clone(),
            };
            if let Some((at, id)) =
                tokens.iter().enumerate().find(|(_, id)| **id as usize >= self.vocab)
            {
                let message = format!(
                    "input[{index}][{at}] is {id}; the model has the tokens 0 to {}",
                    self.vocab.saturating_sub(1)
                );
                return refuse(ErrorKind::InvalidRequest, message);
            }
            if tokens.is_empty() {
                let message = format!("input[{index}] has 0 tokens; allowed is at least 1");
                return refuse(ErrorKind::InvalidRequest, message);
            }
            if tokens.len() > self.longest {
                let (place, most) = (format!("input[{index}]"), self.longest as u32);
                return Err(run.job.task.too_long(Some(&place), tokens.len() as u64, most));
            }
            texts.push(tokens);
        }
        let tokens: usize = texts.iter().map(Vec::len).sum();
        Ok(Plan { texts, tokens: u32::try_from(tokens).unwrap_or(u32::MAX), length })
    }

    /// The length of the vectors of a request that asks for this one.
    fn allowed_length(&self, asked: Option<u32>) -> Result<usize> {
        match asked {
            Some(length) if length != self.length && !self.shorter.has(length, self.length) => {
                let message = format!(
                    "dimensions is {length}; allowed for this model is {}",
                    self.shorter.named(self.length)
                );
                Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param("dimensions"))
            }
            length => Ok(length.unwrap_or(self.length) as usize),
        }
    }

    /// Computes the vectors, in the order of the texts, and returns the end; `None` if the run was cancelled.
    pub(super) fn embed(&self, plan: &Plan, sink: &mut impl Sink) -> Result<Option<Output>> {
        let begun = Instant::now();
        let mut vectors = vec![Vec::new(); plan.texts.len()];
        for batch in batches(plan.texts.iter().map(Vec::len)) {
            if sink.closed() {
                return Ok(None);
            }
            let texts: Vec<&[u32]> = batch.iter().map(|index| &*plan.texts[*index]).collect();
            sink.step(texts.iter().map(|tokens| tokens.len()).sum());
            for (index, vector) in batch.into_iter().zip(self.vectors(&texts).map_err(fault)?) {
                vectors[index] = self.finish(vector, plan.length).ok_or_else(|| {
                    let message =
                        format!("the model gave no number in the vector of input[{index}]");
                    Error::new(ErrorKind::WorkerFault, message)
                })?;
            }
            sink.beat();
        }
        let metrics =
            Metrics { prompt_tokens: plan.tokens, prefill: begun.elapsed(), ..Metrics::default() };
        if !(sink.put(Output::Metrics(metrics)) && sink.put(Output::Vectors(vectors))) {
            return Ok(None);
        }
        let usage = Usage { prompt_tokens: plan.tokens, ..Usage::default() };
        Ok(Some(Output::End { finish: Finish::Stop, usage, stop_text: None }))
    }

    /// One vector for each text of a batch.
    fn vectors(&self, texts: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let all = self.model.encode(texts)?;
        let mut pooled = Vec::with_capacity(texts.len());
        for (index, tokens) in texts.iter().enumerate() {
            // The rows after the text are padding.
            let of_text = all.get(index)?.narrow(0, 0, tokens.len())?;
            pooled.push(match self.pooling {
                Pooling::Mean => of_text.mean(0)?,
                Pooling::Cls => of_text.get(0)?,
                Pooling::Max => of_text.max(0)?,
                Pooling::Last => of_text.get(tokens.len() - 1)?,
            });
        }
        Tensor::stack(&pooled, 0)?.to_vec2()
    }

    /// The final vector, cut to this length; `None` if it contains values that are not finite numbers.
    fn finish(&self, mut vector: Vec<f32>, length: usize) -> Option<Vec<f32>> {
        vector.truncate(length);
        if self.normalize {
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(LEAST_LENGTH);
            vector.iter_mut().for_each(|x| *x /= length);
        }
        vector.iter().all(|x| x.is_finite()).then_some(vector)
    }
}

pub(super) fn fault(cause: candle_core::Error) -> Error {
    let message = format!("the engine failed: {}", first_line(&cause));
    Error::new(ErrorKind::WorkerFault, message).with_source(cause)
}

/// Texts of these lengths that are computed together, by index: the longest first.
pub(super) fn batches(lengths: impl Iterator<Item = usize>) -> Vec<Vec<usize>> {
    let lengths: Vec<usize> = lengths.collect();
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|index| Reverse(lengths[*index]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for index in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * longest <= BATCH_TOKENS => batch.push(index),
            _ => {
                longest = lengths[index];
                batches.push(vec![index]);
            }
        }
    }
    batches
}

/// Refuses settings that would change the texts before they are encoded.
pub(super) fn check_settings(dir: &Path) -> Loaded<()> {
    for (file, key) in [
        ("config_sentence_transformers.json", "default_prompt_name"),
        ("sentence_bert_config.json", "do_lower_case"),
    ] {
        let path = dir.join(file);
        let config = files::read_object(&path, MAX_CONFIG_BYTES)?.unwrap_or_default();
        match config.get(key) {
            None | Some(serde_json::Value::Null | serde_json::Value::Bool(false)) => {}
            Some(other) => {
                let what = format!("{key} is {}; allowed is none", shown(other));
                return Err(LoadFault::defect(&path, what));
            }
        }
    }
    Ok(())
}

/// The pooling of a pipeline of which this engine supports every step.
fn supported(pipeline: &Pipeline, loading: &Loading<'_>) -> Loaded<Pooling> {
    if let Some(step) = &pipeline.unknown {
        let what = format!("has a module {step}; allowed are Transformer, Pooling and Normalize");
        return Err(LoadFault::defect(&loading.dir.join("modules.json"), what));
    }
    check_settings(&loading.dir)?;
    pipeline.pooling.ok_or_else(|| {
        let what =
            "pooling_mode is not one that is known; allowed is one of mean, cls, max and lasttoken";
        LoadFault::defect(&pipeline.pooling_file, what)
    })
}

#[cfg(test)]
#[path = "embed_tests.rs"]
mod tests;
