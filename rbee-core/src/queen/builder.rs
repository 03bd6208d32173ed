//! The builder of a queen.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Queen, Shared,
    active_policy::{PolicyRunner, PreparedPolicy},
    decision_history::DecisionHistory,
    driver::{Driver, DriverContext},
    inbox::Inbox,
    load_progress::LoadTracker,
    logs::Logs,
    model_locator::{ModelLocator, Pin},
    monitor,
    policy::{self, ApplicationPolicy},
    tenants::TenantIndex,
    writer::Writer,
};
use crate::{
    engine::Input,
    error::{Error, ErrorKind, Result},
    hive::{HiveBackend, InProcessHive},
    id::{QueenId, TenantId},
    model_ref::{ModelRef, find_alias},
    private_files::open_own,
    registry::{MemoryRegistry, Registry},
    scheduler::{LeastLoaded, PlatformPolicy, Scheduler},
    settings::{Mode, Settings},
    sim::recorded_run::{EngineSetup, RunRecorder},
    tenant::TenantLimits,
    worker::Worker,
};

/// How long [`QueenBuilder::build`] waits for the hives to report. A machine that is down must not keep the queen from
/// starting.
const HIVES_TIMEOUT: Duration = Duration::from_secs(5);

/// The builder of a [`Queen`]; see [`Queen::builder`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `build` is awaited"]
pub struct QueenBuilder {
    id: Option<QueenId>,
    registry: Option<Arc<dyn Registry>>,
    scheduler: Option<Arc<dyn Scheduler>>,
    hives: Vec<Arc<dyn HiveBackend>>,
    workers: Vec<Arc<dyn Worker>>,
    aliases: Vec<(String, String)>,
    hub: Option<Arc<dyn Pin>>,
    settings: Settings,
    built_in: LeastLoaded,
    fixed_policy: bool,
    seed: Option<u64>,
    record_run: Option<PathBuf>,
}

impl QueenBuilder {
    /// The permanent id of this queen. A queen with the same id at once takes over what a previous run left in the
    /// store; with a random id, the default, it does so as soon as the previous run is known to be dead.
    pub fn id(mut self, id: QueenId) -> Self {
        self.id = Some(id);
        self
    }

    /// The store of what must survive a restart. [`MemoryRegistry`] by default: nothing survives.
    pub fn registry(mut self, registry: impl Registry) -> Self {
        self.registry = Some(Arc::new(registry));
        self
    }

    /// The policy that decides where jobs go. By default [`LeastLoaded`] in the mode [`Home`](Mode::Home) and
    /// [`PlatformPolicy`] in the mode [`Platform`](Mode::Platform), or the policy that was
    /// [set](crate::queen::Policy::set) in a previous run. A policy given here is active from the start, with one
    /// exception: a policy with a source text that the application gave before, unchanged, does not replace one that was
    /// set after it.
    ///
    /// In the mode platform an application may give its own policy too; it is [fixed](Self::fixed_policy) in any case.
    pub fn scheduler(mut self, scheduler: impl Scheduler) -> Self {
        self.scheduler = Some(Arc::new(scheduler));
        self
    }

    /// The built-in policy with its options. It decides if no other policy is given or if the active one fails, makes
    /// [estimates](crate::queen::Models::estimate), and answers scripts. [`LeastLoaded::default`] by default.
    pub fn built_in(mut self, policy: LeastLoaded) -> Self {
        self.built_in = policy;
        self
    }

    /// Forbids changes of the policy while the queen runs: it is always the one that the application gives.
    pub fn fixed_policy(mut self) -> Self {
        self.fixed_policy = true;
        self
    }

    /// Adds a machine.
    pub fn hive(mut self, hive: impl HiveBackend) -> Self {
        self.hives.push(Arc::new(hive));
        self
    }

    /// Adds a worker of this process. All such workers form the hive `local`.
    pub fn worker(mut self, worker: impl Worker) -> Self {
        self.workers.push(Arc::new(worker));
        self
    }

    /// Adds a name for a model: requests for `name` are for `model`.
    pub fn alias(mut self, name: impl Into<String>, model: impl Into<String>) -> Self {
        self.aliases.push((name.into(), model.into()));
        self
    }

    /// The source of models that hives do not have. Hives download from there, with the hub's token; without a hub only
    /// models that a hive has already can be used.
    #[cfg(feature = "hub")]
    pub fn hub(mut self, hub: crate::models::Hub) -> Self {
        self.hub = Some(Arc::new(hub));
        self
    }

    /// The settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Seeds the random numbers: ties, jitter, and the seeds of requests without one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Records the run in this file, to find out later why the queen made its decisions: one line for each input of the
    /// engine, with its time and its effects. [`replay_run`](crate::sim::replay_run) reads it.
    ///
    /// The file contains the prompts, each several times, and only its owner may read it. It grows by some kilobytes
    /// for every job and report of a hive, and is written while decisions are made, so use it for debugging only; it
    /// ends at one gigabyte. An existing file is replaced.
    pub fn record_run(mut self, path: impl Into<PathBuf>) -> Self {
        self.record_run = Some(path.into());
        self
    }

    /// Checks the settings, the aliases and these limits of tenants, as [`build`](Self::build) and
    /// [`put`](crate::queen::Tenants::put) do. Nothing is opened or started.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting or an alias is invalid, [`ErrorKind::InvalidRequest`] for limits, with the
    /// tenant.
    pub fn check<'a>(
        &self,
        tenants: impl IntoIterator<Item = (&'a TenantId, &'a TenantLimits)>,
    ) -> Result<()> {
        let aliases = self.checked()?;
        for (tenant, limits) in tenants {
            let checked = limits.validate().and_then(|()| {
                limits.check_models(|name| {
                    find_alias(&aliases, name)
                        .map_or_else(|| name.parse(), |(_, to)| Ok(to.clone()))
                })
            });
            checked.map_err(|error| error.context(format_args!("tenants: {tenant}")))?;
        }
        Ok(())
    }

    /// Checks the settings and the aliases, and returns the aliases.
    fn checked(&self) -> Result<BTreeMap<String, ModelRef>> {
        self.settings.validate()?;
        let aliases: BTreeMap<_, _> =
            self.aliases.iter().map(parse_alias).collect::<Result<_>>()?;
        let resolve = |name: &str| {
            find_alias(&aliases, name).map_or_else(|| name.parse(), |(_, to)| Ok(to.clone()))
        };
        self.settings.default_limits.check_models(resolve).map_err(|error| {
            let message = format!("setting default_limits: models: {}", error.message());
            Error::new(ErrorKind::Config, message).with_source(error)
        })?;
        Ok(aliases)
    }

    /// Opens the registry, restores what a previous run left, connects the hives, and starts.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting, an alias or the set of hives is invalid, and any error of the registry.
    pub async fn build(mut self) -> Result<Queen> {
        let aliases = self.checked()?;
        crate::metrics::name_models(&aliases);
        self.settings.model_keep_alive = by_reference(&self.settings.model_keep_alive, &aliases);
        if !self.workers.is_empty() {
            let hive =
                self.workers.drain(..).fold(InProcessHive::new(), InProcessHive::with_worker);
            self.hives.push(Arc::new(hive));
        }
        let mut names: Vec<_> = self.hives.iter().map(|hive| hive.info().id.clone()).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("two hives are named {}; each needs a name of its own", twice[0]);
            return Err(Error::new(ErrorKind::Config, message));
        }
        let registry = self.registry.unwrap_or_else(|| Arc::new(MemoryRegistry::new()));
        let default: Arc<dyn Scheduler> = match self.settings.mode {
            Mode::Home => Arc::new(self.built_in.clone()),
            Mode::Platform => Arc::new(PlatformPolicy::new(self.built_in.clone())),
        };
        let built_in = self.built_in;
        let application =
            ApplicationPolicy { own: self.scheduler, default, built_in: built_in.clone() };
        let own_policy = application.own.as_ref().unwrap_or(&application.default).clone();
        let settings = Arc::new(self.settings);
        let recording = self.record_run.as_deref().map(open_recording).transpose()?;
        let id = self.id.unwrap_or_else(QueenId::random);
        let snapshot = registry.open(&id, settings.owner_lease).await?;

        let epoch = snapshot.epoch;
        let fixed_policy = self.fixed_policy || settings.mode == Mode::Platform;
        let (scheduler, version) = match fixed_policy {
            true => (own_policy.clone(), None),
            false => policy::first(&*registry, epoch, &application).await?,
        };
        let info = scheduler.info();
        tracing::info!(policy = info.name, version, "the active policy");
        let admits = info.admits;
        let policy = PolicyRunner::new(PreparedPolicy::new(scheduler)?, version, built_in.clone());
        let active_policy = policy.active().clone();
        let tenants = TenantIndex::of(&snapshot.tenants);
        let decisions = DecisionHistory::new(settings.decisions_kept);
        let began = Instant::now();
        let seed = self.seed.unwrap_or_else(super::fresh_seed);
        let inbox = Inbox::new();
        let (kill, crashed) = (CancellationToken::new(), CancellationToken::new());
        let (writer, written) =
            Writer::start(registry.clone(), epoch, inbox.clone(), crashed.clone());
        let logs = Arc::new(Logs::new(settings.clone()));
        let loads = LoadTracker::default();
        let models = ModelLocator::new(self.hub, &settings);
        let of_operator = snapshot.jobs.iter().filter(|job| job.tenant.is_none());
        let of_operator = of_operator.map(|job| &job.model).chain(aliases.values());
        of_operator.for_each(|model| models.vouch_for(model));
        let restored = logs.restore(&snapshot);
        let remembered = snapshot.hives.clone();
        let setup = EngineSetup {
            settings: (*settings).clone(),
            epoch,
            seed,
            secret: super::fresh_seed(),
            aliases: aliases.clone(),
            built_in: built_in.clone(),
        };
        let engine = setup.engine();
        let recorder = recording.map(|file| RunRecorder::new(file, &setup));
        inbox.input(Input::PolicyChanged { admits });
        inbox.input(Input::Restore { snapshot: Box::new(snapshot) });
        let shell = DriverContext {
            inbox: inbox.clone(),
            writer: writer.clone(),
            logs: logs.clone(),
            loads: loads.clone(),
            models: models.clone(),
            settings: settings.clone(),
            decisions: decisions.clone(),
            kill: kill.clone(),
            began,
        };
        let driver = Driver::new(engine, policy, shell).recorded_by(recorder);
        let run = inbox.clone().run(Box::new(driver));
        tokio::spawn(kill.clone().run_until_cancelled_owned(run));
        tokio::spawn(kill.clone().run_until_cancelled_owned(monitor::own(
            registry.clone(),
            epoch,
            settings.owner_lease,
            inbox.clone(),
            logs.clone(),
            tenants.clone(),
            writer,
        )));
        let queen = Queen {
            shared: Arc::new(Shared {
                id,
                inbox,
                logs,
                loads,
                registry,
                active_policy,
                built_in,
                fixed_policy,
                own_policy: Mutex::new(own_policy),
                policy_change: Arc::default(),
                replays: Arc::new(tokio::sync::Semaphore::new(1)),
                decisions,
                tenants,
                settings,
                aliases,
                models,
                restored: restored.into(),
                remembered,
                kill,
                crashed,
                written: Mutex::new(Some(written)),
                end: Mutex::default(),
                stop: Mutex::default(),
                began,
            }),
        };
        let mut reports = Vec::new();
        for hive in self.hives {
            reports.push(queen.fleet().connect(hive).await?);
        }
        let all = async {
            for report in reports {
                let _ = report.await;
            }
        };
        if tokio::time::timeout(HIVES_TIMEOUT, all).await.is_err() {
            tracing::warn!(
                "not every hive has reported within {HIVES_TIMEOUT:?}; the queen starts without them"
            );
        }
        Ok(queen)
    }
}

/// Opens the file that the run is recorded in. An existing one is replaced.
fn open_recording(path: &Path) -> Result<File> {
    let opened = open_own(path, OpenOptions::new().write(true).create(true)).and_then(|file| {
        file.set_len(0)?;
        Ok(file)
    });
    opened.map_err(|cause| {
        let path = path.display();
        Error::new(ErrorKind::Config, format!("the run cannot be recorded in {path}: {cause}"))
            .with_source(cause)
    })
}

/// Replaces model aliases by the references that they stand for, because jobs and workers carry those.
fn by_reference(
    named: &BTreeMap<String, Duration>,
    aliases: &BTreeMap<String, ModelRef>,
) -> BTreeMap<String, Duration> {
    let meant = named.iter().map(|(name, span)| {
        (
            find_alias(aliases, name).map_or_else(|| name.clone(), |(_, model)| model.to_string()),
            *span,
        )
    });
    meant.collect()
}

fn parse_alias((name, model): &(String, String)) -> Result<(String, ModelRef)> {
    let wrong = |error: Error| {
        Error::new(ErrorKind::Config, format!("alias {name:?} for {model:?}: {error}"))
            .with_source(error)
    };
    ModelRef::alias(name).map_err(|error| {
        Error::new(ErrorKind::Config, error.message().to_owned()).with_source(error)
    })?;
    Ok((name.clone(), model.parse().map_err(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keep_alive_time_of_an_alias_is_that_of_its_model() {
        let aliases = [("llama3.2".to_owned(), "hf:org/llama".parse().unwrap())].into();
        let named = |name: &str| [(name.to_owned(), Duration::from_secs(1))].into();
        for name in ["llama3.2", "llama3.2:latest"] {
            assert_eq!(by_reference(&named(name), &aliases), named("hf:org/llama"), "{name}");
        }
        assert_eq!(by_reference(&named("llama3.2:3b"), &aliases), named("llama3.2:3b"));
    }
}
