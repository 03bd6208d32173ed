//! The files that the hive reads again on SIGHUP.

use std::sync::Arc;

use rbee_core::Result;
use rbee_transport_http::{
    ProcessHive, TokenFile,
    server::{self, TlsFiles, log_reload, warn_of_exposed},
};

/// Reads the token and the files of TLS again on every SIGHUP, each independently, and lets the workers do so. Without
/// such files the signal changes nothing, and does not end the hive.
pub(crate) fn on_hangup(
    token: Option<TokenFile>,
    tls: Option<TlsFiles>,
    hive: Arc<ProcessHive>,
) -> Result<()> {
    server::on_hangup(move || {
        if let Some(file) = &token {
            warn_of_exposed("--token-file", file.path());
            log_reload("token", file.path(), &file.reload());
        }
        if let Some(files) = &tls {
            warn_of_exposed("--tls-key", files.key());
            let reloaded = files.reload();
            log_reload("TLS certificate", files.certificates(), &reloaded);
            if let Some(warning) = files.validity_warning() {
                tracing::warn!("--tls-cert: {warning}");
            }
            // What is refused here would be refused there.
            if reloaded.is_ok() {
                let hive = hive.clone();
                tokio::spawn(async move { hive.reload_tls().await });
            }
        }
        if token.is_none() && tls.is_none() {
            tracing::info!("SIGHUP: there is no --token-file and no --tls-cert to read again");
        }
    })
}
