//! A loaded model that scores documents by their relevance to a query.
//!
//! Each document is a pair with the query. Pairs of similar length are computed together, in batches that are small enough
//! to check for cancellation between them. The padding after a pair is masked and does not change its score, up to
//! rounding.

use std::time::Instant;

use super::{
    Facts, Loading,
    bert::{self, BertConfig},
    cross_encoder::{CrossEncoder, ScoreFunction},
    embed::{BATCH_TOKENS, Sink, batches, check_settings, fault},
    encoder::PairScorer,
    files::{LoadFault, Loaded},
    numerics,
    text::tokenizer::{Codec, Pair},
    weights::Checkpoint,
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Finish, Metrics, Output, Usage},
    model_info::embedding::Pipeline,
    task::Task,
    worker::{Capabilities, Run},
};

/// The model, and the function of its scores.
#[derive(Debug)]
pub(super) struct Reranker {
    model: Box<dyn PairScorer>,
    codec: Codec,
    function: ScoreFunction,
    /// The longest pair, in tokens.
    longest: usize,
}

/// Pairs that were checked against the model, in the order of the documents.
#[derive(Debug)]
pub(super) struct Plan {
    pairs: Vec<Pair>,
    tokens: u32,
}

impl Reranker {
    /// Loads a cross-encoder of the BERT family.
    pub(super) fn load(loading: &Loading<'_>, config: BertConfig) -> Loaded<(Self, Facts)> {
        let Loading { dir, file, options, .. } = loading;
        let pipeline = Pipeline::read(dir)?;
        if let Some(step) = &pipeline.unknown {
            let what = format!("has a module {step}; allowed is Transformer");
            return Err(LoadFault::defect(&dir.join("modules.json"), what));
        }
        check_settings(dir)?;
        let function = ScoreFunction::read(dir)?;
        let mut longest = config.longest();
        for limit in [pipeline.max_tokens, options.context].into_iter().flatten() {
            longest = longest.min(limit as usize);
        }
        let mut checkpoint = Checkpoint::open(dir, file.as_deref())?;
        let parts = config.check(&checkpoint)?;
        let codec = Codec::load(dir, config.vocab, "")?;
        check_template(&codec, &config, loading)?;
        let device = bert::open_for(loading, &parts)?;
        let (tensors, memory_bytes) =
            loading.read(&mut checkpoint, &parts, bert::DTYPE, &device)?;
        let model = CrossEncoder::new(&config, tensors, &device)
            .map_err(|source| loading.does_not_fit(source))?;
        let at_once = format!("batch/{BATCH_TOKENS}");
        let facts = Facts {
            capabilities: Capabilities {
                rerank: true,
                context_tokens: Some(longest as u32),
                heartbeats: true,
                ..Capabilities::default()
            },
            numerics: numerics::of_encoder(&device, &loading.place(), bert::DTYPE, &at_once),
            memory_bytes,
        };
        Ok((Self { model: Box::new(model), codec, function, longest }, facts))
    }

    /// Checks everything about a run that can be refused, before anything is computed. A document that is too long is cut
    /// at its end.
    pub(super) fn plan(&self, run: &Run) -> Result<Plan> {
        let unsupported = |what| Err(Error::for_client(ErrorKind::Unsupported, what));
        let Task::Rerank { query, documents } = &run.job.task else {
            return unsupported(
                "the model continues no text and makes no embeddings; it scores documents",
            );
        };
        if !run.resume.is_empty() {
            return unsupported("scores cannot be continued; they are computed again");
        }
        if documents.is_empty() {
            let message = "documents has 0 documents; allowed is at least 1";
            return Err(
                Error::for_client(ErrorKind::InvalidRequest, message).with_param("documents")
            );
        }
        let query = self.codec.half(query)?;
        let taken = query.len() + self.codec.added_to_pair();
        if taken >= self.longest {
            // Without a token of a document there is nothing to score.
            let tokens = taken as u64 + 1;
            return Err(run.job.task.too_long(Some("query"), tokens, self.longest as u32));
        }
        let mut pairs = Vec::with_capacity(documents.len());
        for document in documents {
            let mut document = self.codec.half(document)?;
            document.truncate(self.longest - taken);
            pairs.push(self.codec.pair(&query, document)?);
        }
        let tokens: usize = pairs.iter().map(|pair| pair.ids.len()).sum();
        Ok(Plan { pairs, tokens: u32::try_from(tokens).unwrap_or(u32::MAX) })
    }

    /// Computes the scores, in the order of the documents, and returns the end; `None` if the run was cancelled.
    pub(super) fn rerank(&self, plan: &Plan, sink: &mut impl Sink) -> Result<Option<Output>> {
        let begun = Instant::now();
        let mut scores = vec![0.0; plan.pairs.len()];
        for batch in batches(plan.pairs.iter().map(|pair| pair.ids.len())) {
            if sink.closed() {
                return Ok(None);
            }
            let pairs: Vec<&Pair> = batch.iter().map(|index| &plan.pairs[*index]).collect();
            sink.step(pairs.iter().map(|pair| pair.ids.len()).sum());
            for (index, logit) in batch.into_iter().zip(self.model.logits(&pairs).map_err(fault)?) {
                scores[index] = self.function.apply(logit);
                if !scores[index].is_finite() {
                    let message = format!("the model gave no number for documents[{index}]");
                    return Err(Error::new(ErrorKind::WorkerFault, message));
                }
            }
            sink.beat();
        }
        let metrics =
            Metrics { prompt_tokens: plan.tokens, prefill: begun.elapsed(), ..Metrics::default() };
        if !(sink.put(Output::Metrics(metrics)) && sink.put(Output::Vectors(vec![scores]))) {
            return Ok(None);
        }
        let usage = Usage { prompt_tokens: plan.tokens, ..Usage::default() };
        Ok(Some(Output::End { finish: Finish::Stop, usage, stop_text: None }))
    }
}

/// Checks that the tokenizer separates the texts of a pair, has each of them once, and gives them types that the model
/// knows.
fn check_template(codec: &Codec, config: &BertConfig, loading: &Loading<'_>) -> Loaded<()> {
    let path = loading.dir.join("tokenizer.json");
    let defect = |what: String| Err(LoadFault::defect(&path, what));
    let halves =
        codec.half("a").and_then(|half| Ok((half.len(), codec.pair(&half, half.clone())?)));
    let (length, pair) = match halves {
        Ok(halves) => halves,
        Err(error) => return defect(format!("cannot encode a pair of texts: {}", error.message())),
    };
    let added = codec.added_to_pair();
    if added == 0 || pair.ids.len() != 2 * length + added {
        return defect(
            "post_processor has a template for pairs that does not separate the texts, or does not have each of them \
             once; allowed is one like that of BERT"
                .into(),
        );
    }
    let most = pair.types.into_iter().max().unwrap_or(0);
    if config.family == bert::Family::Bert && most as usize >= config.types {
        return defect(format!(
            "gives a text of a pair the type {most}; by config.json allowed are 0 to {}",
            config.types - 1
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "rerank_tests.rs"]
mod tests;
