//! The programmable scheduler: a policy that its user writes, as a Rhai script or as rules in YAML.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use self::{faults::Fault, program::Program, script::Script};
#[cfg(feature = "rules")]
use super::rules;
use super::{
    Scheduler,
    decision::{Admission, Ask, Explanation, Placement},
    info::SchedulerInfo,
    least_loaded::LeastLoaded,
};
use crate::{
    cluster::ClusterView,
    error::{Error, Result},
    policy_source::{PolicyLanguage, PolicySource},
};

mod budget;
mod clock;
mod collection;
mod context;
mod decisions;
mod dry_run;
mod engine;
mod error;
mod eviction;
mod explain;
mod faults;
mod hives;
mod job;
mod labels;
mod lint;
mod models;
mod natives;
mod program;
mod queue;
mod reference;
mod registry;
mod script;
mod syntax;
mod tenants;
mod tokens;
mod workers;

pub use reference::scheduler_reference;

/// The limit of a decision, unless another is set.
const LIMIT: Duration = Duration::from_millis(50);
/// The limit in a replay, so that the number of its operations ends a script, and not how busy the machine is.
const REPLAY_LIMIT: Duration = Duration::from_secs(2);
/// Time for a script to end by itself, so that its line is known, before the call is given up.
const GRACE: Duration = Duration::from_millis(25);
/// The most threads that decide side by side.
const THREADS: usize = 4;

/// A policy that is written as a [Rhai](https://rhai.rs) script, or as rules in YAML.
///
/// The script has a function `schedule(job, workers, hives)` that returns a decision, and may have `admit(job, queue)`,
/// `order(job)` and `evict(need, workers)`. `docs/scheduler.md` describes every helper that it can use. It is checked
/// when it is made: a name that does not exist, a wrong number of values or a wrong type is an error with line and
/// column, before it decides about a job.
///
/// ```
/// use rbee_core::{RhaiScheduler, Scheduler};
///
/// let policy = RhaiScheduler::new(
///     r#"
///     // Prefers a worker in Europe.
///     fn schedule(job, workers, hives) {
///         let free = workers.with_model(job.model).with_capacity();
///         run_on(free.in_region("eu").least_loaded()) ?? builtin()
///     }
///     "#,
/// )?;
/// assert_eq!(policy.info().description, "Prefers a worker in Europe.");
///
/// let error = RhaiScheduler::new("fn schedule(job, workers, hives) { workers.idel() }").unwrap_err();
/// assert!(error.message().contains("did you mean idle?"), "{error}");
/// # Ok::<(), rbee_core::Error>(())
/// ```
///
/// It runs in a sandbox: no files, no network, no output, limited time and memory. A script that fails returns an error
/// with its line, and the queen lets the built-in policy decide.
pub struct RhaiScheduler {
    program: Program,
    name: String,
    description: String,
    source: PolicySource,
    limit: Duration,
}

impl RhaiScheduler {
    /// A policy that is this script.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), with line and column, if the script cannot
    /// decide.
    pub fn new(script: impl AsRef<str>) -> Result<Self> {
        let source =
            PolicySource { language: PolicyLanguage::Rhai, text: Arc::from(script.as_ref()) };
        Self::compile("rhai", source.text.clone(), source)
    }

    /// A policy that is this file: a script, or rules if its name ends in `.yaml` or `.yml`.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Fault::Unreadable { path: path.to_owned(), cause })?;
        let ends_in = |end: &str| path.extension().is_some_and(|has| has.eq_ignore_ascii_case(end));
        let language = match ends_in("yaml") || ends_in("yml") {
            true => PolicyLanguage::Yaml,
            false => PolicyLanguage::Rhai,
        };
        let policy = Self::from_source(PolicySource { language, text: text.into() });
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        policy
            .map(|policy| Self { name: name.unwrap_or(policy.name), ..policy })
            .map_err(|error| error.context(path.display().to_string()))
    }

    /// A policy of rules in YAML; `docs/scheduler.md` and [`rules_schema`](crate::scheduler::rules_schema) describe them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), with the line and the key.
    #[cfg(feature = "rules")]
    pub fn from_rules(yaml: impl AsRef<str>) -> Result<Self> {
        let text = Arc::from(yaml.as_ref());
        Self::from_source(PolicySource { language: PolicyLanguage::Yaml, text })
    }

    /// A policy as it was stored.
    ///
    /// # Errors
    /// As [`new`](Self::new) and `from_rules`; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if this build
    /// reads no rules (feature `rules`).
    pub fn from_source(source: PolicySource) -> Result<Self> {
        match source.language {
            PolicyLanguage::Rhai => Self::compile("rhai", source.text.clone(), source),
            #[cfg(feature = "rules")]
            PolicyLanguage::Yaml => {
                let script = rules::rules_to_rhai(&source.text)?;
                Self::compile("rules", script.into(), source)
            }
            #[cfg(not(feature = "rules"))]
            PolicyLanguage::Yaml => Err(crate::error::Error::new(
                crate::error::ErrorKind::Unsupported,
                "this build reads no policies in yaml (feature rules)",
            )),
        }
    }

    /// Its name, for people.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The limit of one decision; 50 ms by default.
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The built-in policy that decides for the script's `builtin()`, and whose [`Sizing`](crate::scheduler::Sizing) the helpers
    /// use.
    pub fn with_builtin(mut self, builtin: LeastLoaded) -> Self {
        self.program.builtin = builtin;
        self
    }

    fn compile(name: &str, text: Arc<str>, source: PolicySource) -> Result<Self> {
        let tokens = lint::check_size(&text).and_then(|()| tokens::read(&text))?;
        let (engine, helpers) = engine::shared();
        lint::check(&tokens, &helpers)?;
        let until = Instant::now() + dry_run::LOADING;
        let script = Script::compile(&engine, &text, &tokens, until);
        let script = script.map_err(|error| faults::at_load(&error))?;
        let program = Program::new(engine, script);
        dry_run::check(&program, until)?;
        let description = lint::description(&text);
        Ok(Self { program, name: name.to_owned(), description, source, limit: LIMIT })
    }

    fn fault(&self, error: &rhai::EvalAltResult, limit: Duration) -> Error {
        faults::at_run(&self.name, error, limit)
    }
}

impl fmt::Debug for RhaiScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RhaiScheduler")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Scheduler for RhaiScheduler {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        let (placement, _) = self.program.place(ask, cluster, self.limit, false);
        placement.map_err(|error| self.fault(&error, self.limit))
    }

    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        // Noting what each step left out takes longer than the decision.
        let limit = self.limit * 4;
        let (placement, notes) = self.program.place(ask, cluster, limit, true);
        let placement = placement.map_err(|error| self.fault(&error, limit));
        explain::put_together(ask, cluster, &self.program.builtin, placement, notes)
    }

    fn admit(&self, ask: &Ask, cluster: &ClusterView) -> Result<Admission> {
        let admission = self.program.admit(ask, cluster, self.limit);
        admission.map_err(|error| self.fault(&error, self.limit))
    }

    fn for_replay(&self) -> Option<Arc<dyn Scheduler>> {
        Some(Arc::new(Self {
            program: self.program.clone(),
            name: self.name.clone(),
            description: self.description.clone(),
            source: self.source.clone(),
            limit: self.limit.max(REPLAY_LIMIT),
        }))
    }

    fn info(&self) -> SchedulerInfo {
        // With a single thread, one slow script would delay every lane.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(2, THREADS);
        let mut info = SchedulerInfo::new(&self.name)
            .with_description(&self.description)
            .with_limit(self.limit + GRACE)
            .with_threads(threads)
            .with_source(self.source.clone());
        info.admits = self.program.admits();
        info
    }
}
