//! The queen's address: what users type, as a URL.

use std::{fmt, net::IpAddr, str::FromStr};

use rbee_transport_http::wire::QUEEN_PORT;

/// The base URL of a queen's API, for example `http://127.0.0.1:7833`.
///
/// ```
/// use rbee_keeper::Address;
///
/// for (typed, meant) in [
///     ("bee", "http://bee:7833"),
///     ("192.168.1.7:80", "http://192.168.1.7:80"),
///     ("::1", "http://[::1]:7833"),
///     ("https://bee.example/", "https://bee.example"),
/// ] {
///     assert_eq!(typed.parse::<Address>()?.to_string(), meant);
/// }
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    tls: bool,
    /// An IPv6 address has no brackets here.
    host: String,
    /// The default port of the scheme if `None`.
    port: Option<u16>,
}

impl Default for Address {
    fn default() -> Self {
        Self { tls: false, host: "127.0.0.1".into(), port: Some(QUEEN_PORT) }
    }
}

impl Address {
    /// The URL of a path.
    pub fn join(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// True if the address uses TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// True if the address is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The machine's name or IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, or `None` if it is the scheme's default.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same machine with another port.
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The same with another host.
    pub fn with_host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    /// The address at which this machine reaches a server that listens here: the loopback address if it listens on all
    /// addresses.
    pub fn reachable(mut self) -> Self {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) if ip.is_unspecified() => self.host = "127.0.0.1".into(),
            Ok(IpAddr::V6(ip)) if ip.is_unspecified() => self.host = "::1".into(),
            _ => {}
        }
        self
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "https://" } else { "http://" })?;
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{why}; allowed are host, host:port, http://host[:port] and https://host[:port]"
            )
        };
        let text = typed.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(_) => return Err(wrong("the scheme is neither http nor https")),
            None => ("http", text),
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains(['@', '?', '#', '/']) || rest.chars().any(char::is_whitespace) {
            return Err(wrong("it has more than a host and a port"));
        }
        // An IPv6 address without brackets has several colons, and so no port.
        let bare_ipv6 = rest.matches(':').count() > 1 && !rest.starts_with('[');
        let rest = if bare_ipv6 { format!("[{rest}]") } else { rest.to_owned() };
        let authority: http::uri::Authority =
            rest.parse().map_err(|_| wrong("this is not a host"))?;
        let host = authority.host();
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        if authority.as_str() != host && authority.port_u16().is_none() {
            return Err(wrong("the port is not 0 to 65535"));
        }
        // With a scheme the text is a URL with the default port of that scheme. A bare host has the queen's port.
        let usual = (!text.contains("://")).then_some(QUEEN_PORT);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls: scheme == "https", host, port: authority.port_u16().or(usual) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_with_what_is_allowed() {
        for bad in ["", ":80", "ftp://x", "http://a/b", "user@host", "a b", "host:99999", "host:"] {
            let why = bad.parse::<Address>().unwrap_err();
            assert!(why.contains("allowed are"), "{bad:?}: {why}");
        }
    }

    #[test]
    fn this_machine_is_known_by_all_its_names() {
        for (typed, is) in [
            ("localhost", true),
            ("127.1.2.3:1", true),
            ("[::1]:9", true),
            ("https://localhost", true),
            ("bee.local", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(typed.parse::<Address>().unwrap().is_loopback(), is, "{typed}");
        }
    }
}
