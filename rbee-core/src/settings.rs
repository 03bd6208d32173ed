//! All settings with numbers, with their defaults and bounds.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    id::HiveId,
    model_ref::ModelRef,
    priority::Priority,
    tenant::TenantLimits,
};

/// When the text of a request may stay in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepRequests {
    /// As long as the job is live, so that a restart can run it; erased at its end.
    #[default]
    UntilDone,
    /// Not at all: a restart cannot run the job again, and ends it with `QUEEN_RESTARTED`.
    Never,
    /// Until the job itself is removed.
    Always,
}

/// The users of a queen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A home or a lab: tenants are optional, and there are no limits unless they are set.
    #[default]
    Home,
    /// Unknown users: every request needs a tenant, limits apply to all, and the policy is built in.
    Platform,
}

/// Whether tenants may name models by `hf:` and `file:` references, in addition to aliases and the models of their
/// limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantReferences {
    /// They may not.
    #[default]
    Off,
    /// They may; the request to the hub for such a model has no token, so that only public models are available.
    Public,
    /// They may; the request to the hub has the queen's token, so that all models are available that its owner can
    /// access.
    WithHubToken,
}

/// The settings of a [`Queen`](crate::Queen). `Settings::default()` suits most applications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The users of the queen. [`Mode::Home`].
    pub mode: Mode,
    /// The limits of tenants that set none of their own, limit by limit. None.
    pub default_limits: TenantLimits,
    /// Whether tenants may name models by reference. A tenant whose limits name models may use only those in any case.
    /// [`TenantReferences::Off`]; anything else needs `tenant_models_budget`.
    pub tenant_references: TenantReferences,
    /// The most bytes on the disk of each hive for models from the hub that only references of tenants requested; the
    /// least recently used ones are evicted. None.
    pub tenant_models_budget: Option<u64>,
    /// The number of waiting jobs from which a new job is accepted only if a worker is idle, or its tenant has less
    /// than an equal share of the waiting jobs; at twice this number none is accepted. 1,000.
    pub queue_capacity: usize,
    /// How long an interactive job may wait in the queue. 10 minutes.
    pub interactive_wait: Duration,
    /// How long a batch job may wait in the queue. 24 hours.
    pub batch_wait: Duration,
    /// After this many interactive jobs in a row, a waiting batch job runs next. 8.
    pub interactive_per_batch: u32,
    /// How long a job may run, from its first start, if the request does not set it. 5 minutes.
    pub job_timeout: Duration,
    /// The longest run time that a request may set. 30 minutes.
    pub max_job_timeout: Duration,
    /// Retries after the first attempt. An attempt counts only if the job can be the cause of its failure: see
    /// [`ErrorKind::costs_a_try`](crate::ErrorKind::costs_a_try). 3.
    pub retries: u32,
    /// The delay before the first retry, if no other worker is ready; it doubles with each retry. 1 second.
    pub retry_delay: Duration,
    /// The longest delay before a retry. 60 seconds.
    pub max_retry_delay: Duration,
    /// Faults in a row after which a worker gets no more jobs until a probe succeeds. 3.
    pub worker_faults: u32,
    /// A worker without output for this long, not even a heartbeat, has stalled. 2 minutes.
    pub stall_timeout: Duration,
    /// A worker whose stream is silent for this long, and for three times its longest usual gap, is suspect: it gets no
    /// jobs until it is known to be healthy, and the stream continues elsewhere if another worker can take it over. 3
    /// seconds.
    pub suspect_after: Duration,
    /// How often in a row a queen may end uncleanly while the job runs, without more of its answer recorded between the
    /// ends. Such an end uses up no attempt of the job. 20.
    pub restarts: u32,
    /// How long a worker may take from its spawn until it is ready. 300 seconds.
    pub spawn_timeout: Duration,
    /// How long a download may make no progress. 600 seconds.
    pub provision_silence: Duration,
    /// How long an aborted attempt may take to end before its slot counts as free, and how long a stopped worker has
    /// before it is stopped by force. 5 seconds.
    pub abort_grace: Duration,
    /// How often waiting jobs are matched with workers although nothing changed. 5 seconds.
    pub autoscale_interval: Duration,
    /// How long the first job of a model's queue must wait before one more worker is started, if there is free memory
    /// without an eviction. 10 seconds; longer if the model takes longer to load.
    pub scale_up_after: Duration,
    /// How long such an additional worker must be idle before it is stopped again, and how long no other is started
    /// after that. 5 minutes.
    pub scale_back_after: Duration,
    /// How long a worker that is not pinned may be idle before it is stopped. None: no limit.
    pub keep_alive: Option<Duration>,
    /// The same for single models, by alias or reference. A reference to a repository, or to a branch of it, applies to
    /// every commit and every file of it without its own time.
    pub model_keep_alive: BTreeMap<String, Duration>,
    /// How long a worker must stay loaded before it can be evicted for another model, so that models that alternate are
    /// not loaded for each job. 10 seconds; 0: no minimum.
    pub min_loaded: Duration,
    /// The most memory of all workers of a hive together, in bytes, by the hive's name; the rest of the machine stays
    /// with its owner. For a hive that is not named: the memory of its devices.
    pub hive_memory: BTreeMap<String, u64>,
    /// How often the state of every hive is polled. 15 seconds.
    pub probe_interval: Duration,
    /// How long a hive may take to answer. 5 seconds.
    pub probe_timeout: Duration,
    /// How long a hive may be offline before its jobs fail over and the queen forgets its workers. 45 seconds.
    pub hive_lost_after: Duration,
    /// How long the store keeps this queen's rows for it without a heartbeat. 30 seconds.
    pub owner_lease: Duration,
    /// How long the events of an ended job stay in memory for readers that reconnect. 10 minutes.
    pub events_kept: Duration,
    /// The memory for the events of ended jobs, in bytes; the oldest are dropped first. Readers that have not read all
    /// events of their jobs may hold eight times as much in addition; beyond that, those of the oldest jobs break off. 64
    /// MiB.
    pub events_bytes: usize,
    /// The longest answer of one job, in bytes, with its log probabilities; a worker that generates more text is at fault.
    /// 16 MiB.
    pub max_answer_bytes: usize,
    /// The longest prompt, all its messages or inputs together, in bytes. 1 MiB.
    pub max_prompt_bytes: usize,
    /// The most inputs of one request for vectors, and the most documents of one rerank. 2,048.
    pub max_embed_inputs: usize,
    /// The number of scheduler decisions that are kept for explanations; 0 keeps none. 1,000.
    pub decisions_kept: usize,
    /// The most recorded jobs in one replay of a policy: the newest. 100,000.
    pub replay_jobs: usize,
    /// How long one replay of a policy may take. 5 minutes.
    pub replay_limit: Duration,
    /// When the text of a request may stay in the store.
    pub keep_requests: KeepRequests,
    /// Continue a stream on a worker with other numerics if there is none with the same. The text stays plausible, but
    /// it is no longer the stream that the first worker would have generated. Off.
    pub continue_across_numerics: bool,
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Home,
            default_limits: TenantLimits::default(),
            tenant_references: TenantReferences::Off,
            tenant_models_budget: None,
            queue_capacity: 1_000,
            interactive_wait: seconds(600),
            batch_wait: seconds(24 * 3600),
            interactive_per_batch: 8,
            job_timeout: seconds(300),
            max_job_timeout: seconds(1800),
            retries: 3,
            retry_delay: seconds(1),
            max_retry_delay: seconds(60),
            worker_faults: 3,
            stall_timeout: seconds(120),
            suspect_after: seconds(3),
            restarts: 20,
            spawn_timeout: seconds(300),
            provision_silence: seconds(600),
            abort_grace: seconds(5),
            autoscale_interval: seconds(5),
            scale_up_after: seconds(10),
            scale_back_after: seconds(300),
            keep_alive: None,
            model_keep_alive: BTreeMap::new(),
            min_loaded: seconds(10),
            hive_memory: BTreeMap::new(),
            probe_interval: seconds(15),
            probe_timeout: seconds(5),
            hive_lost_after: seconds(45),
            owner_lease: seconds(30),
            events_kept: seconds(600),
            events_bytes: 64 << 20,
            max_answer_bytes: 16 << 20,
            max_prompt_bytes: 1 << 20,
            max_embed_inputs: 2_048,
            decisions_kept: 1_000,
            replay_jobs: 100_000,
            replay_limit: seconds(300),
            keep_requests: KeepRequests::UntilDone,
            continue_across_numerics: false,
        }
    }
}

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the setting, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let day = seconds(24 * 3600);
        for (name, value, most) in [
            ("interactive_wait", self.interactive_wait, 30 * day),
            ("batch_wait", self.batch_wait, 30 * day),
            ("max_job_timeout", self.max_job_timeout, day),
            ("job_timeout", self.job_timeout, self.max_job_timeout),
            ("max_retry_delay", self.max_retry_delay, day),
            ("retry_delay", self.retry_delay, self.max_retry_delay),
            ("stall_timeout", self.stall_timeout, day),
            ("suspect_after", self.suspect_after, day),
            ("spawn_timeout", self.spawn_timeout, day),
            ("provision_silence", self.provision_silence, day),
            ("abort_grace", self.abort_grace, seconds(300)),
            ("autoscale_interval", self.autoscale_interval, seconds(3600)),
            ("scale_up_after", self.scale_up_after, day),
            ("scale_back_after", self.scale_back_after, 30 * day),
            ("keep_alive", self.keep_alive.unwrap_or(day), 30 * day),
            ("probe_interval", self.probe_interval, seconds(3600)),
            ("probe_timeout", self.probe_timeout, seconds(300)),
            ("hive_lost_after", self.hive_lost_after, day),
            ("owner_lease", self.owner_lease, day),
            ("events_kept", self.events_kept, 30 * day),
            ("replay_limit", self.replay_limit, seconds(3600)),
        ] {
            if value < Duration::from_millis(1) || value > most {
                return Err(bad(name, format_args!("{value:?}"), format_args!("1ms to {most:?}")));
            }
        }
        for (model, value) in &self.model_keep_alive {
            let name = format!("model_keep_alive.{model}");
            model.parse::<ModelRef>().map_err(|error| {
                bad(&name, format_args!("{value:?}"), format_args!("a model's name; {error}"))
            })?;
            if *value < Duration::from_millis(1) || *value > 30 * day {
                let allowed = format_args!("1ms to {:?}", 30 * day);
                return Err(bad(&name, format_args!("{value:?}"), allowed));
            }
        }
        for (hive, bytes) in &self.hive_memory {
            let name = format!("hive_memory.{hive}");
            HiveId::new(hive)
                .map_err(|error| bad(&name, format_args!("{bytes}"), format_args!("{error}")))?;
            if *bytes == 0 {
                return Err(bad(&name, format_args!("0"), format_args!("at least 1 byte")));
            }
        }
        self.default_limits.validate().map_err(|error| {
            let message = format!("setting default_limits: {}", error.message());
            Error::new(ErrorKind::Config, message)
        })?;
        let is_open = self.tenant_references != TenantReferences::Off;
        match self.tenant_models_budget {
            Some(0) => {
                let allowed = format_args!("at least 1 byte, or none");
                return Err(bad("tenant_models_budget", format_args!("0"), allowed));
            }
            None if is_open => {
                let allowed = format_args!(
                    "a number of bytes where tenant_references is not off, so that tenants cannot fill the disks"
                );
                return Err(bad("tenant_models_budget", format_args!("not set"), allowed));
            }
            _ => {}
        }
        if self.min_loaded > day {
            let allowed = format_args!("0ns to {day:?}");
            return Err(bad("min_loaded", format_args!("{:?}", self.min_loaded), allowed));
        }
        for (name, value, least, most) in [
            ("queue_capacity", self.queue_capacity, 1, 10_000_000),
            ("interactive_per_batch", self.interactive_per_batch as usize, 1, 1_000_000),
            ("retries", self.retries as usize, 0, 100),
            ("restarts", self.restarts as usize, 0, 10_000),
            ("worker_faults", self.worker_faults as usize, 1, 1_000),
            ("events_bytes", self.events_bytes, 1 << 16, usize::MAX),
            ("max_answer_bytes", self.max_answer_bytes, 1 << 10, 1 << 30),
            ("max_prompt_bytes", self.max_prompt_bytes, 1, 1 << 30),
            ("max_embed_inputs", self.max_embed_inputs, 1, 1_000_000),
            ("decisions_kept", self.decisions_kept, 0, 100_000),
            ("replay_jobs", self.replay_jobs, 1, 1_000_000),
        ] {
            if value < least || value > most {
                return Err(bad(name, format_args!("{value}"), format_args!("{least} to {most}")));
            }
        }
        Ok(())
    }

    /// How long a job of this priority may wait in the queue.
    pub const fn queue_wait(&self, priority: Priority) -> Duration {
        match priority {
            Priority::Interactive => self.interactive_wait,
            Priority::Batch => self.batch_wait,
        }
    }
}

fn bad(name: &str, value: std::fmt::Arguments<'_>, allowed: std::fmt::Arguments<'_>) -> Error {
    Error::new(ErrorKind::Config, format!("setting {name} is {value}; allowed is {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_a_bad_value_is_named() {
        Settings::default().validate().unwrap();
        let bad = Settings { job_timeout: seconds(3600), ..Settings::default() };
        let error = bad.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.message(), "setting job_timeout is 3600s; allowed is 1ms to 1800s");
        let model_keep_alive = [("hf:org".to_owned(), seconds(1))].into();
        let error = Settings { model_keep_alive, ..Settings::default() }.validate().unwrap_err();
        assert!(error.message().starts_with("setting model_keep_alive.hf:org is 1s; allowed is"));
        assert!(error.message().contains("hf:org/repo"), "{error}");
        assert!(Settings { queue_capacity: 0, ..Settings::default() }.validate().is_err());
        let open = Settings { tenant_references: TenantReferences::Public, ..Settings::default() };
        let error = open.validate().unwrap_err();
        assert!(error.message().starts_with("setting tenant_models_budget is not set; allowed is"));
        Settings { tenant_models_budget: Some(1), ..open.clone() }.validate().unwrap();
        assert!(Settings { tenant_models_budget: Some(0), ..open }.validate().is_err());
        let default_limits = TenantLimits { weight: 0, ..TenantLimits::default() };
        let error = Settings { default_limits, ..Settings::default() }.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.message(), "setting default_limits: weight is 0; allowed is 1 to 1000000");
    }
}
