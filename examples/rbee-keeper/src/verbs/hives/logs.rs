//! `rbee hive logs`: the log of a machine's hive.

use clap::Args;
use rbee_core::HiveId;
use rbee_transport_http::wire::queen::{self, HiveLogQuery, Listing, LogLine};

use super::{super::logs, path_of, with_hint};
use crate::{
    Keeper,
    failure::{Exit, Failure},
};

#[derive(Debug, Args)]
pub(crate) struct HiveLogs {
    /// Its name
    hive: HiveId,

    /// At most this many of the last lines
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    lines: u16,
}

impl HiveLogs {
    pub(super) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let query = HiveLogQuery { lines: Some(self.lines.into()) };
        let path = path_of(queen::HIVE_LOGS, &self.hive);
        let found: Listing<LogLine> = keeper.client.get(&path, &query).await.map_err(with_hint)?;
        if keeper.screen.is_json() {
            keeper.screen.document(&found)?;
            return Ok(Exit::Ok);
        }
        for line in &found.data {
            logs::show(keeper, line)?;
        }
        Ok(Exit::Ok)
    }
}
