//! The facts about a model by which clients choose it: the length of its context, and what it can do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rbee_core::{
    ClusterView, ModelRef, Queen,
    cluster::WorkerState,
    models::{ModelInfo, ModelOnDisk, ModelSource, ModelTask},
};
use tokio::time::{Instant, timeout};

/// How long the description of a file is valid.
const KEEP: Duration = Duration::from_secs(60);
/// How long the description of a file may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most files whose descriptions are kept.
const MOST_FILES: usize = 1_024;

/// The descriptions of the model files of the queen's machine, as they were when somebody asked. Clients list models all
/// the time, and reading the header of a large file is work.
#[derive(Debug, Default)]
pub(super) struct FileFacts {
    known: Mutex<HashMap<ModelRef, ReadFile>>,
}

/// When a file was read, and what it describes; `None` if it is no model.
type ReadFile = (Instant, Option<Arc<ModelInfo>>);

impl FileFacts {
    /// What this file describes; `None` if it is no file of the queen's machine, or no model.
    async fn of(&self, queen: &Queen, model: &ModelRef) -> Option<Arc<ModelInfo>> {
        let ModelSource::File(_) = model.source() else { return None };
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((read_at, info)) = lock().get(model)
            && now.duration_since(*read_at) < KEEP
        {
            return info.clone();
        }
        let described = timeout(TIMEOUT, queen.models().describe(model.as_str())).await;
        let info = described.ok().and_then(Result::ok).and_then(|described| described.info);
        let mut known = lock();
        if known.len() >= MOST_FILES {
            known.retain(|_, (read_at, _)| now.duration_since(*read_at) < KEEP);
        }
        if known.len() < MOST_FILES {
            known.insert(model.clone(), (now, info.clone()));
        }
        info
    }
}

/// What a model can do, in the words of Ollama's API; it has none for `rerank`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Capability {
    /// It continues text.
    Completion,
    /// It makes vectors.
    Embedding,
    /// It scores documents by their relevance to a query.
    Rerank,
    /// It calls tools.
    Tools,
    /// Its answers can be made to follow a JSON schema.
    StructuredOutput,
    /// It thinks before it answers.
    Thinking,
    /// It writes what goes between two texts.
    Insert,
}

impl Capability {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Embedding => "embedding",
            Self::Rerank => "rerank",
            Self::Tools => "tools",
            Self::StructuredOutput => "structured_output",
            Self::Thinking => "thinking",
            Self::Insert => "insert",
        }
    }
}

/// The facts about a model.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelFacts {
    /// The longest prompt and answer together, in tokens: of its loaded workers the shortest, else that of a worker as
    /// far as a hive knows it. `None` if unknown.
    pub(super) context: Option<u32>,
    /// What it can do, in order; empty if unknown.
    pub(super) capabilities: Vec<Capability>,
    /// What its files describe, if a hive has it.
    pub(super) info: Option<Arc<ModelInfo>>,
}

impl ModelFacts {
    /// The same as [`of`](Self::of), and for a file that no hive has reported yet what it describes.
    pub(super) async fn read(
        files: &FileFacts,
        queen: &Queen,
        cluster: &ClusterView,
        model: &ModelRef,
    ) -> Self {
        let facts = Self::of(cluster, model);
        if facts.info.is_some() {
            return facts;
        }
        let Some(info) = files.of(queen, model).await else { return facts };
        if !facts.capabilities.is_empty() {
            return Self { info: Some(info), ..facts };
        }
        let mut held = ModelOnDisk::new(model.clone(), 0);
        let engines = cluster.hives().flat_map(|hive| hive.engines.iter());
        let engine = engines.flat_map(|engines| engines.iter()).find(|engine| engine.is_for(model));
        if let Some(engine) = engine {
            held.limits = engine.limits;
        }
        held.info = Some(info);
        let context = context_of(&held);
        Self { context, capabilities: of_files(&held), info: held.info }
    }

    /// The facts about a model. A worker knows best what it can do; without one, its files describe it.
    pub(super) fn of(cluster: &ClusterView, model: &ModelRef) -> Self {
        let held = cluster.hives().flat_map(|hive| hive.models.values());
        let mut held = held.filter(|held| held.model.is_of(model) && held.info.is_some());
        let held = held.next();
        let info = held.and_then(|held| held.info.clone());
        let workers = cluster.workers().filter(|worker| worker.info.model.is_of(model));
        let ready = workers.filter(|worker| worker.state == WorkerState::Ready);
        let known: Vec<_> = ready.map(|worker| &worker.info.capabilities).collect();
        if known.is_empty() {
            let context = held.and_then(context_of);
            return Self { context, capabilities: held.map_or_else(Vec::new, of_files), info };
        }
        let context = known.iter().filter_map(|worker| worker.context_tokens).min();
        let all = [
            (Capability::Completion, known.iter().any(|worker| worker.generate)),
            (Capability::Embedding, known.iter().any(|worker| worker.embed)),
            (Capability::Rerank, known.iter().any(|worker| worker.rerank)),
            (Capability::Tools, known.iter().any(|worker| worker.answer.tools.is_some())),
            (Capability::StructuredOutput, known.iter().any(|worker| worker.grammar)),
            (Capability::Thinking, known.iter().any(|worker| worker.answer.reasoning.is_some())),
            (Capability::Insert, known.iter().any(|worker| worker.infill)),
        ];
        let capabilities = all.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
        Self { context, capabilities, info }
    }
}

/// The context of a worker of this model.
fn context_of(held: &ModelOnDisk) -> Option<u32> {
    let own = held.info.as_ref().and_then(|info| info.context);
    [own, held.limits.context].into_iter().flatten().min()
}

/// What the files of a model describe. Other engines than rbee's own call no tools yet.
fn of_files(held: &ModelOnDisk) -> Vec<Capability> {
    let Some(info) = &held.info else { return Vec::new() };
    match info.task {
        ModelTask::Embed => return vec![Capability::Embedding],
        ModelTask::Rerank => return vec![Capability::Rerank],
        ModelTask::Generate | ModelTask::Other => {}
    }
    let mut all = vec![Capability::Completion];
    if held.limits.cache.is_some() {
        all.extend(info.has_chat_template.then_some(Capability::Tools));
        all.push(Capability::StructuredOutput);
    }
    all
}
