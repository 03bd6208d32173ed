//! `rbee policy`: what places jobs.

use clap::Subcommand;
use rbee_transport_http::wire::queen::{self, PolicyView};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::Facts,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show which policy places jobs
    #[command(visible_alias = "show")]
    Get,
}

impl Policy {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let Self::Get = self;
        let policy: PolicyView = keeper.client.get(queen::POLICY, &()).await?;
        if keeper.screen.is_json() {
            keeper.screen.document(&policy)?;
            return Ok(Exit::Ok);
        }
        let mut facts = Facts::default();
        facts.add("policy", &policy.name);
        facts.text("what it does", &policy.description);
        keeper.screen.facts(&facts)?;
        Ok(Exit::Ok)
    }
}
