//! What can be configured, and from where it comes: flags over variables over a file over defaults.
//!
//! Nothing is passed over: what is unknown or not allowed stops the start, with the key, where it came from, the value
//! and what is allowed.

mod arguments;
mod by_name;
mod engines;
mod hives;
mod models;
mod show;
mod sources;
mod table;
mod tenants;
mod value;
mod yaml;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use etcetera::BaseStrategy;
use rbee_core::{
    Durability, Error, ErrorKind, Mode, QueenId, Result, Settings, TenantId, TenantLimits,
};
use rbee_transport_http::{
    Token,
    server::{AllowedHost, AllowedOrigin, LogFormat, LogStyle},
    wire::{QUEEN_PORT, engine::Engine},
};

pub use arguments::{Arguments, Wish};
pub use hives::HiveEntry;
pub use models::ModelSettings;
pub use sources::{Loaded, Origin, Sources};
use yaml::{Node, Value};

/// The largest configuration or token file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// How workers run on the queen's own machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where to listen. 127.0.0.1.
    pub listen_host: IpAddr,
    /// The port; 0 lets the operating system choose. 7833.
    pub listen_port: u16,
    /// The token that clients must send.
    pub token: Option<Token>,
    /// A file with it.
    pub token_file: Option<PathBuf>,
    /// Hosts that requests may name where no token is needed, beside those of the loopback interface.
    pub allow_hosts: Vec<AllowedHost>,
    /// Origins of the web pages that may use the API.
    pub allow_origins: Vec<AllowedOrigin>,
    /// `/metrics` needs no token.
    pub open_metrics: bool,
    /// Certificates in PEM.
    pub tls_cert: Option<PathBuf>,
    /// Their private key in PEM.
    pub tls_key: Option<PathBuf>,
    /// Where everything that lasts is kept. `rbee` in the platform's directory for data.
    pub data_dir: PathBuf,
    /// The lasting name of the queen; one is made and kept in the data directory where there is none.
    pub name: Option<QueenId>,
    /// What a recorded job survives.
    pub durability: Durability,
    /// How long the records of ended jobs are kept. 7 days.
    pub keep_ended: Duration,
    /// The time between two backups of the queue. An hour.
    pub backup_interval: Duration,
    /// How many backups are kept; 0 makes none. 3.
    pub backups_kept: usize,
    /// Names for models.
    pub models: BTreeMap<String, String>,
    /// Where models come from, and where they are kept.
    pub model_files: ModelSettings,
    /// The model in this program is offered as `bee-tiny`.
    pub bundled_model: bool,
    /// How workers run on this machine.
    pub local_hive: Embedded,
    /// The program of a hive that is a daemon.
    pub hive_program: Option<PathBuf>,
    /// Other engines than our own.
    pub engines: Vec<Engine>,
    /// Runs that a new worker does at once, where its engine can. 4.
    pub worker_slots: u32,
    /// The policy that decides where jobs go; none for the built-in one, and in the mode platform.
    pub policy: Option<PathBuf>,
    /// Directories whose models clients may name by their file.
    pub file_roots: Vec<PathBuf>,
    /// Take the text of a control token in a bare prompt for that token. No.
    pub raw_completions: bool,
    /// Tenants that are set up at the start, with their limits.
    pub tenants: BTreeMap<TenantId, TenantLimits>,
    /// Other machines.
    pub hives: Vec<HiveEntry>,
    /// The program of a worker.
    pub worker_program: Option<PathBuf>,
    /// How long hives and workers go on without a sign of life. 90 seconds.
    pub lease: Duration,
    /// How long jobs have to end when the queen goes down. 30 seconds.
    pub drain_grace: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are.
    pub log_level: String,
    /// The settings of the core.
    pub settings: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listen_port: QUEEN_PORT,
            token: None,
            token_file: None,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            open_metrics: false,
            tls_cert: None,
            tls_key: None,
            data_dir: PathBuf::new(),
            name: None,
            durability: Durability::default(),
            keep_ended: Duration::from_secs(7 * 24 * 3600),
            backup_interval: Duration::from_secs(3600),
            backups_kept: 3,
            models: BTreeMap::new(),
            model_files: ModelSettings::default(),
            bundled_model: true,
            local_hive: Embedded::default(),
            hive_program: None,
            engines: Vec::new(),
            worker_slots: 4,
            policy: None,
            file_roots: Vec::new(),
            raw_completions: false,
            tenants: BTreeMap::new(),
            hives: Vec::new(),
            worker_program: None,
            lease: Duration::from_secs(90),
            drain_grace: Duration::from_secs(30),
            log_format: LogFormat::default(),
            log_level: "info".into(),
            settings: Settings::default(),
        }
    }
}

impl Config {
    /// What is logged, and how.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for what is no level.
    pub fn log_style(&self) -> Result<LogStyle> {
        LogStyle::new(self.log_format, &*self.log_level)
    }

    /// The token that clients must send, from wherever it is kept.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where its file cannot be read, or holds something else.
    pub fn client_token(&self) -> Result<Option<Token>> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(file)) => read_token(file).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Checks what belongs together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that says what does not fit.
    pub fn check(&self) -> Result<()> {
        self.settings.validate()?;
        if self.token.is_some() && self.token_file.is_some() {
            return wrong("token and token_file are both given; keep one of them");
        }
        let token = self.client_token()?;
        if token.is_none() && !self.listen_host.is_loopback() {
            return wrong(format!(
                "listen_host is {}, which other machines can reach, and there is no token; make one with \
                 `(umask 077; openssl rand -hex 32 > queen.token)` and give it with --token-file queen.token, or \
                 listen on 127.0.0.1",
                self.listen_host
            ));
        }
        if self.settings.mode == Mode::Platform {
            if token.is_none() {
                return wrong(
                    "mode is platform, and there is no token: a tenant that sends no key would be the operator; make \
                     one with `(umask 077; openssl rand -hex 32 > queen.token)` and give it with token_file \
                     (--token-file queen.token) or the variable RBEE_TOKEN",
                );
            }
            if let Some(policy) = &self.policy {
                return wrong(format!(
                    "policy is {}, and mode is platform, whose policy is built in; take one of them out",
                    policy.display()
                ));
            }
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return wrong("tls_cert is given without tls_key; TLS needs both"),
            (None, Some(_)) => return wrong("tls_key is given without tls_cert; TLS needs both"),
            _ => {}
        }
        for (name, time, least) in [("lease", self.lease, 1), ("drain_grace", self.drain_grace, 0)]
        {
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(24 * 3600));
            if time < least || time > most {
                return wrong(format!("{name} is {time:?}; allowed is {least:?} to {most:?}"));
            }
        }
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(365 * 24 * 3600));
        if self.backup_interval < least || self.backup_interval > most {
            return wrong(format!(
                "backup_interval is {:?}; allowed is 1 s to 365 days (backups_kept: 0 makes none)",
                self.backup_interval
            ));
        }
        if self.backups_kept > 1_000 {
            return wrong(format!("backups_kept is {}; allowed is 0 to 1000", self.backups_kept));
        }
        if self.lease <= self.settings.hive_lost_after {
            return wrong(format!(
                "lease is {:?}; allowed is more than hive_lost_after, {:?}, because a hive that ends before it is \
                 given up takes its jobs along",
                self.lease, self.settings.hive_lost_after
            ));
        }
        if !(1..=1_024).contains(&self.worker_slots) {
            return wrong(format!("worker_slots is {}; allowed is 1 to 1024", self.worker_slots));
        }
        if self.local_hive == Embedded::Daemon && !self.engines.is_empty() {
            return wrong(
                "engines are for workers that the queen's own process starts; with local_hive: daemon give them to \
                 rbee-hive",
            );
        }
        self.log_style()?;
        if let Some(hive) = table::names_twice(&self.hives) {
            return wrong(format!("hives has {} twice; each needs a name of its own", hive.id));
        }
        for hive in &self.hives {
            if let Some(file) = &hive.token_file {
                read_token(file)
                    .map_err(|error| error.context(format_args!("hives: {}", hive.id)))?;
            }
        }
        for (name, model) in &self.models {
            let parsed = model.parse::<rbee_core::ModelRef>();
            parsed.map_err(|error| error.context(format_args!("models: {name}")))?;
        }
        Ok(())
    }
}

impl Config {
    /// What to say of files with secrets that other users of this machine can read, by the key that names each.
    pub(crate) fn exposed_secrets(&self) -> Vec<String> {
        let hives = self
            .hives
            .iter()
            .filter_map(|hive| Some(("hives: token_file", hive.token_file.as_ref()?)));
        let own = [
            ("token_file", &self.token_file),
            ("hub_token_file", &self.model_files.hub_token_file),
            ("tls_key", &self.tls_key),
        ];
        let own = own.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)));
        own.chain(hives)
            .filter_map(|(key, path)| {
                Some(format!("{key}: {}", rbee_core::private_files::exposed(path)?))
            })
            .collect()
    }
}

fn wrong<T>(message: impl Into<std::borrow::Cow<'static, str>>) -> Result<T> {
    Err(Error::new(ErrorKind::Config, message))
}

/// `rbee` in the platform's directory for data.
///
/// # Errors
/// [`ErrorKind::Config`] where there is no home directory.
pub fn default_data_dir() -> Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(|cause| {
        let message = "there is no home directory to keep the queue in; name one with --data-dir";
        Error::new(ErrorKind::Config, message).with_source(cause)
    })?;
    Ok(base.data_dir().join("rbee"))
}

/// The token in this file: its first line.
pub(crate) fn read_token(file: &Path) -> Result<Token> {
    Token::from_file(file)
}

fn read_bounded(file: &Path) -> Result<String> {
    use std::io::Read;
    let wrong = |cause: std::io::Error| {
        Error::new(ErrorKind::Config, format!("{}: {cause}", file.display())).with_source(cause)
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(wrong)?;
    opened.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(wrong(std::io::Error::other(format!("larger than {MOST_BYTES} bytes"))));
    }
    Ok(text)
}

fn token_of(node: &Node) -> std::result::Result<Token, String> {
    match &node.value {
        Value::Scalar { text, .. } => {
            text.trim().parse().map_err(|error: Error| error.message().to_owned())
        }
        Value::List(_) | Value::Map(_) => Err("it is not text".into()),
    }
}

#[cfg(test)]
mod tests;
