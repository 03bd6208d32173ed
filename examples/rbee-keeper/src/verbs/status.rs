//! `rbee status` and `rbee version`: how the queen is, and who she is.

use std::time::Duration;

use clap::Args;
use rbee_transport_http::wire::{self, queen::Health};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::{Facts, human},
};

/// How long the version of the queen may take.
const PATIENCE: Duration = Duration::from_secs(2);
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let health: Health = keeper.client.get(wire::HEALTH, &()).await?;
        if keeper.screen.is_json() {
            keeper.screen.document(&health)?;
            return Ok(Exit::Ok);
        }
        let mut facts = Facts::default();
        facts.add("address", &keeper.client.address().to_string());
        facts.state("status", &health.status);
        facts.add("queen", &health.queen);
        facts.add("version", &health.version);
        facts.add("process", &health.pid.to_string());
        facts.add("up", &human::span(health.uptime_ms));
        facts.add("jobs waiting", &health.jobs_waiting.to_string());
        facts.add("jobs running", &health.jobs_running.to_string());
        facts.add("hives online", &health.hives_online.to_string());
        facts.add("workers ready", &health.workers_ready.to_string());
        keeper.screen.facts(&facts)?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Version {}

impl Version {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let health: Option<Health> = keeper.client.get_within(wire::HEALTH, PATIENCE).await.ok();
        let queen = health.map(|health| health.version);
        if keeper.screen.is_json() {
            keeper.screen.document(&serde_json::json!({ "rbee": VERSION, "queen": queen }))?;
            return Ok(Exit::Ok);
        }
        let mut facts = Facts::default();
        facts.add("rbee", VERSION);
        let address = keeper.client.address();
        let said = match &queen {
            Some(version) => format!("{version} at {address}"),
            None => format!("none answers at {address}"),
        };
        facts.add("queen", &said);
        keeper.screen.facts(&facts)?;
        if queen.is_some_and(|version| version != VERSION) {
            keeper
                .screen
                .warn("the two versions differ; what only one of them knows will not work");
        }
        Ok(Exit::Ok)
    }
}
