//! The index of the tenants: their limits, with the model names as they were set, and their keys.
//!
//! The engine has the same limits, with the model of every alias, and counts the usage. The index can be read without
//! asking the driver.

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

/// The maximum number of tenants.
pub(super) const MOST_TENANTS: usize = 10_000;

/// The exclusive right to change tenants.
pub(super) type ChangeGuard = OwnedMutexGuard<()>;

/// The tenants as they are recorded, and the tenant of each key.
#[derive(Clone, Debug, Default)]
pub(in crate::queen) struct TenantIndex {
    inner: Arc<RwLock<Inner>>,
    changing: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Inner {
    tenants: BTreeMap<TenantId, TenantEntry>,
    /// By hash, so that the time of a look-up reveals nothing about keys that are nearly right.
    keys: HashMap<String, TenantId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TenantEntry {
    pub(super) limits: Arc<TenantLimits>,
    pub(super) keys: Vec<ApiKey>,
}

impl TenantIndex {
    /// An index of all tenants that the store has.
    pub(in crate::queen) fn of(tenants: &[TenantRecord]) -> Self {
        let index = Self::default();
        index.learn(tenants);
        index
    }

    /// Replaces the index by all tenants that the store has, and returns the changed ones. Tenants must not be changed
    /// between the store's answer and this call: a key that is revoked meanwhile would become valid again.
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

    /// Waits until no other change of tenants is in progress.
    pub(super) async fn lock_changes(&self) -> ChangeGuard {
        self.changing.clone().lock_owned().await
    }

    /// [`lock_changes`](Self::lock_changes) with a time limit; `None` if it was exceeded.
    pub(in crate::queen) async fn lock_changes_within(
        &self,
        timeout: Duration,
    ) -> Option<ChangeGuard> {
        tokio::time::timeout(timeout, self.lock_changes()).await.ok()
    }

    pub(super) fn put(&self, record: &TenantRecord) {
        self.write().put(record);
    }

    pub(super) fn remove(&self, tenant: &TenantId) {
        self.write().remove(tenant);
    }

    /// Returns an error if there is no room for this tenant.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if there is the maximum number of tenants.
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

    // A panic cannot leave the index half changed.
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
        let index = TenantIndex::of(&[record("a", &["1", "2"]), record("b", &["3"])]);
        let (a, c) = (record("a", &["1"]), record("c", &[]));
        assert_eq!(index.learn(&[a.clone(), c.clone()]), [a.clone(), c.clone()]);
        assert_eq!(index.tenant_of("1"), Some(a.id.clone()));
        assert_eq!(index.tenant_of("2"), None, "it was revoked");
        assert_eq!(index.tenant_of("3"), None, "its tenant is gone");
        assert_eq!(index.get(&record("b", &[]).id).unwrap_err().kind(), ErrorKind::NotFound);
        let used = TenantRecord { used_tokens: 7, ..a };
        assert_eq!(index.learn(&[used, c]), [], "the usage belongs to the engine");
    }

    #[test]
    fn there_are_so_many_tenants_and_no_more() {
        let tenants: Vec<_> = (0..MOST_TENANTS).map(|n| record(&format!("t{n}"), &[])).collect();
        let index = TenantIndex::of(&tenants);
        index.check_room(&tenants[7].id).unwrap();
        let error = index.check_room(&record("late", &[]).id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("allowed are 10000"), "{error}");
        index.remove(&tenants[7].id);
        index.check_room(&record("late", &[]).id).unwrap();
    }
}
