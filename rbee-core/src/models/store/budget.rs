//! Room on the disk: what must be free before a model is fetched, and which models make way.

use std::{collections::BTreeMap, sync::Arc};

use super::{Shared, StoreError, lock, record::StoreEntry};
use crate::{
    error::Result,
    model_ref::ModelRef,
    models::disk::{self, Lock},
};

/// Bytes promised to models that are being fetched.
#[derive(Default)]
pub(super) struct Reservations(BTreeMap<ModelRef, Promised>);

#[derive(Clone, Copy)]
struct Promised {
    /// All of it, for the budget.
    bytes: u64,
    /// What was still to be written when it began.
    needed: u64,
    /// It is within the bound on models of tenants.
    for_tenants: bool,
}

/// Which models share a budget.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// All that the store has fetched.
    All,
    /// Those that were fetched within the bound on models of tenants.
    Tenants,
}

/// The room for one model, given back when this is dropped.
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
    /// Makes room for a model of `bytes`, of which `there` are on the disk already; with a budget that it shares with the
    /// other models of tenants, if it is one. Blocks.
    pub(super) fn make_room(
        self: &Arc<Self>,
        model: &ModelRef,
        bytes: u64,
        there: u64,
        tenant_budget: Option<u64>,
    ) -> Result<Room> {
        let needed = bytes.saturating_sub(there);
        // One after the other, or two would each count on the same room.
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
            // A cache that is not there yet will lie on the disk of what is above it.
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

    /// Removes models that share the budget, the least recently used first, until the new one fits. None that is in use
    /// or being fetched.
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
        // What several references share counts once.
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
            // Being fetched by another process, or in use, where it cannot be had alone.
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
        // Nothing goes for a model that does not fit even so: not until some of the others are no longer in use.
        if used.saturating_add(bytes) > budget {
            return Err(full(used).into());
        }
        for (entry, _locks) in going {
            let going = &entry.model;
            tracing::info!(model = %going, for_model = %model, "a model makes room on the disk");
            self.remove_locked(going)?;
        }
        Ok(())
    }
}
