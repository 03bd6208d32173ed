//! [`Trust`]: the certificates that TLS is checked against.

mod shared;
mod verifier;

use std::{fmt, io, sync::Arc};

use rbee_core::{Error, ErrorKind, Result};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use crate::{dial::Io, tls_error::TlsError};
pub use shared::{SharedTrust, TrustFile};
use verifier::Verifier;

/// The certificates that a server's certificate is checked against. Clones share them.
///
/// A server is trusted if one of them has signed its certificate, or if its certificate is one of them: so a
/// self-signed certificate of `openssl req -x509` can be named, although it is marked as one of a CA. In both cases the
/// certificate must be within its dates and for the host of the URL. A name must be in its subject alternative names; if
/// it has none, a certificate that is itself one of them may have the name as its common name.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// The certificates that the operating system trusts, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR` if they are
    /// set. Reading them takes some milliseconds.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none.
    pub fn system() -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, unusable) = roots.add_parsable_certificates(found.certs.iter().cloned());
        tracing::debug!(added, unusable, "read the system's certificates");
        if added > 0 {
            return Self::of(roots, found.certs);
        }
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        let message = format!(
            "the system has no certificates to check TLS against{why}; install its package ca-certificates, or \
             name a file of them in SSL_CERT_FILE"
        );
        Err(Error::new(ErrorKind::Config, message))
    }

    /// These certificates in PEM, and no others.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is none, or if one cannot be used.
    pub fn only(pem: &[u8]) -> Result<Self> {
        let wrong = |why: String| Error::new(ErrorKind::Config, why);
        let (mut roots, mut trusted) = (RootCertStore::empty(), Vec::new());
        for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let certificate = certificate.map_err(|cause| {
                wrong(format!("no PEM: {}", crate::tls_error::plain_pem(&cause)))
            })?;
            roots.add(certificate.clone()).map_err(|cause| {
                let why = crate::tls_error::plain(&cause);
                wrong(format!("certificate {} cannot be used: {why}", index + 1))
            })?;
            trusted.push(certificate);
        }
        match roots.is_empty() {
            true => Err(wrong("there is no certificate in PEM".into())),
            false => Self::of(roots, trusted),
        }
    }

    fn of(roots: RootCertStore, trusted: Vec<CertificateDer<'static>>) -> Result<Self> {
        let wrong = |cause: &dyn fmt::Display| {
            Error::new(ErrorKind::Config, format!("TLS cannot be set up: {cause}"))
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            Verifier::new(roots, trusted, provider.clone()).map_err(|cause| wrong(&cause))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| wrong(&cause))?
            // Despite its name this replaces no check: the verifier includes the usual one.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        Ok(Self(Arc::new(config.with_no_client_auth())))
    }

    /// True if a certificate can be for this: a name of DNS, or an IP address without brackets.
    pub(super) fn is_name(host: &str) -> bool {
        ServerName::try_from(host).is_ok()
    }

    /// TLS over this connection, which leads to this host.
    ///
    /// # Errors
    /// One that wraps a [`TlsError`] if the connection itself did not break.
    pub(super) async fn encrypt(&self, host: &str, io: impl Io) -> io::Result<Box<dyn Io>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        match TlsConnector::from(self.0.clone()).connect(name, io).await {
            Ok(encrypted) => Ok(Box::new(encrypted)),
            Err(cause) => Err(match TlsError::of_handshake(&cause, host) {
                Some(error) => io::Error::new(cause.kind(), error),
                None => cause,
            }),
        }
    }
}
