//! `rbee serve`: starts the queen's program.

mod own_config;

use std::{
    borrow::Cow,
    ffi::OsString,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::Args;
use etcetera::BaseStrategy as _;
use rbee_core::private_files::{open_own, private_directory};
use rbee_transport_http::{
    Program,
    wire::{ListenHost, queen::Health},
};

use own_config::OwnConfig;

use super::foreground::{cannot_start, in_the_foreground};
use crate::{
    Address, Client, Keeper,
    args::Typed,
    failure::{Exit, Failure},
    screen::Bars,
};

/// The queen's program.
pub(super) const PROGRAM: &str = "queen-rbee";
/// The timeout for the first answer of a started queen.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The interval at which the queen is checked.
const LOOK: Duration = Duration::from_millis(100);
/// How many lines of the queen's log are shown if it does not start.
const LAST_LINES: usize = 12;
const LAST_BYTES: u64 = 16 << 10;

/// Variables with the queen's address and credentials. The queen's program uses none of them.
const OURS: [&str; 3] = ["RBEE_HOST", "RBEE_API_KEY", "RBEE_CA_CERT"];
/// The variables of the queen's program with the address that it listens on. They are more specific than `RBEE_HOST`.
const LISTEN_HOST: &str = "RBEE_LISTEN_HOST";
const LISTEN_PORT: &str = "RBEE_LISTEN_PORT";

#[derive(Debug, Default, Args)]
pub(crate) struct Serve {
    /// Leave it running in the background, with its log in the data directory
    #[arg(long, short)]
    detach: bool,

    /// The port to listen on; --host or RBEE_HOST says on which address. [default: 7833]
    #[arg(long)]
    port: Option<u16>,

    /// Other arguments for queen-rbee; `queen-rbee --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<OsString>,

    /// The address at which no queen was found.
    #[arg(skip)]
    looked_for: Option<Address>,
}

impl Serve {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let mut command = self.command(keeper)?;
        if self.detach {
            return self.detached(keeper, command).await;
        }
        Err(in_the_foreground(&mut command)?)
    }

    /// The command that starts the queen. Options of both programs are passed on: the address of `rbee` is where the
    /// queen listens, and the key is the token that the queen requires.
    fn command(&self, keeper: &Keeper) -> Result<Command, Failure> {
        let program = program()?;
        let mut command = Command::new(program.path);
        command.args(program.arguments);
        for name in OURS {
            command.env_remove(name);
        }
        let typed = &keeper.typed;
        let told = self.told(keeper);
        if let Some(address) = told {
            command.args(["--listen-host", listen_host(address, typed)]);
        }
        if let Some(port) = self.port.or(told.and_then(Address::port)) {
            command.arg("--listen-port").arg(port.to_string());
        }
        if let Some(address) = self.variable(keeper) {
            self.listen_as_the_variable(address, keeper, &mut command)?;
        }
        if let Some(path) = &typed.token_file {
            command.arg("--token-file").arg(path);
        }
        if let Some(key) = &typed.api_key {
            command.env("RBEE_TOKEN", key);
        }
        command.args(&self.flags);
        Ok(command)
    }

    /// Passes on what `RBEE_HOST` says, unless the queen's own variables say something else. A flag overrides both.
    fn listen_as_the_variable(
        &self,
        address: &Address,
        keeper: &Keeper,
        command: &mut Command,
    ) -> Result<(), Failure> {
        if !self.has_listen_host() {
            let Ok(host) = address.host().parse::<ListenHost>() else {
                return Err(Failure::usage(format!(
                    "RBEE_HOST is {address}, and a queen is started on this machine only: allowed are an IP address \
                     and localhost"
                ))
                .with_hint("`rbee serve --host 127.0.0.1` starts one on this machine, whatever RBEE_HOST says"));
            };
            command.env(LISTEN_HOST, host.to_string());
        }
        if let Some(port) = address.port().filter(|_| std::env::var_os(LISTEN_PORT).is_none()) {
            command.env(LISTEN_PORT, port.to_string());
        }
        keeper.screen.note(&format!("RBEE_HOST says to listen at {}", self.address(keeper)));
        Ok(())
    }

    /// The address to listen on, if one was given on the command line.
    fn told<'a>(&'a self, keeper: &'a Keeper) -> Option<&'a Address> {
        self.looked_for.as_ref().or(keeper.typed.host.as_ref())
    }

    /// The address in `RBEE_HOST`, if it says where to listen.
    fn variable<'a>(&self, keeper: &'a Keeper) -> Option<&'a Address> {
        keeper.typed.host_variable.as_ref().filter(|_| self.looked_for.is_none())
    }

    /// True if the address to listen on is given in the queen's own terms.
    fn has_listen_host(&self) -> bool {
        self.listen_host_flag().is_some() || std::env::var_os(LISTEN_HOST).is_some()
    }

    fn listen_host_flag(&self) -> Option<String> {
        self.flag("--listen-host").or_else(|| self.flag("--host"))
    }

    /// The address at which the queen will answer, as far as it is known here.
    fn address(&self, keeper: &Keeper) -> Address {
        let told = self.told(keeper);
        let variable = |name: &str| std::env::var(name).ok().filter(|_| told.is_none());
        let address = told.or_else(|| self.variable(keeper)).cloned().unwrap_or_default();
        let host = self.listen_host_flag().or_else(|| variable(LISTEN_HOST));
        let host = host.and_then(|host| host.parse::<ListenHost>().ok());
        let address = match host {
            Some(host) => address.with_host(&host.ip().to_string()),
            None => address,
        };
        let port = self.port.map(|port| port.to_string());
        let port = port.or_else(|| self.flag("--listen-port")).or_else(|| self.flag("--port"));
        let port = port.or_else(|| variable(LISTEN_PORT));
        match port.and_then(|port| port.parse().ok()) {
            Some(port) => address.with_port(port),
            None => address,
        }
        .reachable()
    }

    /// The value of a flag that is passed on.
    fn flag(&self, name: &str) -> Option<String> {
        let mut flags = self.flags.iter().map(|flag| flag.to_string_lossy());
        while let Some(flag) = flags.next() {
            if flag == name {
                return flags.next().map(Cow::into_owned);
            }
            if let Some(value) = flag.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value.to_owned());
            }
        }
        None
    }

    async fn detached(&self, keeper: &Keeper, mut command: Command) -> Result<Exit, Failure> {
        let own = match self.has_file() {
            true => Some(super::interruptible(OwnConfig::of(&command)).await?),
            false => None,
        };
        let expected = self.address(keeper);
        let client = keeper.client.at(match &own {
            Some(own) => own.address(expected),
            None => expected,
        });
        let address = client.address();
        if let Some(health) = health(&client).await {
            let process = health.details.map(|details| format!(", process {}", details.pid));
            let message =
                format!("a queen answers at {address} already{}", process.unwrap_or_default());
            return Err(Failure::new(Exit::Failed, "CONFLICT", message)
                .with_hint(format!("`{}` stops it", shutdown_of(keeper, address))));
        }
        let (path, log) = self.log_file(own.map(|own| own.data_dir))?;
        // What is there already is about earlier starts.
        let from = log.metadata().map_err(|cause| unwritable(&path, &cause))?.len();
        let also = log.try_clone().map_err(|cause| unwritable(&path, &cause))?;
        command.stdin(Stdio::null()).stdout(log).stderr(also);
        away_from_the_terminal(&mut command);
        let child = command.spawn().map_err(|cause| cannot_start(&command, &cause))?;
        let pid = child.id();
        let log = Log { path: &path, from };
        let client = super::interruptible(until_it_answers(keeper, client, child, &log)).await?;
        let address = client.address();
        if keeper.screen.is_json() {
            let started = serde_json::json!({
                "done": "started", "address": address.to_string(), "pid": pid, "log": path,
            });
            keeper.screen.document(&started)?;
        } else {
            let what = format!("a queen at {address}");
            keeper.screen.done("started", &what, &format!("(process {pid})"))?;
            let shutdown = shutdown_of(keeper, address);
            keeper.screen.note(&format!("its log is {}; `{shutdown}` stops it", path.display()));
        }
        Ok(Exit::Ok)
    }

    /// True if the queen has a configuration file, whose values are not known here.
    fn has_file(&self) -> bool {
        let usual = || {
            let base = etcetera::choose_base_strategy().ok();
            base.is_some_and(|base| base.config_dir().join("rbee").join("queen.yaml").exists())
        };
        self.flag("--config").is_some() || std::env::var_os("RBEE_CONFIG").is_some() || usual()
    }

    /// Opens the log, which only its user can read, in this directory if it is known.
    fn log_file(&self, own: Option<PathBuf>) -> Result<(PathBuf, File), Failure> {
        let told = own.or_else(|| self.flag("--data-dir").map(PathBuf::from));
        let told = told.or_else(|| std::env::var_os("RBEE_DATA_DIR").map(PathBuf::from));
        let folder = match told {
            Some(folder) => folder,
            None => {
                let base = etcetera::choose_base_strategy().map_err(|cause| {
                    let message = format!("there is no data directory for the log: {cause}");
                    Failure::new(Exit::Failed, "CONFIG", message)
                })?;
                base.data_dir().join("rbee")
            }
        };
        // Made as the queen makes it, because the queen may not have run yet.
        private_directory(&folder, |names| {
            names.iter().any(|name| name == "queen.lock") || names == ["queen.log"]
        })
        .map_err(|error| Failure::new(Exit::Failed, "CONFIG", error.message().to_owned()))?;
        let path = folder.join("queen.log");
        let file = open_own(&path, OpenOptions::new().create(true).append(true))
            .map_err(|cause| unwritable(&path, &cause))?;
        Ok((path, file))
    }
}

/// Offers to start a queen if none answers, and starts it. Returns true if it runs now.
pub(crate) async fn offer_to_start(keeper: &Keeper, failure: Failure) -> Result<bool, Failure> {
    let address = keeper.client.address();
    let is_here = address.is_loopback() && !address.is_tls();
    if !is_here || !keeper.screen.can_ask() || program().is_err() {
        return Err(failure);
    }
    let question = format!("no queen answers at {address}. Start one in the background?");
    if !keeper.screen.confirm(&question) {
        return Ok(false);
    }
    let looked_for = Some(address.clone());
    let serve = Serve { detach: true, looked_for, ..Serve::default() };
    serve.run(keeper).await.map(|_| true)
}

async fn health(client: &Client) -> Option<Health> {
    match client.health(LOOK * 10).await {
        Ok(health) => Some(health),
        // A queen that refuses our key answers too.
        Err(failure) if failure.exit() == Exit::Refused => {
            Some(Health { status: "ok".into(), details: None })
        }
        Err(_) => None,
    }
}

/// The log of a queen, and where the part of this start begins.
struct Log<'a> {
    path: &'a Path,
    from: u64,
}

/// The command that shuts the queen at this address down.
fn shutdown_of(keeper: &Keeper, address: &Address) -> String {
    let is_usual = *address == Address::default() && keeper.typed.host_variable.is_none();
    let is_variable = keeper.typed.host_variable.as_ref() == Some(address);
    match is_usual || is_variable {
        true => "rbee shutdown".into(),
        false => format!("rbee shutdown --host {address}"),
    }
}

/// What a queen listens on to be found at this address. If nobody gave an address, it is the default one, and stands for
/// all that a queen has by default.
fn listen_host<'a>(address: &'a Address, typed: &Typed) -> &'a str {
    match typed.host.is_none() && typed.host_variable.is_none() {
        true => "localhost",
        false => address.host(),
    }
}

/// Waits until the queen answers, and returns a client of it: its own files may have it listen somewhere else than it
/// was expected.
async fn until_it_answers(
    keeper: &Keeper,
    mut client: Client,
    mut child: Child,
    log: &Log<'_>,
) -> Result<Client, Failure> {
    let mut bars = Bars::new(&keeper.screen);
    let timeout = tokio::time::Instant::now() + TIMEOUT;
    loop {
        bars.show("starting a queen", Default::default());
        let said = |why: String| {
            let last = last_lines(log);
            let message =
                if last.is_empty() { why } else { format!("{why}; the end of its log:\n{last}") };
            Failure::new(Exit::Failed, "NOT_STARTED", message)
                .with_hint(format!("its log is {}", log.path.display()))
        };
        // The name in a certificate may be another one than the announced address.
        let is_elsewhere = |address: &Address| {
            let expected = client.address();
            address.port() != expected.port() && address.is_tls() == expected.is_tls()
        };
        if let Some(address) = announced(log.path, child.id()).filter(is_elsewhere) {
            client = client.at(address);
        }
        // Checked first: if the child still runs afterwards, it is the one that has the port.
        let answers = health(&client).await;
        match child.try_wait() {
            Ok(Some(status)) => return Err(said(format!("{PROGRAM} ended at once ({status})"))),
            Ok(None) => {}
            Err(cause) => return Err(said(format!("{PROGRAM} cannot be watched: {cause}"))),
        }
        // Without the operator's token, which may be in the queen's own configuration, the queen does not report its
        // process.
        let is_ours = |health: Health| health.details.is_none_or(|told| told.pid == child.id());
        if answers.is_some_and(is_ours) {
            return Ok(client);
        }
        if tokio::time::Instant::now() > timeout {
            let address = client.address();
            let why = format!(
                "{PROGRAM} runs (process {}), but does not answer at {address} within {TIMEOUT:?}",
                child.id()
            );
            return Err(
                said(why).with_hint("if it listens elsewhere, give that address with --host")
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The address that the queen with this process id has written into its data directory, next to its log.
fn announced(log: &Path, pid: u32) -> Option<Address> {
    use std::io::Read as _;

    let mut text = String::new();
    let lock = File::open(log.with_file_name("queen.lock")).ok()?;
    lock.take(1_024).read_to_string(&mut text).ok()?;
    let (of, url) = text.trim().split_once(' ')?;
    // It writes `starting` before it listens, which is no URL.
    let address = url.contains("://").then(|| url.parse::<Address>().ok())??;
    (of == pid.to_string()).then(|| address.reachable())
}

/// The queen's program, next to this program or on the `PATH`.
fn program() -> Result<Program, Failure> {
    let beside = Program::beside(PROGRAM).ok();
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| Program::from(folder.join(&name)));
    beside.into_iter().chain(on_path).find(|program| program.path.is_file()).ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "NOT_INSTALLED",
            format!("the program {PROGRAM} is neither next to this one nor on the PATH"),
        )
        .with_hint(format!("`cargo build --release -p {PROGRAM}` builds it"))
    })
}

fn unwritable(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "CONFIG", format!("{} cannot be written: {cause}", path.display()))
}

/// The last lines that were written since this start.
fn last_lines(log: &Log<'_>) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};

    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = open_own(log.path, OpenOptions::new().read(true))?;
        let length = file.metadata()?.len();
        // A file that was cut has only new lines.
        let from = if length < log.from { 0 } else { log.from };
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES).max(from)))?;
        let mut bytes = Vec::new();
        file.take(LAST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Ctrl-C, and the end of the terminal, must not reach the queen.
fn away_from_the_terminal(command: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        command.process_group(0);
    }
    #[cfg(windows)]
    {
        use std::os::windows::process::CommandExt as _;
        const DETACHED_PROCESS: u32 = 8;
        command.creation_flags(DETACHED_PROCESS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_queen_was_found_by_default_one_listens_on_both_loopback_addresses() {
        let address = Address::default();
        let none = Typed { host: None, host_variable: None, api_key: None, token_file: None };
        assert_eq!(listen_host(&address, &none), "localhost");
        let typed = || Some(address.clone());
        for typed in [
            Typed { host: typed(), host_variable: None, api_key: None, token_file: None },
            Typed { host: None, host_variable: typed(), api_key: None, token_file: None },
        ] {
            assert_eq!(listen_host(&address, &typed), "127.0.0.1");
        }
    }
}
