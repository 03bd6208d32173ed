//! Rules on the origin of a request. They apply to every route, before any token is checked.
//!
//! A web browser sends requests on behalf of every page that is open in it, also to ports of the machine it runs on.
//! Such a request comes from this machine, so a daemon that trusts its own machine needs other evidence:
//!
//! - **`Host`**: a page of `evil.example` whose name suddenly resolves to 127.0.0.1 (DNS rebinding) has the same
//!   origin as the daemon, and may read its responses. Its requests still carry `Host: evil.example`.
//! - **`Origin`** (Fetch standard, section 3.2): every request that a page makes to another origin, and that may
//!   change state or be read by the page, names the page's origin.
//! - **`Sec-Fetch-Site`** (Fetch Metadata): set on the remaining requests, for example those for images and scripts.
//! - **`Content-Type`**: an HTML form, and a script without a preflight, can only send the types of a form. A page
//!   that wants to send JSON needs a CORS preflight, which is refused.

use std::{fmt, str::FromStr};

use axum::http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use rbee_core::{Error, ErrorKind, Result};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::wire;

/// How long a browser caches the response to a preflight.
const PREFLIGHT_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// Tells whether a page of the same site, a page of another site, or the user caused the request.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The content type of a model's files on upload.
const BYTES: &str = "application/octet-stream";

/// A host name or IP address that requests may name in `Host`, without a port: `llm.home.arpa`.
///
/// ```
/// use rbee_transport_http::server::AllowedHost;
///
/// assert_eq!("LLM.home.arpa".parse::<AllowedHost>()?.to_string(), "llm.home.arpa");
/// assert!("http://llm.home.arpa".parse::<AllowedHost>().is_err());
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost(String);

impl FromStr for AllowedHost {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bare = text.trim_matches(['[', ']']);
        let is_address = bare.parse::<std::net::IpAddr>().is_ok();
        let is_name = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !text.is_empty() && text.len() <= 253 && text.bytes().all(allowed)
        };
        if is_address || is_name(text) {
            return Ok(Self(normal_host(text)));
        }
        let message = format!(
            "{text:?} is not a host; allowed is a name or an IP address without scheme and port, like llm.home.arpa"
        );
        Err(Error::new(ErrorKind::Config, message))
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The origin of web pages that may use a daemon: `https://chat.example`, `http://localhost:3000`, `app://obsidian.md`.
///
/// ```
/// use rbee_transport_http::server::AllowedOrigin;
///
/// assert_eq!("https://chat.example".parse::<AllowedOrigin>()?.to_string(), "https://chat.example");
/// assert!("https://chat.example/page".parse::<AllowedOrigin>().is_err());
/// assert!("*".parse::<AllowedOrigin>().is_err());
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin(HeaderValue);

impl FromStr for AllowedOrigin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let message = format!(
                "{text:?} is not an origin that can be allowed: {why}; allowed is a scheme and a host as a browser \
                 sends them, like https://chat.example, http://localhost:3000 or app://obsidian.md"
            );
            Err(Error::new(ErrorKind::Config, message))
        };
        if text == "*" {
            return refuse("every page that is open in a browser could use the daemon");
        }
        if text.eq_ignore_ascii_case("null") {
            return refuse("a page can take this origin at will, by a frame in a sandbox");
        }
        let Some((scheme, host)) = text.split_once("://") else {
            return refuse("it has no scheme");
        };
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme {
            return refuse("its scheme is not one");
        }
        // Browsers send `file://` for some applications that consist of local pages.
        if host.is_empty() && !scheme.eq_ignore_ascii_case("file") {
            return refuse("it has no host");
        }
        if host.contains(['/', '?', '#', '@', '*']) || !host.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse("it has more than a scheme, a host and a port");
        }
        let default_port = match &*scheme.to_ascii_lowercase() {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let host = match host.strip_suffix(default_port) {
            Some(host) if !default_port.is_empty() => host,
            _ => host,
        };
        match HeaderValue::from_str(&format!("{scheme}://{host}").to_ascii_lowercase()) {
            Ok(value) => Ok(Self(value)),
            Err(_) => refuse("it cannot be sent in a header"),
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It was parsed from text.
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

/// The rules that one daemon applies to every request.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// True if any `Host` is allowed: every request needs a token, which no page has.
    pub(super) any_host: bool,
    /// Allowed hosts in addition to the names of this machine's loopback interface.
    pub(super) hosts: Vec<AllowedHost>,
    /// Pages that may use the daemon.
    pub(super) origins: Vec<AllowedOrigin>,
}

impl Guard {
    /// The rules of a daemon that requires a token on every route.
    pub(super) fn with_token() -> Self {
        Self { any_host: true, ..Self::default() }
    }

    /// Checks the origin and the content type of a request.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a header that is missing or repeated, [`ErrorKind::PermissionDenied`] for a
    /// host or a page that is not allowed, [`ErrorKind::UnsupportedMediaType`] for a change that is not sent as JSON.
    pub(super) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        only(headers, &header::AUTHORIZATION)?;
        only(headers, &HeaderName::from_static("x-api-key"))?;
        // HTTP/2 has the host in the address of the request; HTTP/1 has it there in requests to a proxy.
        let authority = uri.authority().map(Authority::as_str);
        let host = only(headers, &header::HOST)?.or(authority).ok_or_else(|| {
            Error::for_client(ErrorKind::InvalidRequest, "the header Host is missing; send it once")
        })?;
        if !self.any_host {
            self.check_host(host)?;
            authority.map_or(Ok(()), |authority| self.check_host(authority))?;
        }
        self.check_page(method, host, headers)?;
        check_content(method, uri.path(), headers)
    }

    /// Checks the host of a request that is answered without a token although others need one. A page whose name
    /// resolves to this machine could read the response; a numeric address cannot resolve to anything else.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(super) fn check_open(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let host = only(headers, &header::HOST)?.or(uri.authority().map(Authority::as_str));
        let given = host.unwrap_or_default();
        let is_address = given
            .parse::<Authority>()
            .is_ok_and(|given| normal_host(given.host()).parse::<std::net::IpAddr>().is_ok());
        if is_address { Ok(()) } else { self.check_host(given) }
    }

    fn check_host(&self, given: &str) -> Result<()> {
        // Nearly every request, without a copy.
        let bare = given.rsplit_once(':').map_or(given, |(host, _)| host);
        if matches!(bare, "127.0.0.1" | "localhost") {
            return Ok(());
        }
        if let Ok(authority) = given.parse::<Authority>()
            && !given.contains('@')
        {
            let host = normal_host(authority.host());
            if is_loopback(&host) || self.hosts.iter().any(|allowed| allowed.0 == host) {
                return Ok(());
            }
        }
        // The configured hosts are not named: a page may read this.
        let message = format!(
            "the host {:?} is not allowed; without a token allowed are localhost, 127.0.0.1, [::1] and the hosts of the \
             setting allow_hosts (add it there, or set a token)",
            shown(given)
        );
        Err(Error::for_client(ErrorKind::PermissionDenied, message))
    }

    /// Refuses requests that a page of another origin has caused, unless that origin is allowed.
    fn check_page(&self, method: &Method, host: &str, headers: &HeaderMap) -> Result<()> {
        let Some(origin) = only(headers, &header::ORIGIN)? else {
            return check_site(method, headers);
        };
        let is_allowed = || self.origins.iter().any(|allowed| allowed.0 == origin);
        if is_own_origin(origin, host) || is_allowed() {
            return Ok(());
        }
        let message = format!(
            "web pages of {:?} may not use this daemon (the setting allow_origins allows them)",
            shown(origin)
        );
        Err(Error::for_client(ErrorKind::PermissionDenied, message))
    }

    /// The responses to preflights, and the headers that let allowed pages read responses. `None` if no page is
    /// allowed.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let origins = self.origins.iter().map(|origin| origin.0.clone());
        let exposed = [
            header::RETRY_AFTER,
            header::LOCATION,
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static(wire::CORRELATION_ID),
            HeaderName::from_static(wire::JOB_ID),
            HeaderName::from_static(wire::QUEUE_MS),
            HeaderName::from_static(wire::WORKER_ID),
        ];
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
            // OpenAI's client sends a dozen headers about itself.
            .allow_headers(AllowHeaders::mirror_request())
            // Chromium requires it when a page of the internet uses a machine of the local network.
            .allow_private_network(true)
            .expose_headers(exposed)
            .max_age(PREFLIGHT_AGE);
        Some(layer)
    }
}

/// True if this is the origin of a page that the daemon serves under this host itself.
fn is_own_origin(origin: &str, host: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        origin.strip_prefix(scheme).is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    })
}

/// True if a page of another origin caused this request, whether it is allowed to or not.
pub(super) fn is_of_other_page(host: &str, headers: &HeaderMap) -> bool {
    let is_own = |origin: &HeaderValue| origin.to_str().is_ok_and(|it| is_own_origin(it, host));
    let is_known = |site: &HeaderValue| site == "same-origin" || site == "none";
    !headers.get_all(header::ORIGIN).iter().all(is_own)
        || !headers.get_all(SEC_FETCH_SITE).iter().all(is_known)
}

/// True if this host, with or without a port, names this machine's loopback interface.
pub(super) fn is_loopback_name(host: &str) -> bool {
    // Most requests have one of these names, and need not be parsed.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if matches!(name, "127.0.0.1" | "localhost" | "[::1]") {
        return true;
    }
    !host.contains('@')
        && host.parse::<Authority>().is_ok_and(|given| is_loopback(&normal_host(given.host())))
}

/// Checks requests without an origin, for example for images or scripts: only the user may cause them, by opening a
/// link.
fn check_site(method: &Method, headers: &HeaderMap) -> Result<()> {
    let is =
        |name, value: &str| headers.get(name).is_some_and(|given: &HeaderValue| given == value);
    let is_foreign = is(SEC_FETCH_SITE, "cross-site") || is(SEC_FETCH_SITE, "same-site");
    let is_link = is(SEC_FETCH_MODE, "navigate") && matches!(*method, Method::GET | Method::HEAD);
    if is_foreign && !is_link {
        let message = "web pages of other origins may not use this daemon (the setting allow_origins allows them)";
        return Err(Error::for_client(ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

/// Requires that a change declares JSON, also without a body: a form on a page cannot declare that. The exceptions are
/// two requests of OpenAI's clients. For them the origin alone has to show that no page has caused the request: browsers
/// name it in every request of a form.
fn check_content(method: &Method, path: &str, headers: &HeaderMap) -> Result<()> {
    let kind = only(headers, &header::CONTENT_TYPE)?;
    let has_body = || {
        let length = headers.get(header::CONTENT_LENGTH);
        length.is_some_and(|length| length != "0")
            || headers.contains_key(header::TRANSFER_ENCODING)
    };
    let allowed = match *method {
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => return Ok(()),
        // No form sends this method, so a request without a body may come from a command line.
        Method::DELETE if kind.is_none() && !has_body() => return Ok(()),
        // An upload. It can only be used by another request.
        Method::POST if path == wire::batches::FILES && kind.is_some_and(is_form) => return Ok(()),
        // The cancellation of a response or a batch, whose id no page can know.
        Method::POST if kind.is_none() && !has_body() && is_cancellation(path) => return Ok(()),
        // A part of a model's file: the route accepts nothing else.
        Method::PUT if kind == Some(BYTES) => return Ok(()),
        _ => "application/json",
    };
    let given = match kind {
        Some(kind) if is_json(kind) => return Ok(()),
        Some(kind) => format!("the content type is {:?}", shown(kind)),
        None => "the content type is missing".into(),
    };
    let message = format!("{given}; allowed is {allowed}, also without a body");
    Err(Error::for_client(ErrorKind::UnsupportedMediaType, message))
}

/// True if this content type is JSON, whatever its parameters.
pub(super) fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// True if this content type is a form with files, whatever its parameters.
fn is_form(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("multipart/form-data")
}

/// True if this is the path of a cancellation of a response or a batch.
fn is_cancellation(path: &str) -> bool {
    let is_below = |root: &str| {
        let rest = path.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|rest| rest.ends_with("/cancel"))
    };
    is_below(wire::responses::RESPONSES) || is_below(wire::batches::BATCHES)
}

/// The value of a header that may occur at most once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let why = match (value.to_str(), values.next()) {
        (Ok(text), None) => return Ok(Some(text)),
        (_, Some(_)) => "is there more than once",
        (Err(_), None) => "is not visible ASCII",
    };
    Err(Error::for_client(
        ErrorKind::InvalidRequest,
        format!("the header {name} {why}; send it once"),
    ))
}

/// The host in lower case, without the dot of the DNS root, and with one form for each address.
fn normal_host(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback())
}

/// A client's text, shortened for an error message.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
