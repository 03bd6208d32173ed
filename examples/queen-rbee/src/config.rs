//! Every configuration key, defined once: its name, its type and its purpose.
//!
//! The command line and its help, the environment variables, the file and `--print-config` are all generated from the
//! fields of [`Config`]. Nothing is silently ignored: an unknown key, or a value that is not allowed, stops the
//! start, with the key, its source, the value and what is allowed.

mod arguments;
mod batch_limits;
mod check;
mod default;
mod hives;
mod models;
mod paths;
mod refusal;
mod sources;
mod types;
#[cfg_attr(not(feature = "yaml"), path = "config/no_yaml.rs")]
mod yaml;

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use clap::{ArgAction::Set, Args};
use rbee_core::{
    TenantId,
    id::QueenId,
    models::CacheType,
    registry::Durability,
    settings::{KeepRequests, Mode, TenantReferences},
    tenant::TenantLimits,
};
use rbee_transport_http::{
    Token,
    server::{AllowedHost, AllowedOrigin, ListenHost, LogFormat},
    wire::engine::EngineCommand,
};
use serde::{Deserialize, Serialize};

pub use arguments::{Action, Arguments};
pub use batch_limits::BatchKeys;
pub use default::default_data_dir;
pub use hives::HiveEntry;
pub use rbee_transport_http::server::{ByteSize, HumanDuration};
pub use sources::{Loaded, Origin, Sources};
pub use types::{Checked, List, Yaml};
use types::{hidden, host, host_in_a_file, named, not_in_a_file};

/// How workers run on the queen's own machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Embedded {
    /// Each in a process of its own.
    #[default]
    Processes,
    /// Each in a process of its own, under a hive that is a separate daemon.
    Daemon,
    /// In the queen's process.
    Inside,
    /// Not at all.
    Off,
}

/// The configuration of a queen. `Config::default()` is a queen for this machine alone.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address to listen on; localhost is 127.0.0.1 and ::1. Any address that other machines can reach needs a token
    #[arg(long, visible_alias = "host", value_name = "ADDRESS", value_parser = host)]
    #[serde(deserialize_with = "host_in_a_file")]
    pub listen_host: ListenHost,
    /// The port to listen on
    #[arg(long, visible_alias = "port", value_name = "PORT")]
    pub listen_port: u16,
    /// The token that clients must send. Only the variable `RBEE_TOKEN` sets it: arguments are visible to every user of the
    /// machine, and files are copied.
    #[arg(skip)]
    #[serde(serialize_with = "hidden", deserialize_with = "not_in_a_file")]
    pub token: Option<Token>,
    /// A file with the token that clients must send
    #[arg(long, value_name = "PATH")]
    pub token_file: Option<PathBuf>,
    /// Hosts that requests may name if no token is needed, in addition to localhost and this machine's loopback
    /// addresses
    #[arg(long, value_name = "[HOST, …]")]
    pub allow_hosts: List<AllowedHost>,
    /// Web pages that may use the API, by their origin (CORS) [default: none]
    #[arg(long, value_name = "[ORIGIN, …]")]
    pub allow_origins: List<AllowedOrigin>,
    /// Serve /metrics without the token
    #[arg(long, value_name = "true|false", action = Set)]
    pub open_metrics: bool,
    /// Certificates in PEM; with tls_key the API is served over TLS
    #[arg(long, value_name = "PATH")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of tls_cert, in PEM
    #[arg(long, value_name = "PATH")]
    pub tls_key: Option<PathBuf>,
    /// The directory of the queue and all other persistent data [default: rbee in the user's data directory]
    #[arg(long, value_name = "PATH")]
    pub data_dir: PathBuf,
    /// The permanent name of this queen
    #[arg(long, value_name = "NAME")]
    pub name: Option<QueenId>,
    /// What a recorded job survives: the end of the process (normal), or also a power failure (full)
    #[arg(long, value_name = "normal|full", value_parser = named::<Durability>)]
    pub durability: Durability,
    /// How long the records of ended jobs are kept
    #[arg(long, value_name = "DURATION")]
    pub keep_ended: HumanDuration,
    /// The time between two backups of the queue to backups in data_dir
    #[arg(long, value_name = "DURATION")]
    pub backup_interval: HumanDuration,
    /// How many backups are kept; 0 makes none
    #[arg(long, value_name = "NUMBER")]
    pub backups_kept: usize,
    /// Aliases for models, to use instead of their references
    #[arg(long, value_name = "{NAME: REFERENCE, …}")]
    pub models: Yaml<BTreeMap<String, String>>,
    /// The directory for downloaded models [default: models-fetched in data_dir]
    #[arg(long, value_name = "PATH")]
    pub models_dir: Option<PathBuf>,
    /// The most disk space for downloaded models; the least recently used ones are removed
    #[arg(long, value_name = "SIZE")]
    pub models_budget: Option<ByteSize>,
    /// The directory for the hub's models [default: the one that other tools share]
    #[arg(long, value_name = "PATH")]
    pub hub_cache: Option<PathBuf>,
    /// The address of the hub
    #[arg(long, value_name = "TEXT")]
    pub hub_endpoint: Option<String>,
    /// A file with your token for the hub
    #[arg(long, value_name = "PATH")]
    pub hub_token_file: Option<PathBuf>,
    /// Make no requests to the hub
    #[arg(long, value_name = "true|false", action = Set)]
    pub offline: bool,
    /// Offer the small model that comes with this program, as bee-tiny
    #[arg(long, value_name = "true|false", action = Set)]
    pub bundled_model: bool,
    /// Run workers on this machine
    #[arg(long, value_name = "processes|daemon|inside|off", value_parser = named::<Embedded>)]
    pub local_hive: Embedded,
    /// The program for local_hive: daemon [default: rbee-hive in the directory of this program]
    #[arg(long, value_name = "PATH")]
    pub hive_program: Option<PathBuf>,
    /// Other engines than rbee's own for workers on this machine, for example llama-server
    #[arg(long, value_name = "[{name: NAME, models: [PATTERN], command: LINE, …}, …]")]
    pub engines: Yaml<Vec<Checked<EngineCommand>>>,
    /// Concurrent runs of a new worker, if its engine supports them
    #[arg(long, value_name = "NUMBER")]
    pub worker_slots: u32,
    /// The maximum length of prompt and answer together, in tokens, for workers on this machine [default: the model's
    /// own limit; in rbee's own engine at most 32768]
    #[arg(long, value_name = "NUMBER")]
    pub worker_context: Option<u32>,
    /// The tokens whose keys and values a worker of rbee's own engine on this machine has memory for [default: 4096 for
    /// each run, and at least the context]
    #[arg(long, value_name = "NUMBER")]
    pub worker_cache_tokens: Option<NonZeroU32>,
    /// The data type of these keys and values; q8 takes about half the memory of f16, on the processor only
    #[arg(long, value_name = "f32|f16|q8", value_parser = named::<CacheType>)]
    pub worker_cache_type: CacheType,
    /// The policy that places jobs: a script (.rhai) or rules (.yaml); read again when it changes
    #[arg(long, value_name = "PATH")]
    pub policy: Option<PathBuf>,
    /// How many recent decisions are kept for explanations
    #[arg(long, value_name = "NUMBER")]
    pub decisions_kept: usize,
    /// The most recorded jobs in one replay of a policy
    #[arg(long, value_name = "NUMBER")]
    pub replay_jobs: usize,
    /// The time limit of one replay of a policy
    #[arg(long, value_name = "DURATION")]
    pub replay_limit: HumanDuration,
    /// Directories whose models clients may name by file path
    #[arg(long, value_name = "[PATH, …]")]
    pub file_roots: Yaml<Vec<PathBuf>>,
    /// Let local users name any model file that the queen can read; false for a queen behind a proxy that does not show
    /// in the requests it passes on
    #[arg(long, value_name = "true|false", action = Set)]
    pub local_files: bool,
    /// Read the text of a control token in a bare prompt as that token; otherwise it stays text
    #[arg(long, value_name = "true|false", action = Set)]
    pub raw_completions: bool,
    /// Other machines: with url one on which rbee-hive already runs, with ssh one that the queen reaches by SSH and
    /// starts it on
    #[arg(long, value_name = "[{id: NAME, url: URL, …}, {id: NAME, ssh: HOST}, …]")]
    pub hives: Yaml<Vec<HiveEntry>>,
    /// The directory with the programs for machines that are reached by SSH [default: that of this program, then PATH]
    #[arg(long, value_name = "PATH")]
    pub programs_dir: Option<PathBuf>,
    /// The configuration of SSH instead of ~/.ssh/config and /etc/ssh/ssh_config
    #[arg(long, value_name = "PATH")]
    pub ssh_config: Option<PathBuf>,
    /// The program of a worker [default: this program]
    #[arg(long, value_name = "PATH")]
    pub worker_program: Option<PathBuf>,
    /// How long hives and workers continue without a heartbeat from the queen
    #[arg(long, value_name = "DURATION")]
    pub lease: HumanDuration,
    /// How long jobs may take to end when the queen shuts down
    #[arg(long, value_name = "DURATION")]
    pub drain_grace: HumanDuration,
    /// The log format: text for people, or one JSON object per line
    #[arg(long, value_name = "text|json", value_parser = named::<LogFormat>)]
    pub log_format: LogFormat,
    /// The log level: error, warn, info, debug or trace; also by part: info,rbee_core=debug
    #[arg(long, value_name = "TEXT")]
    pub log_level: String,
    /// The number of waiting jobs from which a new one is accepted only if a worker is idle or its tenant has less
    /// than its share; at twice this number none is accepted
    #[arg(long, value_name = "NUMBER")]
    pub queue_capacity: usize,
    /// How long an interactive job may wait in the queue
    #[arg(long, value_name = "DURATION")]
    pub interactive_wait: HumanDuration,
    /// How long a batch job may wait in the queue
    #[arg(long, value_name = "DURATION")]
    pub batch_wait: HumanDuration,
    /// After this many interactive jobs in a row, one waiting batch job runs
    #[arg(long, value_name = "NUMBER")]
    pub interactive_per_batch: u32,
    /// How long a job may run, if the request sets no limit
    #[arg(long, value_name = "DURATION")]
    pub job_timeout: HumanDuration,
    /// The longest time limit that a request may set
    #[arg(long, value_name = "DURATION")]
    pub max_job_timeout: HumanDuration,
    /// Retries after the first attempt
    #[arg(long, value_name = "NUMBER")]
    pub retries: u32,
    /// The delay before the first retry; it doubles with each
    #[arg(long, value_name = "DURATION")]
    pub retry_delay: HumanDuration,
    /// The longest delay before a retry
    #[arg(long, value_name = "DURATION")]
    pub max_retry_delay: HumanDuration,
    /// Consecutive faults after which a worker gets no more jobs until a probe succeeds
    #[arg(long, value_name = "NUMBER")]
    pub worker_faults: u32,
    /// A worker that sends nothing for this long counts as stalled
    #[arg(long, value_name = "DURATION")]
    pub stall_timeout: HumanDuration,
    /// A worker that is silent for this long, and longer than usual, gets no jobs until it is healthy again, and its
    /// streams continue on other workers
    #[arg(long, value_name = "DURATION")]
    pub suspect_after: HumanDuration,
    /// How many times in a row the queen may end while a job runs without recording more of its answer, before the
    /// job fails
    #[arg(long, value_name = "NUMBER")]
    pub restarts: u32,
    /// How long a worker may take from its start until it is ready
    #[arg(long, value_name = "DURATION")]
    pub spawn_timeout: HumanDuration,
    /// How long a download may go without progress
    #[arg(long, value_name = "DURATION")]
    pub provision_silence: HumanDuration,
    /// How long an attempt or a worker may take to end before it is stopped by force
    #[arg(long, value_name = "DURATION")]
    pub abort_grace: HumanDuration,
    /// How often waiting jobs are matched with workers even if nothing has changed
    #[arg(long, value_name = "DURATION")]
    pub autoscale_interval: HumanDuration,
    /// How long a model's queue must last before another worker is started for it, if there is room
    #[arg(long, value_name = "DURATION")]
    pub scale_up_after: HumanDuration,
    /// How long a worker that was started for such a queue may be idle before it is stopped
    #[arg(long, value_name = "DURATION")]
    pub scale_back_after: HumanDuration,
    /// How long any worker may be idle before it is stopped [default: for ever]
    #[arg(long, value_name = "DURATION")]
    pub keep_alive: Option<HumanDuration>,
    /// The idle time of workers of single models, by alias or reference; a repository stands for all its commits and
    /// files
    #[arg(long, value_name = "{NAME: DURATION, …}")]
    pub model_keep_alive: Yaml<BTreeMap<String, HumanDuration>>,
    /// The shortest time that a worker stays loaded before it is evicted for another model
    #[arg(long, value_name = "DURATION")]
    pub min_loaded: HumanDuration,
    /// The most memory for the workers of a machine, by its name [default: all of its devices]
    #[arg(long, value_name = "{NAME: SIZE, …}")]
    pub hive_memory: Yaml<BTreeMap<String, ByteSize>>,
    /// The mode: home (tenants are optional) or platform (every request needs a tenant's key, and the operator needs
    /// a token)
    #[arg(long, value_name = "home|platform", value_parser = named::<Mode>)]
    pub mode: Mode,
    /// The limits that apply if a tenant sets none of its own
    #[arg(long, value_name = "{LIMIT: NUMBER, …}")]
    pub default_limits: Yaml<Checked<TenantLimits>>,
    /// Whether tenants may name models by reference, in addition to aliases and the models of their limits; public:
    /// requests to the hub have no token. Anything but off needs tenant_models_budget
    #[arg(long, value_name = "off|public|with_hub_token", value_parser = named::<TenantReferences>)]
    pub tenant_references: TenantReferences,
    /// The most disk space on each machine for models that only tenants' references requested; the least recently
    /// used ones are removed
    #[arg(long, value_name = "SIZE")]
    pub tenant_models_budget: Option<ByteSize>,
    /// The limits on files and batches of requests: file_bytes, tenant_files, tenant_bytes, free_bytes, tenant_uploads,
    /// lines_in_flight, tenant_active, tenant_batches, retention
    #[arg(long, value_name = "{LIMIT: VALUE, …}")]
    pub batch_limits: Yaml<Checked<BatchKeys>>,
    /// The tenants, with their limits; their keys are issued with the keeper
    #[arg(long, value_name = "{NAME: {LIMIT: NUMBER, …}, …}")]
    pub tenants: Yaml<BTreeMap<TenantId, Checked<TenantLimits>>>,
    /// How often the queen checks every hive
    #[arg(long, value_name = "DURATION")]
    pub probe_interval: HumanDuration,
    /// How long a hive may take to respond to a check
    #[arg(long, value_name = "DURATION")]
    pub probe_timeout: HumanDuration,
    /// How long a hive may be offline before its jobs go elsewhere
    #[arg(long, value_name = "DURATION")]
    pub hive_lost_after: HumanDuration,
    /// How long the store reserves this queen's rows for it without a heartbeat
    #[arg(long, value_name = "DURATION")]
    pub owner_lease: HumanDuration,
    /// How long the events of an ended job stay in memory
    #[arg(long, value_name = "DURATION")]
    pub events_kept: HumanDuration,
    /// Memory for the events of ended jobs
    #[arg(long, value_name = "SIZE")]
    pub events_bytes: ByteSize,
    /// The largest answer of one job
    #[arg(long, value_name = "SIZE")]
    pub max_answer_bytes: ByteSize,
    /// The largest prompt
    #[arg(long, value_name = "SIZE")]
    pub max_prompt_bytes: ByteSize,
    /// The most inputs of one embeddings request
    #[arg(long, value_name = "NUMBER")]
    pub max_embed_inputs: usize,
    /// How long the text of a request may stay in the store
    #[arg(long, value_name = "until_done|never|always", value_parser = named::<KeepRequests>)]
    pub keep_requests: KeepRequests,
    /// Continue a stream even if the other machine might have given a different answer
    #[arg(long, value_name = "true|false", action = Set)]
    pub continue_across_numerics: bool,
}

#[cfg(test)]
#[cfg(feature = "yaml")]
mod tests;
