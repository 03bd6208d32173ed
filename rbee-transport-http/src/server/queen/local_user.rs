//! Local users: they may name any file that the queen can read, as if they ran the queen themselves.
//!
//! A connection from this machine does not prove that a user of this machine sent the request: a reverse proxy here
//! passes on requests of other machines, and a browser here sends requests of web pages. So a local user is the
//! operator of a queen at home, on a connection from this machine to a server that only this machine can reach and that
//! has no other host names, whose request has no trace of a proxy or of a web page of another origin.
//!
//! A proxy that leaves no trace cannot be recognized: for example nginx without `proxy_set_header`, which sends HTTP/1.1
//! since version 1.29.7, and the address of the queen as the host. It must not be put before a queen without a token
//! anyway, because all of its clients would be operators. The operator can have it add a header, or switch local users
//! off.

use std::fmt;

use axum::{
    extract::FromRequestParts,
    http::{Extensions, uri::Authority},
};
use http::{HeaderMap, HeaderName, Uri, Version, header, request::Parts};
use rbee_core::settings::Mode;

use super::caller::Caller;
use crate::server::{guard, reach::Reach};

/// Headers with which proxies say on whose behalf they send a request, in addition to those of [`FORWARDED_PREFIXES`].
const FORWARDED: [&str; 11] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "client-ip",
];
const FORWARDED_PREFIXES: [&str; 2] = ["x-forwarded", "x-original-"];

/// Whether the sender of a request is a local user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Locality {
    /// It is a local user.
    LocalUser,
    /// It may be somebody else.
    Other(NotLocal),
}

/// The reason why the sender of a request does not count as a local user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotLocal {
    /// A tenant's key.
    Tenant,
    /// The queen is a platform.
    Platform,
    /// The queen has tenants and no token.
    NoToken,
    /// The operator has switched local users off.
    SwitchedOff,
    /// The queen has other host names, so it is reached by them: through a proxy, or from other machines.
    AllowedHosts,
    /// Nothing tells from where the connection came.
    NotKnown,
    /// The connection came from another machine.
    OtherMachine,
    /// The server can be reached from other machines.
    OpenListener,
    /// The request has this header of a proxy.
    Forwarded(HeaderName),
    /// The version of HTTP that proxies use by default, and no current client.
    OldHttp,
    /// The request names a host that is not the loopback interface, as one that a proxy passes on.
    Host,
    /// A web page of another origin.
    WebPage,
}

impl fmt::Display for NotLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "this is the key of a tenant",
            Self::Platform => "the mode of this queen is platform",
            Self::NoToken => {
                "this queen has tenants, or had some since its start, and no token, so nothing shows that the operator \
                 sent this request (token_file sets a token)"
            }
            Self::SwitchedOff => "this queen has no local users (local_files is false)",
            Self::AllowedHosts => {
                "this queen has other host names (allow_hosts), so this request may have come through a proxy"
            }
            Self::NotKnown => "this server does not tell where requests come from",
            Self::OtherMachine => "this request came from another machine",
            Self::OpenListener => "other machines can reach this queen (listen_host)",
            Self::Forwarded(name) => {
                return write!(f, "this request came through a proxy (it has the header {name})");
            }
            Self::OldHttp => "this request may have come through a proxy (it is HTTP/1.0)",
            Self::Host => {
                "this request may have come through a proxy (its host is not localhost, 127.0.0.1 or [::1])"
            }
            Self::WebPage => "this request came from a web page",
        })
    }
}

/// What the queen's settings say of local users.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalUsers {
    pub(super) mode: Mode,
    /// False if the operator has switched them off.
    pub(super) allowed: bool,
    /// Requests may name other hosts than this machine.
    pub(super) has_host_names: bool,
}

impl Locality {
    /// The sender of a request that has passed the guard, and was sent by this caller.
    pub(super) fn of(
        caller: &Caller,
        settings: LocalUsers,
        (version, uri): (Version, &Uri),
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Self {
        let why = match (caller, settings.mode, extensions.get()) {
            (Caller::Tenant(_), ..) => NotLocal::Tenant,
            (_, Mode::Home, _) if !settings.allowed => NotLocal::SwitchedOff,
            (_, Mode::Home, _) if settings.has_host_names => NotLocal::AllowedHosts,
            (_, Mode::Home, Some(Reach::Loopback)) => {
                match trace_of_others(version, uri, headers) {
                    None => return Self::LocalUser,
                    Some(why) => why,
                }
            }
            (_, Mode::Home, Some(Reach::OpenListener)) => NotLocal::OpenListener,
            (_, Mode::Home, Some(Reach::OtherMachine)) => NotLocal::OtherMachine,
            (_, Mode::Home, None) => NotLocal::NotKnown,
            (_, _, _) => NotLocal::Platform,
        };
        Self::Other(why)
    }
}

/// The trace of a proxy or a web page in a request.
fn trace_of_others(version: Version, uri: &Uri, headers: &HeaderMap) -> Option<NotLocal> {
    let is_of_proxy = |name: &&HeaderName| {
        let name = name.as_str();
        FORWARDED.contains(&name)
            || FORWARDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    if let Some(name) = headers.keys().find(is_of_proxy) {
        return Some(NotLocal::Forwarded(name.clone()));
    }
    if version < Version::HTTP_11 {
        return Some(NotLocal::OldHttp);
    }
    let in_header = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let in_uri = uri.authority().map(Authority::as_str);
    if !in_header.into_iter().chain(in_uri).all(guard::is_loopback_name) {
        return Some(NotLocal::Host);
    }
    let host = in_header.or(in_uri)?;
    guard::is_of_other_page(host, headers).then_some(NotLocal::WebPage)
}

impl<S: Send + Sync> FromRequestParts<S> for Locality {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // The middleware has set it.
        Ok(parts.extensions.get().cloned().unwrap_or(Self::Other(NotLocal::NotKnown)))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use rbee_core::TenantId;

    use super::*;

    fn settings(mode: Mode) -> LocalUsers {
        LocalUsers { mode, allowed: true, has_host_names: false }
    }

    /// The verdict on a request with these headers, as `curl` sends it if none are given.
    fn locality(
        caller: &Caller,
        settings: LocalUsers,
        reach: Option<Reach>,
        headers: &[(&str, &str)],
    ) -> Locality {
        let mut request = Request::post("/v1/jobs").version(Version::HTTP_11);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:7833");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(reach) = reach {
            parts.extensions.insert(reach);
        }
        let line = (parts.version, &parts.uri);
        Locality::of(caller, settings, line, &parts.headers, &parts.extensions)
    }

    fn here(headers: &[(&str, &str)]) -> Locality {
        locality(&Caller::Operator, settings(Mode::Home), Some(Reach::Loopback), headers)
    }

    #[test]
    fn the_operator_of_a_queen_at_home_on_this_machine_is_a_local_user() {
        for headers in [
            &[][..],
            &[("user-agent", "curl/8.5.0"), ("accept", "*/*")],
            &[("host", "localhost:7833")],
            &[("host", "[::1]:7833")],
            &[("authorization", "Bearer x")],
            // A page that the daemon itself serves, and a request that the user typed.
            &[("origin", "http://127.0.0.1:7833"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
        ] {
            assert_eq!(here(headers), Locality::LocalUser, "{headers:?}");
        }
    }

    #[test]
    fn who_sent_it_and_from_where_decides_first() {
        let operator = &Caller::Operator;
        let tenant = &Caller::Tenant(TenantId::new("acme").unwrap());
        let loopback = Some(Reach::Loopback);
        for (caller, mode, reach, why) in [
            (tenant, Mode::Home, loopback, NotLocal::Tenant),
            (operator, Mode::Platform, loopback, NotLocal::Platform),
            (operator, Mode::Home, Some(Reach::OpenListener), NotLocal::OpenListener),
            (operator, Mode::Home, Some(Reach::OtherMachine), NotLocal::OtherMachine),
            (operator, Mode::Home, None, NotLocal::NotKnown),
        ] {
            assert_eq!(locality(caller, settings(mode), reach, &[]), Locality::Other(why));
        }
        let home = settings(Mode::Home);
        for (settings, why) in [
            (LocalUsers { allowed: false, ..home }, NotLocal::SwitchedOff),
            (LocalUsers { has_host_names: true, ..home }, NotLocal::AllowedHosts),
        ] {
            assert_eq!(locality(operator, settings, loopback, &[]), Locality::Other(why));
        }
    }

    #[test]
    fn a_request_that_a_proxy_passed_on_is_not_of_a_local_user() {
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-server",
            "x-original-forwarded-for",
            "x-real-ip",
            "via",
            "cf-connecting-ip",
            "true-client-ip",
        ] {
            // Also without a value, and if it claims to be of this machine.
            for value in ["", "127.0.0.1", "192.168.1.7"] {
                let name_is = HeaderName::from_static(name);
                let verdict = here(&[(name, value)]);
                assert_eq!(verdict, Locality::Other(NotLocal::Forwarded(name_is)), "{name}");
            }
        }
        for host in ["llm.home.arpa", "192.168.1.7:7833", "localhost.evil.example", "a@127.0.0.1"] {
            assert_eq!(here(&[("host", host)]), Locality::Other(NotLocal::Host), "{host}");
        }
        let old = Request::get("/").header("host", "127.0.0.1").version(Version::HTTP_10);
        let (parts, ()) = old.body(()).unwrap().into_parts();
        assert_eq!(
            trace_of_others(parts.version, &parts.uri, &parts.headers),
            Some(NotLocal::OldHttp)
        );
    }

    #[test]
    fn the_address_line_of_a_request_counts_as_its_host_does() {
        let verdict = |target: &str, host: &str| {
            let request = Request::get(target).header("host", host).version(Version::HTTP_11);
            let (parts, ()) = request.body(()).unwrap().into_parts();
            trace_of_others(parts.version, &parts.uri, &parts.headers)
        };
        assert_eq!(verdict("http://127.0.0.1:7833/", "127.0.0.1:7833"), None);
        assert_eq!(verdict("http://evil.example/", "127.0.0.1:7833"), Some(NotLocal::Host));
    }

    #[test]
    fn a_page_of_another_origin_is_not_a_local_user_even_if_it_may_use_the_daemon() {
        for headers in [
            &[("origin", "https://chat.example")][..],
            &[("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")],
            // The same host on another port is another page.
            &[("origin", "http://127.0.0.1:3000")],
            &[("origin", "app://obsidian.md")],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert_eq!(here(headers), Locality::Other(NotLocal::WebPage), "{headers:?}");
        }
    }
}
