//! The address of a hive's daemon.

use std::{fmt, str::FromStr};

use rbee_core::{Error, ErrorKind};
use rbee_transport_http::wire::HIVE_PORT;

/// The address of a hive's daemon: `http://192.168.1.7:7835`, or `https://box:7835` if it has TLS.
///
/// ```
/// use queen_rbee::HiveUrl;
///
/// let url: HiveUrl = "http://attic.local".parse()?;
/// assert_eq!((url.host(), url.port()), ("attic.local", 7835));
/// assert_eq!(url.to_string(), "http://attic.local:7835");
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiveUrl {
    is_tls: bool,
    host: Box<str>,
    port: u16,
}

impl HiveUrl {
    /// The allowed form.
    pub const ALLOWED: &str =
        "http://HOST or http://HOST:PORT, without a path, and https:// for a hive with TLS";

    /// Makes a URL without TLS from its parts.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for an invalid host name.
    pub fn new(host: &str, port: u16) -> Result<Self, Error> {
        let text = if host.contains(':') {
            format!("http://[{host}]:{port}")
        } else {
            format!("http://{host}:{port}")
        };
        text.parse()
    }

    /// The name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// True if the daemon and its workers are reached over TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host and the port, as they are in the header `Host`.
    pub(crate) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The port; 7835 if the URL has none.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HiveUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| {
            let message = format!("the URL is {text:?}; allowed is {}", Self::ALLOWED);
            Error::new(ErrorKind::InvalidRequest, message).with_param("url")
        })
    }
}

fn parse(text: &str) -> Option<HiveUrl> {
    let (is_tls, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("http://")?),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
        }
        None => {
            let (host, port) = rest.split_once(':').unwrap_or((rest, ""));
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
            (!host.is_empty() && host.len() <= 253 && host.chars().all(allowed)).then_some(())?;
            (host, port)
        }
    };
    let port = if port.is_empty() { HIVE_PORT } else { port.parse().ok().filter(|p| *p > 0)? };
    Some(HiveUrl { is_tls, host: host.into(), port })
}

impl fmt::Display for HiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_reached_is_taken() {
        for (text, host, port) in [
            ("http://box", "box", 7835),
            ("http://10.0.0.7:80/", "10.0.0.7", 80),
            ("http://[::1]:9", "::1", 9),
            ("http://[fe80::1]", "fe80::1", 7835),
            ("https://box", "box", 7835),
            ("https://[::1]:9/", "::1", 9),
        ] {
            let url: HiveUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port));
            assert_eq!(url.is_tls(), text.starts_with("https"));
            assert_eq!(url.to_string().parse::<HiveUrl>().unwrap(), url);
        }
        for bad in [
            "",
            "box",
            "https:/box",
            "https://box:7835/path",
            "http://",
            "http://a b",
            "http://box:0",
            "http://box:99999",
            "http://box/path",
            "http://user@box",
            "http://[::1",
            "http://[x]",
            "http://[::1]x",
            "http://box:7835:1",
            "http://box?x",
        ] {
            assert!(bad.parse::<HiveUrl>().is_err(), "{bad}");
        }
    }
}
