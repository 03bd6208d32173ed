//! The files of models on one machine: what they are, where they lie, and how they get there.

mod disk;
mod files;
#[cfg(feature = "hub")]
mod hub;
mod hub_access;
mod hub_cache;
mod manifest;
mod select;
mod store;

pub(crate) use self::store::files_at;
pub use self::{
    files::ModelFiles,
    hub_access::HubAccess,
    manifest::{MAX_MODEL_FILES, Manifest, ModelFile},
    store::{Begun, Damage, InUse, ModelStore, StoreOptions, StoredModel, StoredState},
};
#[cfg(feature = "hub")]
pub use hub::{Hub, HubBuilder, HubToken, Resolved};
