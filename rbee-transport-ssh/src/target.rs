//! What a person names: [`SshTarget`].

use std::{fmt, net::Ipv6Addr, str::FromStr};

use crate::error::SshError;

/// The most bytes of a host name (DNS allows 253) and of a user name.
const MOST_BYTES: usize = 255;
/// Characters that have a meaning in a shell. A name can end up in a `ProxyCommand`, so they are refused.
const SHELL_CHARACTERS: &[char] = &[
    '\'', '`', '"', '$', '\\', ';', '&', '<', '>', '|', '(', ')', '{', '}', '[', ']', '*', '?',
    '!', '#',
];

/// A machine as a person names it for `ssh`: an alias of `ssh_config`, `user@host`, `user@host:port`, an IPv6 address
/// (in brackets if a port follows), or a URL `ssh://user@host:port`.
///
/// ```
/// use rbee_transport_ssh::SshTarget;
///
/// let target: SshTarget = "ada@[2001:db8::7]:2222".parse()?;
/// assert_eq!((target.user(), target.host(), target.port()), (Some("ada"), "2001:db8::7", Some(2222)));
/// assert_eq!(target.to_string(), "ada@[2001:db8::7]:2222");
///
/// let error = "-oProxyCommand=evil".parse::<SshTarget>().unwrap_err();
/// assert!(error.to_string().contains("must not begin with \"-\""));
/// # Ok::<(), rbee_transport_ssh::SshError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SshTarget {
    user: Option<Box<str>>,
    host: Box<str>,
    port: Option<u16>,
}

impl SshTarget {
    /// The host name, address or alias, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The user, if one was named.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The port, if one was named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(formatter, "{user}@")?;
        }
        match self.port {
            Some(port) if self.host.contains(':') => write!(formatter, "[{}]:{port}", self.host),
            Some(port) => write!(formatter, "{}:{port}", self.host),
            None => formatter.write_str(&self.host),
        }
    }
}

impl FromStr for SshTarget {
    type Err = SshError;

    fn from_str(text: &str) -> Result<Self, SshError> {
        parse(text).map_err(|reason| SshError::Target { text: text.into(), reason })
    }
}

fn parse(text: &str) -> Result<SshTarget, String> {
    let rest = match text.strip_prefix("ssh://") {
        Some(url) => without_path(url)?,
        None => text,
    };
    // A user name may contain `@`, and a host name may not.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(checked("the user name", user)?), rest),
        None => (None, rest),
    };
    let (host, port) = host_and_port(rest)?;
    let host = checked("the host name", host)?;
    if host.contains(':') && !is_ipv6(host) {
        return Err(format!("{host:?} is no IPv6 address"));
    }
    if host.contains('/') {
        return Err("a host name has no \"/\"".into());
    }
    Ok(SshTarget { user: user.map(Into::into), host: host.into(), port })
}

fn without_path(url: &str) -> Result<&str, String> {
    let url = url.strip_suffix('/').unwrap_or(url);
    if url.contains('/') {
        return Err("a URL of a machine has no path; write ssh://user@host:port".into());
    }
    if url.contains('%') {
        return Err("percent-encoding is not supported; write user@host:port".into());
    }
    Ok(url)
}

fn host_and_port(text: &str) -> Result<(&str, Option<u16>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) =
            rest.split_once(']').ok_or("the closing bracket \"]\" of the address is missing")?;
        let port = match after.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if after.is_empty() => None,
            None => return Err(format!("{after:?} follows the bracket; write [address]:port")),
        };
        return Ok((host, port));
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, rest)) if rest.contains(':') => {
            if is_ipv6(text) {
                return Ok((text, None));
            }
            Err("it has more than one \":\" and is no IPv6 address; write user@host:port, or \
                 [address]:port for IPv6"
                .into())
        }
        Some((host, digits)) => Ok((host, Some(port(digits)?))),
    }
}

/// Returns true for an IPv6 address, which may end with the name of an interface: `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    text.split('%').next().unwrap_or_default().parse::<Ipv6Addr>().is_ok()
}

fn port(digits: &str) -> Result<u16, String> {
    match digits.parse() {
        Ok(port) if port != 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{digits:?} is no port; a port is a number from 1 to 65535")),
    }
}

/// Refuses names that `ssh` or a shell could take for something else.
fn checked<'a>(what: &str, name: &'a str) -> Result<&'a str, String> {
    if name.is_empty() {
        return Err(format!("{what} is missing"));
    }
    if name.len() > MOST_BYTES {
        return Err(format!("{what} has {} bytes; at most {MOST_BYTES} are allowed", name.len()));
    }
    if name.starts_with('-') {
        return Err(format!(
            "{what} must not begin with \"-\", because ssh would take it for an option"
        ));
    }
    let is_bad = |character: &char| {
        character.is_whitespace() || character.is_control() || SHELL_CHARACTERS.contains(character)
    };
    match name.chars().find(is_bad) {
        Some(bad) => Err(format!("{what} must not contain {bad:?}")),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SshTarget;

    fn parts(text: &str) -> (Option<String>, String, Option<u16>) {
        let target: SshTarget = text.parse().unwrap();
        (target.user().map(Into::into), target.host().into(), target.port())
    }

    #[test]
    fn every_form_is_read_and_written_again_as_the_same_target() {
        let ada = || Some("ada".to_owned());
        let cases = [
            ("gpu-box", (None, "gpu-box", None), "gpu-box"),
            ("ada@gpu", (ada(), "gpu", None), "ada@gpu"),
            ("ada@gpu:2222", (ada(), "gpu", Some(2222)), "ada@gpu:2222"),
            ("gpu.lan:22", (None, "gpu.lan", Some(22)), "gpu.lan:22"),
            ("a@b@gpu", (Some("a@b".into()), "gpu", None), "a@b@gpu"),
            ("[::1]", (None, "::1", None), "::1"),
            ("[::1]:9", (None, "::1", Some(9)), "[::1]:9"),
            ("::1", (None, "::1", None), "::1"),
            ("fe80::1%eth0", (None, "fe80::1%eth0", None), "fe80::1%eth0"),
            ("ssh://ada@gpu:7", (ada(), "gpu", Some(7)), "ada@gpu:7"),
            ("ssh://gpu/", (None, "gpu", None), "gpu"),
            ("ssh://[::1]:7", (None, "::1", Some(7)), "[::1]:7"),
            ("büro", (None, "büro", None), "büro"),
        ];
        for (text, (user, host, port), shown) in cases {
            assert_eq!(parts(text), (user, host.into(), port), "{text}");
            let target: SshTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(shown.parse::<SshTarget>().unwrap(), target, "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_reason() {
        let cases = [
            ("", "the host name is missing"),
            ("@gpu", "the user name is missing"),
            ("ada@", "the host name is missing"),
            (":22", "the host name is missing"),
            ("-oProxyCommand=x", "must not begin with \"-\""),
            ("-l@gpu", "the user name must not begin with \"-\""),
            ("ada@-gpu", "the host name must not begin with \"-\""),
            ("[-gpu]", "the host name must not begin with \"-\""),
            ("gpu box", "must not contain ' '"),
            ("gpu\n", "must not contain '\\n'"),
            ("gpu;reboot", "must not contain ';'"),
            ("$(reboot)", "must not contain '$'"),
            ("gpu:0", "\"0\" is no port"),
            ("gpu:65536", "\"65536\" is no port"),
            ("gpu:+22", "\"+22\" is no port"),
            ("gpu:", "\"\" is no port"),
            ("[::1", "closing bracket"),
            ("[::1]22", "write [address]:port"),
            ("[:]", "\":\" is no IPv6 address"),
            ("[[]", "must not contain '['"),
            ("ada@gpu]", "must not contain ']'"),
            ("a:b:c", "no IPv6 address"),
            ("ssh://gpu/home", "no path"),
            ("ssh://a%20b@gpu", "percent-encoding"),
            ("gpu/x", "no \"/\""),
        ];
        for (text, reason) in cases {
            let error = text.parse::<SshTarget>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let long = "x".repeat(256);
        assert!(long.parse::<SshTarget>().unwrap_err().to_string().contains("at most 255"));
    }

    proptest! {
        #[test]
        fn a_text_is_refused_or_is_the_same_target_when_it_is_written_and_read_again(
            text in "(ssh://)?([-a-z%@:\\[\\]. ]{0,6}@)?[-a-z0-9:.\\[\\]%/$é]{0,12}(:[0-9]{0,6})?",
        ) {
            if let Ok(target) = text.parse::<SshTarget>() {
                prop_assert!(!target.host().starts_with('-'));
                prop_assert_eq!(target.to_string().parse::<SshTarget>().unwrap(), target);
            }
        }
    }
}
