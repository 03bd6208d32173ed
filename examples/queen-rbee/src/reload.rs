//! The files that a queen reads again while it serves, when SIGHUP comes.

use std::sync::Arc;

use rbee_transport_http::{
    TokenFile,
    server::{TlsFiles, log_reload, warn_of_exposed},
};
use tokio::sync::Notify;

use crate::fleet::Fleet;

/// What is read again. Each stands for itself: one that is refused leaves its old content in force, and the others are
/// reloaded all the same.
#[derive(Debug)]
pub(crate) struct Reloader {
    /// The token that clients must send.
    pub(crate) token: Option<TokenFile>,
    pub(crate) tls: Option<TlsFiles>,
    /// The machines of the configuration, whose tokens are in files.
    pub(crate) fleet: Arc<Fleet>,
    /// Tells whoever watches the file of the policy to read it at once.
    pub(crate) policy: Arc<Notify>,
}

impl Reloader {
    /// Reads everything again, and says in the log what came of each.
    pub(crate) fn reload(&self) {
        if let Some(file) = &self.token {
            warn_of_exposed("token_file", file.path());
            log_reload("token", file.path(), &file.reload());
        }
        if let Some(files) = &self.tls {
            warn_of_exposed("tls_key", files.key());
            let reloaded = files.reload().map(|()| true);
            log_reload("TLS certificate", files.certificates(), &reloaded);
        }
        for (hive, file) in self.fleet.token_files() {
            warn_of_exposed("hives: token_file", file.path());
            log_reload(&format!("token of hive {hive}"), file.path(), &file.reload());
        }
        self.policy.notify_one();
    }
}
