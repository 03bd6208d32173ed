//! How the queen reaches the daemon of a hive, and which token it sends.

use std::{path::PathBuf, sync::Arc};

use rbee_core::{Error, ErrorKind, Result};
use rbee_transport_http::{
    LocalDaemon, SharedToken,
    client::{Endpoint, TlsError},
    dial::{Dial, Tcp},
};

use crate::{HiveUrl, hive_tls::HiveTls};

/// The address of a hive, and the token that it accepts.
///
/// A hive on this machine that runs as the same user needs no token from the user: it keeps one in a file. That file
/// is read for every connection, because the hive may be started after the queen, and with another token.
#[derive(Clone, Debug)]
pub(crate) struct HiveAccess {
    url: HiveUrl,
    /// How the machine is reached.
    dial: Arc<dyn Dial>,
    tls: Option<HiveTls>,
    /// The configured token.
    given: Option<SharedToken>,
    /// The directory in which hives of this user keep their files.
    directory: Option<PathBuf>,
}

impl HiveAccess {
    /// The access to the hive at this URL, which has TLS if the URL begins with `https://`: then its certificate is
    /// checked against `tls`, or the certificates of the system.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the host cannot be in a certificate, or the system has no certificates.
    pub(crate) fn new(
        url: HiveUrl,
        given: Option<SharedToken>,
        directory: Option<PathBuf>,
        tls: Option<HiveTls>,
    ) -> Result<Self> {
        let tls = match url.is_tls() {
            true => Some(tls.map_or_else(HiveTls::system, Ok)?),
            false => None,
        };
        let dial = dial(Tcp::new(url.host()), &url, tls.as_ref())?;
        Ok(Self { url, dial, tls, given, directory })
    }

    /// How the machine is reached.
    pub(crate) fn dial(&self) -> &Arc<dyn Dial> {
        &self.dial
    }

    pub(crate) fn url(&self) -> &HiveUrl {
        &self.url
    }

    /// True if its token may be in a file that has to be read again.
    pub(crate) fn may_change(&self) -> bool {
        self.given.is_none()
    }

    /// The endpoint with the configured token; without one, no file is searched.
    pub(crate) fn as_given(&self) -> Endpoint {
        let endpoint = Endpoint::new(self.dial.clone(), self.url.port(), None);
        match &self.given {
            Some(token) => endpoint.with_token(token.clone()),
            None => endpoint,
        }
    }

    /// The endpoint with the configured token, or the one found in a file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the file, if the hive's token is there and cannot be read.
    pub(crate) async fn endpoint(&self) -> Result<Endpoint> {
        let (true, Some(directory)) = (self.may_change(), self.directory.clone()) else {
            return Ok(self.as_given());
        };
        let url = self.url.clone();
        let find = move || LocalDaemon::find(&directory, url.host(), url.port());
        let found = tokio::task::spawn_blocking(find).await.unwrap_or_else(|cause| {
            let message = "looking for hives on this machine broke off";
            Err(Error::new(ErrorKind::Internal, message).with_source(cause))
        })?;
        Ok(match found {
            Some(LocalDaemon { address, token }) => {
                let tcp = Tcp::new(address.ip().to_string());
                let dial = dial(tcp, &self.url, self.tls.as_ref())?;
                Endpoint::new(dial, address.port(), Some(token))
            }
            None => self.as_given(),
        })
    }

    /// The error, with advice if the hive requires a token, or another one, or if its certificate is not trusted.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if TlsError::find(&error).is_some_and(TlsError::is_untrusted) {
            let message = format!(
                "{}. Give the queen the certificate of the hive, or that of the CA that signed it, as a file in PEM: with \
                 `rbee hive add {} --hive-ca-cert FILE`, or with ca_cert for a hive of the configuration",
                error.message(),
                self.url
            );
            return Error::new(error.kind(), message).with_param("ca_cert").with_source(error);
        }
        if error.kind() != ErrorKind::Unauthorized {
            return error;
        }
        let url = &self.url;
        let what = match (&self.given, &self.directory) {
            (Some(_), _) => {
                format!("the hive at {url} takes another token than the one that was given for it")
            }
            (None, Some(directory)) => format!(
                "the hive at {url} wants its token, and no hive in {} listens there with a token that this user can \
                 read",
                directory.display()
            ),
            (None, None) => format!("the hive at {url} wants its token"),
        };
        let message = format!(
            "{what}. The token is in the file `token` in the hive's state directory, which the hive names in its log \
             when it starts, or it is the one that the hive was given. Pass it with `rbee hive add {url} \
             --hive-token-file FILE`, or with token_file for a hive of the configuration"
        );
        Error::new(ErrorKind::Unauthorized, message).with_source(error)
    }
}

/// The machine at the other end of `tcp`, with the TLS of this URL.
fn dial(tcp: Tcp, url: &HiveUrl, tls: Option<&HiveTls>) -> Result<Arc<dyn Dial>> {
    match tls {
        Some(tls) => tls.dial(tcp, url.host()),
        None => Ok(Arc::new(tcp)),
    }
}
