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
mod table;
mod tenants;
mod value;
mod yaml;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
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
    server::{LogFormat, LogStyle},
    wire::{QUEEN_PORT, engine::Engine},
};

pub use arguments::{Arguments, Wish};
pub use hives::HiveEntry;
pub use models::ModelSettings;
use table::{Forms, KEYS, Key};
use value::At;
use yaml::{Node, Value};

/// The largest configuration or token file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Variables of other programs of rbee.
const FOREIGN: [&str; 4] = ["RBEE_CONFIG", "RBEE_HOST", "RBEE_API_KEY", "RBEE_CA_CERT"];

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
            open_metrics: false,
            tls_cert: None,
            tls_key: None,
            data_dir: PathBuf::new(),
            name: None,
            durability: Durability::default(),
            keep_ended: Duration::from_secs(7 * 24 * 3600),
            models: BTreeMap::new(),
            model_files: ModelSettings::default(),
            bundled_model: true,
            local_hive: Embedded::default(),
            hive_program: None,
            engines: Vec::new(),
            worker_slots: 4,
            policy: None,
            file_roots: Vec::new(),
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

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// This line of this file.
    File(PathBuf, usize),
    /// This variable.
    Variable(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    origins: Vec<Origin>,
}

/// Where values are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`, or `RBEE_CONFIG`: a file that must be there.
    pub file: Option<PathBuf>,
    /// A file that is read where it is there.
    pub default_file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags, without their dashes, and their values.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The environment of this process, these flags, and the file that they name or `rbee/queen.yaml` in the user's
    /// directory for configuration.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let base = etcetera::choose_base_strategy().ok();
        Self {
            file: file.or_else(|| std::env::var_os("RBEE_CONFIG").map(PathBuf::from)),
            default_file: base.map(|base| base.config_dir().join("rbee").join("queen.yaml")),
            variables: std::env::vars_os().collect(),
            flags,
        }
    }
}

impl Config {
    /// Reads all sources and checks everything that can be checked without starting.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the key, where it came from, the value and what is allowed.
    pub fn load(sources: &Sources) -> Result<Loaded> {
        let config = Self { data_dir: default_data_dir()?, ..Self::default() };
        let mut loaded = Loaded { config, origins: vec![Origin::Default; KEYS.len()] };
        loaded.read_file(sources)?;
        loaded.read_variables(&sources.variables)?;
        loaded.read_flags(&sources.flags)?;
        loaded.check()?;
        Ok(loaded)
    }

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
    let text = read_bounded(file)?;
    let line = text.lines().next().unwrap_or_default().trim();
    line.parse::<Token>().map_err(|error| error.context(file.display()))
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

impl Loaded {
    /// Where the value of this key came from; `None` where there is no such key.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(table::find(key)?.0)
    }

    fn set(
        &mut self,
        index: usize,
        key: &Key,
        node: &Node,
        base: &Path,
        origin: Origin,
    ) -> Result<()> {
        let at = At { key: key.name, base };
        (key.read)(&mut self.config, node, at).map_err(|why| {
            let origin = match &origin {
                Origin::File(path, _) => Origin::File(path.clone(), why.line),
                other => other.clone(),
            };
            Error::new(ErrorKind::Config, format!("{origin}: {}", why.message))
        })?;
        self.origins[index] = origin;
        Ok(())
    }

    fn read_file(&mut self, sources: &Sources) -> Result<()> {
        let path = match (&sources.file, &sources.default_file) {
            (Some(file), _) => file,
            (None, Some(file)) if file.exists() => file,
            _ => return Ok(()),
        };
        let text = read_bounded(path)?;
        let here = |line: usize| format!("{}:{line}", path.display());
        let root = yaml::parse(&text).map_err(|why| {
            Error::new(ErrorKind::Config, format!("{}: {}", here(why.line), why.message))
        })?;
        let Some(root) = root else { return Ok(()) };
        let Value::Map(entries) = &root.value else {
            return wrong(format!(
                "{}: allowed are lines like `listen_port: 7833`",
                here(root.line)
            ));
        };
        let directory = path.parent().unwrap_or(Path::new(""));
        for entry in entries {
            let in_file = KEYS.iter().filter(|key| key.forms == Forms::All).map(|key| key.name);
            match table::find(&entry.key) {
                Some((_, key)) if key.forms == Forms::Variable => {
                    return wrong(format!(
                        "{}: {} is not allowed in a file that may be copied; use {}_file, or the variable {}",
                        here(entry.line),
                        key.name,
                        key.name,
                        key.variable()
                    ));
                }
                Some((index, key)) => {
                    let origin = Origin::File(path.clone(), entry.line);
                    self.set(index, key, &entry.node, directory, origin)?;
                }
                None => {
                    let what = format!("{}: there is no key {:?}", here(entry.line), entry.key);
                    return wrong(what + perhaps(&entry.key, in_file).as_str());
                }
            }
        }
        Ok(())
    }

    fn read_variables(&mut self, variables: &[(OsString, OsString)]) -> Result<()> {
        let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("RBEE_")) else {
                continue;
            };
            if FOREIGN.contains(&name) {
                continue;
            }
            let Some(index) = known.iter().position(|variable| variable == name) else {
                let what = format!("{name}: there is no such variable");
                return wrong(what + perhaps(name, known.iter().map(String::as_str)).as_str());
            };
            let Some(value) = value.to_str() else {
                return wrong(format!("{name}: the value is not UTF-8"));
            };
            let origin = Origin::Variable(name.into());
            self.set(index, &KEYS[index], &Node::text(value), Path::new(""), origin)?;
        }
        Ok(())
    }

    fn read_flags(&mut self, flags: &[(String, String)]) -> Result<()> {
        for (flag, value) in flags {
            let known = KEYS.iter().enumerate().find(|(_, key)| key.flag() == *flag);
            let Some((index, key)) = known.filter(|(_, key)| key.forms == Forms::All) else {
                return wrong(format!("--{flag}: there is no such flag"));
            };
            let origin = Origin::Flag(format!("--{flag}"));
            self.set(index, key, &Node::text(value), Path::new(""), origin)?;
        }
        Ok(())
    }

    /// Checks the whole, and says of what is wrong where it came from.
    fn check(&self) -> Result<()> {
        self.config.check().map_err(|error| {
            let message = error.message().strip_prefix("setting ").unwrap_or(error.message());
            let word = message.split([' ', ':', '.']).next().unwrap_or_default();
            match self.origin(word) {
                Some(origin) if *origin != Origin::Default => {
                    Error::new(ErrorKind::Config, format!("{origin}: {message}"))
                }
                _ => error.clone(),
            }
        })
    }
}

fn perhaps<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match table::nearest(given, known) {
        Some(meant) => format!("; {meant} perhaps? --help lists them all"),
        None => "; --help lists them all".into(),
    }
}

#[cfg(test)]
mod tests;
