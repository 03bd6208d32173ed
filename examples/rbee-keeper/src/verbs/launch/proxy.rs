//! The proxy of the environment, which must not get requests for a queen on this machine.

use std::ffi::OsString;

use super::setup::Setting;
use crate::Address;

/// The variables that name a proxy, and those that list the hosts without one. Programs read either case.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXEMPT: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The variables that exempt the queen's host from the proxy: none if there is no proxy, or if the queen is on another
/// machine. `variable` reads a variable that is not empty.
pub(super) fn exemption(
    queen: &Address,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, Setting)> {
    if !queen.is_loopback() || PROXIES.iter().all(|name| variable(name).is_none()) {
        return Vec::new();
    }
    let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
    let exempt = EXEMPT.iter().find_map(|name| text(name)).unwrap_or_default();
    if exempt.split(',').any(|host| matches!(host.trim(), "*") || host.trim() == queen.host()) {
        return Vec::new();
    }
    let both = match exempt.is_empty() {
        true => queen.host().to_owned(),
        false => format!("{exempt},{}", queen.host()),
    };
    EXEMPT.map(|name| (name, Setting::from(both.clone()))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exempted(queen: &str, variables: &[(&str, &str)]) -> Option<String> {
        let read = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        };
        let set = exemption(&queen.parse().unwrap(), read);
        let mut values = set.iter().map(|(_, setting)| setting.value(None).to_owned());
        let first = values.next();
        assert!(values.all(|other| Some(other) == first), "both cases say the same");
        first
    }

    #[test]
    fn a_queen_on_this_machine_is_exempt_from_the_proxy() {
        let proxy = ("HTTPS_PROXY", "http://proxy:8080");
        for (queen, variables, exempt) in [
            ("127.0.0.1", &[proxy][..], Some("127.0.0.1")),
            ("localhost", &[proxy, ("no_proxy", "a,b")], Some("a,b,localhost")),
            ("localhost", &[proxy, ("NO_PROXY", "a, localhost")], None),
            ("localhost", &[proxy, ("NO_PROXY", "*")], None),
            ("127.0.0.1", &[("NO_PROXY", "a")], None),
            ("bee", &[proxy], None),
        ] {
            assert_eq!(exempted(queen, variables).as_deref(), exempt, "{queen} {variables:?}");
        }
    }
}
