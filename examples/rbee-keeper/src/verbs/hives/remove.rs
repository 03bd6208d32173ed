//! `rbee hive rm`: a machine leaves the list.

use std::time::Duration;

use clap::Args;
use http::Method;
use rbee_core::HiveId;
use rbee_transport_http::wire::queen::{self, RemoveHive, RemovedHive};

use super::{path_of, with_hint};
use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::human,
};

/// The hive is stopped, and its files are removed, on a machine that may be slow.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Its name
    hive: HiveId,

    /// Leave the files on a machine that was added by SSH
    #[arg(long)]
    keep_files: bool,

    /// Remove also the models that were downloaded to a machine that was added by SSH
    #[arg(long, conflicts_with = "keep_files")]
    models: bool,
}

impl Remove {
    pub(super) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let (path, screen) = (path_of(queen::HIVE, &self.hive), &keeper.screen);
        let query = RemoveHive { keep_files: self.keep_files, models: self.models };
        let reply = keeper.client.order_within(Method::DELETE, &path, &query, TIMEOUT).await;
        let reply = reply.map_err(with_hint)?;
        let subject = format!("hive {}", self.hive);
        if reply.is_empty() {
            screen.done("removed", &subject, "")?;
            return Ok(Exit::Ok);
        }
        let files: RemovedHive = reply.json().await?;
        if screen.is_json() {
            screen.document(&serde_json::json!({
                "done": "removed", "subject": subject, "removed": files.removed, "kept": files.kept,
            }))?;
            return Ok(Exit::Ok);
        }
        screen.done("removed", &subject, "")?;
        for file in &files.removed {
            screen.done("removed", &file.path, &format!("({})", human::bytes(file.bytes)))?;
        }
        for file in &files.kept {
            screen.done("kept", &file.path, &format!("({})", file.reason))?;
        }
        Ok(Exit::Ok)
    }
}
