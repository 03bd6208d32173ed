//! The programmable scheduler: a policy that its user writes, as a Rhai script or as rules in YAML.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rhai::{Dynamic, Engine, EvalAltResult, Position};

use self::{
    decisions::Decision,
    faults::Fault,
    hives::Hives,
    job::JobObject,
    queue::Queue,
    script::Script,
    session::{Notes, Res, Session, enter, fault},
    workers::Workers,
};
#[cfg(feature = "rules")]
use super::rules;
use crate::{
    Admission, Ask, ClusterView, Explanation, LeastLoaded, Placement, PolicyLanguage, PolicySource,
    Result, Scheduler,
};

mod book;
mod budget;
mod collection;
mod decisions;
mod engine;
mod explain;
mod faults;
mod hives;
mod job;
mod lint;
mod memory;
mod moment;
mod natives;
mod pick;
mod queue;
mod reference;
mod room;
mod script;
mod session;
mod tenants;
mod tokens;
mod trial;
mod workers;

#[cfg(feature = "rules")]
pub(super) use moment::time_of_day;
pub use reference::scheduler_reference;
#[cfg(feature = "rules")]
pub(super) use workers::CAPABILITIES;

/// How long a decision may take, unless it is said otherwise.
const LIMIT: Duration = Duration::from_millis(50);
/// The same in a replay, so that the number of its operations ends a script and not how busy the machine is.
const REPLAY_LIMIT: Duration = Duration::from_secs(2);
/// A script's own end comes first, so that its line is known; only where it does not is the call given up.
const GRACE: Duration = Duration::from_millis(25);
/// Threads that decide side by side at most.
const THREADS: usize = 4;

/// A policy written as a [Rhai](https://rhai.rs) script, or as rules in YAML.
///
/// The script has a function `schedule(job, workers, hives)` that gives a decision back, and may have `admit(job,
/// queue)`, `order(job)` and `evict(need, workers)`. What it can use is described helper by helper in
/// `docs/scheduler.md`. It is checked when it is made: a name that does not exist, a wrong number of values or a wrong
/// type is an error with line and column, before a job has met it.
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
/// assert_eq!(policy.description(), "Prefers a worker in Europe.");
///
/// let error = RhaiScheduler::new("fn schedule(job, workers, hives) { workers.idel() }").unwrap_err();
/// assert!(error.message().contains("did you mean idle?"), "{error}");
/// # Ok::<(), rbee_core::Error>(())
/// ```
///
/// It runs in a sandbox: no files, no network, no output, bounded time and memory. A script that fails gives an error
/// with its line, and the queen lets the built-in policy decide.
pub struct RhaiScheduler {
    engine: Arc<Engine>,
    script: Arc<Script>,
    name: String,
    description: String,
    source: PolicySource,
    limit: Duration,
    builtin: LeastLoaded,
}

impl RhaiScheduler {
    /// A policy of this script.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), with line and column, where the script is not
    /// one that can decide.
    pub fn new(script: impl AsRef<str>) -> Result<Self> {
        let source =
            PolicySource { language: PolicyLanguage::Rhai, text: Arc::from(script.as_ref()) };
        Self::compile("rhai", source.text.clone(), source)
    }

    /// A policy of this file: a script, or rules where its name ends in `.yaml` or `.yml`.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where it cannot be read.
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

    /// A policy of rules in YAML; what they are is described in `docs/scheduler.md`, and by
    /// [`rules_schema`](crate::rules_schema).
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
            PolicyLanguage::Yaml => Err(crate::Error::new(
                crate::ErrorKind::Unsupported,
                "this build reads no policies in yaml (feature rules)",
            )),
        }
    }

    /// What people know it by.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long one decision may take; 50 ms by default.
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The built-in policy that decides for the script's `builtin()`, and whose reckoning of memory the helpers use.
    pub fn with_builtin(mut self, builtin: LeastLoaded) -> Self {
        self.builtin = builtin;
        self
    }

    fn compile(name: &str, text: Arc<str>, source: PolicySource) -> Result<Self> {
        let tokens = lint::check_size(&text).and_then(|()| tokens::read(&text))?;
        let (engine, contents) = engine::shared();
        lint::check(&tokens, &contents)?;
        let until = Instant::now() + trial::LOADING;
        let script = Script::compile(&engine, &text, &tokens, until);
        let script = script.map_err(|error| faults::at_load(&error))?;
        let policy = Self {
            engine,
            name: name.to_owned(),
            description: lint::description(&text),
            script: Arc::new(script),
            source,
            limit: LIMIT,
            builtin: LeastLoaded::default(),
        };
        trial::check(&policy, until)?;
        Ok(policy)
    }

    /// Asks the script on this thread.
    fn ask<T>(
        &self,
        ask: &Ask,
        cluster: &ClusterView,
        limit: Duration,
        explained: bool,
        run: impl FnOnce() -> Res<T>,
    ) -> (Res<T>, Notes) {
        let session = Session::new(ask, cluster, &self.builtin, explained);
        enter(session, Instant::now() + limit, run)
    }

    fn schedule(&self, ask: &Ask) -> Res<Placement> {
        let job = Dynamic::from(JobObject::new(ask));
        let (workers, hives) = (Workers::default().into_dynamic(), Hives::default().into_dynamic());
        let answer = self.script.schedule.call(&self.engine, [job, workers, hives])?;
        match decision(&self.engine, answer, "schedule")? {
            Decision::Place(placement) => Ok(placement),
            Decision::Spawn { hive, start } => self.make_room(hive, &start),
            Decision::Accept { .. } => Err(fault(
                "schedule gave accept() back; it decides with run_on, spawn_on, wait, reject or builtin",
            )),
        }
    }

    fn judge(&self, ask: &Ask) -> Res<Admission> {
        let job = Dynamic::from(JobObject::new(ask));
        let rank = if let Some(admit) = &self.script.admit {
            let answer = admit.call(&self.engine, [job.clone(), Dynamic::from(Queue)])?;
            match answer.as_bool() {
                Ok(true) => 0,
                Ok(false) => match decisions::reject(
                    "the policy refuses the job",
                    crate::ErrorKind::Rejected,
                ) {
                    Decision::Place(Placement::Reject(error)) => {
                        return Ok(Admission::Refuse(error));
                    }
                    _ => 0,
                },
                Err(_) if answer.is_unit() => 0,
                Err(_) => match decision(&self.engine, answer, "admit")? {
                    Decision::Accept { rank } => rank,
                    Decision::Place(Placement::Reject(error)) => {
                        return Ok(Admission::Refuse(error));
                    }
                    _ => return Err(fault("admit decides with accept, reject, true or false")),
                },
            }
        } else {
            0
        };
        let Some(order) = &self.script.order else { return Ok(Admission::Accept { rank }) };
        let answer = order.call(&self.engine, [job])?;
        let ordered = answer.as_int().map_err(|kind| {
            fault(format!("order gives a whole number back, the lower the sooner, not {kind}"))
        })?;
        Ok(Admission::Accept { rank: rank.saturating_add(ordered) })
    }

    fn fault(&self, error: &rhai::EvalAltResult, limit: Duration) -> crate::Error {
        faults::at_run(&self.name, error, limit)
    }
}

/// A function gave no decision back. On a fleet where nothing suits, that can happen to a good script.
#[derive(Clone, Copy, Debug)]
struct Nothing;

fn decision(engine: &Engine, answer: Dynamic, function: &str) -> Res<Decision> {
    if answer.is_unit() {
        let nothing = Dynamic::from(Nothing);
        return Err(Box::new(EvalAltResult::ErrorRuntime(nothing, Position::NONE)));
    }
    let kind = engine.map_type_name(answer.type_name()).to_owned();
    answer.try_cast().ok_or_else(|| {
        fault(format!("{function} gave a value of type {kind} back, which is no decision"))
    })
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
        let (placement, _) = self.ask(ask, cluster, self.limit, false, || self.schedule(ask));
        placement.map_err(|error| self.fault(&error, self.limit))
    }

    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        // Noting what each step left out takes longer than the decision.
        let limit = self.limit * 4;
        let (placement, notes) = self.ask(ask, cluster, limit, true, || self.schedule(ask));
        let placement = placement.map_err(|error| self.fault(&error, limit));
        explain::put_together(ask, cluster, &self.builtin, placement, notes)
    }

    fn admits(&self) -> bool {
        self.script.admit.is_some() || self.script.order.is_some()
    }

    fn admit(&self, ask: &Ask, cluster: &ClusterView) -> Result<Admission> {
        let mut session = Session::new(ask, cluster, &self.builtin, false);
        session.is_admitting = true;
        let (admission, _) = enter(session, Instant::now() + self.limit, || self.judge(ask));
        admission.map_err(|error| self.fault(&error, self.limit))
    }

    fn limit(&self) -> Option<Duration> {
        Some(self.limit + GRACE)
    }

    fn threads(&self) -> usize {
        // With one alone, a script that takes its time would delay every lane.
        std::thread::available_parallelism().map_or(1, usize::from).clamp(2, THREADS)
    }

    fn for_replay(&self) -> Option<Arc<dyn Scheduler>> {
        Some(Arc::new(Self {
            engine: self.engine.clone(),
            script: self.script.clone(),
            name: self.name.clone(),
            description: self.description.clone(),
            source: self.source.clone(),
            limit: self.limit.max(REPLAY_LIMIT),
            builtin: self.builtin.clone(),
        }))
    }

    fn source(&self) -> Option<PolicySource> {
        Some(self.source.clone())
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn description(&self) -> String {
        self.description.clone()
    }
}
