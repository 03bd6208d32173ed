//! The command line of the daemon.

use std::{
    env::VarError,
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;
use etcetera::BaseStrategy;
use rbee_core::{
    Error, ErrorKind, HiveId, Result,
    models::{ModelStore, StoreOptions},
};
use rbee_transport_http::{
    ProcessHive, SharedToken, Token, TokenFile,
    server::{ListenHost, LogFormat, LogStyle, hostname},
    wire,
    wire::engine::EngineCommand,
};

/// The agent of one machine: starts and stops workers, and reports the machine's state. A queen controls it.
#[derive(Debug, Parser)]
#[command(name = "rbee-hive", version)]
pub(crate) struct Args {
    /// The hive's name; by default the machine's name
    #[arg(long)]
    id: Option<HiveId>,
    /// The address that it and its workers listen on; localhost is 127.0.0.1 and ::1, and 127.0.0.1 for workers
    #[arg(long, default_value_t = ListenHost::Localhost)]
    pub(crate) host: ListenHost,
    /// The port it listens on
    #[arg(long, default_value_t = wire::HIVE_PORT)]
    pub(crate) port: u16,
    /// The directory for the state of its workers and its token; each hive needs its own. By default it is
    /// rbee/hives/ID in the data directory, where queens of the same user find the token by themselves
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// A file with the token that queens must send, `-` for the standard input; else the token in RBEE_HIVE_TOKEN, else
    /// the one in the file `token` in the state directory, which is created if it is missing
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// End after this many seconds without a queen; without it the daemon never ends by itself
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) lease: Option<Duration>,
    /// The program of a worker; by default llm-worker-rbee next to this one
    #[arg(long, value_name = "PROGRAM")]
    worker: Option<PathBuf>,
    /// How many seconds workers continue without this daemon
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "90")]
    worker_lease: Duration,
    /// Other engines, as a list in YAML or JSON
    #[arg(long, value_name = "FILE")]
    engines: Option<PathBuf>,
    /// The directory for downloaded models; by default in the state directory
    #[arg(long, value_name = "DIR")]
    models_dir: Option<PathBuf>,
    /// The maximum disk space for these models, in bytes; the least recently used ones are removed
    #[arg(long, value_name = "BYTES")]
    models_budget: Option<u64>,
    /// The directory for the hub's models; by default the one that other tools share
    #[arg(long, value_name = "DIR")]
    hub_cache: Option<PathBuf>,
    /// A directory in which others may put models: links below it must not lead out of it; can be given several times
    #[arg(long = "file-root", value_name = "DIR")]
    file_roots: Vec<PathBuf>,
    /// CPU threads that a worker uses; by default all cores
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// The maximum length of prompt and answer together, in tokens; by default the model's own limit
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// The format of the log, and of the workers' logs: text for people, or json, one object per line
    #[arg(long, value_name = "text|json", default_value = "text")]
    log_format: LogFormat,
    /// The log level: error, warn, info, debug or trace, and PART=LEVEL after commas
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

/// The maximum size of a token, with room for a line end.
const MOST_TOKEN: u64 = 1 << 10;

/// The variable with the token, if there is no file with it.
const VARIABLE: &str = "RBEE_HIVE_TOKEN";

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not allowed; allowed is a number of seconds from 1 to 86400");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if (1.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wrong())
    }
}

fn config(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("{}: {why}", path.display()))
}

impl Args {
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

    /// The level and the format of the log.
    pub(crate) fn log(&self) -> Result<LogStyle> {
        LogStyle::new(self.log_format, &*self.log_level)
    }

    /// The hive itself.
    pub(crate) fn hive(&self) -> Result<ProcessHive> {
        for root in &self.file_roots {
            rbee_core::models::check_file_root(root)
                .map_err(|error| error.context("--file-root"))?;
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
            budget: self.models_budget,
            ..StoreOptions::default()
        };
        let hive = ProcessHive::new(id, state_dir);
        // This comes before a model store is made in it.
        hive.make_state_dir().map_err(|error| error.context("--state-dir"))?;
        let mut hive = hive
            .with_store(ModelStore::open(models, options)?)
            .with_lease(self.worker_lease)
            .with_bind(self.host.ip())
            .with_log(self.log()?)
            .with_engines(self.engines()?);
        if let Some(program) = &self.worker {
            hive = hive.with_program(program);
        }
        if let Some(threads) = self.threads {
            hive = hive.with_threads(threads);
        }
        if let Some(context) = self.context {
            hive = hive.with_context(context);
        }
        Ok(hive)
    }

    fn id(&self) -> Result<HiveId> {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let name = || hostname().chars().filter(allowed).take(64).collect::<String>();
        self.id.clone().map_or_else(|| HiveId::new(name()), Ok)
    }

    fn engines(&self) -> Result<Vec<EngineCommand>> {
        let Some(path) = &self.engines else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).map_err(|cause| config(path, cause))?;
        // JSON is YAML.
        let engines: Vec<EngineCommand> =
            serde_saphyr::from_str(&text).map_err(|cause| config(path, cause))?;
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
