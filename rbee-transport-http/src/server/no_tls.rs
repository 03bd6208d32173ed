//! Replaces TLS in a build without it.

use std::{io, path::Path};

use rbee_core::{Error, ErrorKind, Result};
use tokio::net::TcpStream;

/// The certificates and the private key of a server. There are none: this build has no TLS.
#[derive(Clone, Debug)]
pub enum TlsFiles {}

impl TlsFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: this build has no TLS.
    pub fn open(certificates: &Path, _key: &Path) -> Result<Self> {
        let message = format!(
            "{}: this build has no TLS; build it with the feature `tls`",
            certificates.display()
        );
        Err(Error::new(ErrorKind::Config, message))
    }

    /// A warning about the time in which the certificate is valid.
    pub fn validity_warning(&self) -> Option<String> {
        match *self {}
    }

    /// The file with the certificates.
    pub fn certificates(&self) -> &Path {
        match *self {}
    }

    /// The file with the private key.
    pub fn key(&self) -> &Path {
        match *self {}
    }

    /// Reads both files again.
    ///
    /// # Errors
    /// None.
    pub fn reload(&self) -> Result<bool> {
        match *self {}
    }

    pub(super) fn acceptor(&self) -> Acceptor {
        match *self {}
    }
}

/// Makes the handshake of a connection.
#[derive(Clone)]
pub(super) enum Acceptor {}

impl Acceptor {
    #[expect(clippy::unused_async, reason = "as the other one, which has something to wait for")]
    pub(super) async fn accept(&self, _: TcpStream) -> io::Result<TcpStream> {
        match *self {}
    }
}
