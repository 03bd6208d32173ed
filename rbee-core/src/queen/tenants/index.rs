//! Who the tenants are, as they were set up: their limits, in the words of whoever set them, and their keys.
//!
//! The engine holds the same limits, with what every alias stands for beside it, and counts what is used. Here they can be
//! looked at by everybody, without asking the driver.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::unknown;
use crate::{
    error::{Error, ErrorKind, Result},
    id::TenantId,
    registry::TenantRecord,
    tenant::{ApiKey, TenantLimits},
};

/// Tenants that there may be.
pub(super) const MOST_TENANTS: usize = 10_000;

/// The right to change tenants, which one at a time has.
pub(super) type Alone = OwnedMutexGuard<()>;

/// What is recorded of the tenants now, and whose key is which.
#[derive(Clone, Debug, Default)]
pub(in crate::queen) struct TenantIndex {
    inner: Arc<RwLock<Inner>>,
    changing: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Inner {
    tenants: BTreeMap<TenantId, TenantEntry>,
    /// By hash, so that the time of a look says nothing about keys that are nearly right.
    keys: HashMap<String, TenantId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TenantEntry {
    pub(super) limits: Arc<TenantLimits>,
    pub(super) keys: Vec<ApiKey>,
}

impl TenantIndex {
    /// What the store says of all tenants.
    pub(in crate::queen) fn of(tenants: &[TenantRecord]) -> Self {
        let directory = Self::default();
        directory.learn(tenants);
        directory
    }

    /// Takes what the store says of all tenants, and gives what is new about them. Nobody may change them between the
    /// store's answer and this: a key that is revoked meanwhile would come back.
    pub(in crate::queen) fn learn(&self, tenants: &[TenantRecord]) -> Vec<TenantRecord> {
        let mut inner = self.write();
        let named: HashSet<&TenantId> = tenants.iter().map(|record| &record.id).collect();
        let gone = inner.tenants.keys().filter(|id| !named.contains(id));
        for id in gone.cloned().collect::<Vec<_>>() {
            inner.remove(&id);
        }
        let is_new = |record: &&TenantRecord| {
            let known = inner.tenants.get(&record.id);
            known.is_none_or(|entry| *entry.limits != record.limits || entry.keys != record.keys)
        };
        let new: Vec<_> = tenants.iter().filter(is_new).cloned().collect();
        new.iter().for_each(|record| inner.put(record));
        new
    }

    /// Waits until nobody else changes tenants.
    pub(super) async fn alone(&self) -> Alone {
        self.changing.clone().lock_owned().await
    }

    /// The same, for as long.
    pub(in crate::queen) async fn alone_within(&self, timeout: Duration) -> Option<Alone> {
        tokio::time::timeout(timeout, self.alone()).await.ok()
    }

    pub(super) fn put(&self, record: &TenantRecord) {
        self.write().put(record);
    }

    pub(super) fn remove(&self, tenant: &TenantId) {
        self.write().remove(tenant);
    }

    /// Is there room for this one?
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where there are as many as may be.
    pub(super) fn check_room(&self, tenant: &TenantId) -> Result<()> {
        let inner = self.read();
        if inner.tenants.len() < MOST_TENANTS || inner.tenants.contains_key(tenant) {
            return Ok(());
        }
        let message = format!(
            "tenant {tenant} cannot be added: there are {} tenants; allowed are {MOST_TENANTS}",
            inner.tenants.len()
        );
        Err(Error::new(ErrorKind::Conflict, message))
    }

    pub(super) fn get(&self, tenant: &TenantId) -> Result<TenantEntry> {
        self.read().tenants.get(tenant).cloned().ok_or_else(|| unknown(tenant))
    }

    pub(super) fn limits(&self, tenant: &TenantId) -> Option<Arc<TenantLimits>> {
        self.read().tenants.get(tenant).map(|entry| entry.limits.clone())
    }

    pub(super) fn all(&self) -> Vec<(TenantId, TenantEntry)> {
        self.read().tenants.iter().map(|(id, entry)| (id.clone(), entry.clone())).collect()
    }

    pub(super) fn tenant_of(&self, hash: &str) -> Option<TenantId> {
        self.read().keys.get(hash).cloned()
    }

    // Every change under the lock leaves tenants and keys whole.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, record: &TenantRecord) {
        self.remove(&record.id);
        for key in &record.keys {
            self.keys.insert(key.hash.clone(), record.id.clone());
        }
        let entry =
            TenantEntry { limits: Arc::new(record.limits.clone()), keys: record.keys.clone() };
        self.tenants.insert(record.id.clone(), entry);
    }

    fn remove(&mut self, tenant: &TenantId) {
        for key in self.tenants.remove(tenant).into_iter().flat_map(|entry| entry.keys) {
            self.keys.remove(&key.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;

    fn record(tenant: &str, keys: &[&str]) -> TenantRecord {
        let key = |hash: &&str| ApiKey {
            hash: (*hash).to_owned(),
            label: String::new(),
            created_at: WallTime::from_millis(0),
        };
        TenantRecord {
            id: TenantId::new(tenant).unwrap(),
            limits: TenantLimits::default(),
            keys: keys.iter().map(key).collect(),
            used_tokens: 0,
        }
    }

    #[test]
    fn what_another_queen_changed_is_learned_and_only_that() {
        let directory = TenantIndex::of(&[record("a", &["1", "2"]), record("b", &["3"])]);
        let (a, c) = (record("a", &["1"]), record("c", &[]));
        assert_eq!(directory.learn(&[a.clone(), c.clone()]), [a.clone(), c.clone()]);
        assert_eq!(directory.tenant_of("1"), Some(a.id.clone()));
        assert_eq!(directory.tenant_of("2"), None, "it was revoked");
        assert_eq!(directory.tenant_of("3"), None, "its tenant is gone");
        assert_eq!(directory.get(&record("b", &[]).id).unwrap_err().kind(), ErrorKind::NotFound);
        let used = TenantRecord { used_tokens: 7, ..a };
        assert_eq!(directory.learn(&[used, c]), [], "usage is the engine's");
    }

    #[test]
    fn there_are_so_many_tenants_and_no_more() {
        let tenants: Vec<_> = (0..MOST_TENANTS).map(|n| record(&format!("t{n}"), &[])).collect();
        let directory = TenantIndex::of(&tenants);
        directory.check_room(&tenants[7].id).unwrap();
        let error = directory.check_room(&record("late", &[]).id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("allowed are 10000"), "{error}");
        directory.remove(&tenants[7].id);
        directory.check_room(&record("late", &[]).id).unwrap();
    }
}
