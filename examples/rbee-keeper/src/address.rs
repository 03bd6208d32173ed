//! Where the queen is: what hands type, made into a URL.

use std::{fmt, str::FromStr};

use rbee_transport_http::wire::QUEEN_PORT;

/// The root of a queen's API, `http://127.0.0.1:7833` for instance.
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
    url: String,
    host: String,
}

impl Default for Address {
    fn default() -> Self {
        Self { url: format!("http://127.0.0.1:{QUEEN_PORT}"), host: "127.0.0.1".into() }
    }
}

impl Address {
    /// The URL of a path.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Is it spoken to over TLS?
    pub fn is_tls(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// Is it on this machine?
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// `host:port` or `[host]:port`, the port of the scheme where none is given.
    pub fn authority(&self) -> &str {
        self.url.split_once("://").map_or("", |(_, rest)| rest)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
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
            return Err(wrong("there is more than a host and a port"));
        }
        // An IPv6 address without brackets has several colons, and so no port.
        let bare_ipv6 = rest.matches(':').count() > 1 && !rest.starts_with('[');
        let rest = if bare_ipv6 { format!("[{rest}]") } else { rest.to_owned() };
        let authority: http::uri::Authority = rest.parse().map_err(|_| wrong("this is no host"))?;
        let host = authority.host();
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        if authority.as_str() != host && authority.port_u16().is_none() {
            return Err(wrong("the port is not 0 to 65535"));
        }
        // What is typed with a scheme is a URL, and has that scheme's port; a bare host is a queen on hers.
        let url = match authority.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None if text.contains("://") => format!("{scheme}://{host}"),
            None => format!("{scheme}://{host}:{QUEEN_PORT}"),
        };
        Ok(Self { url, host: host.to_owned() })
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
