//! `rbee hive`: machines.

use std::path::PathBuf;

use clap::Subcommand;
use http::Method;
use rbee_core::{HiveId, hive::parse_label};
use rbee_transport_http::{
    Token,
    wire::queen::{self, AddHive, HiveView, Listing},
};

use crate::{
    Keeper, args,
    failure::{Exit, Failure},
    screen::{Column, Facts, Table, human},
};

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
            Self::Start { hive } => {
                order(keeper, Method::POST, queen::HIVE_START, hive, "started").await?;
            }
            Self::Stop { hive } => {
                order(keeper, Method::POST, queen::HIVE_STOP, hive, "stopped").await?;
            }
            Self::Drain { hive } => {
                order(keeper, Method::POST, queen::HIVE_DRAIN, hive, "draining").await?;
            }
            Self::Rm { hive } => {
                order(keeper, Method::DELETE, queen::HIVE, hive, "removed").await?
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
    if hive.draining && hive.status == "online" { "draining" } else { &hive.status }
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
    let hive: HiveView = keeper.client.post(queen::HIVES, &body).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&hive);
    }
    keeper.screen.done("added", &format!("hive {}", hive.id), &format!("({})", hive.address))
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
    did: &str,
) -> Result<(), Failure> {
    keeper.client.order(method, &path_of(path, hive), &()).await.map_err(with_hint)?;
    keeper.screen.done(did, &format!("hive {hive}"), "")
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
