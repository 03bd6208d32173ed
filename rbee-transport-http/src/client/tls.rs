//! [`Tls`]: connections over TLS to the ports of a machine.

use std::{io, sync::Arc};

use async_trait::async_trait;
use rbee_core::{Error, ErrorKind, Result};

use super::trust::{SharedTrust, Trust};
use crate::dial::{Dial, Io};

/// Connects to ports of one machine over TLS: to a hive with TLS, and to its workers, which then have it too.
///
/// ```no_run
/// # async fn example() -> rbee_core::Result<()> {
/// use std::sync::Arc;
/// use rbee_transport_http::{
///     client::{Endpoint, HttpHive, Tls, Trust}, dial::Tcp, wire,
/// };
///
/// let dial = Tls::new(Tcp::new("gpu-box.example"), Trust::system()?)?;
/// let token = std::env::var("RBEE_HIVE_TOKEN").ok().map(|text| text.parse()).transpose()?;
/// let hive = HttpHive::connect(Endpoint::new(Arc::new(dial), wire::HIVE_PORT, token)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tls {
    dial: Arc<dyn Dial>,
    name: Arc<str>,
    trust: SharedTrust,
}

impl Tls {
    /// TLS over the connections of `dial`. The certificate of the machine must be for [its name](Dial::host), and
    /// `trust` must hold it, or the one that has signed it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if this is no name of a host and no IP address.
    pub fn new(dial: impl Dial, trust: impl Into<SharedTrust>) -> Result<Self> {
        let name = Self::checked(dial.host())?;
        Ok(Self { dial: Arc::new(dial), name, trust: trust.into() })
    }

    /// Sets another name that the certificate must be for: if `dial` has an address instead of it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if this is no name of a host and no IP address.
    pub fn with_name(mut self, name: &str) -> Result<Self> {
        self.name = Self::checked(name)?;
        Ok(self)
    }

    fn checked(name: &str) -> Result<Arc<str>> {
        match Trust::is_name(name) {
            true => Ok(name.into()),
            false => {
                let shown: String = name.chars().take(80).collect();
                let message = format!(
                    "{shown:?} cannot be the name in a certificate; allowed is a name of DNS or an IP address"
                );
                Err(Error::new(ErrorKind::Config, message))
            }
        }
    }
}

#[async_trait]
impl Dial for Tls {
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Io>> {
        let io = self.dial.dial(port).await?;
        self.trust.current().encrypt(&self.name, io).await
    }

    fn host(&self) -> &str {
        self.dial.host()
    }
}
