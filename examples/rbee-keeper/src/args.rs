//! The command line: the global options and the list of commands.

use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, Parser, parser::ValueSource};

use crate::{Address, client::Credentials, failure::Failure, verbs::Verb};

const AFTER_HELP: &str = "\
Exit codes:
    0  success
    1  something failed
    2  the command line is wrong, or requests something that is not allowed
    3  the queen does not answer, the connection broke, or TLS failed
    4  there is no such model, job, hive, worker, tenant or version of the policy
    5  the key is missing or wrong, or does not allow this, or the policy rejected the request
    6  a limit is reached; a later try may succeed
  130  interrupted with Ctrl-C

Answers go to standard output; progress, warnings and errors go to standard error.";

/// The command line of rbee: language models on every machine you own.
#[derive(Debug, Parser)]
#[command(
    name = "rbee",
    version,
    after_help = AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The whole command line, for completions and for tests.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The options of every command.
#[derive(Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Where the queen is, and where `rbee serve` starts one: host, host:port or a URL. [default:
    /// http://127.0.0.1:7833]
    #[arg(long, visible_alias = "url", global = true, env = "RBEE_HOST", value_name = "ADDRESS")]
    pub(crate) host: Option<Address>,

    /// The key that the queen requires. Everyone on this machine can read it on the command line; prefer the variable.
    #[arg(long, global = true, env = "RBEE_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,

    /// A file with the key.
    #[arg(
        long,
        global = true,
        env = "RBEE_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "api_key"
    )]
    token_file: Option<PathBuf>,

    /// The queen's own certificate in PEM, or that of the CA that signed it; trusted instead of those of the system.
    #[arg(long, global = true, env = "RBEE_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,

    /// Print JSON: one document, or one object per line for a stream.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print only the requested output, and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Print no colors; NO_COLOR does the same.
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// Without the key.
impl std::fmt::Debug for Global {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Global").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Global {
    /// The warning about a token file that other users can read.
    pub(crate) fn exposed_token_file(&self) -> Option<String> {
        self.token_file.as_deref().and_then(rbee_core::private_files::exposed)
    }

    /// The files that the key and the certificates are in.
    pub(crate) fn files(&self) -> CredentialFiles {
        CredentialFiles { token: self.token_file.clone(), ca_cert: self.ca_cert.clone() }
    }

    pub(crate) fn credentials(&self) -> Result<Credentials, Failure> {
        let mut credentials = Credentials::default();
        if let Some(path) = &self.token_file {
            credentials = credentials.with_key(&read_secret(path)?)?;
        } else if let Some(key) = self.api_key.as_deref().filter(|key| !key.is_empty()) {
            credentials = credentials.with_key(key)?;
        }
        if let Some(path) = &self.ca_cert {
            credentials = credentials.with_ca(path)?;
        }
        Ok(credentials)
    }
}

/// The files that the key and the certificates are in, wherever they were named.
#[derive(Clone, Debug, Default)]
pub(crate) struct CredentialFiles {
    pub(crate) token: Option<PathBuf>,
    pub(crate) ca_cert: Option<PathBuf>,
}

/// The options given on the command line itself, and the address in the variable.
#[derive(Clone, Default)]
pub(crate) struct Typed {
    pub(crate) host: Option<Address>,
    /// The address in `RBEE_HOST`, if none is on the command line.
    pub(crate) host_variable: Option<Address>,
    pub(crate) api_key: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
}

impl Typed {
    pub(crate) fn of(cli: &Cli, matches: &ArgMatches) -> Self {
        let typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let is_variable = matches.value_source("host") == Some(ValueSource::EnvVariable);
        let global = &cli.global;
        Self {
            host: global.host.clone().filter(|_| typed("host")),
            host_variable: global.host.clone().filter(|_| is_variable),
            api_key: global.api_key.clone().filter(|_| typed("api_key")),
            token_file: global.token_file.clone().filter(|_| typed("token_file")),
        }
    }
}

/// Without the key.
impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typed").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The maximum size of a file with a secret, in bytes.
const MOST_SECRET_BYTES: u64 = 4096;

/// The text of a file with a secret, without the line end.
pub(crate) fn read_secret(path: &std::path::Path) -> Result<String, Failure> {
    use std::io::Read as _;

    let wrong = |why: String| Failure::usage(format!("the token file {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|cause| wrong(cause.to_string()))?;
    let mut text = String::new();
    file.take(MOST_SECRET_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|cause| wrong(cause.to_string()))?;
    if text.len() as u64 > MOST_SECRET_BYTES {
        return Err(wrong(format!("it is larger than {MOST_SECRET_BYTES} bytes")));
    }
    match text.trim() {
        "" => Err(wrong("it is empty".into())),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn what_is_typed_is_known_wherever_it_stands() {
        for line in [["rbee", "--host", "bee", "ls"], ["rbee", "ls", "--host", "bee"]] {
            let matches = command().try_get_matches_from(line).unwrap();
            let cli = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(Typed::of(&cli, &matches).host, Some("bee".parse().unwrap()));
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        let cli = Cli::try_parse_from(["rbee", "--api-key", "hunter2-hunter2", "ls"]).unwrap();
        let credentials = cli.global.credentials().unwrap();
        assert!(!format!("{credentials:?} {cli:?}").contains("hunter2"));
        let help = command().render_long_help().to_string();
        assert!(help.contains("RBEE_API_KEY") && !help.contains("hunter2"));
    }
}
