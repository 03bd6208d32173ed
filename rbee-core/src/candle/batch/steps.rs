//! The sequences of a worker, and the steps that compute them.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{pending, select_all};
use rbee_decoder::{backend::BLOCK, model::Model, part::Part};

use super::{
    Clock,
    outlet::Outlet,
    prefix::{Chain, PrefixCache},
    rows::{RowTime, prompt_rows, shares},
    sequence::Sequence,
    warm::WarmKeys,
};
use crate::{
    candle::{
        files::{first_line, shown},
        generate::{Begun, Vocabulary},
        heartbeat::Heartbeat,
    },
    error::{Error, ErrorKind, Result},
};

/// A model with the sequences that it computes, in order of arrival.
#[derive(Debug)]
pub(in crate::candle) struct Batch {
    model: Box<dyn Model>,
    vocabulary: Arc<Vocabulary>,
    sequences: Vec<Sequence>,
    cache: PrefixCache,
    warm: WarmKeys,
    row_time: RowTime,
    clock: Clock,
    /// The logits of a step; kept for its memory.
    logits: Vec<f32>,
}

/// The part of a sequence in a step.
#[derive(Clone, Copy, Debug)]
struct Pick {
    /// Its index in the order of arrival.
    index: usize,
    /// The number of tokens.
    rows: usize,
}

impl Batch {
    pub(in crate::candle) fn new(
        model: Box<dyn Model>,
        vocabulary: Arc<Vocabulary>,
        clock: Clock,
    ) -> Self {
        let cache = PrefixCache::new(model.cache().blocks);
        Self {
            model,
            vocabulary,
            sequences: Vec::new(),
            cache,
            warm: WarmKeys::default(),
            row_time: RowTime::default(),
            clock,
            logits: Vec::new(),
        }
    }

    /// Takes a run. It is computed from the next step on.
    pub(in crate::candle) fn join(&mut self, run: Begun, mut outlet: Outlet) {
        match run {
            Begun::Generation(generation) => {
                let since = self.clock.now();
                outlet.since(since);
                let chain = Chain::default();
                self.sequences.push(Sequence { generation, outlet, chain, computed: 0, since });
            }
            Begun::Over(end) => outlet.close(end),
        }
    }

    /// Sends outputs for which there is capacity now, and removes the runs that are over.
    pub(in crate::candle) fn settle(&mut self) {
        let cache = &mut self.cache;
        self.sequences.retain_mut(|sequence| {
            let goes_on = sequence.outlet.flush();
            if !goes_on {
                cache.release(&mut sequence.chain);
            }
            goes_on
        });
    }

    /// Ends all runs.
    pub(in crate::candle) fn close(&mut self, error: &Error) {
        for mut sequence in self.sequences.drain(..) {
            self.cache.release(&mut sequence.chain);
            sequence.outlet.close(Err(error.clone()));
        }
    }

    /// Waits until a reader has taken an output or is gone.
    pub(in crate::candle) async fn changed(&self) {
        if self.sequences.is_empty() {
            return pending().await;
        }
        select_all(self.sequences.iter().map(|sequence| Box::pin(sequence.outlet.changed()))).await;
    }

    /// The prefix keys whose blocks are cached; `None` if they are those of the last call.
    pub(in crate::candle) fn warm(&mut self) -> Option<Vec<u64>> {
        self.warm.report(&self.cache)
    }

    /// Computes a step. Returns false if there is nothing to compute before a reader or a new run changes that.
    pub(in crate::candle) fn step(&mut self, heartbeat: &Heartbeat) -> bool {
        let picks = self.pick();
        if picks.is_empty() {
            return false;
        }
        let begun = self.clock.now();
        let mut logits = std::mem::take(&mut self.logits);
        let outcomes = self.compute(&picks, &mut logits, heartbeat);
        let now = self.clock.now();
        let rows = picks.iter().map(|pick| pick.rows).sum();
        self.row_time.note(rows, now.saturating_sub(begun));
        let vocab = self.model.vocab();
        let mut rows = logits.chunks_exact_mut(vocab.max(1));
        for (pick, outcome) in picks.iter().zip(outcomes) {
            let outcome = outcome.and_then(|()| self.advance(*pick, &mut rows, now));
            if let Err(error) = outcome {
                let Sequence { outlet, chain, .. } = &mut self.sequences[pick.index];
                self.cache.discard(chain);
                outlet.end(Err(error));
            }
        }
        self.logits = logits;
        for sequence in &mut self.sequences {
            sequence.outlet.heartbeat(now);
        }
        true
    }

    /// Records the computed tokens of a sequence, and generates the next one after the last of them.
    fn advance<'l>(
        &mut self,
        pick: Pick,
        logits: &mut impl Iterator<Item = &'l mut [f32]>,
        now: Duration,
    ) -> Result<()> {
        let sequence = &mut self.sequences[pick.index];
        let generation = &mut sequence.generation;
        generation.computed_from(sequence.computed);
        sequence.computed += pick.rows;
        let is_last = sequence.computed == generation.tokens().len();
        let next = if is_last {
            let logits = logits.next().ok_or_else(no_logits)?;
            let metrics =
                generation.is_new().then(|| generation.metrics(now.saturating_sub(sequence.since)));
            let next = guarded(|| generation.next(&self.vocabulary, logits))?;
            Some((metrics, next))
        } else {
            None
        };
        // After the check of the logits, so that nothing is cached that gave wrong ones.
        let tokens = generation.tokens();
        let tenant = generation.origin.tenant.as_ref();
        self.cache.publish(tenant, &mut sequence.chain, tokens, sequence.computed);
        let Some((metrics, next)) = next else {
            return Ok(());
        };
        if metrics.is_some() {
            let full = generation.prompt().len() / BLOCK;
            if let Some(end) = full.checked_sub(1).and_then(|last| sequence.chain.nodes.get(last)) {
                self.warm.record(&generation.origin.keys, *end, &self.cache);
            }
        }
        for output in metrics.into_iter().chain([next.token]) {
            sequence.outlet.put(output, now);
        }
        if let Some(end) = next.end {
            sequence.outlet.end(Ok(end));
            self.cache.release(&mut sequence.chain);
        }
        Ok(())
    }

    /// Computes a step. If it fails, every part is tried alone: the results are the same, and only the parts that fail
    /// again are at fault.
    fn compute(
        &mut self,
        picks: &[Pick],
        logits: &mut Vec<f32>,
        heartbeat: &Heartbeat,
    ) -> Vec<Result<()>> {
        let parts: Vec<Part<'_>> = picks
            .iter()
            .map(|pick| {
                let Sequence { generation, chain, computed, .. } = &self.sequences[pick.index];
                let end = *computed + pick.rows;
                Part {
                    tokens: &generation.tokens()[*computed..end],
                    start: *computed,
                    blocks: &chain.blocks,
                    logits: end == generation.tokens().len(),
                }
            })
            .collect();
        let model = &mut *self.model;
        let mut run = |parts: &[Part<'_>], logits: &mut Vec<f32>| {
            heartbeat.step(parts.iter().map(|part| part.tokens.len()).sum());
            logits.clear();
            let outcome = guarded(|| model.step(parts, logits).map_err(fault));
            heartbeat.beat();
            let wanted = parts.iter().filter(|part| part.logits).count() * model.vocab();
            match outcome {
                Ok(()) if logits.len() != wanted => Err(no_logits()),
                outcome => outcome,
            }
        };
        let outcome = run(&parts, logits);
        if outcome.is_ok() || parts.len() == 1 {
            return parts.iter().map(|_| outcome.clone()).collect();
        }
        let (mut all, mut alone) = (Vec::new(), Vec::new());
        let mut outcomes = Vec::with_capacity(parts.len());
        for part in &parts {
            let outcome = run(std::slice::from_ref(part), &mut alone);
            if outcome.is_ok() {
                all.append(&mut alone);
            }
            outcomes.push(outcome);
        }
        *logits = all;
        outcomes
    }

    /// Selects the parts of the next step, and reserves their blocks.
    fn pick(&mut self) -> Vec<Pick> {
        let mut picks = Vec::new();
        for index in 0..self.sequences.len() {
            let sequence = &self.sequences[index];
            if !(sequence.is_ready() && sequence.generates()) {
                continue;
            }
            let tokens = sequence.generation.tokens().len();
            if self.reserve(index, tokens, &mut picks) {
                picks.push(Pick { index, rows: 1 });
            } else {
                self.preempt(index);
            }
        }
        let prompts = self.prompts(&mut picks);
        let rows = prompt_rows(picks.len(), self.row_time.get());
        let needs: Vec<usize> =
            prompts.iter().map(|index| self.sequences[*index].missing()).collect();
        let shares = shares(rows, &needs);
        let shares = prompts.into_iter().zip(shares).filter(|(_, rows)| *rows > 0);
        picks.extend(shares.map(|(index, rows)| Pick { index, rows }));
        picks
    }

    /// The sequences with more than one token to compute, all of whose blocks are reserved.
    fn prompts(&mut self, picks: &mut Vec<Pick>) -> Vec<usize> {
        let mut prompts: Vec<usize> = Vec::new();
        let mut someone_waits = false;
        for index in 0..self.sequences.len() {
            let sequence = &mut self.sequences[index];
            if !sequence.is_ready() || picks.iter().any(|pick| pick.index == index) {
                continue;
            }
            let has_begun = sequence.has_begun();
            if !has_begun && someone_waits {
                continue;
            }
            let Sequence { generation, chain, computed, .. } = sequence;
            let tenant = generation.origin.tenant.as_ref();
            *computed += self.cache.extend(tenant, chain, generation.tokens(), *computed);
            let tokens = generation.tokens().len();
            if !has_begun && !self.begin(index, tokens, picks) {
                self.preempt(index);
                someone_waits = true;
                continue;
            }
            // What another one computes in this step is in the cache afterwards.
            let twin = |other: &usize| self.is_same_block(*other, index);
            if !prompts.iter().any(twin) {
                prompts.push(index);
            }
        }
        prompts
    }

    /// True if the next block of both sequences is the same block of a prompt.
    fn is_same_block(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.sequences[a], &self.sequences[b]);
        let block = |sequence: &Sequence| {
            let at = sequence.chain.nodes.len() * BLOCK;
            // The last token is always computed.
            let is_whole =
                sequence.computed == at && at + BLOCK < sequence.generation.tokens().len();
            is_whole.then_some(at)
        };
        let tokens = |sequence: &Sequence, at: usize| {
            sequence.generation.tokens().get(at..at + BLOCK).map(<[u32]>::to_vec)
        };
        let Some(at) = block(b) else {
            return false;
        };
        a.chain.nodes == b.chain.nodes
            && a.generation.origin.tenant == b.generation.origin.tenant
            && tokens(a, at).is_some_and(|block| Some(block) == tokens(b, at))
    }

    /// Reserves the blocks for all tokens of a sequence that has not begun, in such a way that the others do not take
    /// them back at once: one block more for each.
    fn begin(&mut self, index: usize, tokens: usize, picks: &mut Vec<Pick>) -> bool {
        loop {
            let others = self.sequences.iter().enumerate();
            let others =
                others.filter(|(other, sequence)| *other != index && sequence.has_begun()).count();
            let missing =
                tokens.div_ceil(BLOCK).saturating_sub(self.sequences[index].chain.blocks.len());
            if missing + others <= self.cache.available() {
                return self.cache.reserve(&mut self.sequences[index].chain, tokens);
            }
            if !self.preempt_for(index, picks) {
                return false;
            }
        }
    }

    /// Reserves blocks for this many tokens of a sequence; others may lose theirs.
    fn reserve(&mut self, index: usize, tokens: usize, picks: &mut Vec<Pick>) -> bool {
        while !self.cache.reserve(&mut self.sequences[index].chain, tokens) {
            if !self.preempt_for(index, picks) {
                return false;
            }
        }
        true
    }

    /// Takes the blocks of another sequence: the newest whose reader does not read, else the newest that arrived later.
    fn preempt_for(&mut self, index: usize, picks: &mut Vec<Pick>) -> bool {
        let candidates = self.sequences.iter().enumerate().rev();
        let mut candidates =
            candidates.filter(|(other, sequence)| *other != index && sequence.has_begun());
        let stalled = candidates.clone().find(|(_, sequence)| !sequence.is_ready());
        let victim = stalled.or_else(|| candidates.next().filter(|(other, _)| *other > index));
        let Some((victim, _)) = victim else {
            return false;
        };
        picks.retain(|pick| pick.index != victim);
        self.preempt(victim);
        true
    }

    /// Takes the blocks of a sequence. It is computed again later.
    fn preempt(&mut self, index: usize) {
        let Sequence { chain, computed, .. } = &mut self.sequences[index];
        self.cache.release(chain);
        *computed = 0;
    }
}

fn fault(cause: candle_core::Error) -> Error {
    let message = format!("the engine failed: {}", first_line(&cause));
    Error::new(ErrorKind::WorkerFault, message).with_source(cause)
}

fn no_logits() -> Error {
    Error::new(ErrorKind::WorkerFault, "the model gave logits of the wrong number")
}

/// Runs a part of a run; a panic in it is a fault of this run alone.
pub(in crate::candle) fn guarded<T>(step: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let message = format!("the engine panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::WorkerFault, message))
    })
}

/// The message of a panic.
pub(in crate::candle) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    shown(text.unwrap_or_else(|| "without a message".into()))
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod order_tests;
#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
