//! On whose word a model is used, and what that means for how it is fetched.

use std::{collections::BTreeSet, sync::Mutex};

use super::lock;
use crate::{
    model_ref::{ModelRef, ModelSource},
    models::HubAccess,
    settings::{Settings, TenantReferences},
};

/// Models that are remembered.
const MOST: usize = 10_000;

/// On whose word a model is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::queen) enum Grant {
    /// The operator asked for it, or named it in an alias or in a tenant's limits.
    Operator,
    /// A tenant named it by a reference of its own.
    Tenant,
}

/// The models that the operator has vouched for, as hives are given them. They are remembered only if tenants may name
/// others: those of the hub that are not among them are fetched as `tenant_references` says, within
/// `tenant_models_budget`, and files that are not among them are only read from the queen's machine.
#[derive(Debug, Default)]
pub(super) struct Vouched {
    references: TenantReferences,
    budget: Option<u64>,
    models: Mutex<BTreeSet<ModelRef>>,
}

impl Vouched {
    pub(super) fn new(settings: &Settings) -> Self {
        let Settings { tenant_references: references, tenant_models_budget: budget, .. } =
            *settings;
        Self { references, budget, models: Mutex::default() }
    }

    /// Is the hub asked without a token for what is used on this word?
    pub(super) fn is_anonymous(&self, grant: Grant) -> bool {
        grant == Grant::Tenant && self.references != TenantReferences::WithHubToken
    }

    /// The operator wants this model: it is fetched with the operator's token, and within the operator's budget, or is a
    /// file of whichever machine is to use it.
    pub(super) fn add(&self, model: &ModelRef) {
        let is_open = self.references != TenantReferences::Off;
        if !is_open || matches!(model.source(), ModelSource::Alias(_)) {
            return;
        }
        let mut models = lock(&self.models);
        if models.len() >= MOST && !models.contains(model) {
            models.pop_first();
        }
        models.insert(model.clone());
    }

    pub(super) fn has(&self, model: &ModelRef) -> bool {
        self.references == TenantReferences::Off || lock(&self.models).contains(model)
    }

    /// How a hive reaches the hub for a model that is not vouched for; `own` is how it does for others.
    pub(super) fn access_for_tenants(&self, own: HubAccess) -> HubAccess {
        let access = HubAccess { tenant_budget: self.budget, ..own };
        match self.is_anonymous(Grant::Tenant) {
            true => HubAccess { token: None, anonymous: true, ..access },
            false => access,
        }
    }
}
