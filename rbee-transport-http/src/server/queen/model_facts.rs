//! The facts about a model by which clients choose it: the length of its context, and what it can do.

use std::sync::Arc;

use rbee_core::{
    ClusterView, ModelRef,
    cluster::WorkerState,
    models::{ModelInfo, ModelOnDisk, ModelTask},
};

/// What a model can do, in the words of Ollama's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Capability {
    /// It continues text.
    Completion,
    /// It makes vectors.
    Embedding,
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
    if info.task == ModelTask::Embed {
        return vec![Capability::Embedding];
    }
    let mut all = vec![Capability::Completion];
    if held.limits.cache.is_some() {
        all.extend(info.has_chat_template.then_some(Capability::Tools));
        all.push(Capability::StructuredOutput);
    }
    all
}
