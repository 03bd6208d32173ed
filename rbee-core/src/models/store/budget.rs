//! Disk space: how much must be free before a model is fetched, and which models are evicted.

use std::{collections::BTreeMap, sync::Arc};

use super::{Shared, StoreError, lock, record::StoreEntry};
use crate::{
    error::Result,
    model_ref::ModelRef,
    models::disk::{self, Lock},
};

/// Bytes reserved for models that are being fetched.
#[derive(Default)]
pub(super) struct Reservations(BTreeMap<ModelRef, Promised>);

#[derive(Clone, Copy)]
struct Promised {
    /// Its total size, for the budget.
    bytes: u64,
    /// The bytes still to be written when it began.
    needed: u64,
    /// True if it counts against the limit on models of tenants.
    for_tenants: bool,
}

/// The models that share a budget.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// All models that the store has fetched.
    All,
    /// The models that were fetched within the limit on models of tenants.
    Tenants,
}

/// The space for one model, released when this is dropped.
pub(super) struct Room {
    shared: Arc<Shared>,
    model: ModelRef,
}

impl Drop for Room {
    fn drop(&mut self) {
        lock(&self.shared.reserved).0.remove(&self.model);
    }
}

impl Shared {
    /// Frees space for a model of `bytes`, of which `there` are on the disk already; with a budget that it shares with
    /// the other models of tenants, if it is one of them. Blocks.
    pub(super) fn make_room(
        self: &Arc<Self>,
        model: &ModelRef,
        bytes: u64,
        there: u64,
        tenant_budget: Option<u64>,
    ) -> Result<Room> {
        let needed = bytes.saturating_sub(there);
        // One at a time, so that two calls do not count on the same space.
        let _deciding = lock(&self.deciding);
        if let Some(budget) = tenant_budget {
            self.keep_to(budget, Sharing::Tenants, model, bytes)?;
        }
        if let Some(budget) = self.options.budget {
            self.keep_to(budget, Sharing::All, model, bytes)?;
        }
        let mut reserved = lock(&self.reserved);
        let others: u64 = reserved.0.values().map(|other| other.needed).sum();
        let head_room = self.options.head_room;
        for dir in [&self.dir, &self.hub_cache] {
            // A cache directory that does not exist yet will be on the disk of its parent.
            let Some(free) = dir.ancestors().find_map(disk::free) else { continue };
            if needed > 0 && free < needed.saturating_add(head_room).saturating_add(others) {
                let (model, dir, reserved) = (model.clone(), dir.clone(), others);
                let full = StoreError::DiskFull { model, dir, needed, free, head_room, reserved };
                return Err(full.into());
            }
        }
        reserved.0.insert(
            model.clone(),
            Promised { bytes, needed, for_tenants: tenant_budget.is_some() },
        );
        Ok(Room { shared: self.clone(), model: model.clone() })
    }

    /// Removes models that share the budget, the least recently used first, until the new one fits. Models that are in
    /// use or being fetched are not removed.
    fn keep_to(&self, budget: u64, sharing: Sharing, model: &ModelRef, bytes: u64) -> Result<()> {
        let is_counted = |for_tenants: bool| sharing == Sharing::All || for_tenants;
        let full = |used: u64| {
            let model = model.clone();
            match sharing {
                Sharing::Tenants => StoreError::TenantBudget { model, bytes, budget, used },
                Sharing::All if bytes > budget => StoreError::OverBudget { model, bytes, budget },
                Sharing::All => StoreError::BudgetInUse { model, bytes, budget, used },
            }
        };
        if bytes > budget {
            return Err(full(0).into());
        }
        let promised = {
            let reserved = lock(&self.reserved);
            let counted = reserved.0.iter().filter(|(_, other)| is_counted(other.for_tenants));
            let others = counted.filter(|(other, _)| *other != model);
            others.map(|(_, promised)| promised.bytes).sum::<u64>()
        };
        let mut ours: Vec<StoreEntry> = self.entries();
        ours.retain(|entry| {
            let record = &entry.record;
            record.fetched && entry.model != *model && is_counted(record.for_tenants)
        });
        ours.sort_by_cached_key(|entry| self.last_used(entry));
        // A copy of several references counts once.
        let mut sizes: BTreeMap<_, (u64, usize)> = BTreeMap::new();
        for entry in &ours {
            let manifest = &entry.record.manifest;
            sizes
                .entry((entry.root.clone(), manifest.digest()))
                .or_insert((manifest.bytes(), 0))
                .1 += 1;
        }
        let mut used = promised + sizes.values().map(|(bytes, _)| bytes).sum::<u64>();
        let mut going = Vec::new();
        for entry in ours {
            if used.saturating_add(bytes) <= budget {
                break;
            }
            if lock(&self.fetches).has(&entry.model) {
                continue;
            }
            // It is being fetched by another process, or is in use, if its lock is not free.
            let Some(fetch) = Lock::try_exclusive(&self.fetch_lock(&entry.model))? else {
                continue;
            };
            let Some(using) = Lock::try_exclusive(&self.use_lock(&entry.model))? else { continue };
            let manifest = &entry.record.manifest;
            if let Some((size, references)) =
                sizes.get_mut(&(entry.root.clone(), manifest.digest()))
            {
                *references -= 1;
                if *references == 0 {
                    used = used.saturating_sub(*size);
                }
            }
            going.push((entry, [fetch, using]));
        }
        // No model is removed if the new one would still not fit: it must wait until some of the others are no longer
        // in use.
        if used.saturating_add(bytes) > budget {
            return Err(full(used).into());
        }
        for (entry, _locks) in going {
            let going = &entry.model;
            tracing::info!(model = %going, for_model = %model, "evicting a model from the disk");
            self.remove_locked(going)?;
        }
        Ok(())
    }
}
