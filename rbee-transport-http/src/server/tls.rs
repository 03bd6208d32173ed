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
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
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
    current: RwLock<Current>,
}

/// What new handshakes use.
struct Current {
    /// The certificates, the server's own first. Its key belongs to it.
    chain: Vec<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
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
        let current = RwLock::new(read(certificates, key)?);
        let (certificates, key) = (certificates.to_owned(), key.to_owned());
        Ok(Self { inner: Arc::new(Inner { certificates, key, current }) })
    }

    /// A warning if the server's certificate, as it was last read, has expired, expires soon, or is not valid yet.
    pub fn validity_warning(&self) -> Option<String> {
        let current = self.inner.current.read().unwrap_or_else(PoisonError::into_inner);
        let warning = validity::warning(current.chain.first()?, std::time::SystemTime::now())?;
        Some(format!("{}: {warning}", self.inner.certificates.display()))
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
    /// nothing changes. Returns whether the certificates are other ones than before.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a file cannot be read, or the two do not match.
    pub fn reload(&self) -> Result<bool> {
        for path in [&self.inner.certificates, &self.inner.key] {
            crate::token::require_regular_file(path)?;
        }
        let new = read(&self.inner.certificates, &self.inner.key)?;
        let mut current = self.inner.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = new.chain != current.chain;
        *current = new;
        Ok(is_other)
    }

    /// The acceptor of the next handshake.
    pub(super) fn acceptor(&self) -> Acceptor {
        let current = self.inner.current.read().unwrap_or_else(PoisonError::into_inner);
        current.config.clone().into()
    }
}

fn read(certificates: &Path, key: &Path) -> Result<Current> {
    let wrong = |path: &Path, why: String| {
        Error::new(ErrorKind::Config, format!("{}: {why}", path.display()))
    };
    let unread = |path, what, cause: &pem::Error| match cause {
        pem::Error::Io(cause) => wrong(path, format!("cannot be read: {cause}")),
        pem::Error::NoItemsFound => wrong(path, format!("no {what} in PEM")),
        cause => {
            let why = crate::tls_error::plain_pem(cause);
            wrong(path, format!("no {what} in PEM: {why}"))
        }
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| unread(certificates, "certificates", &cause))?;
    if chain.is_empty() {
        return Err(wrong(certificates, "no certificates in PEM".into()));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|cause| unread(key, "private key", &cause))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain.clone(), secret))
        .map(|mut config| {
            // A client that wants HTTP/2 alone is refused in the handshake; others learn what is spoken here.
            config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
            config
        })
        .map_err(|cause| {
            let why = crate::tls_error::plain(&cause);
            wrong(certificates, format!("cannot be used with the key {}: {why}", key.display()))
        })?;
    Ok(Current { chain, config: Arc::new(config) })
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::*;

    /// The handshake of a client that offers these protocols.
    async fn shake(protocols: &[&[u8]]) -> std::io::Result<TlsStream<DuplexStream>> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let acceptor = TlsFiles::open(&cert, &key).unwrap().acceptor();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move { acceptor.accept(near).await });
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), far).await
    }

    #[tokio::test]
    async fn a_handshake_agrees_on_http_1_1_and_refuses_a_client_that_wants_http_2_alone() {
        for offered in [&[b"h2".as_slice(), b"http/1.1"][..], &[b"http/1.1"]] {
            let stream = shake(offered).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        }
        assert_eq!(shake(&[]).await.unwrap().get_ref().1.alpn_protocol(), None);
        let error = shake(&[b"h2"]).await.unwrap_err().to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
    }
}
