//! The certificates that those of hives are checked against.

use std::{path::Path, sync::Arc};

use rbee_core::{Error, ErrorKind, Result};
use rbee_transport_http::{
    client::{SharedTrust, Tls, Trust, TrustFile},
    dial::{Dial, Tcp},
};

/// The certificates that the certificate of a hive is checked against.
#[derive(Clone, Debug)]
pub(crate) struct HiveTls {
    trust: SharedTrust,
    file: Option<TrustFile>,
}

impl HiveTls {
    /// Those of the system.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there are none.
    pub(crate) fn system() -> Result<Self> {
        Ok(Self { trust: Trust::system()?.into(), file: None })
    }

    /// These in PEM, and no others.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if they cannot be used.
    pub(crate) fn only(pem: &str) -> Result<Self> {
        let trust = Trust::only(pem.as_bytes()).map_err(|error| {
            let message = format!("ca_cert cannot be used: {}", error.message());
            Error::new(ErrorKind::InvalidRequest, message).with_param("ca_cert").with_source(error)
        })?;
        Ok(Self { trust: trust.into(), file: None })
    }

    /// Those of this file in PEM, and no others.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the file, if it cannot be used.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = TrustFile::open(path)?;
        Ok(Self { trust: file.trust().clone(), file: Some(file) })
    }

    /// The file, if they are from one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(TrustFile::path)
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`open`](Self::open); then nothing changes.
    pub(crate) fn reload(&self) -> Result<bool> {
        self.file.as_ref().map_or(Ok(false), TrustFile::reload)
    }

    /// TLS over TCP, to the machine of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the name cannot be in a certificate.
    pub(crate) fn dial(&self, tcp: Tcp, name: &str) -> Result<Arc<dyn Dial>> {
        Ok(Arc::new(Tls::new(tcp, self.trust.clone())?.with_name(name)?))
    }
}
