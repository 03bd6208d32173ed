//! `rbee hive`: machines.

mod add;
mod doctor;
mod logs;
mod passphrase;
mod remove;
mod show;

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use rbee_core::HiveId;
use rbee_transport_http::wire::{
    ProgressBody,
    queen::{self, HiveView, StartHive},
};

use crate::{
    Keeper,
    client::Reply,
    failure::{Exit, Failure},
    screen::Bars,
};

use passphrase::with_passphrase;

/// The status of a hive that is usable.
const ONLINE: &str = "online";
/// The interval at which a hive is checked.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum Hives {
    /// List the machines
    #[command(visible_alias = "list")]
    Ls,
    /// Add a machine
    Add(add::Add),
    /// Show a machine
    Show {
        /// Its name
        hive: HiveId,
    },
    /// Check the way to a machine, and the machine
    Doctor(doctor::HiveDoctor),
    /// Show the last lines of a machine's log
    Logs(logs::HiveLogs),
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
    Rm(remove::Remove),
}

impl Hives {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        match self {
            Self::Ls => show::ls(keeper).await?,
            Self::Add(add) => return add.run(keeper).await,
            Self::Show { hive } => show::show(keeper, hive).await?,
            Self::Doctor(doctor) => return doctor.run(keeper).await,
            Self::Logs(logs) => return logs.run(keeper).await,
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
            Self::Rm(remove) => return remove.run(keeper).await,
        }
        Ok(Exit::Ok)
    }
}

async fn start(keeper: &Keeper, hive: &HiveId) -> Result<(), Failure> {
    let path = path_of(queen::HIVE_START, hive);
    let told: HiveView = with_passphrase(keeper, async |passphrase| {
        keeper.client.post(&path, &StartHive { passphrase }).await
    })
    .await
    .map_err(with_hint)?;
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
