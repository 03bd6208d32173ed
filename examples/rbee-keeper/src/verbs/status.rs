//! `rbee status` and `rbee version`: the status of the queen, and the versions.

use std::time::Duration;

use clap::Args;

use crate::{
    Keeper,
    client::TIMEOUT as ANSWER_TIMEOUT,
    failure::{Exit, Failure},
    screen::{Facts, human},
};

/// The timeout for the version of the queen.
const TIMEOUT: Duration = Duration::from_secs(2);
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The status of a queen that goes down, which may not answer any more.
const DRAINING: &str = "draining";

#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let health = keeper.client.health(ANSWER_TIMEOUT).await?;
        if keeper.screen.is_json() {
            keeper.screen.document(&health)?;
            return Ok(Exit::Ok);
        }
        let mut facts = Facts::default();
        facts.add("address", &keeper.client.address().to_string());
        facts.state("status", &health.status);
        if let Some(details) = &health.details {
            facts.add("queen", &details.queen);
            facts.add("version", &details.version);
            facts.add("process", &details.pid.to_string());
            facts.add("up", &human::span(details.uptime_ms));
            facts.add("jobs waiting", &details.jobs_waiting.to_string());
            facts.add("jobs running", &details.jobs_running.to_string());
            facts.add("hives online", &details.hives_online.to_string());
            facts.add("workers ready", &details.workers_ready.to_string());
        }
        keeper.screen.facts(&facts)?;
        if health.details.is_none() && health.status != DRAINING {
            keeper.screen.note(
                "the queen shows more only to the operator; give its token with --token-file or RBEE_API_KEY",
            );
        }
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Version {}

impl Version {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let health = keeper.client.health(TIMEOUT).await.ok();
        let answers = health.is_some();
        let queen = health.and_then(|health| health.details).map(|details| details.version);
        if keeper.screen.is_json() {
            keeper.screen.document(&serde_json::json!({ "rbee": VERSION, "queen": queen }))?;
            return Ok(Exit::Ok);
        }
        let mut facts = Facts::default();
        facts.add("rbee", VERSION);
        let address = keeper.client.address();
        let said = match &queen {
            Some(version) => format!("{version} at {address}"),
            None if answers => {
                format!("answers at {address}, but shows its version only to its operator")
            }
            None => format!("none answers at {address}"),
        };
        facts.add("queen", &said);
        keeper.screen.facts(&facts)?;
        if queen.is_some_and(|version| version != VERSION) {
            keeper
                .screen
                .warn("the two versions differ; features that only one of them has do not work");
        }
        Ok(Exit::Ok)
    }
}
