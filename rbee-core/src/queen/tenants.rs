//! Tenants, as an operator looks after them, and the keys by which their clients are known.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use sha2::{Digest as _, Sha256};

use super::{Queen, mailbox::Message};
use crate::{
    ApiKey, Error, ErrorKind, Result, TenantId, TenantLimits, TenantRecord, WallTime,
    engine::Command,
};

/// Keys that one tenant may have.
const MOST_KEYS: usize = 16;
/// The longest label of a key, in characters.
const MOST_LABEL: usize = 64;

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

/// Whose key is it? By hash, so that the time of a look says nothing about keys that are nearly right.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Arc<RwLock<HashMap<String, TenantId>>>);

impl Keys {
    /// What the store says of all tenants.
    pub(super) fn replace(&self, tenants: &[TenantRecord]) {
        let keys = tenants
            .iter()
            .flat_map(|tenant| tenant.keys.iter().map(|key| (key.hash.clone(), tenant.id.clone())));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys.collect();
    }

    fn tenant_of(&self, hash: &str) -> Option<TenantId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
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
        let look = |engine: &crate::engine::Engine| {
            let describe = |record: TenantRecord| TenantSummary {
                live_jobs: engine.view().tenant(&record.id).map_or(0, |view| view.live_jobs),
                used_today: record.used_tokens,
                id: record.id,
                limits: record.limits,
                keys: record.keys,
            };
            engine.tenants().into_iter().map(describe).collect()
        };
        self.look(look).await
    }

    /// Sets up a tenant, or changes the limits of one; its keys stay. They hold from now on, for jobs that wait already
    /// too where these are asked about again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a limit that cannot be, [`ErrorKind::Storage`] where it could not be recorded.
    pub async fn put_tenant(&self, tenant: TenantId, mut limits: TenantLimits) -> Result<()> {
        limits.validate()?;
        // An alias is told by its reference too, because that is what jobs carry.
        let meant = limits.models.iter().flatten().map(|name| {
            self.resolve(name)
                .map(|model| model.to_string())
                .map_err(|error| error.with_param("models"))
        });
        let meant = meant.collect::<Result<Vec<_>>>()?;
        if let Some(models) = &mut limits.models {
            models.extend(meant);
        }
        let _alone = self.shared.tenant_change.lock().await;
        let keys = self.tenant(&tenant).await?.map(|record| record.keys).unwrap_or_default();
        let used_tokens = 0;
        self.write_tenant(TenantRecord { id: tenant, limits, keys, used_tokens }).await
    }

    /// Removes a tenant and its keys.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Conflict`] while it has jobs that have not ended.
    pub async fn remove_tenant(&self, tenant: &TenantId) -> Result<()> {
        let _alone = self.shared.tenant_change.lock().await;
        self.tenant(tenant).await?.ok_or_else(|| unknown(tenant))?;
        self.tenant_command(Command::RemoveTenant(tenant.clone())).await
    }

    /// Issues a key to a tenant: 256 random bits, of which only a hash is kept.
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
        let _alone = self.shared.tenant_change.lock().await;
        let mut record = self.tenant(tenant).await?.ok_or_else(|| unknown(tenant))?;
        if record.keys.len() >= MOST_KEYS {
            let message = format!("tenant {tenant} has {MOST_KEYS} keys already; revoke one first");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        // Two random UUIDs have 244 random bits; a third makes it more than the 256 that are promised.
        let random = || uuid::Uuid::new_v4().simple().to_string();
        let text = format!("rbee-{}{}{}", random(), random(), random());
        let key = TenantKey { hash: hash(&text), text };
        record.keys.push(ApiKey {
            hash: key.hash.clone(),
            label: label.to_owned(),
            created_at: WallTime::now(),
        });
        self.write_tenant(record).await?;
        Ok(key)
    }

    /// Revokes the key whose hash begins so.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such tenant or key, [`ErrorKind::InvalidRequest`] where the beginning
    /// fits several.
    pub async fn revoke_key(&self, tenant: &TenantId, hash_prefix: &str) -> Result<()> {
        let _alone = self.shared.tenant_change.lock().await;
        let mut record = self.tenant(tenant).await?.ok_or_else(|| unknown(tenant))?;
        let fits = |key: &ApiKey| !hash_prefix.is_empty() && key.hash.starts_with(hash_prefix);
        match record.keys.iter().filter(|key| fits(key)).count() {
            0 => {
                let shown: String = hash_prefix.chars().take(64).collect();
                let message =
                    format!("tenant {tenant} has no key whose hash begins with {shown:?}");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            1 => record.keys.retain(|key| !fits(key)),
            many => {
                let message = format!(
                    "{many} keys of tenant {tenant} begin with {hash_prefix:?}; give more of it"
                );
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
        }
        self.write_tenant(record).await
    }

    /// The tenant whose key this is.
    pub fn tenant_of(&self, key: &str) -> Option<TenantId> {
        self.shared.keys.tenant_of(&hash(key))
    }

    async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRecord>> {
        let tenant = tenant.clone();
        self.look(move |engine| engine.tenants().into_iter().find(|one| one.id == tenant)).await
    }

    async fn write_tenant(&self, record: TenantRecord) -> Result<()> {
        self.tenant_command(Command::PutTenant(Box::new(record))).await
    }

    async fn tenant_command(&self, command: Command) -> Result<()> {
        self.shared.mailbox.ask(|reply| Message::Command { command, reply }).await??;
        let tenants = self.look(|engine| engine.tenants()).await?;
        self.shared.keys.replace(&tenants);
        Ok(())
    }
}
