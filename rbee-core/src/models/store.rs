//! The store: the models on one machine's disk, and their users.
//!
//! ```text
//! <store>/models/<digest>/record.json, files/…   copies, by the digest of their manifest
//! <store>/hub/<key>.json                         records of models in the hub's cache
//! <store>/parts/<digest>/record.json, files/…    unfinished copies
//! <store>/damaged/…                              damaged files
//! <store>/trash/…                                files that are being removed
//! <store>/used/<key>                             the time of a model's last use: the file's time
//! <store>/locks/…                                locks, empty files
//! ```
//!
//! There is no index apart from the records, so none can disagree with the disk. A record is replaced as a whole, and a
//! copy becomes a model when its directory is renamed, including the record. So a model exists or does not exist, no
//! matter when a process was killed. Every listed or returned model has all its files in their full size.
//!
//! Processes share a store with locks that the system frees when a process ends: a shared lock on a model in use, a
//! lock on a model that is being fetched, and a lock on the whole store for the few steps that create or remove a
//! model. The store must be on a disk of this machine.

mod adopt;
mod budget;
#[cfg(feature = "hub")]
mod download;
mod fetch;
mod import;
mod local;
mod open;
mod options;
mod record;
mod remove;
mod scan;
mod sweep;
#[cfg(test)]
mod tests;
mod verify;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use self::local::files_at;
use self::{budget::Reservations, fetch::Fetches, scan::Known};
pub use self::{import::Begun, open::InUse, options::StoreOptions, verify::Damage};
use super::disk::{Disk, DiskError};
use crate::{
    digest::Digest,
    error::{Error, ErrorKind, Result},
    model_ref::ModelRef,
    progress::ProgressUpdate,
    time::WallTime,
};

/// The models on one machine's disk: copies stored by digest, and models in the standard cache of the hub. Other tools
/// find there what this store downloaded, and this store finds what they downloaded.
///
/// Cheap to clone. Several processes of one user may open the same directory at once.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> rbee_core::Result<()> {
/// use rbee_core::{hive::Progress, models::{ModelStore, StoreOptions}, ModelRef};
///
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let (here, there) = (dir.path().join("here"), dir.path().join("there"));
/// # std::fs::create_dir(&there).expect("a directory");
/// # std::fs::write(there.join("config.json"), "{}").expect("a file");
/// let options = StoreOptions { hub_cache: Some(here.join("hub")), ..StoreOptions::default() };
/// let store = ModelStore::open(&here, options)?;
/// let model = ModelRef::file(&there)?;
/// let files = store.local(&model, Progress::ignore()).await?;
/// let stored = store.import(&model, files, Progress::ignore()).await?;
/// let in_use = store.open_model(&model)?.expect("it was stored");
/// assert!(in_use.path().join("config.json").is_file());
/// assert_eq!(store.models()[0].digest, stored.digest);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ModelStore {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    hub_cache: PathBuf,
    options: StoreOptions,
    disk: Disk,
    known: Mutex<Known>,
    fetches: Mutex<Fetches>,
    reserved: Mutex<Reservations>,
    deciding: Mutex<()>,
    changed: watch::Sender<u64>,
}

/// A model in a [`ModelStore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredModel {
    /// The reference under which it was fetched.
    pub model: ModelRef,
    /// The digest of its content; `None` while unknown.
    pub digest: Option<Digest>,
    /// The total size of its files, as far as known.
    pub bytes: u64,
    /// The time of its last use, or of its download.
    pub last_used: WallTime,
    /// Its availability.
    pub state: StoredState,
}

/// The availability of a model in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoredState {
    /// All files are complete.
    Ready,
    /// It is being fetched.
    Fetching {
        /// The bytes fetched so far.
        done: u64,
        /// The total bytes, if known.
        total: Option<u64>,
    },
    /// Files are missing, or were found to be damaged; the next download or import fetches only those.
    Incomplete,
}

/// A failure of a store, other than a disk error.
#[derive(Debug)]
enum StoreError {
    InUse(ModelRef),
    BeingFetched(ModelRef),
    Unknown(ModelRef),
    Incomplete(ModelRef),
    NotBegun(Digest),
    Alias(ModelRef),
    Busy {
        file: String,
    },
    NoFile(String),
    Gap {
        file: String,
        there: u64,
        at: u64,
    },
    Short {
        file: String,
        there: u64,
        bytes: u64,
    },
    Long {
        file: String,
        bytes: u64,
    },
    Damaged {
        model: ModelRef,
        file: String,
        found: String,
        expected: String,
        kept: PathBuf,
    },
    Stalled {
        model: ModelRef,
        file: String,
        after: u64,
    },
    DiskFull {
        model: ModelRef,
        dir: PathBuf,
        needed: u64,
        free: u64,
        head_room: u64,
        reserved: u64,
    },
    OverBudget {
        model: ModelRef,
        bytes: u64,
        budget: u64,
    },
    BudgetInUse {
        model: ModelRef,
        bytes: u64,
        budget: u64,
        used: u64,
    },
    TenantBudget {
        model: ModelRef,
        bytes: u64,
        budget: u64,
        used: u64,
    },
    Ended(ModelRef),
    Panicked(ModelRef),
    OtherStalled {
        model: ModelRef,
        after: u64,
    },
    NoModel {
        path: PathBuf,
        why: &'static str,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(it) => {
                write!(f, "model {it} is in use here, or by another process; it cannot be removed")
            }
            Self::BeingFetched(it) => {
                write!(f, "model {it} is being fetched; it cannot be removed")
            }
            Self::Unknown(it) => write!(f, "model {it} is not in the store"),
            Self::Incomplete(it) => {
                write!(f, "model {it} lacks files, or was found to be damaged; fetch it again")
            }
            Self::NotBegun(it) => write!(f, "no model of {it} is being copied to this store"),
            Self::Alias(it) => {
                write!(f, "model {it} is an alias; the store takes hf: and file: references")
            }
            Self::Busy { file } => {
                write!(f, "the model's file {file:?} is being written by another")
            }
            Self::NoFile(it) => write!(f, "the model has no file {it:?}"),
            Self::Gap { file, there, at } => write!(
                f,
                "of the model's file {file:?} {there} bytes are there; it cannot continue at byte {at}"
            ),
            Self::Short { file, there, bytes } => write!(
                f,
                "of the model's file {file:?} {there} bytes are there; it should have {bytes}"
            ),
            Self::Long { file, bytes } => {
                write!(f, "the model's file {file:?} should have {bytes} bytes; more were sent")
            }
            Self::Damaged { model, file, found, expected, kept } => write!(
                f,
                "the file {file:?} of model {model} is damaged: its checksum is {found}; it should be {expected}; it is kept \
         apart as {}",
                kept.display()
            ),
            Self::Stalled { model, file, after } => write!(
                f,
                "the source of model {model} delivered nothing of its file {file:?} for {after} s"
            ),
            Self::DiskFull { model, dir, needed, free, head_room, reserved } => write!(
                f,
                "model {model} needs {needed} more bytes of disk below {}; {free} are free, of which {head_room} must stay so \
         and {reserved} are promised to models that are being fetched",
                dir.display()
            ),
            Self::OverBudget { model, bytes, budget } => write!(
                f,
                "model {model} has {bytes} bytes; the budget of the store is {budget} in all"
            ),
            Self::BudgetInUse { model, bytes, budget, used } => write!(
                f,
                "model {model} has {bytes} bytes; the budget of the store is {budget}, of which {used} are taken by models \
         that are in use or being fetched"
            ),
            Self::TenantBudget { model, bytes, budget, used } => write!(
                f,
                "model {model} has {bytes} bytes; models that tenants name by reference may take {budget} on this machine \
         (setting tenant_models_budget), of which {used} are taken by such models that are in use or being fetched"
            ),
            Self::Ended(it) => {
                write!(f, "the fetching of model {it} was ended with the runtime it ran on")
            }
            Self::Panicked(it) => write!(f, "the fetching of model {it} panicked"),
            Self::OtherStalled { model, after } => write!(
                f,
                "another process fetches model {model}, and has made no progress for {after} s"
            ),
            Self::NoModel { path, why } => write!(f, "{} is not a model: {why}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::InUse(_) | StoreError::BeingFetched(_) | StoreError::Busy { .. } => {
                ErrorKind::Conflict
            }
            StoreError::Gap { .. } | StoreError::Short { .. } => ErrorKind::Conflict,
            StoreError::Unknown(_) | StoreError::Incomplete(_) | StoreError::NoModel { .. } => {
                ErrorKind::ModelNotFound
            }
            StoreError::NotBegun(_) | StoreError::NoFile(_) => ErrorKind::NotFound,
            StoreError::Alias(_) | StoreError::Long { .. } => ErrorKind::InvalidRequest,
            StoreError::Damaged { .. } => ErrorKind::ModelIncompatible,
            StoreError::Stalled { .. } | StoreError::OtherStalled { .. } => {
                ErrorKind::HubUnreachable
            }
            StoreError::DiskFull { .. }
            | StoreError::OverBudget { .. }
            | StoreError::TenantBudget { .. } => ErrorKind::Storage,
            StoreError::BudgetInUse { .. } => ErrorKind::DiskInUse,
            StoreError::Ended(_) => ErrorKind::Cancelled,
            StoreError::Panicked(_) => ErrorKind::Internal,
        };
        let short = match &error {
            StoreError::BudgetInUse { bytes, budget, used, .. } => {
                Some(used.saturating_add(*bytes).saturating_sub(*budget))
            }
            _ => None,
        };
        let for_client = match &error {
            StoreError::TenantBudget { bytes, budget, .. } => Some(format!(
                "there is no space for a model of {bytes} bytes: models that are named by reference may take {budget} \
                 bytes in all, less those in use; ask for one from the list of models"
            )),
            _ => None,
        };
        let mut told = Error::new(kind, error.to_string()).with_source(error);
        if let Some(message) = for_client {
            told = told.with_client_message(message);
        }
        short.into_iter().fold(told, Error::with_short_bytes)
    }
}

impl ModelStore {
    /// Opens the store in this directory, and creates it if it does not exist. Removes leftovers of killed processes:
    /// models that were being removed, and unfinished copies that nobody has continued for a week.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if the directory cannot be created or written.
    pub fn open(dir: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        Self::open_on(Disk::default(), dir.as_ref(), options)
    }

    fn open_on(disk: Disk, dir: &Path, options: StoreOptions) -> Result<Self> {
        let hub_cache = options.hub_cache.clone().or_else(super::hub_cache::standard_hub_cache);
        let shared = Shared {
            hub_cache: hub_cache.unwrap_or_else(|| dir.join("hub-cache")),
            dir: dir.to_owned(),
            options,
            disk,
            known: Mutex::default(),
            fetches: Mutex::default(),
            reserved: Mutex::default(),
            deciding: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        for part in ["models", "hub", "parts", "damaged", "trash", "used", "locks"] {
            shared.disk.create_dir(&shared.dir.join(part))?;
        }
        shared.sweep()?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The directory of the store's own files.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The directory of models from the hub.
    pub fn hub_cache(&self) -> &Path {
        &self.shared.hub_cache
    }

    /// All models, by their reference, including those that are being fetched. Models that other tools put in the hub's
    /// cache are included after the first request for them. Reads directories, so it may block for a moment.
    pub fn models(&self) -> Vec<StoredModel> {
        let mut models = BTreeMap::new();
        for entry in self.shared.entries() {
            let stored = self.shared.stored(&entry);
            // There are several of one reference only if a process was killed between two steps.
            if stored.state == StoredState::Ready || !models.contains_key(&entry.model) {
                models.insert(entry.model, stored);
            }
        }
        for (model, ProgressUpdate { done, total }) in lock(&self.shared.fetches).progress() {
            let fetched = models.entry(model.clone()).or_insert_with(|| StoredModel {
                model,
                digest: None,
                bytes: total.unwrap_or(0),
                last_used: WallTime::now(),
                state: StoredState::Incomplete,
            });
            // A model that is already ready stays ready.
            if fetched.state == StoredState::Incomplete {
                fetched.state = StoredState::Fetching { done, total };
            }
        }
        models.into_values().collect()
    }

    /// A number that grows whenever the result of [`models`](Self::models) may have changed, except for the progress of
    /// fetches and for changes by other processes.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// The directory of damaged files.
    pub fn damaged(&self) -> PathBuf {
        self.shared.dir.join("damaged")
    }
}

impl Shared {
    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// The lock for the steps that create or remove a model.
    fn lock(&self) -> Result<super::disk::Lock, DiskError> {
        super::disk::Lock::exclusive(&self.dir.join("locks/store"))
    }

    fn use_lock(&self, model: &ModelRef) -> PathBuf {
        self.dir.join(format!("locks/{}.use", record::key(model)))
    }

    fn fetch_lock(&self, model: &ModelRef) -> PathBuf {
        self.dir.join(format!("locks/{}.fetch", record::key(model)))
    }
}

/// Every change under a lock is a single step, so the data is complete even after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStore")
            .field("dir", &self.shared.dir)
            .field("hub_cache", &self.shared.hub_cache)
            .finish_non_exhaustive()
    }
}
