//! The models that the hub gives to a caller without a token.

use std::{collections::BTreeSet, sync::Mutex};

use super::lock;
use crate::{
    error::{Error, ErrorKind, Result},
    model_ref::ModelRef,
};

/// The maximum number of models that are remembered.
const MOST: usize = 10_000;

/// The models that the hub gave to a request without a token, each with its commit and file. A tenant that may only use
/// public models gets no others, even if they are on a disk or loaded.
#[derive(Debug, Default)]
pub(super) struct Public(Mutex<BTreeSet<ModelRef>>);

impl Public {
    /// Records the answer of the hub to a request for `asked` without a token. An outage changes nothing.
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
