//! Where a hive takes the files of a model from.

use std::sync::Arc;

use crate::models::{HubAccess, ModelFiles};

/// Where a hive is to take the files of a model from, if it does not have them.
#[derive(Clone, Debug)]
pub enum ModelOrigin {
    /// From its own machine: a `file:` reference, or a model that only the hive knows.
    Here,
    /// From the hub, into its store.
    Hub(HubAccess),
    /// From another place, into its store.
    Files(Arc<dyn ModelFiles>),
}
