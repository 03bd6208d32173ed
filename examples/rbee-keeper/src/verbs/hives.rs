//! `rbee hive`: machines.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use http::Method;
use rbee_core::{HiveId, hive::parse_label};
use rbee_transport_http::{
    Token,
    wire::{
        ProgressBody,
        queen::{self, AddHive, HiveView, Listing},
    },
};

use crate::{
    Keeper, args,
    client::Reply,
    failure::{Exit, Failure},
    screen::{Bars, Column, Facts, Table, human},
};

/// The status of a hive that is usable.
const ONLINE: &str = "online";
/// The interval at which a hive is checked.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum Hives {
    /// List the machines
    #[command(visible_alias = "list")]
    Ls,
    /// Add a machine on which rbee-hive runs
    Add {
        /// The address of its rbee-hive, for example http://192.168.1.7:7835
        url: String,

        /// A file with the token that its rbee-hive requires; not needed for one on the queen's machine that runs as
        /// the same user with the default state directory
        #[arg(long, value_name = "FILE")]
        hive_token_file: Option<PathBuf>,

        /// A label for the policy, for example region=eu; can be given several times
        #[arg(long, value_name = "NAME=VALUE", value_parser = parse_label)]
        label: Vec<(String, String)>,
    },
    /// Show a machine
    Show {
        /// Its name
        hive: HiveId,
    },
    /// Start a machine that was stopped
    Start {
        /// Its name
        hive: HiveId,
    },
    /// Stop a machine and its workers; it stays in the list
    Stop {
        /// Its name
        hive: HiveId,
    },
    /// Stop a machine's workers as soon as their runs have ended
    Drain {
        /// Its name
        hive: HiveId,

        /// Wait until they have ended
        #[arg(long)]
        wait: bool,

        /// With --wait: wait at most this long
        #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "wait")]
        timeout: u64,
    },
    /// Stop a machine and remove it from the list
    Rm {
        /// Its name
        hive: HiveId,
    },
}

impl Hives {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        match self {
            Self::Ls => ls(keeper).await?,
            Self::Add { url, hive_token_file, label } => {
                add(keeper, url, hive_token_file.as_ref(), label).await?
            }
            Self::Show { hive } => show(keeper, hive).await?,
            Self::Start { hive } => start(keeper, hive).await?,
            Self::Stop { hive } => stop(keeper, hive).await?,
            Self::Drain { hive, wait, timeout } => {
                order(keeper, Method::POST, queen::HIVE_DRAIN, hive).await?;
                if *wait {
                    until_drained(keeper, hive, *timeout).await?;
                }
                let did = if *wait { "drained" } else { "draining" };
                keeper.screen.done(did, &format!("hive {hive}"), "")?;
            }
            Self::Rm { hive } => {
                order(keeper, Method::DELETE, queen::HIVE, hive).await?;
                keeper.screen.done("removed", &format!("hive {hive}"), "")?;
            }
        }
        Ok(Exit::Ok)
    }
}

async fn ls(keeper: &Keeper) -> Result<(), Failure> {
    let found: Listing<HiveView> = keeper.client.get(queen::HIVES, &()).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&found);
    }
    let mut table = Table::new([
        Column::new("HIVE").whole(),
        Column::new("STATUS").state().keep(90),
        Column::new("ADDRESS").middle().keep(60),
        Column::new("DEVICES").keep(50),
        Column::new("FREE").right().keep(70),
        Column::new("MODELS").right().keep(20),
        Column::new("WORKERS").right().keep(40),
        Column::new("SEEN").right().keep(30),
    ]);
    for hive in found.data {
        let free: u64 = hive.devices.iter().map(|device| device.memory_free).sum();
        table.row([
            hive.id.to_string(),
            state_of(&hive).into(),
            hive.address.clone(),
            devices_of(&hive),
            if hive.devices.is_empty() { "-".into() } else { human::bytes(free) },
            hive.models.len().to_string(),
            hive.workers.to_string(),
            hive.last_seen_at_ms.map_or_else(|| "-".into(), human::ago),
        ]);
    }
    keeper.screen.table(&table)
}

/// The machine's status. A draining machine must not look like one that takes work.
fn state_of(hive: &HiveView) -> &str {
    if hive.draining && hive.status == ONLINE { "draining" } else { &hive.status }
}

/// `cpu, 2 cuda`.
fn devices_of(hive: &HiveView) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for device in &hive.devices {
        let kind = super::workers::kind(device.kind);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let said = kinds.iter().map(|(kind, count)| match count {
        1 => (*kind).to_owned(),
        _ => format!("{count} {kind}"),
    });
    super::catalog::list_of(said)
}

async fn add(
    keeper: &Keeper,
    url: &str,
    token_file: Option<&PathBuf>,
    labels: &[(String, String)],
) -> Result<(), Failure> {
    let token = match token_file {
        Some(path) => {
            if let Some(exposed) = rbee_core::private_files::exposed(path) {
                keeper.screen.warn(&exposed);
            }
            let parsed: Result<Token, _> = args::read_secret(path)?.parse();
            Some(parsed.map_err(|cause| {
                Failure::usage(format!("the token file {}: {cause}", path.display()))
            })?)
        }
        None => None,
    };
    let queen = keeper.client.address();
    if token.is_some() && !queen.is_loopback() && !queen.is_tls() {
        return Err(Failure::usage(format!(
            "the token would go to {queen} in the clear; allowed are https and this machine"
        )));
    }
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let body = AddHive { url, token, labels: labels.iter().cloned().collect() };
    let hive: HiveView = match keeper.client.post(queen::HIVES, &body).await {
        Ok(hive) => hive,
        Err(failure) => return Err(of_the_hive(failure, token_file)),
    };
    if hive.status != ONLINE {
        let why = hive.error.as_ref().map_or("it has not reported yet", |error| &error.message);
        keeper.screen.warn(&format!("hive {} was added, and is not usable yet: {why}", hive.id));
    }
    if keeper.screen.is_json() {
        return keeper.screen.document(&hive);
    }
    keeper.screen.done("added", &format!("hive {}", hive.id), &format!("({})", hive.address))
}

/// The failure to add a hive. It is about the hive, and not about the queen, its key or other hives.
fn of_the_hive(failure: Failure, token_file: Option<&PathBuf>) -> Failure {
    match (failure.code(), token_file) {
        ("HIVE_UNREACHABLE", _) => failure.without_hints(),
        (_, Some(path)) if failure.param() == Some("token") => failure.with_hint(format!(
            "the hive's token was read from {} (--hive-token-file); the queen's own key is not meant",
            path.display()
        )),
        _ => failure,
    }
}

async fn start(keeper: &Keeper, hive: &HiveId) -> Result<(), Failure> {
    let told: HiveView = order(keeper, Method::POST, queen::HIVE_START, hive).await?.json().await?;
    if told.status == ONLINE {
        return keeper.screen.done("started", &format!("hive {hive}"), "");
    }
    keeper.screen.done("starting", &format!("hive {hive}"), "")?;
    keeper.screen.note(&format!("it has not reported yet; `rbee hive show {hive}` shows it"));
    Ok(())
}

async fn stop(keeper: &Keeper, hive: &HiveId) -> Result<(), Failure> {
    let told: HiveView = order(keeper, Method::POST, queen::HIVE_STOP, hive).await?.json().await?;
    keeper.screen.done("stopped", &format!("hive {hive}"), "")?;
    if !told.can_start {
        keeper.screen.note(&format!(
            "its rbee-hive has ended, and the queen cannot start it: start rbee-hive on its machine, then `rbee hive \
             start {hive}`"
        ));
    }
    Ok(())
}

/// Waits until a hive has no workers any more.
async fn until_drained(keeper: &Keeper, hive: &HiveId, timeout: u64) -> Result<(), Failure> {
    let mut bars = Bars::new(&keeper.screen);
    let path = path_of(queen::HIVE, hive);
    let drained = super::interruptible(async {
        loop {
            let view: HiveView = keeper.client.get(&path, &()).await?;
            if view.workers == 0 {
                return Ok(());
            }
            bars.show(&format!("draining hive {hive}"), ProgressBody::default());
            tokio::time::sleep(LOOK).await;
        }
    });
    let goes_on = format!(
        "its workers end as soon as their runs have ended; `rbee hive start {hive}` undoes it"
    );
    match tokio::time::timeout(Duration::from_secs(timeout), drained).await {
        Ok(Err(failure)) if failure.exit() == Exit::Interrupted => Err(failure.with_hint(goes_on)),
        Ok(drained) => drained,
        Err(_) => {
            let message = format!("hive {hive} still has workers after {timeout} s");
            Err(Failure::new(Exit::Failed, "DRAIN_TIMEOUT", message).with_hint(goes_on))
        }
    }
}

async fn show(keeper: &Keeper, hive: &HiveId) -> Result<(), Failure> {
    let path = path_of(queen::HIVE, hive);
    let hive: HiveView = keeper.client.get(&path, &()).await.map_err(with_hint)?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&hive);
    }
    let mut facts = Facts::default();
    facts.add("hive", hive.id.as_str());
    facts.state("status", state_of(&hive));
    facts.add("address", &hive.address);
    let seen =
        hive.last_seen_at_ms.map(|at| format!("{} UTC ({})", human::moment(at), human::ago(at)));
    facts.add("last seen", &seen.unwrap_or_default());
    let error = hive.error.map(|error| format!("{} ({})", error.message, error.code));
    facts.add("error", &error.unwrap_or_default());
    facts.add("workers", &hive.workers.to_string());
    let taken = human::bytes(hive.memory_taken);
    facts.add(
        "their memory",
        &match hive.memory_budget {
            Some(budget) => format!("{taken} of at most {}", human::bytes(budget)),
            None => taken,
        },
    );
    let labels = hive.labels.iter().map(|(name, value)| format!("{name}={value}"));
    facts.add("labels", &labels.collect::<Vec<_>>().join(", "));
    keeper.screen.facts(&facts)?;
    if !hive.devices.is_empty() {
        let mut table = Table::new([
            Column::new("DEVICE").right(),
            Column::new("KIND").whole().keep(80),
            Column::new("NAME").keep(40),
            Column::new("FREE").right().keep(70),
            Column::new("MEMORY").right().keep(60),
        ]);
        for device in &hive.devices {
            table.row([
                device.index.to_string(),
                super::workers::kind(device.kind).into(),
                device.name.clone(),
                human::bytes(device.memory_free),
                human::bytes(device.memory_total),
            ]);
        }
        keeper.screen.out("\n")?;
        keeper.screen.table(&table)?;
    }
    if !hive.models.is_empty() {
        let mut table =
            Table::new([Column::new("MODEL").middle(), Column::new("SIZE").right().keep(60)]);
        for (model, bytes) in hive.models {
            table.row([model, human::bytes(bytes)]);
        }
        keeper.screen.out("\n")?;
        keeper.screen.table(&table)?;
    }
    Ok(())
}

async fn order(
    keeper: &Keeper,
    method: Method,
    path: &str,
    hive: &HiveId,
) -> Result<Reply, Failure> {
    keeper.client.order(method, &path_of(path, hive), &()).await.map_err(with_hint)
}

fn path_of(path: &str, hive: &HiveId) -> String {
    path.replace("{id}", hive.as_str())
}

fn with_hint(failure: Failure) -> Failure {
    match failure.exit() {
        Exit::NotFound => failure.with_hint("`rbee hive ls` shows the machines"),
        _ => failure,
    }
}
