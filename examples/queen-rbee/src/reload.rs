//! The files that a queen reads again on SIGHUP.

use std::sync::Arc;

use rbee_transport_http::{
    TokenFile,
    server::{TlsFiles, log_reload, warn_of_exposed},
};
use tokio::sync::Notify;

use crate::fleet::Fleet;

/// The files to read again, each independently: one that is refused keeps its old content in force, and the others
/// are still reloaded.
#[derive(Debug)]
pub(crate) struct Reloader {
    /// The token that clients must send.
    pub(crate) token: Option<TokenFile>,
    pub(crate) tls: Option<TlsFiles>,
    /// The hives of the configuration, whose tokens and trusted certificates are in files.
    pub(crate) fleet: Arc<Fleet>,
    /// Notifies the watcher of the policy's file to read it at once.
    pub(crate) policy: Arc<Notify>,
}

impl Reloader {
    /// Reads everything again, and logs the result of each.
    pub(crate) fn reload(&self) {
        if let Some(file) = &self.token {
            warn_of_exposed("token_file", file.path());
            log_reload("token", file.path(), &file.reload());
        }
        if let Some(files) = &self.tls {
            warn_of_exposed("tls_key", files.key());
            log_reload("TLS certificate", files.certificates(), &files.reload());
            if let Some(warning) = files.validity_warning() {
                tracing::warn!("tls_cert: {warning}");
            }
        }
        for (hive, file) in self.fleet.token_files() {
            warn_of_exposed("hives: token_file", file.path());
            log_reload(&format!("token of hive {hive}"), file.path(), &file.reload());
        }
        for (hive, tls) in self.fleet.ca_certs() {
            if let Some(path) = tls.path() {
                log_reload(&format!("ca_cert of hive {hive}"), path, &tls.reload());
            }
        }
        self.policy.notify_one();
    }
}
