//! The answers of an echo worker.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};

use super::{EchoFault, Slot, script::Script};
use crate::{
    error::{Error, ErrorKind, Result, invalid},
    event::{Finish, Logprobs, Metrics, Output, TokenLogprob, Usage},
    task::{EmbedInput, Task},
    worker::{OutputStream, Resume, Run, WorkerInfo},
};

const DEFAULT_MAX_TOKENS: u32 = 16;
const VOCABULARY: u64 = 1000;

/// The finalizer of SplitMix64: every input bit changes about half of the output bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(super) fn token_id(seed: u64, position: u32) -> u32 {
    let mixed = mix(mix(seed) ^ u64::from(position).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (mixed % VOCABULARY) as u32
}

/// The text of a token, made without an allocation.
pub(super) struct Word {
    bytes: [u8; 12],
    start: usize,
}

impl Word {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}

/// `w123 ` for token 123.
pub(super) fn word(id: u32) -> Word {
    let mut bytes = [b' '; 12];
    let mut start = bytes.len() - 1;
    let mut rest = id;
    loop {
        start -= 1;
        bytes[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    start -= 1;
    bytes[start] = b'w';
    Word { bytes, start }
}

/// The vector of a text.
fn vector(input: &EmbedInput, dimensions: usize) -> Vec<f32> {
    let seed = match input {
        EmbedInput::Text(text) => text.bytes().fold(0, |seed, byte| mix(seed ^ u64::from(byte))),
        EmbedInput::Tokens(ids) => ids.iter().fold(1, |seed, id| mix(seed ^ u64::from(*id))),
    };
    (0..dimensions)
        .map(|index| {
            let bits = mix(seed ^ mix(index as u64)) >> 40;
            bits as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// The relevance of a document: the share of the query's words that it has.
fn score(query: &str, document: &str) -> f32 {
    let words = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let (query, document) = (words(query), words(document));
    query.intersection(&document).count() as f32 / query.len().max(1) as f32
}

/// The rest of the answer.
enum Stage {
    Tokens,
    Vectors,
    Scores,
    Script(usize),
    /// This stop text was generated.
    Stopped(Box<str>),
    /// The end was sent; with the fault [`EchoFault::TalkAfterEnd`], this many outputs follow.
    Done(u8),
}

struct EchoAnswer {
    script: Arc<Script>,
    run: Run,
    fault: Option<EchoFault>,
    stage: Stage,
    position: u32,
    max_tokens: u32,
    prompt_tokens: u32,
    /// Text of earlier attempts that no reader has yet; sent with the next token.
    held_back: String,
    stop_text: Option<Box<str>>,
    metrics: bool,
    delay: Duration,
    /// True if it hangs, and therefore sends no heartbeats.
    hangs: Arc<AtomicBool>,
    _slot: Slot,
}

/// Checks the run, and begins its answer.
pub(super) fn answer(
    info: &WorkerInfo,
    script: Arc<Script>,
    run: Run,
    fault: Option<EchoFault>,
    slot: Slot,
) -> Result<OutputStream> {
    let can = &info.capabilities;
    let unsupported = |what: &str| {
        let message = format!("worker {} cannot {what}", info.id);
        Err(Error::new(ErrorKind::Unsupported, message)
            .with_client_message(format!("the model cannot {what}")))
    };
    let (mut max_tokens, stage) = match &run.job.task {
        _ if script.outputs.is_some() => (u32::MAX, Stage::Script(0)),
        Task::Generate { .. } if !can.generate => return unsupported("generate text"),
        Task::Embed { .. } if !can.embed => return unsupported("make vectors"),
        Task::Rerank { .. } if !can.rerank => return unsupported("rerank documents"),
        Task::Generate { sampling, .. } => {
            (sampling.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS), Stage::Tokens)
        }
        Task::Embed { dimensions: Some(length), .. } if *length as usize > script.dimensions => {
            let own = script.dimensions;
            let message = format!("dimensions is {length}; allowed are 1 to {own}");
            return Err(invalid(message).with_param("dimensions"));
        }
        Task::Embed { .. } => (0, Stage::Vectors),
        Task::Rerank { .. } => (0, Stage::Scores),
    };
    if !can.can(&run.job.task) && script.outputs.is_none() {
        return Err(info.incapable(&run.job.task));
    }
    if !run.resume.is_empty() && !can.resume {
        return unsupported("continue an answer");
    }
    let prompt_tokens = prompt_tokens(&run.job.task);
    if let Some(context) = can.context_tokens {
        // Documents of a rerank are cut.
        let (place, tokens) = match &run.job.task {
            Task::Rerank { query, .. } => (Some("query"), tokens_of(query.len())),
            Task::Generate { .. } | Task::Embed { .. } => (None, prompt_tokens),
        };
        if tokens >= context {
            return Err(run.job.task.too_long(place, tokens.into(), context));
        }
        max_tokens = max_tokens.min(context - tokens);
    }
    let answer = EchoAnswer {
        position: u32::try_from(run.resume.tokens.len()).unwrap_or(u32::MAX),
        held_back: held_back(&run.resume)?,
        stop_text: None,
        metrics: script.metrics,
        delay: script.first_delay,
        hangs: Arc::default(),
        script,
        run,
        fault,
        stage,
        max_tokens,
        prompt_tokens,
        _slot: slot,
    };
    let (heartbeat, hangs) = (answer.script.heartbeat, answer.hangs.clone());
    let outputs = Box::pin(stream::unfold(answer, |mut answer| async move {
        let output = answer.next().await?;
        Some((output, answer))
    }));
    Ok(match heartbeat {
        Some(every) => with_heartbeats(outputs, every, hangs),
        None => outputs,
    })
}

/// The outputs, with a heartbeat whenever there was none for this long.
fn with_heartbeats(outputs: OutputStream, every: Duration, hangs: Arc<AtomicBool>) -> OutputStream {
    Box::pin(stream::unfold((outputs, hangs), move |(mut outputs, hangs)| async move {
        let beat = async {
            tokio::time::sleep(every).await;
            if hangs.load(Ordering::Acquire) {
                std::future::pending::<()>().await;
            }
        };
        let output = tokio::select! {
            biased;
            output = outputs.next() => output?,
            () = beat => Ok(Output::Heartbeat),
        };
        Some((output, (outputs, hangs)))
    }))
}

/// The text of the previous tokens that readers do not have yet.
fn held_back(resume: &Resume) -> Result<String> {
    let mut text = String::new();
    let mut said = resume.text_bytes;
    for id in &resume.tokens {
        let word = word(*id);
        match word.as_str().get(said..) {
            Some(rest) => {
                text.push_str(rest);
                said = 0;
            }
            None => said -= word.as_str().len(),
        }
    }
    if said > 0 {
        let message = format!(
            "resume.text_bytes is {}; the {} tokens have {said} bytes less",
            resume.text_bytes,
            resume.tokens.len()
        );
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    Ok(text)
}

impl EchoAnswer {
    async fn next(&mut self) -> Option<Result<Output>> {
        // An answer that is always ready must not block the runtime's thread.
        tokio::task::coop::consume_budget().await;
        if std::mem::take(&mut self.metrics) {
            return Some(Ok(Output::Metrics(Metrics {
                prompt_tokens: self.prompt_tokens.saturating_add(self.position),
                prefill: self.script.first_delay,
                cached_tokens: None,
            })));
        }
        match self.stage {
            Stage::Tokens => self.next_token().await,
            Stage::Vectors => {
                self.hold().await;
                let Task::Embed { inputs, dimensions } = &self.run.job.task else {
                    return None;
                };
                let length = dimensions.map_or(self.script.dimensions, |length| length as usize);
                let vectors = inputs.iter().map(|input| vector(input, length)).collect();
                self.stage = Stage::Tokens;
                Some(Ok(Output::Vectors(vectors)))
            }
            Stage::Scores => {
                self.hold().await;
                let Task::Rerank { query, documents } = &self.run.job.task else {
                    return None;
                };
                let scores = documents.iter().map(|document| score(query, document)).collect();
                self.stage = Stage::Tokens;
                Some(Ok(Output::Vectors(vec![scores])))
            }
            Stage::Script(at) => {
                let script = self.script.clone();
                let output = script.outputs.as_ref()?.get(at)?;
                self.hold().await;
                self.stage = Stage::Script(at + 1);
                Some(output.clone())
            }
            Stage::Stopped(ref text) => {
                self.stop_text = Some(text.clone());
                Some(Ok(self.finish(Finish::Stop)))
            }
            Stage::Done(0) => None,
            Stage::Done(left) => {
                self.stage = Stage::Done(left - 1);
                Some(Ok(match left {
                    1 => self.end(Finish::Length),
                    _ => self.token(),
                }))
            }
        }
    }

    async fn next_token(&mut self) -> Option<Result<Output>> {
        let at = self.position;
        match self.fault {
            Some(EchoFault::Fail { at: from, kind }) if at >= from => {
                self.stage = Stage::Done(0);
                let message = format!("the echo worker fails at token {at}, as scripted");
                return Some(Err(Error::new(kind, message)));
            }
            Some(EchoFault::Cut { at: from }) if at >= from => return None,
            Some(EchoFault::Panic { at: from }) if at >= from => {
                panic!("the echo worker panics at token {at}, as scripted")
            }
            Some(EchoFault::Stall { at: from }) if at >= from => {
                self.hangs.store(true, Ordering::Release);
                std::future::pending().await
            }
            Some(EchoFault::Pause { at: from, lasts }) if at >= from => {
                self.hangs.store(true, Ordering::Release);
                tokio::time::sleep(lasts).await;
                self.hangs.store(false, Ordering::Release);
                self.fault = None;
            }
            _ => {}
        }
        if at >= self.max_tokens && self.fault != Some(EchoFault::Overrun) {
            let finish = match self.run.job.task {
                Task::Generate { .. } => Finish::Length,
                Task::Embed { .. } | Task::Rerank { .. } => Finish::Stop,
            };
            return Some(Ok(self.finish(finish)));
        }
        self.hold().await;
        Some(Ok(self.token()))
    }

    /// Waits for the scripted delay and the gate.
    async fn hold(&mut self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.delay = self.script.token_delay;
        if let Some(gate) = &self.script.gate {
            gate.pass().await;
        }
    }

    /// The log probabilities of this token, if they are requested: every word is equally likely.
    fn logprobs(&self, id: u32) -> Option<Box<Logprobs>> {
        let Task::Generate { sampling, .. } = &self.run.job.task else {
            return None;
        };
        let of = |id: u32| TokenLogprob {
            id: (!self.script.no_ids).then_some(id),
            text: word(id).as_str().into(),
            bytes: None,
            logprob: -(VOCABULARY as f32).ln(),
        };
        let top = (0..u32::from(sampling.logprobs?)).map(of).collect();
        Some(Box::new(Logprobs { chosen: of(id), top }))
    }

    /// The first stop text in this word, and its position.
    fn stop_in(&self, word: &str) -> Option<(usize, &str)> {
        let Task::Generate { sampling, .. } = &self.run.job.task else {
            return None;
        };
        let stops = sampling.stop.iter().map(String::as_str);
        stops.filter_map(|stop| Some((word.find(stop)?, stop))).min_by_key(|(at, _)| *at)
    }

    fn token(&mut self) -> Output {
        let id = token_id(self.run.job.seed, self.position);
        self.position = self.position.saturating_add(1);
        let word = word(id);
        let mut word = word.as_str();
        if let Some((at, stop)) = self.stop_in(word) {
            word = &word[..at];
            self.stage = Stage::Stopped(stop.into());
        }
        let text = if self.held_back.is_empty() {
            Box::from(word)
        } else {
            let mut text = std::mem::take(&mut self.held_back);
            text.push_str(word);
            text.into_boxed_str()
        };
        let logprobs = self.logprobs(id);
        Output::Token { id: (!self.script.no_ids).then_some(id), text, logprobs }
    }

    fn finish(&mut self, finish: Finish) -> Output {
        let more = self.fault == Some(EchoFault::TalkAfterEnd);
        self.stage = Stage::Done(if more { 2 } else { 0 });
        self.end(finish)
    }

    fn end(&self, finish: Finish) -> Output {
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.position,
            ..Usage::default()
        };
        Output::End { finish, usage, stop_text: self.stop_text.clone() }
    }
}

/// The number of tokens of a prompt.
pub(super) fn prompt_tokens(task: &Task) -> u32 {
    tokens_of(task.text_bytes())
}

fn tokens_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX)
}
