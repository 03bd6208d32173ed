//! Models on one machine: the facts about them, where their files are stored, and how the files get there.

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

pub use crate::digest::Digest;
pub use crate::file_roots::{check_file_root, confine_model_files, confined_directories};
pub use crate::model_info::{
    CachePool, CacheType, EmbeddingInfo, KvCache, MemoryEstimate, MemoryNeed, ModelFormat,
    ModelInfo, ModelKind, ModelTask, Pooling,
};
pub use crate::model_on_disk::{ModelOnDisk, WorkerLimits};
pub use crate::model_ref::{MAX_MODEL_REF_BYTES, ModelSource};
pub use crate::typed_path::absolute_path;
