//! The tenants, as an operator manages them, and the keys that identify their clients.

mod index;

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Queen, model_locator::Grant};
use crate::{
    engine::{Command, Engine},
    error::{Error, ErrorKind, Result},
    id::TenantId,
    model_ref::ModelSource,
    progress::Progress,
    registry::TenantRecord,
    settings::TenantReferences,
    tenant::{ApiKey, TenantLimits},
    time::WallTime,
};

use index::TenantEntry;
pub(super) use index::TenantIndex;

/// The maximum number of keys of one tenant.
const MOST_KEYS: usize = 16;
/// The maximum length of the label of a key, in characters.
const MOST_LABEL: usize = 64;
/// The maximum number of models that an error names.
const NAMED: usize = 8;
/// The number of tenants whose usage is read in one turn of the driver.
const USAGE_CHUNK: usize = 256;

/// A tenant, with its limits, keys and usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSummary {
    /// The name of the tenant.
    pub id: TenantId,
    /// The limits of what it may use.
    pub limits: TenantLimits,
    /// The keys of the tenant, without their text.
    pub keys: Vec<ApiKey>,
    /// The number of tokens that it has used today (UTC).
    pub used_today: u64,
    /// The number of its waiting and running jobs.
    pub live_jobs: u32,
}

/// A new key of a tenant. The queen keeps only its hash, so the text is available only here.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantKey {
    text: String,
    hash: String,
}

impl TenantKey {
    /// The text of the key, for the tenant.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The SHA-256 of the key, in lower-case hexadecimal, which identifies it from now on.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// Shows only the hash.
impl fmt::Debug for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantKey").field("hash", &self.hash).finish_non_exhaustive()
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unknown(tenant: &TenantId) -> Error {
    Error::new(ErrorKind::NotFound, format!("tenant {tenant} does not exist"))
}

/// The tenants of a queen; see [`Queen::tenants`].
#[derive(Clone, Copy, Debug)]
pub struct Tenants<'a> {
    pub(super) queen: &'a Queen,
}

impl Tenants<'_> {
    /// All tenants, in the order of their names.
    pub async fn list(self) -> Result<Vec<TenantSummary>> {
        let all = self.queen.shared.tenants.all();
        let mut summaries = Vec::with_capacity(all.len());
        for some in all.chunks(USAGE_CHUNK) {
            summaries.extend(self.summaries(some.to_vec()).await?);
        }
        Ok(summaries)
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no tenant of this name.
    pub async fn get(self, tenant: &TenantId) -> Result<TenantSummary> {
        let entry = self.queen.shared.tenants.get(tenant)?;
        let found = self.summaries(vec![(tenant.clone(), entry)]).await?;
        found.into_iter().next().ok_or_else(|| unknown(tenant))
    }

    async fn summaries(self, tenants: Vec<(TenantId, TenantEntry)>) -> Result<Vec<TenantSummary>> {
        let describe = |engine: &Engine, (id, entry): (TenantId, TenantEntry)| TenantSummary {
            live_jobs: engine.view().tenant(&id).map_or(0, |view| view.live_jobs),
            used_today: engine.tenant(&id).map_or(0, |record| record.used_tokens),
            limits: (*entry.limits).clone(),
            keys: entry.keys,
            id,
        };
        let inspect =
            move |engine: &Engine| tenants.into_iter().map(|one| describe(engine, one)).collect();
        self.queen.inspect(inspect).await
    }

    /// The limits of a tenant: its own, and those in [`default_limits`](crate::Settings::default_limits) for each that
    /// it does not set.
    pub fn limits_of(self, tenant: &TenantId) -> TenantLimits {
        let defaults = &self.queen.shared.settings.default_limits;
        let own = self.queen.shared.tenants.limits(tenant);
        own.map_or_else(|| defaults.clone(), |own| own.or(defaults))
    }

    /// Returns an error if this tenant may not use the model of this name. If its limits name models, it may use those:
    /// an alias allows the model that it stands for now, and a reference allows exactly that model. Else it may use
    /// every alias and the names of the workers' models, and also references if
    /// [`tenant_references`](crate::Settings::tenant_references) is not off. The application must then decide which
    /// files a `file:` reference may name.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`], with the model and the allowed models, [`ErrorKind::InvalidRequest`] for a
    /// malformed reference, [`ErrorKind::ModelNotFound`] for any other text that can be no model's name.
    pub fn may_use(self, tenant: &TenantId, name: &str) -> Result<()> {
        self.grant(tenant, name).map(drop)
    }

    /// [`may_use`](Self::may_use), which also returns with whose permissions the model is fetched.
    pub(in crate::queen) fn grant(self, tenant: &TenantId, name: &str) -> Result<Grant> {
        let limits = self.limits_of(tenant);
        let models = self.queen.models();
        let model = models.resolve(name).map_err(|error| match error.kind() {
            // With the similar names that the tenant may use.
            ErrorKind::ModelNotFound => models.unknown(name, Some(tenant), None),
            _ => error.with_param("model"),
        })?;
        let alias = models.alias(name).map(|(alias, _)| alias);
        let is_name = alias.is_some() || matches!(model.source(), ModelSource::Alias(_));
        // A worker's name with `:latest` may mean the name without it. The engine checks which model it is.
        let bare = model.without_latest();
        let is_file = matches!(model.source(), ModelSource::File(_));
        let is_granted = match &limits.models {
            Some(allowed) => {
                // A tenant must not find out by trials which path an alias stands for.
                let is_it = |one: &String| {
                    models.resolve(one).is_ok_and(|one| one == model || Some(&one) == bare.as_ref())
                };
                allowed.contains(name)
                    || alias.is_some_and(|alias| allowed.contains(alias))
                    || ((is_name || !is_file) && allowed.iter().any(is_it))
            }
            None => is_name,
        };
        let may_refer = self.queen.shared.settings.tenant_references != TenantReferences::Off;
        match (is_granted, &limits.models) {
            (true, _) => Ok(Grant::Operator),
            (false, None) if may_refer => Ok(Grant::Tenant),
            (false, _) => Err(self.not_allowed(tenant, name, &limits)),
        }
    }

    fn not_allowed(self, tenant: &TenantId, name: &str, limits: &TenantLimits) -> Error {
        let names: Vec<&str> = match &limits.models {
            Some(allowed) => allowed.iter().map(String::as_str).collect(),
            None => self.queen.shared.aliases.keys().map(String::as_str).collect(),
        };
        let names: Vec<_> = names.into_iter().filter(|name| !name.starts_with("file:")).collect();
        let mut allowed = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if names.len() > NAMED {
            allowed += &format!(" and {} more", names.len() - NAMED);
        }
        let why = match &limits.models {
            Some(_) => "is not for tenant",
            None => "is a reference, which is not for tenant",
        };
        let allowed = if names.is_empty() { "no model" } else { &allowed };
        let shown: String = name.chars().take(120).collect();
        let message = format!("model {shown} {why} {tenant}; allowed is {allowed}");
        Error::for_client(ErrorKind::PermissionDenied, message).with_param("model")
    }

    /// Adds a tenant, or changes the limits of one, which keeps its keys. The limits apply to requests that are
    /// submitted from now on. A change does not refuse a job that already waits, except that
    /// [`PlatformPolicy`](crate::scheduler::PlatformPolicy) checks the daily tokens again before a job starts. Models
    /// are stored under the names that are given here, so an alias still means the model that it stands for at the time
    /// of use.
    ///
    /// The change is completed even if the future is dropped. So are the changes by the methods below.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for an invalid limit, [`ErrorKind::Conflict`] if there are already 10,000 tenants,
    /// [`ErrorKind::Storage`] if the change could not be recorded.
    pub async fn put(self, tenant: TenantId, limits: TenantLimits) -> Result<()> {
        limits.validate()?;
        let aliases = self.queen.models();
        let resolve =
            |name: &str| aliases.alias(name).map_or_else(|| name.parse(), |(_, to)| Ok(to.clone()));
        limits.check_models(resolve)?;
        let change = move |index: &TenantIndex| {
            index.check_room(&tenant)?;
            let keys = index.get(&tenant).map(|entry| entry.keys).unwrap_or_default();
            Ok((Change::put(tenant, limits, keys), ()))
        };
        self.change(change).await
    }

    /// Removes a tenant and its keys.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant, [`ErrorKind::Conflict`] while it has jobs that have not
    /// ended.
    pub async fn remove(self, tenant: &TenantId) -> Result<()> {
        let tenant = tenant.clone();
        let change = move |index: &TenantIndex| {
            index.get(&tenant)?;
            Ok((Change::Gone(tenant), ()))
        };
        self.change(change).await
    }

    /// Issues a key to a tenant: 366 random bits, of which only a hash is kept.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant, [`ErrorKind::Conflict`] if it already has 16 keys,
    /// [`ErrorKind::InvalidRequest`] if the label is longer than 64 characters or has control characters.
    pub async fn issue_key(self, tenant: &TenantId, label: &str) -> Result<TenantKey> {
        if label.chars().count() > MOST_LABEL || label.chars().any(char::is_control) {
            let message =
                format!("label is {label:?}; allowed are {MOST_LABEL} characters on one line");
            return Err(Error::new(ErrorKind::InvalidRequest, message).with_param("label"));
        }
        let (tenant, label) = (tenant.clone(), label.to_owned());
        let change = move |index: &TenantIndex| {
            let TenantEntry { limits, mut keys } = index.get(&tenant)?;
            if keys.len() >= MOST_KEYS {
                let message =
                    format!("tenant {tenant} has {MOST_KEYS} keys already; revoke one first");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            // Two random UUIDs have 244 random bits; the third one brings it to 366, above the required 256.
            let random = || uuid::Uuid::new_v4().simple().to_string();
            let text = format!("rbee-{}{}{}", random(), random(), random());
            let key = TenantKey { hash: hash(&text), text };
            keys.push(ApiKey { hash: key.hash.clone(), label, created_at: WallTime::now() });
            Ok((Change::put(tenant, (*limits).clone(), keys), key))
        };
        self.change(change).await
    }

    /// Revokes the key whose hash starts with `hash_prefix`. It is invalid when this returns.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant or key, [`ErrorKind::InvalidRequest`] if the prefix matches
    /// several keys.
    pub async fn revoke_key(self, tenant: &TenantId, hash_prefix: &str) -> Result<()> {
        let (tenant, prefix) = (tenant.clone(), hash_prefix.to_owned());
        let change = move |index: &TenantIndex| {
            let TenantEntry { limits, mut keys } = index.get(&tenant)?;
            let fits = |key: &ApiKey| !prefix.is_empty() && key.hash.starts_with(&prefix);
            match keys.iter().filter(|key| fits(key)).count() {
                0 => {
                    let shown: String = prefix.chars().take(64).collect();
                    let message =
                        format!("tenant {tenant} has no key whose hash begins with {shown:?}");
                    return Err(Error::new(ErrorKind::NotFound, message));
                }
                1 => keys.retain(|key| !fits(key)),
                many => {
                    let message = format!(
                        "{many} keys of tenant {tenant} begin with {prefix:?}; give more of it"
                    );
                    return Err(Error::new(ErrorKind::InvalidRequest, message));
                }
            }
            Ok((Change::put(tenant, (*limits).clone(), keys), ()))
        };
        self.change(change).await
    }

    /// The tenant that this key belongs to; `None` if it is not a valid key.
    pub fn of_key(self, key: &str) -> Option<TenantId> {
        self.queen.shared.tenants.tenant_of(&hash(key))
    }

    /// Changes the index, in a task of its own: a change that is recorded must also reach the index, even if the caller
    /// goes away. A key that is revoked only in the store would stay valid, and would be recorded again with the next
    /// change.
    async fn change<T: Send + 'static>(
        self,
        change: impl FnOnce(&TenantIndex) -> Result<(Change, T)> + Send + 'static,
    ) -> Result<T> {
        let guard = self.queen.shared.tenants.lock_changes().await;
        let queen = self.queen.clone();
        let making = tokio::spawn(async move {
            let index = &queen.shared.tenants;
            let (change, made) = change(index)?;
            let command = match &change {
                Change::Put(record) => Command::PutTenant(record.clone()),
                Change::Gone(tenant) => Command::RemoveTenant(tenant.clone()),
            };
            queen.command(command, Progress::ignore()).await?;
            match &change {
                Change::Put(record) => index.put(record),
                Change::Gone(tenant) => index.remove(tenant),
            }
            drop(guard);
            Ok(made)
        });
        making.await.unwrap_or_else(|cause| {
            let message = "the task that changes a tenant ended before it was done";
            Err(Error::new(ErrorKind::Internal, message).with_source(cause))
        })
    }
}

/// A change to the record of a tenant.
enum Change {
    Put(Box<TenantRecord>),
    Gone(TenantId),
}

impl Change {
    /// The new limits and keys. The usage is not changed by it.
    fn put(id: TenantId, limits: TenantLimits, keys: Vec<ApiKey>) -> Self {
        Self::Put(Box::new(TenantRecord { id, limits, keys, used_tokens: 0 }))
    }
}
