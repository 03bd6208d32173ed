//! The command line of the daemon.

use std::{
    env::VarError,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    Parser,
    error::{ContextKind, ContextValue},
};
use etcetera::BaseStrategy;
use rbee_core::{
    Error, ErrorKind, HiveId, Result,
    models::{CachePool, CacheType, ModelStore, StoreOptions},
};
use rbee_transport_http::{
    LocalHive, ProcessHive, Program, SharedToken, Token, TokenFile,
    server::{
        ByteSize, HumanDuration, ListenHost, LogFormat, LogStyle, TlsFiles, allowed_values,
        hostname, quoted, warn_of_exposed,
    },
    wire,
    wire::engine::EngineCommand,
};

use crate::PROGRAM;

/// What `--help` says after the flags.
const AFTER_HELP: &str = "\
Every flag except --file-root, --socket, --detach and --relay can be set with a variable: --models-budget is
RBEE_HIVE_MODELS_BUDGET. A flag overrides a variable. RBEE_HIVE_TOKEN is the token itself.

A DURATION has a unit: 250ms, 90s, 5m, 1h30m or 7d; a number alone is seconds. A SIZE is a number of bytes, or has a unit:
64MiB, 1GiB or 500MB.

SIGTERM and Ctrl-C stop the workers and end it; on SIGHUP it reads the token file and the files of TLS again.

Exit codes:
    0  it was stopped
    1  something failed
    2  a flag, a variable or a file that they name is wrong
   75  another program has the port

Example: a hive that queens on other machines can reach, with a certificate for its name
    (umask 077; openssl rand -hex 32 > hive.token)
    openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout hive.key -out hive.pem -subj /CN=box \\
        -addext subjectAltName=DNS:box
    rbee-hive --host 0.0.0.0 --token-file hive.token --tls-cert hive.pem --tls-key hive.key --models-budget 200GiB";

/// The agent of one machine: starts and stops workers, and reports the machine's state. A queen controls it.
#[derive(Debug, Parser)]
#[command(name = "rbee-hive", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Args {
    /// The hive's name; by default the machine's name
    #[arg(long, env = "RBEE_HIVE_ID", hide_env = true, value_name = "NAME")]
    id: Option<HiveId>,
    /// The address that it and its workers listen on; localhost is 127.0.0.1 and ::1, and 127.0.0.1 for workers
    #[arg(
        long,
        env = "RBEE_HIVE_HOST",
        hide_env = true,
        value_name = "ADDRESS",
        default_value_t = ListenHost::Localhost
    )]
    pub(crate) host: ListenHost,
    /// The port it listens on; 0 lets the operating system choose
    #[arg(
        long,
        env = "RBEE_HIVE_PORT",
        hide_env = true,
        value_name = "PORT",
        default_value_t = wire::HIVE_PORT
    )]
    pub(crate) port: u16,
    /// Listen on this Unix socket, for a queen that comes through an SSH connection, instead of an address; the workers
    /// listen on sockets in the state directory
    #[arg(long, value_name = "FILE", conflicts_with_all = ["host", "port"])]
    pub(crate) socket: Option<PathBuf>,
    /// Find the hive that runs in the state directory, or start one in the background that listens on a socket there;
    /// print one line of JSON about it, and end. Arguments after -- are for that hive
    #[arg(long, requires = "state_dir", conflicts_with = "relay")]
    pub(crate) detach: bool,
    /// Carry bytes between the standard input, the standard output, and the socket of the hive in the state directory
    #[arg(long, requires = "state_dir")]
    pub(crate) relay: bool,
    /// The directory for the state of its workers and its token; each hive needs its own. By default it is
    /// rbee/hives/NAME in the data directory, where queens of the same user find the token by themselves
    #[arg(long, env = "RBEE_HIVE_STATE_DIR", hide_env = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// A file with the token that queens must send, `-` for the standard input; else the token in RBEE_HIVE_TOKEN, else
    /// the one in the file `token` in the state directory, which is created if it is missing
    #[arg(long, env = "RBEE_HIVE_TOKEN_FILE", hide_env = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Serve TLS, and let the workers serve it: a file with the certificates in PEM, this machine's own first. They are
    /// for the name by which queens reach it; without TLS everything goes over the network in the clear
    #[arg(
        long,
        env = "RBEE_HIVE_TLS_CERT",
        hide_env = true,
        value_name = "FILE",
        requires = "tls_key",
        conflicts_with = "socket"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of the first certificate, in PEM
    #[arg(
        long,
        env = "RBEE_HIVE_TLS_KEY",
        hide_env = true,
        value_name = "FILE",
        requires = "tls_cert",
        conflicts_with = "socket"
    )]
    tls_key: Option<PathBuf>,
    /// End after this time without a queen, 1s to 1d; without it the daemon never ends by itself
    #[arg(
        long,
        env = "RBEE_HIVE_LEASE",
        hide_env = true,
        value_name = "DURATION",
        value_parser = lease
    )]
    pub(crate) lease: Option<HumanDuration>,
    /// The program of a worker; by default llm-worker-rbee next to this one
    #[arg(long, env = "RBEE_HIVE_WORKER", hide_env = true, value_name = "PROGRAM")]
    worker: Option<PathBuf>,
    /// How long workers continue without this daemon, 1s to 1d
    #[arg(
        long,
        env = "RBEE_HIVE_WORKER_LEASE",
        hide_env = true,
        value_name = "DURATION",
        value_parser = lease,
        default_value = "90s"
    )]
    worker_lease: HumanDuration,
    /// Other engines, as a list in YAML or JSON
    #[arg(long, env = "RBEE_HIVE_ENGINES", hide_env = true, value_name = "FILE")]
    engines: Option<PathBuf>,
    /// The directory for downloaded models; by default in the state directory
    #[arg(long, env = "RBEE_HIVE_MODELS_DIR", hide_env = true, value_name = "DIR")]
    models_dir: Option<PathBuf>,
    /// The maximum disk space for these models; the least recently used ones are removed. By default all of the disk
    #[arg(long, env = "RBEE_HIVE_MODELS_BUDGET", hide_env = true, value_name = "SIZE")]
    models_budget: Option<ByteSize>,
    /// The directory for the hub's models; by default the one that other tools share
    #[arg(long, env = "RBEE_HIVE_HUB_CACHE", hide_env = true, value_name = "DIR")]
    hub_cache: Option<PathBuf>,
    /// A directory in which others may put models: links below it must not lead out of it; can be given several times
    #[arg(long = "file-root", value_name = "DIR")]
    file_roots: Vec<PathBuf>,
    /// CPU threads that a worker uses; by default all cores
    #[arg(long, env = "RBEE_HIVE_THREADS", hide_env = true, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// The maximum length of prompt and answer together, in tokens; by default the model's own limit
    #[arg(long, env = "RBEE_HIVE_CONTEXT", hide_env = true, value_name = "NUMBER")]
    context: Option<u32>,
    /// The tokens whose keys and values a worker of rbee's own engine has memory for; by default 4096 for each run, and
    /// at least the context
    #[arg(long, env = "RBEE_HIVE_CACHE_TOKENS", hide_env = true, value_name = "NUMBER")]
    cache_tokens: Option<NonZeroU32>,
    /// The data type of these keys and values; q8 takes about half the memory of f16, on the processor only
    #[arg(
        long,
        env = "RBEE_HIVE_CACHE_TYPE",
        hide_env = true,
        value_name = "f32|f16|q8",
        default_value = "f16"
    )]
    cache_type: CacheType,
    /// The format of the log, and of the workers' logs: text for people, or json, one object per line
    #[arg(
        long,
        env = "RBEE_HIVE_LOG_FORMAT",
        hide_env = true,
        value_name = "text|json",
        default_value = "text"
    )]
    log_format: LogFormat,
    /// The log level: error, warn, info, debug or trace, and PART=LEVEL after commas
    #[arg(
        long,
        env = "RBEE_HIVE_LOG_LEVEL",
        hide_env = true,
        value_name = "LEVEL",
        default_value = "info"
    )]
    log_level: String,
    /// Arguments for the hive that --detach starts
    #[arg(last = true, value_name = "ARGUMENTS")]
    rest: Vec<String>,
}

/// The maximum size of a token, with room for a line end.
const MOST_TOKEN: u64 = 1 << 10;

/// The variable with the token, if there is no file with it.
const VARIABLE: &str = "RBEE_HIVE_TOKEN";

/// The bounds of both leases.
const LEASES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// A duration with its unit, or a number of seconds.
fn lease(text: &str) -> Result<HumanDuration, String> {
    let (least, most) = LEASES;
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let given = seconds.map(HumanDuration::from).map_or_else(|| text.parse(), Ok);
    given.ok().filter(|given| (least..=most).contains(&**given)).ok_or_else(|| {
        let (least, most) = (HumanDuration::from(least), HumanDuration::from(most));
        format!("{}, from {least} to {most}", HumanDuration::ALLOWED)
    })
}

/// The error about a value that is not allowed, in the form of the queen's errors; `None` if it is another error.
fn refused_value(error: &clap::Error, arguments: &[OsString]) -> Option<Error> {
    if !matches!(error.kind(), clap::error::ErrorKind::ValueValidation) {
        return None;
    }
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.as_str()),
        _ => None,
    };
    // `--lease <DURATION>`
    let (flag, placeholder) = text(ContextKind::InvalidArg)?.split_once(' ')?;
    let placeholder = placeholder.trim_matches(['<', '>']);
    let key = flag.trim_start_matches('-').replace('-', "_");
    let value = text(ContextKind::InvalidValue)?;
    let is_typed = arguments.iter().filter_map(|argument| argument.to_str()).any(|argument| {
        argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let source = match is_typed {
        true => flag.to_owned(),
        false => format!("RBEE_HIVE_{}", key.to_uppercase()),
    };
    let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let allowed = match (key.as_str(), allowed_values(placeholder)) {
        ("lease" | "worker_lease", _) | (_, None) => why,
        (_, Some(allowed)) => allowed.to_owned(),
    };
    let message = match allowed.contains("; allowed ") {
        true => format!("{source}: {allowed}"),
        false => format!("{source}: {key} is {}; allowed is {allowed}", quoted(value)),
    };
    Some(Error::new(ErrorKind::Config, message))
}

fn config(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("{}: {why}", path.display()))
}

impl Args {
    /// Parses the arguments of the process, and its variables.
    ///
    /// # Errors
    /// A value that is not allowed. For any other error, and for `--help`, the process ends.
    pub(crate) fn parse_from_process(arguments: Vec<OsString>) -> Result<Self> {
        Self::try_parse_from(&arguments)
            .map_err(|error| refused_value(&error, &arguments).unwrap_or_else(|| error.exit()))
    }

    /// Checks what can be checked before anything is made.
    pub(crate) fn check(&self) -> Result<()> {
        self.log().map_err(|error| error.context("--log-level"))?;
        self.id()?;
        for root in &self.file_roots {
            rbee_core::models::check_file_root(root)
                .map_err(|error| error.context("--file-root"))?;
        }
        self.engines().map(drop)
    }

    /// The token that queens must show, if one was given.
    pub(crate) fn token(&self) -> Result<Option<Token>> {
        let text = match &self.token_file {
            Some(path) if path.as_os_str() == "-" => {
                let mut line = String::new();
                let read =
                    io::BufRead::read_line(&mut io::stdin().lock().take(MOST_TOKEN), &mut line);
                read.map_err(|cause| config(path, cause))?;
                Some(line)
            }
            Some(path) => {
                if let Some(exposed) = rbee_core::private_files::exposed(path) {
                    tracing::warn!("--token-file: {exposed}");
                }
                let mut text = String::new();
                let read = File::open(path)
                    .and_then(|file| file.take(MOST_TOKEN).read_to_string(&mut text));
                read.map_err(|cause| config(path, cause))?;
                Some(text)
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) => Some(text),
                Err(VarError::NotPresent) => None,
                Err(VarError::NotUnicode(_)) => {
                    return Err(config(Path::new(VARIABLE), "it is not text"));
                }
            },
        };
        let from = self.token_file.as_deref().unwrap_or(Path::new(VARIABLE));
        let parsed = text.map(|text| text.trim().parse::<Token>()).transpose();
        parsed.map_err(|error| error.context(from.display()))
    }

    /// The file with the token, which is read again on SIGHUP; `None` if the token comes from elsewhere.
    pub(crate) fn token_file(&self, token: &SharedToken) -> Option<TokenFile> {
        let path = self.token_file.as_ref().filter(|path| path.as_os_str() != "-")?;
        Some(TokenFile::new(path, token.clone()))
    }

    /// The files of TLS, if the hive has it.
    pub(crate) fn tls(&self) -> Result<Option<TlsFiles>> {
        let (Some(certificates), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        // Workers read them too.
        let absolute = |path: &Path| std::path::absolute(path).map_err(|why| config(path, why));
        let files = TlsFiles::open(&absolute(certificates)?, &absolute(key)?)
            .map_err(|error| error.context("--tls-cert, --tls-key"))?;
        warn_of_exposed("--tls-key", files.key());
        if let Some(warning) = files.validity_warning() {
            tracing::warn!("--tls-cert: {warning}");
        }
        Ok(Some(files))
    }

    /// The level and the format of the log.
    pub(crate) fn log(&self) -> Result<LogStyle> {
        LogStyle::new(self.log_format, &*self.log_level)
    }

    /// The hive itself, whose workers have this TLS.
    pub(crate) fn hive(&self, tls: Option<&TlsFiles>) -> Result<ProcessHive> {
        for root in &self.file_roots {
            rbee_core::models::confine_model_files(root);
        }
        let id = self.id()?;
        let state_dir = match &self.state_dir {
            Some(path) => path.clone(),
            None => data_dir()?.join("rbee").join("hives").join(id.as_str()),
        };
        let models = self.models_dir.clone().unwrap_or_else(|| state_dir.join("models"));
        let options = StoreOptions {
            hub_cache: self.hub_cache.clone(),
            budget: self.models_budget.map(u64::from),
            ..StoreOptions::default()
        };
        let hive = ProcessHive::new(id, state_dir);
        // This comes before a model store is made in it.
        hive.make_state_dir().map_err(|error| error.context("--state-dir"))?;
        let mut hive = hive
            .with_store(ModelStore::open(models, options)?)
            .with_lease(*self.worker_lease)
            .with_bind(self.host.ip())
            .with_log(self.log()?)
            .with_engines(self.engines()?);
        if self.socket.is_some() {
            hive = hive.with_sockets();
        }
        if let Some(files) = tls {
            hive = hive.with_tls(files.certificates(), files.key());
        }
        if let Some(program) = &self.worker {
            hive = hive.with_program(Program::new(program, "llm-worker-rbee"));
        }
        if let Some(threads) = self.threads {
            hive = hive.with_threads(threads);
        }
        if let Some(context) = self.context {
            hive = hive.with_context(context);
        }
        hive = hive.with_cache(CachePool { tokens: self.cache_tokens, kind: self.cache_type });
        Ok(hive)
    }

    /// The hive that `--detach` starts or finds.
    pub(crate) fn detached(&self) -> Result<LocalHive> {
        let program = Program::own(PROGRAM).map_err(|cause| config(Path::new(PROGRAM), cause))?;
        let directory = self.state_dir.clone().unwrap_or_default();
        let mut hive = LocalHive::new(self.id()?, directory)
            .with_socket()
            .with_program(program)
            .with_arguments(self.rest.clone());
        if let Some(lease) = self.lease {
            hive = hive.with_lease(*lease);
        }
        Ok(hive)
    }

    /// The socket that `--relay` connects to.
    pub(crate) fn relayed(&self) -> PathBuf {
        LocalHive::socket(self.state_dir.as_deref().unwrap_or(Path::new("")))
    }

    fn id(&self) -> Result<HiveId> {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let name = || hostname().chars().filter(allowed).take(64).collect::<String>();
        self.id.clone().map_or_else(|| HiveId::new(name()), Ok)
    }

    fn engines(&self) -> Result<Vec<EngineCommand>> {
        let Some(path) = &self.engines else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).map_err(|cause| config(path, cause))?;
        let one_line = serde_saphyr::options! { with_snippet: false };
        // JSON is YAML.
        let engines: Vec<EngineCommand> = serde_saphyr::from_str_with_options(&text, one_line)
            .map_err(|cause| config(path, cause))?;
        engines
            .iter()
            .try_for_each(EngineCommand::validate)
            .map_err(|error| error.context(path.display()))?;
        Ok(engines)
    }
}

fn data_dir() -> Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy().map_err(|cause| {
        let message = format!("there is no home directory ({cause}); give --state-dir");
        Error::new(ErrorKind::Config, message)
    })?;
    Ok(strategy.data_dir())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use wire::hive::HIVE_VARIABLES;

    use super::*;

    #[test]
    fn its_variables_are_those_that_a_queen_knows() {
        let command = Args::command();
        let read = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
        let mut read: Vec<_> = read.chain([VARIABLE]).collect();
        read.sort_unstable();
        assert_eq!(read, HIVE_VARIABLES);
    }

    #[test]
    fn a_lease_is_a_duration_with_its_unit_or_a_number_of_seconds() {
        for (text, seconds) in
            [("90s", 90.0), ("1h30m", 5_400.0), ("2.5", 2.5), ("1", 1.0), ("1d", 86_400.0)]
        {
            assert_eq!(lease(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "0", "999ms", "2d", "-1", "NaN", "inf", "1e300", "soon", "90 s"] {
            assert!(lease(text).unwrap_err().ends_with("from 1s to 1d"), "{text}");
        }
    }
}
