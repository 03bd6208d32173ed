//! Requests to the hub and to the targets of its redirects.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, Uri},
};

use super::{HubError, Shared};
use crate::{
    error::{Error, Result},
    models::disk::DiskError,
};

/// The most redirects of one request.
const MAX_REDIRECTS: usize = 8;
/// The longest wait that the hub may request; if it requests more, the download fails with that message.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// The longest wait between attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The longest time for the body of an answer that is no file of a model, however slowly it comes.
const MAX_BODY: Duration = Duration::from_secs(60);
/// How often a waiting thread checks whether its download was abandoned.
const LOOK: Duration = Duration::from_millis(50);

/// A failed attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// A retry may succeed, but not before this time has passed, if the server sent one.
    Again(HubError, Option<Duration>),
    /// A retry cannot succeed.
    Final(Error),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error.into())
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::Final(error.into())
    }
}

pub(super) fn agent(stall: Duration) -> Agent {
    let config = Agent::config_builder()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("rbee/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_send_request(Some(stall))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall));
    config.build().into()
}

/// The origin of an address: scheme, host and port.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    Some((scheme, uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(usual)))
}

/// True if both addresses have the same scheme, host and port.
pub(super) fn is_same_origin(one: &str, other: &str) -> bool {
    let origin_of = |address: &str| address.parse().ok().as_ref().and_then(origin);
    let one = origin_of(one);
    one.is_some() && one == origin_of(other)
}

/// True if others on the network can read what is sent to this address.
pub(super) fn is_readable_on_the_way(endpoint: &str) -> bool {
    let Some((scheme, host, _)) = endpoint.parse().ok().as_ref().and_then(origin) else {
        return true;
    };
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_this_machine = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    scheme != "https" && !is_this_machine
}

pub(super) fn check_endpoint(endpoint: &str) -> Result<()> {
    let uri = endpoint.parse::<Uri>().ok();
    // A user name and password in the address would be shown in every error.
    let fine = uri.is_some_and(|uri| {
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        plain && origin(&uri).is_some() && uri.query().is_none()
    });
    match fine {
        true => Ok(()),
        false => {
            let shown = endpoint.split('@').next_back().unwrap_or_default();
            Err(HubError::Endpoint(shown.chars().take(120).collect()).into())
        }
    }
}

impl Shared {
    /// Requests the content of this address from that byte on. The token is sent only to the hub itself.
    pub(super) fn get(&self, url: &str, from: u64, what: &str) -> Result<Response<Body>, Failure> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        self.get_range(url, range.as_deref(), what)
    }

    /// Requests these bytes of the content of this address; all of it without a range.
    pub(super) fn get_range(
        &self,
        url: &str,
        range: Option<&str>,
        what: &str,
    ) -> Result<Response<Body>, Failure> {
        let redirect =
            |why: &str| HubError::Redirect { what: what.to_owned(), why: why.to_owned() };
        let hub = self.endpoint.parse().ok().as_ref().and_then(origin);
        let mut uri: Uri = url.parse().map_err(|_| redirect("an invalid address"))?;
        for _ in 0..=MAX_REDIRECTS {
            let to = origin(&uri);
            let mut request = self.agent.get(&uri);
            if let Some(range) = range {
                request = request.header("range", range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| to.is_some() && to == hub) {
                request = request.header("authorization", format!("Bearer {}", token.reveal()));
            }
            let response = request.call().map_err(|error| self.failed(error, what))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get("location").and_then(|to| to.to_str().ok());
            let location = location.ok_or_else(|| redirect("nowhere"))?;
            let next = resolve(&uri, location).ok_or_else(|| redirect("an invalid address"))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(redirect("a connection that is not encrypted").into());
            }
            uri = next;
        }
        Err(redirect("too many addresses").into())
    }

    /// The whole body of an answer, of at most this many bytes. A hub that sends it byte by byte never exceeds the time
    /// limit of one read, so the time of the whole is limited, and the work stops if it is abandoned.
    pub(super) fn body(
        &self,
        response: &mut Response<Body>,
        most: u64,
        abandoned: &AtomicBool,
        what: &str,
    ) -> Result<Vec<u8>, Failure> {
        let until = Instant::now() + MAX_BODY;
        let body = response.body_mut().as_reader();
        read_all(body, most, until, abandoned, what)?
            .map_err(|error| self.failed(ureq::Error::from(error), what))
    }

    /// The failure for a request that got no answer.
    pub(super) fn failed(&self, error: ureq::Error, what: &str) -> Failure {
        let what = what.to_owned();
        // A new try meets the same server.
        if let Some(why) = tls_fault(&error.to_string()) {
            return HubError::Tls { what, why }.into();
        }
        match error {
            ureq::Error::Timeout(_) => {
                Failure::Again(HubError::Stalled { what, after: self.settings.stall }, None)
            }
            ureq::Error::Io(cause) if cause.kind() == io::ErrorKind::TimedOut => {
                Failure::Again(HubError::Stalled { what, after: self.settings.stall }, None)
            }
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => {
                let cause = error.to_string();
                Failure::Again(HubError::Unreachable { what, cause }, None)
            }
            ureq::Error::Protocol(_) => {
                let why = error.to_string();
                Failure::Again(HubError::Malformed { what, why }, None)
            }
            other => HubError::Unreachable { what, cause: other.to_string() }.into(),
        }
    }

    /// The failure for an answer with an error status.
    pub(super) fn refused(&self, response: &Response<Body>, what: &str, page: &str) -> Failure {
        let (status, headers) = (response.status().as_u16(), response.headers());
        let code = headers.get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or("");
        let (what, page) = (what.to_owned(), page.to_owned());
        let has_token = self.token.is_some();
        match (status, code) {
            (401 | 403, "GatedRepo") | (403, _) => match has_token {
                true => HubError::NotAllowed { what, page },
                false => HubError::NeedsToken { what, page },
            }
            .into(),
            // A hub hides the existence of private repositories from strangers.
            (401, _) if !has_token => HubError::MissingOrPrivate { what }.into(),
            (401, "RepoNotFound") | (404 | 410, _) => HubError::Missing { what }.into(),
            (401, _) => HubError::BadToken { what }.into(),
            (429 | 503, _) => {
                let after = retry_after(headers);
                match after {
                    Some(after) if after > MAX_RETRY_AFTER => {
                        HubError::RateLimited { what, after }.into()
                    }
                    Some(wait) => {
                        Failure::Again(HubError::RateLimited { what, after: wait }, after)
                    }
                    None => Failure::Again(HubError::Status { what, status }, None),
                }
            }
            (408 | 500..=599, _) => Failure::Again(HubError::Status { what, status }, None),
            _ => HubError::Status { what, status }.into(),
        }
    }

    /// Retries until the operation succeeds, fails permanently, or has failed too often in a row without progress.
    /// `further` returns a number that grows with the progress.
    pub(super) fn persist<T>(
        &self,
        abandoned: &AtomicBool,
        mut further: impl FnMut() -> u64,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T> {
        let (mut failures, mut last) = (0, further());
        loop {
            let (error, after) = match attempt() {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error, after)) => (error, after),
            };
            let now = further();
            failures = if now > last { 1 } else { failures + 1 };
            last = now;
            if failures > self.settings.retries {
                return Err(error.into());
            }
            let doubled = 2_u32.saturating_pow(failures - 1);
            let backoff = self.settings.backoff.saturating_mul(doubled).min(MAX_BACKOFF);
            let wait = after.map_or(backoff, |after| after.max(backoff));
            tracing::info!(%error, ?wait, "a request to the hub failed and will be tried again");
            pause(wait, abandoned)?;
        }
    }
}

/// Reads to the end; an error of the reader itself is the inner one.
fn read_all(
    mut reader: impl io::Read,
    most: u64,
    until: Instant,
    abandoned: &AtomicBool,
    what: &str,
) -> Result<io::Result<Vec<u8>>, HubError> {
    let (mut whole, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        if abandoned.load(Ordering::Relaxed) {
            return Err(HubError::Abandoned);
        }
        if Instant::now() >= until {
            return Err(HubError::Stalled { what: what.to_owned(), after: MAX_BODY });
        }
        let read = match reader.read(&mut part) {
            Ok(0) => return Ok(Ok(whole)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(error)),
        };
        if (whole.len() + read) as u64 > most {
            let why = format!("it is larger than {most} bytes");
            return Err(HubError::Malformed { what: what.to_owned(), why });
        }
        whole.extend_from_slice(&part[..read]);
    }
}

/// What is wrong with TLS, if this text of an error is about TLS and a new try meets the same fault. The HTTP client
/// passes it on only as a text. Other faults of TLS may pass: those of a busy server, or of a broken connection.
fn tls_fault(said: &str) -> Option<&'static str> {
    const UNTRUSTED: &str = "its certificate is not one that a public CA has signed; if the network puts its own \
                             certificate in between, set hub_endpoint to a mirror that can be reached without it";
    let after = |start| said.split_once(start).map(|(_, rest)| rest);
    if let Some(rest) = after("invalid peer certificate: ") {
        let starts = |start: &str| rest.starts_with(start);
        return Some(if starts("certificate expired") || starts("Expired") {
            "its certificate has expired; if it has not, set the clock of this machine"
        } else if starts("certificate not valid yet") || starts("NotValidYet") {
            "its certificate is not valid yet; set the clock of this machine"
        } else if starts("certificate not valid for name") || starts("NotValidForName") {
            "its certificate is for another host; check hub_endpoint (HF_ENDPOINT)"
        } else {
            UNTRUSTED
        });
    }
    if after("received corrupt message of type InvalidContentType").is_some() {
        return Some(
            "it does not speak TLS; check hub_endpoint (HF_ENDPOINT), which may need http://",
        );
    }
    let alert = after("received fatal alert: ")?;
    let is_final = ["HandshakeFailure", "ProtocolVersion"].iter().any(|it| alert.starts_with(it));
    is_final.then_some("it refused the handshake")
}

/// Waits, and stops at once if the download is abandoned.
pub(super) fn pause(wait: Duration, abandoned: &AtomicBool) -> Result<(), HubError> {
    let until = Instant::now() + wait;
    loop {
        if abandoned.load(Ordering::Relaxed) {
            return Err(HubError::Abandoned);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(LOOK));
    }
}

/// The delay in seconds; a date counts as no delay.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The target address of a redirect.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?.as_str();
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let without_fragment = absolute.split('#').next()?;
    without_fragment.parse().ok().filter(|uri| origin(uri).is_some())
}

/// The path of a file, encoded for a URL.
pub(super) fn encode(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut url, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hub that sends one byte at a time, without end; its caller goes away after so many.
    struct Drip<'a> {
        sent: usize,
        leaves_after: usize,
        abandoned: &'a AtomicBool,
    }

    impl io::Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            assert!(self.sent < 1_000, "it is read for ever");
            self.sent += 1;
            if self.sent == self.leaves_after {
                self.abandoned.store(true, Ordering::Relaxed);
            }
            into[0] = b' ';
            Ok(1)
        }
    }

    #[test]
    fn a_body_that_comes_byte_by_byte_is_read_until_its_limit_its_time_or_its_caller_ends() {
        let later = Instant::now() + MAX_BODY;
        let read = |most, until, leaves_after| {
            let abandoned = AtomicBool::new(false);
            let mut drip = Drip { sent: 0, leaves_after, abandoned: &abandoned };
            let error = read_all(&mut drip, most, until, &abandoned, "it").unwrap_err();
            (error, drip.sent)
        };
        assert!(matches!(read(100, later, usize::MAX), (HubError::Malformed { .. }, 101)));
        assert!(matches!(read(1_000, later, 7), (HubError::Abandoned, 7)));
        let past = Instant::now();
        assert!(matches!(read(1_000, past, usize::MAX), (HubError::Stalled { .. }, 0)));
        let whole = read_all(&b"{}"[..], 2, later, &AtomicBool::new(false), "it").unwrap();
        assert_eq!(whole.unwrap(), b"{}");
    }

    #[test]
    fn a_redirection_is_followed_relative_to_where_it_came_from() {
        let base: Uri = "https://hub.test:8443/a/b?c".parse().unwrap();
        let to = |location| resolve(&base, location).map(|uri| uri.to_string());
        assert_eq!(to("/x?y").as_deref(), Some("https://hub.test:8443/x?y"));
        assert_eq!(to("//cdn.test/x").as_deref(), Some("https://cdn.test/x"));
        assert_eq!(to("http://cdn.test/x#y").as_deref(), Some("http://cdn.test/x"));
        assert_eq!(to("file:///etc/passwd"), None);
        assert_eq!(to("x y"), None);
    }

    #[test]
    fn a_fault_of_tls_is_told_from_others() {
        for (said, part) in [
            (
                "io: invalid peer certificate: certificate expired: verification time 1 (UNIX)",
                "has expired",
            ),
            ("io: invalid peer certificate: certificate not valid for name \"a\"", "another host"),
            ("io: invalid peer certificate: UnknownIssuer", "public CA"),
            ("io: received corrupt message of type InvalidContentType", "does not speak TLS"),
            ("io: received fatal alert: HandshakeFailure", "refused"),
            ("io: received fatal alert: ProtocolVersion", "refused"),
        ] {
            assert!(tls_fault(said).unwrap().contains(part), "{said}");
        }
        for passing in [
            "io: Connection refused (os error 111)",
            "io: received fatal alert: InternalError",
            "io: received fatal alert: BadRecordMac",
            "io: received corrupt message of type MissingData(\"Certificate\")",
        ] {
            assert_eq!(tls_fault(passing), None, "{passing}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_without_showing_a_password() {
        assert!(check_endpoint("http://127.0.0.1:80/mirror").is_ok());
        for bad in ["", "hub.test", "ftp://hub.test", "https://", "https://bee:honey@hub.test"] {
            let error = check_endpoint(bad).expect_err(bad);
            assert!(!error.message().contains("honey"), "{error}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = "https://hub.test/mirror";
        for same in ["https://hub.test", "https://HUB.test:443/other"] {
            assert!(is_same_origin(hub, same), "{same}");
        }
        for other in ["http://hub.test", "https://hub.test:444", "https://hub.test.evil", ""] {
            assert!(!is_same_origin(hub, other), "{other}");
        }
        assert!(!is_same_origin("", ""));
    }

    #[test]
    fn only_encrypted_and_local_addresses_hide_what_is_sent() {
        for hidden in
            ["https://hub.test", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"]
        {
            assert!(!is_readable_on_the_way(hidden), "{hidden}");
        }
        for read in ["http://hub.test", "http://10.0.0.1", "http://localhost.test"] {
            assert!(is_readable_on_the_way(read), "{read}");
        }
    }

    #[test]
    fn a_path_is_written_so_that_it_stays_one() {
        assert_eq!(encode("a b/ü#?.x"), "a%20b/%C3%BC%23%3F.x");
    }
}
