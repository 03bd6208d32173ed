//! Tenants, as an operator looks after them, and the keys by which their clients are known.

mod index;

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Queen, models::Grant};
use crate::{
    engine::{Command, Engine},
    error::{Error, ErrorKind, Result},
    id::TenantId,
    model_ref::ModelSource,
    registry::TenantRecord,
    settings::TenantReferences,
    tenant::{ApiKey, TenantLimits},
    time::WallTime,
};

use index::TenantEntry;
pub(super) use index::TenantIndex;

/// Keys that one tenant may have.
const MOST_KEYS: usize = 16;
/// The longest label of a key, in characters.
const MOST_LABEL: usize = 64;
/// Models that an error names.
const NAMED: usize = 8;
/// Tenants whose usage is looked up in one turn of the driver.
const LOOK: usize = 256;

/// A tenant that was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSummary {
    /// Its name.
    pub id: TenantId,
    /// What it may use.
    pub limits: TenantLimits,
    /// Its keys.
    pub keys: Vec<ApiKey>,
    /// Tokens it has used today (UTC).
    pub used_today: u64,
    /// Jobs it has now, waiting and running.
    pub live_jobs: u32,
}

/// A new key of a tenant. Only its hash is kept, so this is the one time that it can be seen.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantKey {
    text: String,
    hash: String,
}

impl TenantKey {
    /// The key itself, to be handed to the tenant.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The SHA-256 of the key, in lower-case hexadecimal, by which it is known from now on.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// Shows the hash alone.
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

impl Queen {
    /// The tenants that were set up, by name.
    pub async fn tenants(&self) -> Result<Vec<TenantSummary>> {
        let all = self.shared.tenants.all();
        let mut summaries = Vec::with_capacity(all.len());
        for some in all.chunks(LOOK) {
            summaries.extend(self.summaries(some.to_vec()).await?);
        }
        Ok(summaries)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none of this name.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<TenantSummary> {
        let entry = self.shared.tenants.get(tenant)?;
        let found = self.summaries(vec![(tenant.clone(), entry)]).await?;
        found.into_iter().next().ok_or_else(|| unknown(tenant))
    }

    async fn summaries(&self, tenants: Vec<(TenantId, TenantEntry)>) -> Result<Vec<TenantSummary>> {
        let describe = |engine: &Engine, (id, entry): (TenantId, TenantEntry)| TenantSummary {
            live_jobs: engine.view().tenant(&id).map_or(0, |view| view.live_jobs),
            used_today: engine.tenant(&id).map_or(0, |record| record.used_tokens),
            limits: (*entry.limits).clone(),
            keys: entry.keys,
            id,
        };
        self.look(move |engine| tenants.into_iter().map(|one| describe(engine, one)).collect())
            .await
    }

    /// What this tenant may use: its own limits, and the default ones of [`Settings`](crate::Settings) where it has none.
    pub fn limits_of(&self, tenant: &TenantId) -> TenantLimits {
        let defaults = &self.shared.settings.default_limits;
        let own = self.shared.tenants.limits(tenant);
        own.map_or_else(|| defaults.clone(), |own| own.or(defaults))
    }

    /// Returns an error if this tenant may not use the model of this name. If its limits name models, it may use those: an
    /// alias there is for whatever it stands for now, and a reference for exactly that one. Else it may use every alias and
    /// the names that workers go by, and references if [`tenant_references`](crate::Settings::tenant_references) is not
    /// off. Which files a `file:` reference may name then is for the application to decide.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] that names the model and those that are allowed, [`ErrorKind::InvalidRequest`] for
    /// what is neither an alias nor a reference.
    pub fn may_use(&self, tenant: &TenantId, name: &str) -> Result<()> {
        self.grant(tenant, name).map(drop)
    }

    /// The same, and on whose word it may.
    pub(super) fn grant(&self, tenant: &TenantId, name: &str) -> Result<Grant> {
        let limits = self.limits_of(tenant);
        let model = self.resolve(name).map_err(|error| error.with_param("model"))?;
        let aliases = &self.shared.aliases;
        let is_name = aliases.contains_key(name) || matches!(model.source(), ModelSource::Alias(_));
        let is_file = matches!(model.source(), ModelSource::File(_));
        let is_granted = match &limits.models {
            Some(allowed) => {
                // A path that an alias stands for is not to be found out by trying.
                let is_it = |one: &String| self.resolve(one).is_ok_and(|one| one == model);
                allowed.contains(name) || ((is_name || !is_file) && allowed.iter().any(is_it))
            }
            None => is_name,
        };
        let may_refer = self.shared.settings.tenant_references != TenantReferences::Off;
        match (is_granted, &limits.models) {
            (true, _) => Ok(Grant::Operator),
            (false, None) if may_refer => Ok(Grant::Tenant),
            (false, _) => Err(self.not_for(tenant, name, &limits)),
        }
    }

    fn not_for(&self, tenant: &TenantId, name: &str, limits: &TenantLimits) -> Error {
        let names: Vec<&str> = match &limits.models {
            Some(allowed) => allowed.iter().map(String::as_str).collect(),
            None => self.shared.aliases.keys().map(String::as_str).collect(),
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

    /// Sets up a tenant, or changes the limits of one; its keys stay. They hold for what is submitted from now on: a job
    /// that waits already is not refused by a change, but that [`PlatformPolicy`](crate::scheduler::PlatformPolicy) looks at the tokens
    /// of the day once more before it begins one. Models are kept by the names that they are given here, so an alias goes
    /// on meaning whatever it stands for.
    ///
    /// The change is made whole, also where the future is dropped meanwhile, as are those below.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a limit that cannot be, [`ErrorKind::Conflict`] where there are 10,000 tenants
    /// already, [`ErrorKind::Storage`] where it could not be recorded.
    pub async fn put_tenant(&self, tenant: TenantId, limits: TenantLimits) -> Result<()> {
        limits.validate()?;
        limits.check_models(|name| self.resolve(name))?;
        let change = move |directory: &TenantIndex| {
            directory.check_room(&tenant)?;
            let keys = directory.get(&tenant).map(|entry| entry.keys).unwrap_or_default();
            Ok((Change::put(tenant, limits, keys), ()))
        };
        self.change_tenant(change).await
    }

    /// Removes a tenant and its keys.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Conflict`] while it has jobs that have not ended.
    pub async fn remove_tenant(&self, tenant: &TenantId) -> Result<()> {
        let tenant = tenant.clone();
        let change = move |directory: &TenantIndex| {
            directory.get(&tenant)?;
            Ok((Change::Gone(tenant), ()))
        };
        self.change_tenant(change).await
    }

    /// Issues a key to a tenant: 366 random bits, of which only a hash is kept.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such tenant, [`ErrorKind::Conflict`] where it has 16 keys already,
    /// [`ErrorKind::InvalidRequest`] for a label longer than 64 characters.
    pub async fn issue_key(&self, tenant: &TenantId, label: &str) -> Result<TenantKey> {
        if label.chars().count() > MOST_LABEL || label.chars().any(char::is_control) {
            let message =
                format!("label is {label:?}; allowed are {MOST_LABEL} characters on one line");
            return Err(Error::new(ErrorKind::InvalidRequest, message).with_param("label"));
        }
        let (tenant, label) = (tenant.clone(), label.to_owned());
        let change = move |directory: &TenantIndex| {
            let TenantEntry { limits, mut keys } = directory.get(&tenant)?;
            if keys.len() >= MOST_KEYS {
                let message =
                    format!("tenant {tenant} has {MOST_KEYS} keys already; revoke one first");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            // Two random UUIDs have 244 random bits; a third makes it more than the 256 that are promised.
            let random = || uuid::Uuid::new_v4().simple().to_string();
            let text = format!("rbee-{}{}{}", random(), random(), random());
            let key = TenantKey { hash: hash(&text), text };
            keys.push(ApiKey { hash: key.hash.clone(), label, created_at: WallTime::now() });
            Ok((Change::put(tenant, (*limits).clone(), keys), key))
        };
        self.change_tenant(change).await
    }

    /// Revokes the key whose hash begins so. When this returns it is of no use any more.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such tenant or key, [`ErrorKind::InvalidRequest`] where the beginning
    /// fits several.
    pub async fn revoke_key(&self, tenant: &TenantId, hash_prefix: &str) -> Result<()> {
        let (tenant, prefix) = (tenant.clone(), hash_prefix.to_owned());
        let change = move |directory: &TenantIndex| {
            let TenantEntry { limits, mut keys } = directory.get(&tenant)?;
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
        self.change_tenant(change).await
    }

    /// The tenant whose key this is.
    pub fn tenant_of(&self, key: &str) -> Option<TenantId> {
        self.shared.tenants.tenant_of(&hash(key))
    }

    /// Makes a change to what the directory has, in a task of its own: one that is recorded must be known to the
    /// directory too, whatever becomes of whoever asked for it. A key that is revoked in the store alone would go on
    /// working, and be written back with the next change.
    async fn change_tenant<T: Send + 'static>(
        &self,
        change: impl FnOnce(&TenantIndex) -> Result<(Change, T)> + Send + 'static,
    ) -> Result<T> {
        let alone = self.shared.tenants.alone().await;
        let queen = self.clone();
        let making = tokio::spawn(async move {
            let directory = &queen.shared.tenants;
            let (change, made) = change(directory)?;
            let command = match &change {
                Change::Put(record) => Command::PutTenant(record.clone()),
                Change::Gone(tenant) => Command::RemoveTenant(tenant.clone()),
            };
            queen.command(command).await?;
            match &change {
                Change::Put(record) => directory.put(record),
                Change::Gone(tenant) => directory.remove(tenant),
            }
            drop(alone);
            Ok(made)
        });
        making.await.unwrap_or_else(|cause| {
            let message = "the change of a tenant broke off";
            Err(Error::new(ErrorKind::Internal, message).with_source(cause))
        })
    }
}

/// What is to be recorded of a tenant.
enum Change {
    Put(Box<TenantRecord>),
    Gone(TenantId),
}

impl Change {
    /// Usage is not written with it.
    fn put(id: TenantId, limits: TenantLimits, keys: Vec<ApiKey>) -> Self {
        Self::Put(Box::new(TenantRecord { id, limits, keys, used_tokens: 0 }))
    }
}
