//! A model hub, as a client of it.
//!
//! `hf-hub` supplies the endpoint, the URLs, the requests about a repository, and the token file. This module
//! implements the transfer itself: it resumes where a killed process stopped, distinguishes a stalled connection from a
//! slow one, waits as long as the hub requests, compares checksums, and never sends the token to another host. A token
//! belongs to one endpoint: it is not used for another endpoint, and not sent to a target of a redirect.

mod access;
mod error;
mod http;
mod info;
mod resolve;
mod token;
mod transfer;

use std::{env, fmt, path::PathBuf, sync::Arc, time::Duration};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{Api, ApiBuilder, ApiRepo},
};

pub(super) use self::{error::HubError, transfer::Transfer};
pub use self::{resolve::Resolved, token::HubToken};
use super::hub_cache::standard_hub_cache;
use crate::{
    error::Result,
    model_ref::{ModelRef, ModelSource},
};

/// A hub to download models from. Cheap to clone.
///
/// ```
/// use rbee_core::models::Hub;
///
/// let hub = Hub::builder().environment()?.parallel(2).build()?;
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// Not shown by `Debug`, because it contains the token.
struct Shared {
    api: Api,
    agent: ureq::Agent,
    endpoint: String,
    cache: Option<PathBuf>,
    token: Option<HubToken>,
    settings: HubBuilder,
}

/// The configuration of a [`Hub`].
#[derive(Clone, Debug)]
pub struct HubBuilder {
    endpoint: Option<String>,
    cache: Option<PathBuf>,
    token: TokenFrom,
    tenant_budget: Option<u64>,
    offline: bool,
    stall: Duration,
    parallel: usize,
    retries: u32,
    backoff: Duration,
}

/// The source of the token, which determines its endpoint.
#[derive(Clone, Debug)]
enum TokenFrom {
    Nowhere,
    /// From the environment, for the endpoint of the environment; without one, for the standard hub.
    Environment(HubToken, Option<String>),
    /// Set by the caller, for the endpoint of this builder.
    Given(HubToken),
}

impl Default for HubBuilder {
    fn default() -> Self {
        Self {
            endpoint: None,
            cache: None,
            token: TokenFrom::Nowhere,
            tenant_budget: None,
            offline: false,
            stall: Duration::from_secs(30),
            parallel: 4,
            retries: 5,
            backoff: Duration::from_secs(1),
        }
    }
}

impl HubBuilder {
    /// Reads the environment variables that other tools use: the endpoint from `HF_ENDPOINT`, the token from `HF_TOKEN`
    /// or the file that a login creates, and the offline mode from `HF_HUB_OFFLINE`. The token is for the endpoint of
    /// the environment: if another [`endpoint`](Self::endpoint) is set after this, the token is not used.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the token contains characters that are not allowed.
    pub fn environment(mut self) -> Result<Self> {
        let var = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let own = var("HF_ENDPOINT");
        if let Some(endpoint) = &own {
            self.endpoint = Some(endpoint.clone());
        }
        let file = || Cache::new(standard_hub_cache()?).token();
        if let Some(token) = var("HF_TOKEN").or_else(file) {
            self.token = TokenFrom::Environment(HubToken::new(token.trim())?, own);
        }
        if let Some(offline) = var("HF_HUB_OFFLINE") {
            let yes = ["1", "on", "yes", "true"];
            self.offline = yes.iter().any(|word| offline.eq_ignore_ascii_case(word));
        }
        Ok(self)
    }

    /// The address of the hub: `http://` or `https://`, a host, and optionally a port and a path.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The hub's cache, which the offline mode reads. By default the [standard
    /// directory](crate::models::StoreOptions::hub_cache).
    pub fn cache(mut self, cache: impl Into<PathBuf>) -> Self {
        self.cache = Some(cache.into());
        self
    }

    /// The user's token, or `None`. It is for the endpoint of this hub.
    pub fn token(mut self, token: Option<HubToken>) -> Self {
        self.token = token.map_or(TokenFrom::Nowhere, TokenFrom::Given);
        self
    }

    /// The total size limit, in bytes, of models that a store downloads from hubs with such a limit.
    pub(crate) fn tenant_budget(mut self, bytes: Option<u64>) -> Self {
        self.tenant_budget = bytes;
        self
    }

    /// Sends no requests to the hub: only models in the cache are available.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// How long a connection may deliver no data before it is closed and opened again, 30 s by default. A download
    /// waits ten times as long for another tool that holds a lock on the same file and makes no progress.
    pub fn stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Files that are downloaded at once, 4 by default; 1 to 32.
    pub fn parallel(mut self, parallel: usize) -> Self {
        self.parallel = parallel.clamp(1, 32);
        self
    }

    /// The number of retries of an operation that failed without progress, 5 by default, and the wait before the first
    /// retry, 1 s by default; each further wait is twice as long, up to a minute.
    pub fn retries(mut self, retries: u32, backoff: Duration) -> Self {
        (self.retries, self.backoff) = (retries, backoff);
        self
    }

    /// Builds the hub. Sends nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the endpoint is not a valid address.
    pub fn build(self) -> Result<Hub> {
        if let Some(endpoint) = &self.endpoint {
            http::check_endpoint(endpoint)?;
        }
        let cache = self.cache.clone().or_else(standard_hub_cache);
        let (api, endpoint) = interface(self.endpoint.as_deref())?;
        http::check_endpoint(&endpoint)?;
        let token = self.token_for(&endpoint)?;
        if token.is_some() && http::is_readable_on_the_way(&endpoint) {
            tracing::warn!(
                endpoint,
                "the hub's token crosses the network unencrypted; use an https:// endpoint"
            );
        }
        let agent = http::agent(self.stall);
        let shared = Shared { api, agent, endpoint, cache, token, settings: self };
        Ok(Hub { shared: Arc::new(shared) })
    }

    /// The token for this endpoint.
    fn token_for(&self, endpoint: &str) -> Result<Option<HubToken>> {
        let (token, own) = match &self.token {
            TokenFrom::Nowhere => return Ok(None),
            TokenFrom::Given(token) => return Ok(Some(token.clone())),
            TokenFrom::Environment(token, own) => (token, own),
        };
        let own = match own {
            Some(own) => own.clone(),
            None if self.endpoint.is_none() => return Ok(Some(token.clone())),
            None => interface(None)?.1,
        };
        if http::is_same_origin(&own, endpoint) {
            return Ok(Some(token.clone()));
        }
        tracing::info!(
            own,
            endpoint,
            "the hub's token of the environment is for another endpoint, and is not sent to this one"
        );
        Ok(None)
    }
}

/// The library's interface to the hub at this endpoint or the default one, and that endpoint. It gets no token: this
/// crate makes every request itself, to control where the token is sent.
fn interface(endpoint: Option<&str>) -> Result<(Api, String)> {
    // Its own cache is not used, and a token that it finds there is removed.
    let mut api = ApiBuilder::from_cache(Cache::new(PathBuf::new()))
        .with_progress(false)
        .with_token(None)
        .with_user_agent("rbee", env!("CARGO_PKG_VERSION"));
    if let Some(endpoint) = endpoint {
        api = api.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let api = api.build().map_err(|error| HubError::Interface(error.to_string()))?;
    // The library's default address of the hub, so that it is not repeated here.
    let url = api.model("a/b".to_owned()).url("c");
    let endpoint = url.strip_suffix("/a/b/resolve/main/c").unwrap_or(&url).to_owned();
    Ok((api, endpoint))
}

impl Hub {
    /// A builder for the configuration of a hub.
    pub fn builder() -> HubBuilder {
        HubBuilder::default()
    }

    /// True if no requests are sent to the hub.
    pub fn is_offline(&self) -> bool {
        self.shared.settings.offline
    }

    fn repository(&self, org: &str, repo: &str, revision: &str) -> ApiRepo {
        let repo =
            Repo::with_revision(format!("{org}/{repo}"), RepoType::Model, revision.to_owned());
        self.shared.api.repo(repo)
    }

    pub(super) fn tenant_budget(&self) -> Option<u64> {
        self.shared.settings.tenant_budget
    }

    pub(super) fn parallel(&self) -> usize {
        self.shared.settings.parallel
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.shared.endpoint)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// The parts of a hub reference.
fn parts(model: &ModelRef) -> Result<(&str, &str, &str, Option<&str>), HubError> {
    match model.source() {
        ModelSource::Hub { org, repo, revision, file } => {
            Ok((org, repo, revision.unwrap_or("main"), file))
        }
        _ => Err(HubError::NoHubModel(model.clone())),
    }
}
