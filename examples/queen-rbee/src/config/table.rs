//! Every key, once: its name, what it is for, and how it is read and shown. Flags, variables, the file, the help and
//! `--print-config` are all made from these rows.

use rbee_core::{Durability, KeepRequests, Mode, TenantReferences};

use super::{
    Config, Embedded, HiveEntry, LogFormat,
    by_name::{ByName, Memory},
    engines::Engines,
    hives::Hives,
    tenants::{Limits, Tenants},
    value::{
        At, File, Files, Host, Kind, ListOf, Maybe, Named, Names, OneOf, Port, QueenName, Size,
        Span, Whole, Words, Wrong, YesNo,
    },
    yaml::Node,
};
use rbee_transport_http::{
    Token,
    server::{AllowedHost, AllowedOrigin},
};

/// Where a key may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forms {
    /// As a flag, a variable and in the file.
    All,
    /// As a variable alone: arguments are seen by everybody on the machine, and files are copied.
    Variable,
}

/// A key.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// What stands for the value in the help.
    pub(super) form: &'static str,
    pub(super) forms: Forms,
    /// A shorter flag.
    pub(super) short: Option<&'static str>,
    pub(super) read: fn(&mut Config, &Node, At<'_>) -> Result<(), Wrong>,
    pub(super) show: fn(&Config) -> String,
}

impl Key {
    /// The flag, without its dashes.
    pub(super) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The environment variable.
    pub(super) fn variable(&self) -> String {
        format!("RBEE_{}", self.name.to_ascii_uppercase())
    }
}

macro_rules! key {
    ($name:literal, $($field:ident).+: $kind:ty, $help:literal) => {
        Key {
            name: $name,
            help: $help,
            form: <$kind as Kind>::FORM,
            forms: Forms::All,
            short: None,
            read: |config, node, at| {
                config.$($field).+ = <$kind as Kind>::read(node, at)?;
                Ok(())
            },
            show: |config| <$kind as Kind>::show(&config.$($field).+),
        }
    };
}

/// Every key, in the order of the help.
pub(super) const KEYS: &[Key] = &[
    Key {
        short: Some("host"),
        ..key!("listen_host", listen_host: Host, "Where to listen. Any other address than this machine's own needs a token")
    },
    Key { short: Some("port"), ..key!("listen_port", listen_port: Port, "The port to listen on") },
    Key {
        forms: Forms::Variable,
        form: "TOKEN",
        ..key!("token", token: Maybe<Secret>, "The token that clients must send")
    },
    key!("token_file", token_file: Maybe<File>, "A file with the token that clients must send"),
    key!("allow_hosts", allow_hosts: ListOf<AllowedHost>, "Hosts that requests may name where no token is needed, beside localhost and this machine's loopback addresses"),
    key!("allow_origins", allow_origins: ListOf<AllowedOrigin>, "Web pages that may use the API, by their origin (CORS) [default: none]"),
    key!("open_metrics", open_metrics: YesNo, "Serve /metrics without the token"),
    key!("tls_cert", tls_cert: Maybe<File>, "Certificates in PEM; with tls_key the API is served over TLS"),
    key!("tls_key", tls_key: Maybe<File>, "The private key of tls_cert, in PEM"),
    key!("data_dir", data_dir: File, "Where the queue and everything else that lasts is kept [default: rbee in the user's directory for data]"),
    key!("name", name: Maybe<QueenName>, "The lasting name of this queen"),
    key!("durability", durability: OneOf<Durability>, "What a recorded job survives: the death of the process (normal), or also a power cut (full)"),
    key!("keep_ended", keep_ended: Span, "How long the records of ended jobs are kept"),
    key!("backup_interval", backup_interval: Span, "The time between two backups of the queue, in backups in data_dir"),
    key!("backups_kept", backups_kept: Whole<usize>, "How many backups are kept; 0 makes none"),
    key!("models", models: Names, "Names for models, to be asked for instead of their references"),
    key!("models_dir", model_files.dir: Maybe<File>, "Where models are kept that are fetched to this machine [default: models-fetched in data_dir]"),
    key!("models_budget", model_files.budget: Maybe<Size>, "What they may take on the disk; those used longest ago make room"),
    key!("hub_cache", model_files.hub_cache: Maybe<File>, "Where the hub's models are kept [default: the place that other tools share]"),
    key!("hub_endpoint", model_files.hub_endpoint: Maybe<Words>, "The address of the hub"),
    key!("hub_token_file", model_files.hub_token_file: Maybe<File>, "A file with the token that you are known to the hub by"),
    key!("offline", model_files.offline: YesNo, "Ask no hub"),
    key!("bundled_model", bundled_model: YesNo, "Offer the small model that comes with this program, as bee-tiny"),
    key!("local_hive", local_hive: OneOf<Embedded>, "Run workers on this machine"),
    key!("hive_program", hive_program: Maybe<File>, "The program of local_hive: daemon; without it the rbee-hive beside this program"),
    key!("engines", engines: Engines, "Other engines than our own for models, like llama-server"),
    key!("worker_slots", worker_slots: Whole<u32>, "Runs that a new worker does at once, where its engine can"),
    key!("policy", policy: Maybe<File>, "What decides where jobs go: a script (.rhai) or rules (.yaml); read again whenever it changes"),
    key!("decisions_kept", settings.decisions_kept: Whole<usize>, "Decisions that are kept so that they can be explained"),
    key!("replay_jobs", settings.replay_jobs: Whole<usize>, "The most recorded jobs that one replay of a policy takes"),
    key!("replay_limit", settings.replay_limit: Span, "How long one replay of a policy may take"),
    key!("file_roots", file_roots: Files, "Directories whose models clients may name by their file"),
    key!("raw_completions", raw_completions: YesNo, "Take the text of a control token in a bare prompt for that token; without it text stays text"),
    key!("hives", hives: Hives, "Other machines, whose rbee-hive runs already"),
    key!("worker_program", worker_program: Maybe<File>, "The program of a worker; without it this one is its own"),
    key!("lease", lease: Span, "How long hives and workers go on without a sign of life from the queen"),
    key!("drain_grace", drain_grace: Span, "How long jobs have to end when the queen goes down"),
    key!("log_format", log_format: OneOf<LogFormat>, "Lines for people, or one JSON object a line"),
    key!("log_level", log_level: Words, "error, warn, info, debug or trace; also by part: info,rbee_core=debug"),
    key!("queue_capacity", settings.queue_capacity: Whole<usize>, "Waiting jobs from which on a new one is accepted only if a worker is idle or its tenant has less than its share; none at twice as many"),
    key!("interactive_wait", settings.interactive_wait: Span, "How long an interactive job may wait in the queue"),
    key!("batch_wait", settings.batch_wait: Span, "How long a batch job may wait in the queue"),
    key!("interactive_per_batch", settings.interactive_per_batch: Whole<u32>, "After this many interactive jobs in a row a waiting batch job gets its turn"),
    key!("job_timeout", settings.job_timeout: Span, "How long a job may run, where the request does not say"),
    key!("max_job_timeout", settings.max_job_timeout: Span, "The longest that a request may ask for"),
    key!("retries", settings.retries: Whole<u32>, "Tries after the first one"),
    key!("retry_delay", settings.retry_delay: Span, "The delay before the first retry; it doubles with each"),
    key!("max_retry_delay", settings.max_retry_delay: Span, "The longest delay before a retry"),
    key!("worker_faults", settings.worker_faults: Whole<u32>, "Faults in a row after which a worker gets no more jobs until a probe succeeds"),
    key!("stall_timeout", settings.stall_timeout: Span, "A worker that gives nothing for this long has stalled"),
    key!("suspect_after", settings.suspect_after: Span, "A worker that is silent for this long, and for longer than usual, gets no jobs until it is known to be well, and its streams go on elsewhere"),
    key!("restarts", settings.restarts: Whole<u32>, "Ends of the queen in a row that a job may survive while it runs, without more of its answer recorded"),
    key!("spawn_timeout", settings.spawn_timeout: Span, "How long a worker may take from its spawn until it is ready"),
    key!("provision_silence", settings.provision_silence: Span, "How long a download may go without progress"),
    key!("abort_grace", settings.abort_grace: Span, "How long an attempt or a worker that is told to end may take before it is done by force"),
    key!("optimise_interval", settings.optimise_interval: Span, "How often waiting jobs are matched with workers although nothing changed"),
    key!("scale_up_after", settings.scale_up_after: Span, "How long a model's queue lasts before one more worker is started for it, where there is room"),
    key!("scale_back_after", settings.scale_back_after: Span, "How long a worker that was started so is idle before it is stopped again"),
    key!("keep_alive", settings.keep_alive: Maybe<Span>, "How long any worker may be idle before it is stopped [default: for ever]"),
    key!("model_keep_alive", settings.model_keep_alive: ByName<Span>, "The same for single models, by alias or reference; a repository means every commit and file of it"),
    key!("min_loaded", settings.min_loaded: Span, "How long a worker stays loaded at least before it makes room for another model"),
    key!("hive_memory", settings.hive_memory: ByName<Memory>, "Memory that the workers of a machine may take together, by its name [default: all that its devices have]"),
    key!("mode", settings.mode: OneOf<Mode>, "Whom the queen serves: home (tenants are optional) or platform (every request needs a tenant's key, and the operator a token)"),
    key!("default_limits", settings.default_limits: Limits, "The limits that hold where a tenant sets none of its own"),
    key!("tenant_references", settings.tenant_references: OneOf<TenantReferences>, "Whether tenants may name models by reference, beside aliases and the models of their limits; public: the hub is asked without a token. Anything but off needs tenant_models_budget"),
    key!("tenant_models_budget", settings.tenant_models_budget: Maybe<Memory>, "What the models that only tenants' references asked for may take on the disk of each machine; those used longest ago make room"),
    key!("tenants", tenants: Tenants, "Who shares the queen, with their limits; their keys are issued with the keeper"),
    key!("probe_interval", settings.probe_interval: Span, "How often every hive is asked how it is"),
    key!("probe_timeout", settings.probe_timeout: Span, "How long it may take to answer"),
    key!("hive_lost_after", settings.hive_lost_after: Span, "How long a hive may be offline before its jobs go elsewhere"),
    key!("owner_lease", settings.owner_lease: Span, "How long the store holds this queen's rows for it without a sign of life"),
    key!("events_kept", settings.events_kept: Span, "How long the events of an ended job stay in memory"),
    key!("events_bytes", settings.events_bytes: Size, "Memory for the events of all jobs"),
    key!("max_answer_bytes", settings.max_answer_bytes: Size, "The longest answer of one job"),
    key!("max_prompt_bytes", settings.max_prompt_bytes: Size, "The longest prompt"),
    key!("max_embed_inputs", settings.max_embed_inputs: Whole<usize>, "The most inputs of one request for vectors"),
    key!("keep_requests", settings.keep_requests: OneOf<KeepRequests>, "When the text of a request may stay in the store"),
    key!("continue_across_numerics", settings.continue_across_numerics: YesNo, "Continue a stream also where another machine would have said something else"),
];

/// The key of this name.
pub(super) fn find(name: &str) -> Option<(usize, &'static Key)> {
    KEYS.iter().enumerate().find(|(_, key)| key.name == name)
}

/// The name that is meant most likely, of those that are known.
pub(super) fn nearest<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let far = |name: &'a str| (strsim::osa_distance(given, name), name);
    let (distance, best) = known.into_iter().map(far).min_by_key(|(distance, _)| *distance)?;
    (distance <= (given.len() / 3).max(1)).then_some(best)
}

impl Named for Durability {
    const FORM: &'static str = "normal|full";
    const ALL: &'static [(&'static str, Self)] =
        &[("normal", Self::ProcessCrash), ("full", Self::PowerLoss)];
}

impl Named for KeepRequests {
    const FORM: &'static str = "until_done|never|always";
    const ALL: &'static [(&'static str, Self)] =
        &[("until_done", Self::UntilDone), ("never", Self::Never), ("always", Self::Always)];
}

impl Named for LogFormat {
    const FORM: &'static str = "text|json";
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Named for Embedded {
    const FORM: &'static str = "processes|daemon|inside|off";
    const ALL: &'static [(&'static str, Self)] = &[
        ("processes", Self::Processes),
        ("daemon", Self::Daemon),
        ("inside", Self::Inside),
        ("off", Self::Off),
    ];
}

/// A token; never shown.
struct Secret;

impl Kind for Secret {
    type Value = Token;
    const FORM: &'static str = "TOKEN";
    const ALLOWED: &'static str = "a token";

    fn parse(text: &str, _: At<'_>) -> Option<Token> {
        text.parse().ok()
    }
    fn show(_: &Token) -> String {
        "(hidden)".into()
    }
    fn read(node: &Node, at: At<'_>) -> Result<Token, Wrong> {
        super::token_of(node).map_err(|why| Wrong {
            line: node.line,
            message: format!("{} is not usable: {why}", at.key),
        })
    }
}

/// The hives that are configured, by name.
pub(super) fn names_twice(hives: &[HiveEntry]) -> Option<&HiveEntry> {
    hives
        .iter()
        .enumerate()
        .find(|(index, hive)| hives[..*index].iter().any(|earlier| earlier.id == hive.id))
        .map(|(_, hive)| hive)
}
