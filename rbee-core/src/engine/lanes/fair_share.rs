//! The shares of tenants whose lanes have run empty.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::TenantId;

/// The most tenants that are remembered for each model and priority.
const MOST: usize = 10_000;

/// Shares above the floor, for when their tenants come back. Also kept in order, so that the shares that the floor has
/// reached are found without a look at the others.
#[derive(Debug, Default)]
pub(super) struct FairShare {
    of: BTreeMap<Option<TenantId>, u64>,
    in_order: BTreeSet<(u64, Option<TenantId>)>,
}

impl FairShare {
    /// Removes and returns the tenant's share: the tenant is back.
    pub(super) fn take(&mut self, tenant: &Option<TenantId>) -> Option<u64> {
        let served = self.of.remove(tenant)?;
        self.in_order.remove(&(served, tenant.clone()));
        Some(served)
    }

    /// Remembers the share of a tenant that has left. The smallest shares are forgotten first: they matter least.
    pub(super) fn remember(&mut self, tenant: &Option<TenantId>, served: u64, floor: u64) {
        self.take(tenant);
        self.forget_below(floor);
        if served <= floor {
            return;
        }
        self.of.insert(tenant.clone(), served);
        self.in_order.insert((served, tenant.clone()));
        if self.of.len() > MOST
            && let Some((_, least)) = self.in_order.pop_first()
        {
            self.of.remove(&least);
        }
    }

    fn forget_below(&mut self, floor: u64) {
        while let Some((served, _)) = self.in_order.first()
            && *served <= floor
            && let Some((_, tenant)) = self.in_order.pop_first()
        {
            self.of.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_floor_has_caught_up_with_and_the_least_of_too_many_are_forgotten() {
        let tenant = |n: usize| Some(TenantId::new(format!("t{n}")).unwrap());
        let mut owed = FairShare::default();
        for n in 0..MOST + 2 {
            owed.remember(&tenant(n), 100 + n as u64, 50);
        }
        assert_eq!((owed.take(&tenant(1)), owed.take(&tenant(2))), (None, Some(102)));
        owed.remember(&tenant(1), 150, 150);
        assert_eq!((owed.take(&tenant(1)), owed.take(&tenant(50))), (None, None));
        assert_eq!(owed.take(&tenant(51)), Some(151));
        owed.remember(&tenant(60), 1_000, 150);
        assert_eq!(owed.take(&tenant(60)), Some(1_000), "the later figure holds");
        assert_eq!(owed.of.len(), owed.in_order.len());
    }
}
