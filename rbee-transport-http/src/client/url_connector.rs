//! Connections to the servers that URLs name: directly or through a proxy, plain or over TLS.

use std::{
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Uri};
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use tower_service::Service;

use super::trust::Trust;
use crate::{
    client::{
        chain,
        dialled::{CONNECT_TIMEOUT, Dialled},
        http_error::BoxError,
    },
    dial::Io,
};

/// How long a connection is idle before the kernel probes the other end, and the interval of the probes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Connects to the server that a URL names. A server on this machine is never reached through a proxy.
#[derive(Clone)]
pub(in crate::client) struct UrlConnector {
    tcp: HttpConnector,
    trust: Option<Trust>,
    proxies: Arc<Matcher>,
}

impl fmt::Debug for UrlConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlConnector").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

impl UrlConnector {
    pub(super) fn new(trust: Option<Trust>, proxies: Matcher) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE));
        tcp.set_keepalive_retries(Some(KEEP_ALIVE_RETRIES));
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self { tcp, trust, proxies: Arc::new(proxies) }
    }

    fn proxy(&self, url: &Uri) -> Option<Intercept> {
        if is_this_machine(url) { None } else { self.proxies.intercept(url) }
    }

    /// The `proxy-authorization` value for a request to this URL; `None` if there is none, or if the connection is a
    /// tunnel through the proxy.
    pub(super) fn proxy_authorization(&self, url: &Uri) -> Option<HeaderValue> {
        if is_https(url) { None } else { self.proxy(url)?.basic_auth().cloned() }
    }

    /// Connects, through a proxy if the environment names one for this URL.
    pub(in crate::client) async fn connect(&self, url: &Uri) -> Result<Dialled, BoxError> {
        let Some(proxy) = self.proxy(url) else {
            return Ok(Dialled::direct(self.open(url).await?));
        };
        let via = proxy.uri();
        // Without it, the message would not say which of the two is meant.
        let wrong = |why: String| format!("the proxy {via} that the environment names: {why}");
        if !matches!(via.scheme_str(), Some("http" | "https")) {
            return Err(wrong("only http:// and https:// are known".into()).into());
        }
        if !is_https(url) {
            let io = self.open(via).await.map_err(|cause| wrong(chain(&*cause)))?;
            return Ok(Dialled::proxied(io));
        }
        let mut tunnel = Tunnel::new(via.clone(), self.clone());
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let io = tunnel.call(url.clone()).await.map_err(|cause| wrong(chain(&cause)))?;
        Ok(Dialled::direct(self.encrypt(url, io.into_inner()).await?))
    }

    /// Connects to the host of this URL, without a proxy.
    async fn open(&self, url: &Uri) -> Result<Box<dyn Io>, BoxError> {
        let tcp = self.tcp.clone().call(url.clone()).await?.into_inner();
        if is_https(url) { self.encrypt(url, tcp).await } else { Ok(Box::new(tcp)) }
    }

    async fn encrypt(&self, url: &Uri, io: impl Io) -> Result<Box<dyn Io>, BoxError> {
        let trust = self.trust.as_ref().ok_or("no certificates to check TLS against are set up")?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        Ok(trust.encrypt(host, io).await?)
    }
}

/// Connects to the proxy itself, for a tunnel through it.
impl Service<Uri> for UrlConnector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, proxy: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(TokioIo::new(connector.open(&proxy).await?)) })
    }
}

fn is_https(url: &Uri) -> bool {
    url.scheme() == Some(&http::uri::Scheme::HTTPS)
}

fn is_this_machine(url: &Uri) -> bool {
    url.host().is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    })
}
