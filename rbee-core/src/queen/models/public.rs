//! What the hub has given to a caller without a token.

use std::{collections::BTreeSet, sync::Mutex};

use super::lock;
use crate::{
    error::{Error, ErrorKind, Result},
    model_ref::ModelRef,
};

/// Models that are remembered.
const MOST: usize = 10_000;

/// The models that the hub gave when it was asked without a token, each with its commit and file. A tenant that may have
/// public models only gets no other one, whatever is on the disks or loaded.
#[derive(Debug, Default)]
pub(super) struct Public(Mutex<BTreeSet<ModelRef>>);

impl Public {
    /// Takes in what the hub answered to a question without a token for `asked`. An outage says nothing about a model.
    pub(super) fn note(&self, asked: &ModelRef, answer: &Result<ModelRef>) {
        let mut models = lock(&self.0);
        match answer {
            Ok(model) => {
                if models.len() >= MOST && !models.contains(model) {
                    models.pop_first();
                }
                models.insert(model.clone());
            }
            Err(error) if is_denial(error) => models.retain(|model| !model.is_of(asked)),
            Err(_) => {}
        }
    }

    pub(super) fn has(&self, model: &ModelRef) -> bool {
        lock(&self.0).contains(model)
    }
}

fn is_denial(error: &Error) -> bool {
    use ErrorKind::{ModelNotFound, PermissionDenied, Unauthorized};
    matches!(error.kind(), ModelNotFound | PermissionDenied | Unauthorized)
}
