//! `rbee hive add`: a machine, by SSH or by the address of its rbee-hive.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use rbee_core::{HiveId, hive::parse_label};
use rbee_transport_http::{
    Token,
    client::Trust,
    wire::{
        ErrorInfo, HIVE_PORT, ProgressBody,
        queen::{self, AddHive, AddSent, AddStep, HiveDoctor, HiveView, StepState, add_event},
    },
};

use super::{ONLINE, doctor, passphrase::with_passphrase};
use crate::{
    Keeper, args,
    failure::{Exit, Failure},
    screen::Bars,
};

const AFTER_HELP: &str = "\
A name of ssh_config, user@host, user@host:port or ssh://user@host:port is reached by SSH, with the configuration, keys and \
agent of the user that the queen runs as. The queen puts the programs into the user's home directory on the machine and \
starts the hive. Nothing is needed there: no root, no package, no open port.

What has another :// is the address of an rbee-hive that runs already, and so is HOST:7835 without a user.

Examples:
    rbee hive add gpu-box --dry-run
    rbee hive add ada@192.168.1.7 --name attic --label region=eu
    rbee hive add http://192.168.1.7:7835 --hive-token-file attic.token
    rbee hive add https://attic.lan:7835 --hive-token-file attic.token --hive-ca-cert attic.pem";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Add {
    /// The machine: a name of ssh_config, user@host[:port], or the address of an rbee-hive like
    /// http://192.168.1.7:7835
    #[arg(value_name = "MACHINE")]
    machine: String,

    /// By SSH: the name of the hive; by default that of the machine
    #[arg(long)]
    name: Option<HiveId>,

    /// By SSH: accept the host key of a machine that has none recorded. Compare it with the fingerprint that the
    /// command shows without this flag
    #[arg(long)]
    accept_new: bool,

    /// By SSH: only check whether the machine can be added; nothing is changed there
    #[arg(long)]
    dry_run: bool,

    /// By SSH: the directory on the machine for programs, state and models; by default one in the user's home
    #[arg(long, value_name = "DIR")]
    directory: Option<String>,

    /// By SSH: an argument for rbee-hive, for example --hive-arg=--threads=8; can be given several times
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    hive_arg: Vec<String>,

    /// By address: a file with the token that its rbee-hive requires; not needed for one on the queen's machine that
    /// runs as the same user with the default state directory
    #[arg(long, value_name = "FILE")]
    hive_token_file: Option<PathBuf>,

    /// By an address with https://: the certificate of its rbee-hive in PEM, or that of the CA that signed it; trusted
    /// instead of those of the queen's system
    #[arg(long, value_name = "FILE")]
    hive_ca_cert: Option<PathBuf>,

    /// A label for the policy, for example region=eu; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
}

impl Add {
    pub(super) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let mut body = self.body(keeper)?;
        let added = with_passphrase(keeper, async |passphrase| {
            body.passphrase = passphrase;
            super::super::interruptible(self.add(keeper, &body)).await
        });
        added.await.map_err(|failure| match failure.exit() {
            Exit::Interrupted => failure.with_hint(
                "the machine was not added; what was copied there shortens the next try",
            ),
            _ => self.explained(failure),
        })
    }

    /// The address of a daemon, if that is what was typed.
    fn url(&self) -> Option<String> {
        let typed = &self.machine;
        if typed.starts_with("ssh://") {
            return None;
        }
        if typed.contains("://") {
            return Some(typed.clone());
        }
        let is_hive = typed.ends_with(&format!(":{HIVE_PORT}")) && !typed.contains('@');
        is_hive.then(|| format!("http://{typed}"))
    }

    fn body(&self, keeper: &Keeper) -> Result<AddHive, Failure> {
        let token = self.hive_token_file.as_ref().map(|path| token(keeper, path)).transpose()?;
        let queen = keeper.client.address();
        if token.is_some() && !queen.is_loopback() && !queen.is_tls() {
            return Err(Failure::usage(format!(
                "the token would go to {queen} in the clear; allowed are https and this machine"
            )));
        }
        let url = self.url();
        let ssh = url.is_none().then(|| self.machine.clone());
        let body = AddHive {
            url,
            token,
            ca_cert: self.hive_ca_cert.as_deref().map(certificates).transpose()?,
            ssh,
            id: self.name.clone(),
            accept_new: self.accept_new,
            dry_run: self.dry_run,
            directory: self.directory.clone(),
            arguments: self.hive_arg.clone(),
            passphrase: None,
            labels: self.label.iter().cloned().collect(),
        };
        let flag = |param: &str| match param {
            "token" => "--hive-token-file",
            "ca_cert" => "--hive-ca-cert",
            "id" => "--name",
            "accept_new" => "--accept-new",
            "dry_run" => "--dry-run",
            "directory" => "--directory",
            _ => "--hive-arg",
        };
        body.check().map_err(|error| {
            let (flag, machine) = (flag(error.param().unwrap_or_default()), &self.machine);
            if flag == "--hive-ca-cert" {
                let message = "is for addresses that begin with https://";
                return Failure::usage(format!("{flag} {message}, and the machine is {machine}"));
            }
            Failure::usage(match body.url {
                Some(_) => format!(
                    "{flag} is for machines that are reached by SSH, and {machine} is an address"
                ),
                None => format!("{flag} is for addresses, and {machine} is reached by SSH"),
            })
        })?;
        Ok(body)
    }

    async fn add(&self, keeper: &Keeper, body: &AddHive) -> Result<Exit, Failure> {
        let screen = &keeper.screen;
        let mut events = keeper.client.post_for_events(queen::HIVES, body).await?;
        let mut steps = Steps { keeper, bars: Bars::new(screen) };
        while let Some(event) = events.next().await? {
            match &*event.name {
                add_event::STEP => steps.step(&events.read(&event)?),
                add_event::SENT => steps.sent(&events.read(&event)?),
                add_event::DONE => {
                    steps.bars.clear();
                    return added(keeper, &events.read(&event)?);
                }
                add_event::CHECKED => {
                    steps.bars.clear();
                    return checked(keeper, &events.read(&event)?);
                }
                add_event::ERROR => {
                    let error: ErrorInfo = events.read(&event)?;
                    return Err(Failure::answered(&error.code, None, error.message)
                        .with_param(error.details.param)
                        .with_retry_after(error.details.retry_after_ms)
                        .with_correlation_id(error.correlation_id));
                }
                _ => {}
            }
        }
        Err(events.cut())
    }

    /// The failure to add a hive. It is about the hive, and not about the queen, its key or other hives.
    fn explained(&self, failure: Failure) -> Failure {
        match (failure.code(), failure.param(), &self.hive_token_file) {
            ("HIVE_UNREACHABLE", ..) => failure.without_hints(),
            (_, Some("token"), Some(path)) => failure.with_hint(format!(
                "the hive's token was read from {} (--hive-token-file); the queen's own key is not meant",
                path.display()
            )),
            (_, Some("accept_new"), _) => failure.with_hint(format!(
                "if the fingerprint is right: `rbee hive add {} --accept-new`",
                self.machine
            )),
            _ => failure,
        }
    }
}

/// The certificates in this file, as they are.
fn certificates(path: &Path) -> Result<String, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "the file of --hive-ca-cert, {}, cannot be used: {why}",
            path.display()
        ))
    };
    let mut text = String::new();
    let most = AddHive::MOST_CA_CERT;
    File::open(path)
        .and_then(|file| file.take(most as u64 + 1).read_to_string(&mut text))
        .map_err(|cause| wrong(&cause))?;
    if text.len() > most {
        return Err(wrong(&format_args!("it is larger than {most} bytes")));
    }
    Trust::only(text.as_bytes()).map_err(|error| wrong(&error.message()))?;
    Ok(text)
}

fn token(keeper: &Keeper, path: &Path) -> Result<Token, Failure> {
    if let Some(exposed) = rbee_core::private_files::exposed(path) {
        keeper.screen.warn(&exposed);
    }
    let parsed: Result<Token, _> = args::read_secret(path)?.parse();
    parsed.map_err(|cause| Failure::usage(format!("the token file {}: {cause}", path.display())))
}

/// The steps as they come: a spinner or a bar for the one that runs, a line for each that has ended.
struct Steps<'a> {
    keeper: &'a Keeper,
    bars: Bars,
}

impl Steps<'_> {
    fn step(&mut self, step: &AddStep) {
        if self.keeper.screen.is_json() {
            return;
        }
        let label = format!("{} of {}", step.step.replace('_', " "), step.host);
        match step.state {
            StepState::Started if self.keeper.screen.draws() => {
                self.bars.show(&label, ProgressBody::default());
            }
            StepState::Started => {}
            StepState::Finished => {
                self.bars.clear();
                let time = step.duration_ms.map(took).unwrap_or_default();
                let detail = step.detail.as_deref().unwrap_or_default();
                self.keeper.screen.note(format!("{label} {time}  {detail}").trim_end());
            }
        }
    }

    fn sent(&mut self, sent: &AddSent) {
        if self.keeper.screen.draws() {
            let label = format!("upload of {}", sent.host);
            self.bars.show(&label, ProgressBody { done: sent.done, total: Some(sent.total) });
        }
    }
}

/// `12 ms`, `3.4 s`.
pub(super) fn took(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        _ => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
    }
}

fn added(keeper: &Keeper, hive: &HiveView) -> Result<Exit, Failure> {
    if hive.status != ONLINE {
        let why = hive.error.as_ref().map_or("it has not reported yet", |error| &error.message);
        keeper.screen.warn(&format!("hive {} was added, and is not usable yet: {why}", hive.id));
    }
    if keeper.screen.is_json() {
        keeper.screen.document(hive)?;
    } else {
        let how = format!("({})", hive.address);
        keeper.screen.done("added", &format!("hive {}", hive.id), &how)?;
    }
    Ok(Exit::Ok)
}

/// The result of a dry run.
fn checked(keeper: &Keeper, found: &HiveDoctor) -> Result<Exit, Failure> {
    let exit = doctor::show(keeper, found)?;
    if !keeper.screen.is_json() && exit == Exit::Ok {
        let how = format!("({}); nothing was changed there", found.address);
        keeper.screen.done("checked", &format!("hive {}", found.hive), &how)?;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        add: Add,
    }

    #[test]
    fn what_is_an_address_and_what_is_reached_by_ssh() {
        let url = |machine: &str| Line::parse_from(["add", machine]).add.url();
        for machine in
            ["gpu-box", "ada@gpu-box", "ada@gpu:7835", "gpu:2222", "ssh://ada@gpu:7835", "::1"]
        {
            assert_eq!(url(machine), None, "{machine}");
        }
        for (machine, expected) in [
            ("http://attic", "http://attic"),
            ("https://attic", "https://attic"),
            ("10.0.0.9:7835", "http://10.0.0.9:7835"),
        ] {
            assert_eq!(url(machine).as_deref(), Some(expected), "{machine}");
        }
    }

    #[test]
    fn times_are_short() {
        assert_eq!(
            [took(0), took(999), took(1_000), took(61_250)],
            ["0 ms", "999 ms", "1.0 s", "61.2 s"]
        );
    }
}
