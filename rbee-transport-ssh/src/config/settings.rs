//! The settings of one host as they are written, before tokens are expanded: [`Settings`].

use std::time::Duration;

/// The values of one host. The first value of a keyword counts; identity and certificate files add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) address_family: Option<AddressFamily>,
    pub(super) bind_address: Option<String>,
    pub(super) certificate_files: Vec<String>,
    pub(super) connect_timeout: Option<Option<Duration>>,
    pub(super) global_known_hosts: Option<Vec<String>>,
    pub(super) hash_known_hosts: Option<bool>,
    pub(super) host_key_alias: Option<String>,
    pub(super) host_name: Option<String>,
    pub(super) identities_only: Option<bool>,
    pub(super) identity_agent: Option<String>,
    pub(super) identity_files: Vec<String>,
    pub(super) port: Option<u16>,
    pub(super) proxy: Option<Proxy>,
    pub(super) proxy_use_fdpass: Option<bool>,
    pub(super) revoked_host_keys: Option<String>,
    pub(super) server_alive_count: Option<u32>,
    pub(super) server_alive_interval: Option<Option<Duration>>,
    pub(super) user: Option<String>,
    pub(super) user_known_hosts: Option<Vec<String>>,
}

/// The kind of addresses to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// Both kinds.
    Any,
    /// IPv4 alone.
    Inet,
    /// IPv6 alone.
    Inet6,
}

/// How the machine is reached. `ProxyJump` and `ProxyCommand` exclude each other: the first one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    None,
    Jump(String),
    Command(String),
}

/// Keywords whose argument is the whole rest of the line.
pub(super) const RAW_KEYWORDS: [&str; 4] =
    ["knownhostscommand", "localcommand", "proxycommand", "remotecommand"];

impl Settings {
    /// Sets a keyword (in lower case), unless it is set already or not used here.
    ///
    /// # Errors
    /// The problem and what is allowed.
    pub(super) fn set(&mut self, keyword: &str, values: &[String]) -> Result<(), String> {
        match keyword {
            "addressfamily" => first(&mut self.address_family, address_family(one(values)?)?),
            "bindaddress" => first(&mut self.bind_address, one(values)?.into()),
            "certificatefile" => add(&mut self.certificate_files, one(values)?),
            "connecttimeout" => first(&mut self.connect_timeout, duration(one(values)?)?),
            "globalknownhostsfile" => first(&mut self.global_known_hosts, some(values)?.to_vec()),
            "hashknownhosts" => first(&mut self.hash_known_hosts, flag(one(values)?)?),
            "hostkeyalias" => first(&mut self.host_key_alias, one(values)?.into()),
            "hostname" => first(&mut self.host_name, one(values)?.into()),
            "identitiesonly" => first(&mut self.identities_only, flag(one(values)?)?),
            "identityagent" => first(&mut self.identity_agent, one(values)?.into()),
            "identityfile" => add(&mut self.identity_files, one(values)?),
            "port" => first(&mut self.port, port(one(values)?)?),
            "proxycommand" => {
                let proxy = match one(values)? {
                    "none" => Proxy::None,
                    command => Proxy::Command(command.into()),
                };
                first(&mut self.proxy, proxy);
            }
            "proxyjump" => {
                let proxy = match one(values)? {
                    "none" => Proxy::None,
                    hops => Proxy::Jump(hops.into()),
                };
                first(&mut self.proxy, proxy);
            }
            "proxyusefdpass" => first(&mut self.proxy_use_fdpass, flag(one(values)?)?),
            "revokedhostkeys" => first(&mut self.revoked_host_keys, one(values)?.into()),
            "serveralivecountmax" => first(&mut self.server_alive_count, number(one(values)?)?),
            "serveraliveinterval" => {
                first(&mut self.server_alive_interval, duration(one(values)?)?)
            }
            "user" => first(&mut self.user, one(values)?.into()),
            "userknownhostsfile" => first(&mut self.user_known_hosts, some(values)?.to_vec()),
            _ => {}
        }
        Ok(())
    }
}

fn first<T>(setting: &mut Option<T>, value: T) {
    setting.get_or_insert(value);
}

fn add(files: &mut Vec<String>, file: &str) {
    if !files.iter().any(|other| other == file) {
        files.push(file.into());
    }
}

fn some(values: &[String]) -> Result<&[String], String> {
    if values.iter().any(String::is_empty) || values.is_empty() {
        return Err("the value is missing".into());
    }
    Ok(values)
}

fn one(values: &[String]) -> Result<&str, String> {
    match some(values)? {
        [value] => Ok(value),
        more => Err(format!("it takes one value, and here are {}: {}", more.len(), more.join(" "))),
    }
}

fn flag(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(format!("{value:?} is neither yes nor no")),
    }
}

fn number(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{value:?} is no number"))
}

fn port(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{value:?} is no port; a port is a number from 1 to 65535")),
    }
}

fn address_family(value: &str) -> Result<AddressFamily, String> {
    match value.to_ascii_lowercase().as_str() {
        "any" => Ok(AddressFamily::Any),
        "inet" => Ok(AddressFamily::Inet),
        "inet6" => Ok(AddressFamily::Inet6),
        _ => Err(format!("{value:?} is none of any, inet and inet6")),
    }
}

/// A time such as `90`, `1m30s` or `none`. Zero is no time, too.
fn duration(value: &str) -> Result<Option<Duration>, String> {
    let wrong = || format!("{value:?} is no time; write seconds, or units as in 1m30s, or none");
    if value == "none" {
        return Ok(None);
    }
    let mut seconds = 0_u64;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (count, after) = rest.split_at(digits);
        let count: u64 = count.parse().map_err(|_| wrong())?;
        let mut after = after.chars();
        let unit = match after.next().map(|unit| unit.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some(_) => return Err(wrong()),
        };
        seconds =
            count.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = after.as_str();
    }
    // The limit of OpenSSH.
    if value.is_empty() || seconds > i32::MAX as u64 {
        return Err(wrong());
    }
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_units_and_wrong_ones_are_refused() {
        let seconds = |value| duration(value).unwrap().map(|time| time.as_secs());
        assert_eq!(seconds("90"), Some(90));
        assert_eq!(seconds("1m30"), Some(90));
        assert_eq!(seconds("1H1m1s"), Some(3661));
        assert_eq!(seconds("1w2d"), Some(777_600));
        assert_eq!((seconds("0"), seconds("none")), (None, None));
        for wrong in ["", "x", "1y", "-1", "m", "99999999999", "2147483648"] {
            assert!(duration(wrong).unwrap_err().contains("is no time"), "{wrong}");
        }
    }

    #[test]
    fn the_first_value_counts_and_identity_files_add_up() {
        let mut settings = Settings::default();
        let mut set = |keyword: &str, value: &str| settings.set(keyword, &[value.into()]).unwrap();
        set("port", "7");
        set("port", "8");
        set("proxyjump", "none");
        set("proxycommand", "nc");
        set("identityfile", "a");
        set("identityfile", "b");
        set("identityfile", "a");
        set("compression", "yes");
        assert_eq!(settings.port, Some(7));
        assert_eq!(settings.proxy, Some(Proxy::None));
        assert_eq!(settings.identity_files, ["a", "b"]);
    }

    #[test]
    fn a_value_of_the_wrong_kind_or_number_is_refused_with_what_is_allowed() {
        let wrong = |keyword: &str, values: &[&str]| {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            Settings::default().set(keyword, &values).unwrap_err()
        };
        assert!(wrong("port", &["0"]).contains("from 1 to 65535"));
        assert!(wrong("port", &["7", "8"]).contains("takes one value"));
        assert!(wrong("port", &[]).contains("missing"));
        assert!(wrong("identitiesonly", &["maybe"]).contains("neither yes nor no"));
        assert!(wrong("addressfamily", &["ipx"]).contains("inet6"));
        assert!(wrong("userknownhostsfile", &[""]).contains("missing"));
    }
}
