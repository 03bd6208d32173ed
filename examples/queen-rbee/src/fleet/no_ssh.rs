//! Machines that are reached by SSH, in a build without the feature `ssh`: there are none.

use std::sync::Arc;

use rbee_core::{Error, ErrorKind, HiveBackend, HiveId, Result};
use rbee_transport_http::{
    Secret,
    server::AddProgress,
    wire::queen::{AddHive, HiveCheck, HiveDoctor, LogLine, RemoveHive, RemovedHive},
};

use super::ssh_entry::SshEntry;
use crate::Config;

fn unsupported() -> Error {
    let message = "this program was built without the feature `ssh`; build it with that feature, or start rbee-hive on \
                   the machine and add it by its url";
    Error::new(ErrorKind::Unsupported, message).with_param("ssh")
}

/// The configuration is refused for another reason.
pub(crate) fn check_target(_: &str) -> Result<()> {
    Ok(())
}

pub(super) fn host_of(_: &str) -> Result<String> {
    Err(unsupported())
}

#[derive(Debug)]
pub(super) struct SshHives;

impl SshHives {
    pub(super) fn new(_: &Config) -> Self {
        Self
    }

    pub(super) async fn open(&self, _: SshEntry) -> Result<Arc<dyn HiveBackend>> {
        Err(unsupported())
    }

    pub(super) async fn connect(
        &self,
        _: SshEntry,
        _: &AddHive,
        _: AddProgress,
    ) -> Result<Arc<dyn HiveBackend>> {
        Err(unsupported())
    }

    pub(super) fn keep(&self, connected: Arc<dyn HiveBackend>) -> Arc<dyn HiveBackend> {
        connected
    }

    pub(super) async fn try_out(
        &self,
        _: SshEntry,
        _: &AddHive,
        _: AddProgress,
    ) -> Result<HiveDoctor> {
        Err(unsupported())
    }

    pub(super) fn unlock(&self, _: &HiveId, _: Secret) -> Option<()> {
        None
    }

    pub(super) fn explain(&self, _: &HiveId, error: Error) -> Error {
        error
    }

    pub(super) async fn uninstall(&self, _: &HiveId, _: RemoveHive) -> Result<Option<RemovedHive>> {
        Ok(None)
    }

    pub(super) fn left_behind(&self, _: &HiveId) -> Option<String> {
        None
    }

    pub(super) async fn examine(&self, _: &HiveId) -> Vec<HiveCheck> {
        Vec::new()
    }

    pub(super) async fn logs(&self, _: &HiveId, _: usize) -> Option<Result<Vec<LogLine>>> {
        None
    }

    pub(super) fn forget(&self, _: &HiveId) {}
}
