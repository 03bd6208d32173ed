//! The certificates and the private key of a server, read from files that can be read again.

mod validity;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rbee_core::{Error, ErrorKind, Result};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
pub(super) use tokio_rustls::TlsAcceptor as Acceptor;

/// The certificates and the private key of a [`Server`](super::Server), each in a PEM file. Clones share them.
#[derive(Clone)]
pub struct TlsFiles {
    inner: Arc<Inner>,
}

struct Inner {
    certificates: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsFiles({}, {})", self.inner.certificates.display(), self.inner.key.display())
    }
}

impl TlsFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a file cannot be read, or the two do not match.
    pub fn open(certificates: &Path, key: &Path) -> Result<Self> {
        let config = RwLock::new(read(certificates, key)?);
        let (certificates, key) = (certificates.to_owned(), key.to_owned());
        Ok(Self { inner: Arc::new(Inner { certificates, key, config }) })
    }

    /// A warning if the server's certificate has expired, expires soon, or is not valid yet.
    pub fn validity_warning(&self) -> Option<String> {
        let path = &self.inner.certificates;
        // Both files were read when this was made; one that cannot be read now has no warning.
        let first = CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?;
        let warning = validity::warning(&first, std::time::SystemTime::now())?;
        Some(format!("{}: {warning}", path.display()))
    }

    /// The file with the certificates.
    pub fn certificates(&self) -> &Path {
        &self.inner.certificates
    }

    /// The file with the private key.
    pub fn key(&self) -> &Path {
        &self.inner.key
    }

    /// Reads both files again. New handshakes use the new content; established connections continue. If this fails,
    /// nothing changes.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a file cannot be read, or the two do not match.
    pub fn reload(&self) -> Result<()> {
        for path in [&self.inner.certificates, &self.inner.key] {
            crate::token::require_regular_file(path)?;
        }
        let config = read(&self.inner.certificates, &self.inner.key)?;
        *self.inner.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// The acceptor of the next handshake.
    pub(super) fn acceptor(&self) -> Acceptor {
        self.inner.config.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

fn read(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let wrong = |path: &Path, why: String| {
        Error::new(ErrorKind::Config, format!("{}: {why}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| wrong(certificates, format!("no certificates in PEM: {cause}")))?;
    if chain.is_empty() {
        return Err(wrong(certificates, "no certificates in PEM".into()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|cause| wrong(key, format!("no private key in PEM: {cause}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|cause| {
            wrong(certificates, format!("cannot be used with the key {}: {cause}", key.display()))
        })?;
    Ok(Arc::new(config))
}
