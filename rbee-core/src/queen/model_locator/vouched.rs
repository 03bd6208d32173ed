//! The permissions with which a model is used, and how they affect its download.

use std::{collections::BTreeSet, sync::Mutex};

use super::lock;
use crate::{
    model_ref::{ModelRef, ModelSource},
    models::HubAccess,
    settings::{Settings, TenantReferences},
};

/// The maximum number of models that are remembered.
const MOST: usize = 10_000;

/// The permissions with which a model is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::queen) enum Grant {
    /// Those of the operator, who asked for the model, or named it in an alias or in the limits of a tenant.
    Operator,
    /// Those of a tenant, which named the model by its own reference.
    Tenant,
}

/// The models that the operator wants, in the form that hives use. They are remembered only if tenants may name other
/// models: a model of the hub that is not among them is fetched as the setting `tenant_references` allows, within
/// `tenant_models_budget`, and a file that is not among them is only read from the queen's machine.
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

    /// Returns true if the hub is asked without a token for a model that is used with these permissions.
    pub(super) fn is_anonymous(&self, grant: Grant) -> bool {
        grant == Grant::Tenant && self.references != TenantReferences::WithHubToken
    }

    /// Records that the operator wants this model: it is fetched with the operator's token and within the operator's
    /// budget, or is a file of the machine that uses it.
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

    /// The access of a hive to the hub for a model that is not among them; `own` is the access for the others.
    pub(super) fn access_for_tenants(&self, own: HubAccess) -> HubAccess {
        let access = HubAccess { tenant_budget: self.budget, ..own };
        match self.is_anonymous(Grant::Tenant) {
            true => HubAccess { token: None, anonymous: true, ..access },
            false => access,
        }
    }
}
