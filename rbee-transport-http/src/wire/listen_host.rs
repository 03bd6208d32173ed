//! [`ListenHost`]: the addresses that a server listens on.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use rbee_core::{Error, ErrorKind};
use serde::{Serialize, Serializer};

/// The addresses that a server listens on: `localhost`, or one IP address.
///
/// ```
/// use rbee_transport_http::wire::ListenHost;
///
/// assert_eq!("localhost".parse::<ListenHost>()?, ListenHost::Localhost);
/// assert!("::1".parse::<ListenHost>()?.is_loopback());
/// assert!("my-machine".parse::<ListenHost>().is_err());
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenHost {
    /// `127.0.0.1` and, if this machine has it, `::1`. A client may take `localhost` for either.
    #[default]
    Localhost,
    /// This address alone; `0.0.0.0` and `::` are all addresses of the machine.
    Address(IpAddr),
}

impl ListenHost {
    /// The address to show and to announce.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Localhost => Ipv4Addr::LOCALHOST.into(),
            Self::Address(address) => address,
        }
    }

    /// True if only this machine can reach it.
    pub fn is_loopback(self) -> bool {
        self.ip().is_loopback()
    }

    /// All addresses, with this port; the one to show is the first.
    pub fn addresses(self, port: u16) -> impl Iterator<Item = SocketAddr> {
        let more = (self == Self::Localhost).then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        [self.ip()].into_iter().chain(more).map(move |ip| SocketAddr::new(ip, port))
    }
}

impl FromStr for ListenHost {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Localhost);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self::Address).map_err(|_| {
            let shown: String = text.chars().take(100).collect();
            let message = format!(
                "{shown:?} is no address to listen on; allowed are an IP address of this machine, 0.0.0.0 for all, or \
                 localhost"
            );
            Error::new(ErrorKind::Config, message)
        })
    }
}

impl fmt::Display for ListenHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost => f.write_str("localhost"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Serialize for ListenHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
