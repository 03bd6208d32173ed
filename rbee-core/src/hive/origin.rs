//! The origin of a model's files.

use std::sync::Arc;

use crate::models::{HubAccess, ModelFiles};

/// The place from which a hive fetches the files of a model that it does not have.
#[derive(Clone, Debug)]
pub enum ModelOrigin {
    /// The hive's own machine: a `file:` reference, or a model that only the hive knows.
    Here,
    /// The hub; the files go into the hive's store.
    Hub(HubAccess),
    /// Another place; the files go into the hive's store.
    Files(Arc<dyn ModelFiles>),
}
