//! Whether the engines of a hive can read a model.

use std::sync::Arc;

use super::{ClusterView, HiveView};
use crate::{
    engine_support::{EngineSupport, incompatible},
    error::{Error, Result},
    model_info::ModelKind,
    model_ref::ModelRef,
};

/// The most models whose kinds are remembered.
const KINDS: usize = 1_024;

impl ClusterView {
    /// Notes the kind of a model, also of one that no hive has.
    pub fn note_kind(&mut self, model: &ModelRef, kind: ModelKind) {
        if self.kinds.get(model).is_some_and(|known| **known == kind) {
            return;
        }
        if self.kinds.size() >= KINDS
            && !self.kinds.contains_key(model)
            && let Some(first) = self.kinds.keys().next().cloned()
        {
            self.kinds.remove_mut(&first);
        }
        self.kinds.insert_mut(model.clone(), Arc::new(kind));
    }

    /// The kind of a model; `None` if it is unknown.
    pub fn kind_of(&self, model: &ModelRef) -> Option<Arc<ModelKind>> {
        if let Some(kind) = self.kinds.get(model) {
            return Some(kind.clone());
        }
        let info = self.largest_on_disk(model)?.info.as_deref()?;
        Some(Arc::new(info.into()))
    }

    /// The reason that no engine of this hive can read the model; `None` if one can, as far as is known.
    pub fn unreadable(&self, hive: &HiveView, model: &ModelRef) -> Option<String> {
        let engines = hive.engines.as_deref()?;
        let kind = self.kind_of(model)?;
        EngineSupport::refusal(engines, model, &kind)
    }

    /// Checks that an engine of this hive can read the model, as far as is known.
    ///
    /// # Errors
    /// [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible) with what its engines read.
    pub fn check_readable_on(&self, hive: &HiveView, model: &ModelRef) -> Result<()> {
        match self.unreadable(hive, model) {
            None => Ok(()),
            Some(why) => Err(self.incompatible(model, [format!("hive {}: {why}", hive.id)])),
        }
    }

    /// Checks that an engine of a hive that is online can read the model, as far as is known.
    ///
    /// # Errors
    /// [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible) with what the engines of each hive read.
    pub fn check_readable(&self, model: &ModelRef) -> Result<()> {
        let online = || self.hives().filter(|hive| hive.online);
        let reasons = online()
            .map(|hive| self.unreadable(hive, model).map(|why| format!("hive {}: {why}", hive.id)));
        match reasons.collect::<Option<Vec<_>>>() {
            Some(reasons) if !reasons.is_empty() => Err(self.incompatible(model, reasons)),
            _ => Ok(()),
        }
    }

    /// The error for a model that none of these hives can run.
    pub(crate) fn incompatible(
        &self,
        model: &ModelRef,
        hives: impl IntoIterator<Item = String>,
    ) -> Error {
        let kind = self.kind_of(model);
        incompatible(model, kind.as_deref(), hives)
    }
}
