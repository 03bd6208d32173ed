//! A model for tests that checks how it is called, and a batch around it.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rbee_decoder::{
    backend::{BLOCK, CacheShape, CacheType},
    model::Model,
    part::Part,
};
use tokio::sync::mpsc;

use super::{Clock, outlet::Outlet, slots::Slots, steps::Batch};
use crate::{
    candle::{
        generate::{Begun, Origin, Plan, Vocabulary},
        golden_tests::bundled_engine,
        heartbeat::Heartbeat,
    },
    error::{Error, Result},
    event::{Metrics, Output, Usage},
    id::TenantId,
    task::Sampling,
    worker::Resume,
};

/// The size of the bundled model's vocabulary.
const VOCAB: usize = 1024;

/// The bundled model's vocabulary, without a token that ends a text.
static VOCABULARY: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| {
    let frontend = Arc::into_inner(bundled_engine().frontend).expect("the only one");
    let vocabulary = Arc::into_inner(frontend.vocabulary).expect("the only one");
    assert_eq!(vocabulary.size, VOCAB);
    Arc::new(Vocabulary { eos: Vec::new(), ..vocabulary })
});

/// What a part of a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Error,
    Panic,
    NotANumber,
    NoLogits,
}

/// The state that tests see and change.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// The parts of each step: start, number of tokens.
    pub(super) steps: Vec<Vec<(usize, usize)>>,
    /// Calls that break the contract of [`Model`].
    pub(super) violations: Vec<String>,
    /// The time that one row takes.
    pub(super) row: Duration,
    /// A sequence whose first token is this one fails, from this position on.
    pub(super) faults: HashMap<u32, (usize, Fault)>,
}

fn mix(state: u64, token: u32) -> u64 {
    let mut z = (state ^ u64::from(token)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The logits after these tokens.
fn logits(tokens: &[u32]) -> Vec<f32> {
    let state = tokens.iter().fold(1, |state, token| mix(state, *token));
    (0..VOCAB as u32).map(|token| (mix(state, token) >> 40) as f32 / (1 << 21) as f32).collect()
}

/// A model whose logits are a function of the tokens that it reads back through the block table.
#[derive(Debug)]
struct Scripted {
    /// For every entry of every block the token and its position.
    entries: Vec<[Option<(u32, usize)>; BLOCK]>,
    now: Arc<AtomicU64>,
    script: Arc<Mutex<Script>>,
}

impl Scripted {
    /// All tokens of a sequence, after those of this part are stored.
    fn store(&mut self, part: &Part<'_>) -> std::result::Result<Vec<u32>, String> {
        let end = part.start + part.tokens.len();
        if part.tokens.is_empty() || part.blocks.len() * BLOCK < end {
            return Err(format!("{part:?} has no tokens or too few blocks"));
        }
        for (at, token) in (part.start..).zip(part.tokens) {
            self.entries[part.blocks[at / BLOCK] as usize][at % BLOCK] = Some((*token, at));
        }
        let entry = |at: usize| match self.entries[part.blocks[at / BLOCK] as usize][at % BLOCK] {
            Some((token, position)) if position == at => Ok(token),
            other => Err(format!("position {at} has {other:?}; {part:?}")),
        };
        (0..end).map(entry).collect()
    }
}

impl Model for Scripted {
    fn vocab(&self) -> usize {
        VOCAB
    }

    fn cache(&self) -> CacheShape {
        let blocks = self.entries.len();
        CacheShape { kind: CacheType::F16, layers: 1, blocks, kv_heads: 1, head_dim: 32 }
    }

    fn step(&mut self, parts: &[Part<'_>], out: &mut Vec<f32>) -> candle_core::Result<()> {
        let script = self.script.clone();
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: usize = parts.iter().map(|part| part.tokens.len()).sum();
        self.now.fetch_add((script.row * rows as u32).as_nanos() as u64, Ordering::Relaxed);
        script.steps.push(parts.iter().map(|part| (part.start, part.tokens.len())).collect());
        for (index, part) in parts.iter().enumerate() {
            // The blocks that this part writes belong to it alone.
            for block in &part.blocks[part.start / BLOCK..] {
                let others = parts.iter().enumerate().filter(|(other, _)| *other != index);
                if others.flat_map(|(_, part)| part.blocks).any(|other| other == block) {
                    script.violations.push(format!("block {block} of {part:?} is shared"));
                }
            }
        }
        for part in parts {
            let tokens = match self.store(part) {
                Ok(tokens) => tokens,
                Err(violation) => {
                    script.violations.push(violation);
                    candle_core::bail!("a violation");
                }
            };
            match script.faults.get(&tokens[0]) {
                Some((from, fault)) if part.start + part.tokens.len() > *from => {
                    // Undefined contents, but the sequence can still be recognized.
                    for at in part.start.max(1)..part.start + part.tokens.len() {
                        self.entries[part.blocks[at / BLOCK] as usize][at % BLOCK] = Some((0, at));
                    }
                    match fault {
                        Fault::Error => candle_core::bail!("out of order"),
                        Fault::Panic => panic!("the strings are tangled"),
                        Fault::NotANumber if part.logits => out.extend(vec![f32::NAN; VOCAB]),
                        Fault::NotANumber | Fault::NoLogits => {}
                    }
                }
                _ if part.logits => out.extend(logits(&tokens)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A run of a test.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) prompt: Vec<u32>,
    pub(super) done: Vec<u32>,
    pub(super) most: u32,
    pub(super) origin: Origin,
}

impl Request {
    pub(super) fn new(prompt: Vec<u32>, most: u32) -> Self {
        Self { prompt, done: Vec::new(), most, origin: Origin::default() }
    }

    /// The same for this tenant.
    pub(super) fn of(mut self, tenant: &str) -> Self {
        self.origin.tenant = Some(TenantId::new(tenant).expect("a name of a tenant"));
        self
    }

    fn begin(&self) -> Begun {
        let sampling = Sampling { max_tokens: Some(self.most), ..Sampling::default() };
        let resume = Resume { tokens: self.done.clone(), text_bytes: 0 };
        let plan = Plan::new(self.prompt.clone(), sampling, 7, resume, 1 << 20, VOCAB);
        plan.expect("a valid run").of(self.origin.clone()).begin(&VOCABULARY)
    }

    /// The tokens of the answer, computed without a batch.
    pub(super) fn expected(&self) -> Vec<u32> {
        let Begun::Generation(mut generation) = self.begin() else {
            return Vec::new();
        };
        let mut ids = Vec::new();
        loop {
            let mut logits = logits(generation.tokens());
            let next = generation.next(&VOCABULARY, &mut logits).expect("finite logits");
            ids.extend(generation.tokens().last());
            if next.end.is_some() {
                return ids;
            }
        }
    }
}

/// The reader of a run.
#[derive(Debug)]
pub(super) struct Reader {
    outputs: mpsc::Receiver<Result<Output>>,
    pub(super) ids: Vec<u32>,
    pub(super) metrics: Option<Metrics>,
    pub(super) heartbeats: usize,
    /// The result of the run.
    pub(super) end: Option<Result<()>>,
    /// The token counts at its end.
    pub(super) usage: Usage,
}

impl Reader {
    /// Takes at most this many outputs that are there.
    pub(super) fn read(&mut self, most: usize) {
        for _ in 0..most {
            match self.outputs.try_recv() {
                Ok(Ok(Output::Token { id, .. })) => self.ids.extend(id),
                Ok(Ok(Output::Metrics(metrics))) => self.metrics = Some(metrics),
                Ok(Ok(Output::Heartbeat)) => self.heartbeats += 1,
                Ok(Ok(Output::End { usage, .. })) => (self.end, self.usage) = (Some(Ok(())), usage),
                Ok(Ok(Output::Vectors(_))) => panic!("no vectors"),
                Ok(Err(error)) => self.end = Some(Err(error)),
                Err(_) => return,
            }
        }
    }

    pub(super) fn read_all(&mut self) {
        self.read(usize::MAX);
    }

    /// The error that the run ended with.
    pub(super) fn error(&self) -> &Error {
        match &self.end {
            Some(Err(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}

/// A batch over the scripted model.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) batch: Batch,
    pub(super) heartbeat: Heartbeat,
    pub(super) slots: Slots,
    now: Arc<AtomicU64>,
    script: Arc<Mutex<Script>>,
}

impl Bench {
    pub(super) fn new(blocks: usize) -> Self {
        let (now, script) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Script>>::default());
        let entries = vec![[None; BLOCK]; blocks];
        let model = Scripted { entries, now: now.clone(), script: script.clone() };
        let read = now.clone();
        let clock = Clock::new(move || Duration::from_nanos(read.load(Ordering::Relaxed)));
        let batch = Batch::new(Box::new(model), VOCABULARY.clone(), clock);
        let (heartbeat, slots) = (Heartbeat::new(), Slots::new(64));
        Self { batch, heartbeat, slots, now, script }
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    pub(super) fn join(&mut self, request: &Request) -> Reader {
        let slot = self.slots.take().expect("a free slot");
        let (outlet, outputs) = Outlet::new(slot).expect("capacity");
        self.batch.join(request.begin(), outlet);
        let (ids, usage) = (Vec::new(), Usage::default());
        Reader { outputs, ids, metrics: None, heartbeats: 0, end: None, usage }
    }

    /// A step as the engine's thread makes it.
    pub(super) fn step(&mut self) -> bool {
        self.batch.settle();
        let goes_on = self.batch.step(&self.heartbeat);
        self.batch.settle();
        goes_on
    }

    /// Steps until nothing is left to compute, with readers that read everything.
    pub(super) fn finish(&mut self, readers: &mut [&mut Reader]) {
        readers.iter_mut().for_each(|reader| reader.read_all());
        while self.step() {
            readers.iter_mut().for_each(|reader| reader.read_all());
        }
        readers.iter_mut().for_each(|reader| reader.read_all());
    }

    /// The answer of one run.
    pub(super) fn answer(&mut self, request: &Request) -> Reader {
        let mut reader = self.join(request);
        self.finish(&mut [&mut reader]);
        reader
    }

    /// The rows of all steps since the last call.
    pub(super) fn rows(&mut self) -> usize {
        let steps = std::mem::take(&mut self.script().steps);
        steps.iter().flatten().map(|(_, rows)| rows).sum()
    }

    /// Checks that the model was called correctly.
    pub(super) fn check(&self) {
        assert_eq!(self.script().violations, Vec::<String>::new());
    }
}

/// Different tokens for each `seed`.
pub(super) fn prompt(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|at| (mix(seed.into(), at) % VOCAB as u64) as u32).collect()
}
