//! The defaults, and the settings of the core among the keys.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use etcetera::BaseStrategy;
use rbee_core::{Error, ErrorKind, Result, Settings, models::CacheType, registry::Durability};
use rbee_transport_http::{
    server::{ListenHost, LogFormat},
    wire::QUEEN_PORT,
};

use super::{Checked, Config, Embedded, List, Yaml};

const HOUR: Duration = Duration::from_secs(3600);

/// Both conversions between [`Config`] and [`Settings`], for the settings that have the same name in both.
macro_rules! settings {
    ($($name:ident),* $(,)?) => {
        impl Default for Config {
            fn default() -> Self {
                let settings = Settings::default();
                Self {
                    listen_host: ListenHost::default(),
                    listen_port: QUEEN_PORT,
                    token: None,
                    token_file: None,
                    allow_hosts: List::default(),
                    allow_origins: List::default(),
                    open_metrics: false,
                    tls_cert: None,
                    tls_key: None,
                    data_dir: PathBuf::new(),
                    name: None,
                    durability: Durability::default(),
                    keep_ended: (7 * 24 * HOUR).into(),
                    backup_interval: HOUR.into(),
                    backups_kept: 3,
                    models: Yaml::default(),
                    models_dir: None,
                    models_budget: None,
                    hub_cache: None,
                    hub_endpoint: None,
                    hub_token_file: None,
                    offline: false,
                    bundled_model: true,
                    local_hive: Embedded::default(),
                    hive_program: None,
                    engines: Yaml::default(),
                    worker_slots: 4,
                    worker_context: None,
                    worker_cache_tokens: None,
                    worker_cache_type: CacheType::default(),
                    policy: None,
                    file_roots: Yaml::default(),
                    local_files: true,
                    raw_completions: false,
                    hives: Yaml::default(),
                    programs_dir: None,
                    ssh_config: None,
                    worker_program: None,
                    lease: Duration::from_secs(90).into(),
                    drain_grace: Duration::from_secs(30).into(),
                    log_format: LogFormat::default(),
                    log_level: "info".into(),
                    batch_limits: Yaml::default(),
                    tenants: Yaml::default(),
                    keep_alive: settings.keep_alive.map(Into::into),
                    model_keep_alive: Yaml::default(),
                    hive_memory: Yaml::default(),
                    default_limits: Yaml(Checked(settings.default_limits)),
                    tenant_models_budget: settings.tenant_models_budget.map(Into::into),
                    $($name: settings.$name.into(),)*
                }
            }
        }

        impl Config {
            /// The settings of the core.
            pub fn settings(&self) -> Settings {
                let mut settings = Settings::default();
                settings.keep_alive = self.keep_alive.map(Into::into);
                settings.model_keep_alive = by_name(&self.model_keep_alive);
                settings.hive_memory = by_name(&self.hive_memory);
                settings.default_limits = self.default_limits.0.0.clone();
                settings.tenant_models_budget = self.tenant_models_budget.map(Into::into);
                $(settings.$name = self.$name.into();)*
                settings
            }
        }
    };
}

settings! {
    decisions_kept, replay_jobs, replay_limit, queue_capacity, interactive_wait, batch_wait, interactive_per_batch,
    job_timeout, max_job_timeout, retries, retry_delay, max_retry_delay, worker_faults, stall_timeout, suspect_after,
    restarts, spawn_timeout, provision_silence, abort_grace, autoscale_interval, scale_up_after, scale_back_after,
    min_loaded, mode, tenant_references, probe_interval, probe_timeout, hive_lost_after, owner_lease, events_kept,
    events_bytes, max_answer_bytes, max_prompt_bytes, max_embed_inputs, keep_requests, continue_across_numerics,
}

fn by_name<T: Copy + Into<U>, U>(values: &BTreeMap<String, T>) -> BTreeMap<String, U> {
    values.iter().map(|(name, value)| (name.clone(), (*value).into())).collect()
}

/// `rbee` in the platform's data directory.
///
/// # Errors
/// [`ErrorKind::Config`] if there is no home directory.
pub fn default_data_dir() -> Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(|cause| {
        let message = "there is no home directory to keep the queue in; name one with --data-dir";
        Error::new(ErrorKind::Config, message).with_source(cause)
    })?;
    Ok(base.data_dir().join("rbee"))
}
