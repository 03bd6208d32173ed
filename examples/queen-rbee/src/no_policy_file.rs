//! Replaces the policy of the configuration in a build without policies.

use std::{path::Path, sync::Arc};

use rbee_core::{Error, ErrorKind, LeastLoaded, Queen, Result};
use tokio::sync::Notify;

/// A file with a policy. There is none: this build does not support policies.
#[derive(Debug)]
pub(crate) enum PolicyFile {}

/// The content of such a file.
pub(crate) enum Policy {}

impl Policy {
    pub(crate) fn with_builtin(self, _: LeastLoaded) -> LeastLoaded {
        match self {}
    }
}

impl PolicyFile {
    pub(crate) fn open(path: &Path) -> Result<(Self, Policy)> {
        let message = format!("setting policy, {}: this build reads no policies", path.display());
        Err(Error::new(ErrorKind::Config, message))
    }

    #[expect(clippy::unused_async, reason = "as the other one, which has something to wait for")]
    pub(crate) async fn watch(self, _: Queen, _: Arc<Notify>) {
        match self {}
    }
}
