//! Every key that can be configured, once: its name, its type and what it is for.
//!
//! The command line and its help, the environment variables, the file and `--print-config` are all made from the fields of
//! [`Config`]. Nothing is ignored without a word: a key that is not known, or a value that is not allowed, stops the start,
//! with the key, where it came from, the value and what is allowed.

mod arguments;
mod check;
mod default;
mod hives;
mod models;
mod sources;
mod types;
mod units;
mod yaml;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use clap::{ArgAction::Set, Args};
use rbee_core::{
    TenantId,
    id::QueenId,
    registry::Durability,
    settings::{KeepRequests, Mode, TenantReferences},
    tenant::TenantLimits,
};
use rbee_transport_http::{
    Token,
    server::{AllowedHost, AllowedOrigin, LogFormat},
    wire::engine::EngineCommand,
};
use serde::{Deserialize, Serialize};

pub use arguments::{Action, Arguments};
pub use default::default_data_dir;
pub use hives::HiveEntry;
pub use sources::{Loaded, Origin, Sources};
pub use types::{Checked, List, Yaml};
use types::{hidden, host, host_in_a_file, named, not_in_a_file};
pub use units::{ByteSize, HumanDuration};

/// How workers run on the queen's own machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Embedded {
    /// Each in a process of its own.
    #[default]
    Processes,
    /// Each in a process of its own, under a hive that is a daemon of its own.
    Daemon,
    /// In the queen's process.
    Inside,
    /// Not at all.
    Off,
}

/// What a queen is started with. `Config::default()` is a queen for this machine alone.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Any other address than this machine's own needs a token
    #[arg(long, visible_alias = "host", value_name = "ADDRESS", value_parser = host)]
    #[serde(deserialize_with = "host_in_a_file")]
    pub listen_host: IpAddr,
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
    /// Hosts that requests may name where no token is needed, beside localhost and this machine's loopback addresses
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
    /// Where the queue and everything else that lasts is kept [default: rbee in the user's directory for data]
    #[arg(long, value_name = "PATH")]
    pub data_dir: PathBuf,
    /// The lasting name of this queen
    #[arg(long, value_name = "NAME")]
    pub name: Option<QueenId>,
    /// What a recorded job survives: the death of the process (normal), or also a power cut (full)
    #[arg(long, value_name = "normal|full", value_parser = named::<Durability>)]
    pub durability: Durability,
    /// How long the records of ended jobs are kept
    #[arg(long, value_name = "DURATION")]
    pub keep_ended: HumanDuration,
    /// The time between two backups of the queue, in backups in data_dir
    #[arg(long, value_name = "DURATION")]
    pub backup_interval: HumanDuration,
    /// How many backups are kept; 0 makes none
    #[arg(long, value_name = "NUMBER")]
    pub backups_kept: usize,
    /// Names for models, to be asked for instead of their references
    #[arg(long, value_name = "{NAME: REFERENCE, …}")]
    pub models: Yaml<BTreeMap<String, String>>,
    /// Where models are kept that are fetched to this machine [default: models-fetched in data_dir]
    #[arg(long, value_name = "PATH")]
    pub models_dir: Option<PathBuf>,
    /// What they may take on the disk; those used longest ago make room
    #[arg(long, value_name = "SIZE")]
    pub models_budget: Option<ByteSize>,
    /// Where the hub's models are kept [default: the place that other tools share]
    #[arg(long, value_name = "PATH")]
    pub hub_cache: Option<PathBuf>,
    /// The address of the hub
    #[arg(long, value_name = "TEXT")]
    pub hub_endpoint: Option<String>,
    /// A file with the token that you are known to the hub by
    #[arg(long, value_name = "PATH")]
    pub hub_token_file: Option<PathBuf>,
    /// Ask no hub
    #[arg(long, value_name = "true|false", action = Set)]
    pub offline: bool,
    /// Offer the small model that comes with this program, as bee-tiny
    #[arg(long, value_name = "true|false", action = Set)]
    pub bundled_model: bool,
    /// Run workers on this machine
    #[arg(long, value_name = "processes|daemon|inside|off", value_parser = named::<Embedded>)]
    pub local_hive: Embedded,
    /// The program of local_hive: daemon; without it the rbee-hive beside this program
    #[arg(long, value_name = "PATH")]
    pub hive_program: Option<PathBuf>,
    /// Other engines than our own for models, like llama-server
    #[arg(long, value_name = "[{name: NAME, models: [PATTERN], command: LINE, …}, …]")]
    pub engines: Yaml<Vec<Checked<EngineCommand>>>,
    /// Runs that a new worker does at once, where its engine can
    #[arg(long, value_name = "NUMBER")]
    pub worker_slots: u32,
    /// What decides where jobs go: a script (.rhai) or rules (.yaml); read again whenever it changes
    #[arg(long, value_name = "PATH")]
    pub policy: Option<PathBuf>,
    /// Decisions that are kept so that they can be explained
    #[arg(long, value_name = "NUMBER")]
    pub decisions_kept: usize,
    /// The most recorded jobs that one replay of a policy takes
    #[arg(long, value_name = "NUMBER")]
    pub replay_jobs: usize,
    /// How long one replay of a policy may take
    #[arg(long, value_name = "DURATION")]
    pub replay_limit: HumanDuration,
    /// Directories whose models clients may name by their file
    #[arg(long, value_name = "[PATH, …]")]
    pub file_roots: Yaml<Vec<PathBuf>>,
    /// Take the text of a control token in a bare prompt for that token; without it text stays text
    #[arg(long, value_name = "true|false", action = Set)]
    pub raw_completions: bool,
    /// Other machines, whose rbee-hive runs already
    #[arg(long, value_name = "[{id: NAME, url: URL, token_file: PATH, labels: TEXT}, …]")]
    pub hives: Yaml<Vec<HiveEntry>>,
    /// The program of a worker; without it this one is its own
    #[arg(long, value_name = "PATH")]
    pub worker_program: Option<PathBuf>,
    /// How long hives and workers go on without a sign of life from the queen
    #[arg(long, value_name = "DURATION")]
    pub lease: HumanDuration,
    /// How long jobs have to end when the queen goes down
    #[arg(long, value_name = "DURATION")]
    pub drain_grace: HumanDuration,
    /// Lines for people, or one JSON object a line
    #[arg(long, value_name = "text|json", value_parser = named::<LogFormat>)]
    pub log_format: LogFormat,
    /// error, warn, info, debug or trace; also by part: info,rbee_core=debug
    #[arg(long, value_name = "TEXT")]
    pub log_level: String,
    /// Waiting jobs from which on a new one is accepted only if a worker is idle or its tenant has less than its share;
    /// none at twice as many
    #[arg(long, value_name = "NUMBER")]
    pub queue_capacity: usize,
    /// How long an interactive job may wait in the queue
    #[arg(long, value_name = "DURATION")]
    pub interactive_wait: HumanDuration,
    /// How long a batch job may wait in the queue
    #[arg(long, value_name = "DURATION")]
    pub batch_wait: HumanDuration,
    /// After this many interactive jobs in a row a waiting batch job gets its turn
    #[arg(long, value_name = "NUMBER")]
    pub interactive_per_batch: u32,
    /// How long a job may run, where the request does not say
    #[arg(long, value_name = "DURATION")]
    pub job_timeout: HumanDuration,
    /// The longest that a request may ask for
    #[arg(long, value_name = "DURATION")]
    pub max_job_timeout: HumanDuration,
    /// Tries after the first one
    #[arg(long, value_name = "NUMBER")]
    pub retries: u32,
    /// The delay before the first retry; it doubles with each
    #[arg(long, value_name = "DURATION")]
    pub retry_delay: HumanDuration,
    /// The longest delay before a retry
    #[arg(long, value_name = "DURATION")]
    pub max_retry_delay: HumanDuration,
    /// Faults in a row after which a worker gets no more jobs until a probe succeeds
    #[arg(long, value_name = "NUMBER")]
    pub worker_faults: u32,
    /// A worker that gives nothing for this long has stalled
    #[arg(long, value_name = "DURATION")]
    pub stall_timeout: HumanDuration,
    /// A worker that is silent for this long, and for longer than usual, gets no jobs until it is known to be well, and
    /// its streams go on elsewhere
    #[arg(long, value_name = "DURATION")]
    pub suspect_after: HumanDuration,
    /// Ends of the queen in a row that a job may survive while it runs, without more of its answer recorded
    #[arg(long, value_name = "NUMBER")]
    pub restarts: u32,
    /// How long a worker may take from its spawn until it is ready
    #[arg(long, value_name = "DURATION")]
    pub spawn_timeout: HumanDuration,
    /// How long a download may go without progress
    #[arg(long, value_name = "DURATION")]
    pub provision_silence: HumanDuration,
    /// How long an attempt or a worker that is told to end may take before it is done by force
    #[arg(long, value_name = "DURATION")]
    pub abort_grace: HumanDuration,
    /// How often waiting jobs are matched with workers although nothing changed
    #[arg(long, value_name = "DURATION")]
    pub autoscale_interval: HumanDuration,
    /// How long a model's queue lasts before one more worker is started for it, where there is room
    #[arg(long, value_name = "DURATION")]
    pub scale_up_after: HumanDuration,
    /// How long a worker that was started so is idle before it is stopped again
    #[arg(long, value_name = "DURATION")]
    pub scale_back_after: HumanDuration,
    /// How long any worker may be idle before it is stopped [default: for ever]
    #[arg(long, value_name = "DURATION")]
    pub keep_alive: Option<HumanDuration>,
    /// The same for single models, by alias or reference; a repository means every commit and file of it
    #[arg(long, value_name = "{NAME: DURATION, …}")]
    pub model_keep_alive: Yaml<BTreeMap<String, HumanDuration>>,
    /// How long a worker stays loaded at least before it makes room for another model
    #[arg(long, value_name = "DURATION")]
    pub min_loaded: HumanDuration,
    /// Memory that the workers of a machine may take together, by its name [default: all that its devices have]
    #[arg(long, value_name = "{NAME: SIZE, …}")]
    pub hive_memory: Yaml<BTreeMap<String, ByteSize>>,
    /// Whom the queen serves: home (tenants are optional) or platform (every request needs a tenant's key, and the
    /// operator a token)
    #[arg(long, value_name = "home|platform", value_parser = named::<Mode>)]
    pub mode: Mode,
    /// The limits that hold where a tenant sets none of its own
    #[arg(long, value_name = "{LIMIT: NUMBER, …}")]
    pub default_limits: Yaml<Checked<TenantLimits>>,
    /// Whether tenants may name models by reference, beside aliases and the models of their limits; public: the hub is
    /// asked without a token. Anything but off needs tenant_models_budget
    #[arg(long, value_name = "off|public|with_hub_token", value_parser = named::<TenantReferences>)]
    pub tenant_references: TenantReferences,
    /// What the models that only tenants' references asked for may take on the disk of each machine; those used longest
    /// ago make room
    #[arg(long, value_name = "SIZE")]
    pub tenant_models_budget: Option<ByteSize>,
    /// Who shares the queen, with their limits; their keys are issued with the keeper
    #[arg(long, value_name = "{NAME: {LIMIT: NUMBER, …}, …}")]
    pub tenants: Yaml<BTreeMap<TenantId, Checked<TenantLimits>>>,
    /// How often every hive is asked how it is
    #[arg(long, value_name = "DURATION")]
    pub probe_interval: HumanDuration,
    /// How long it may take to answer
    #[arg(long, value_name = "DURATION")]
    pub probe_timeout: HumanDuration,
    /// How long a hive may be offline before its jobs go elsewhere
    #[arg(long, value_name = "DURATION")]
    pub hive_lost_after: HumanDuration,
    /// How long the store holds this queen's rows for it without a sign of life
    #[arg(long, value_name = "DURATION")]
    pub owner_lease: HumanDuration,
    /// How long the events of an ended job stay in memory
    #[arg(long, value_name = "DURATION")]
    pub events_kept: HumanDuration,
    /// Memory for the events of all jobs
    #[arg(long, value_name = "SIZE")]
    pub events_bytes: ByteSize,
    /// The longest answer of one job
    #[arg(long, value_name = "SIZE")]
    pub max_answer_bytes: ByteSize,
    /// The longest prompt
    #[arg(long, value_name = "SIZE")]
    pub max_prompt_bytes: ByteSize,
    /// The most inputs of one request for vectors
    #[arg(long, value_name = "NUMBER")]
    pub max_embed_inputs: usize,
    /// When the text of a request may stay in the store
    #[arg(long, value_name = "until_done|never|always", value_parser = named::<KeepRequests>)]
    pub keep_requests: KeepRequests,
    /// Continue a stream also where another machine would have said something else
    #[arg(long, value_name = "true|false", action = Set)]
    pub continue_across_numerics: bool,
}

impl Config {
    /// Every path, by its key.
    fn paths(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let optional = [
            ("token_file", &mut self.token_file),
            ("tls_cert", &mut self.tls_cert),
            ("tls_key", &mut self.tls_key),
            ("models_dir", &mut self.models_dir),
            ("hub_cache", &mut self.hub_cache),
            ("hub_token_file", &mut self.hub_token_file),
            ("hive_program", &mut self.hive_program),
            ("policy", &mut self.policy),
            ("worker_program", &mut self.worker_program),
        ];
        let hives = self.hives.0.iter_mut().map(|hive| ("hives", &mut hive.token_file));
        let optional = optional.into_iter().chain(hives);
        let roots = self.file_roots.0.iter_mut().map(|root| ("file_roots", root));
        let given = optional.filter_map(|(key, path)| Some((key, path.as_mut()?)));
        given.chain(roots).chain([("data_dir", &mut self.data_dir)])
    }
}

#[cfg(test)]
mod tests;
