//! The store: the models on one machine's disk, and who uses them.
//!
//! ```text
//! <store>/models/<digest>/record.json, files/…   copies, by the digest of their manifest
//! <store>/hub/<key>.json                         records of models that lie in the hub's cache
//! <store>/parts/<digest>/record.json, files/…    copies under way
//! <store>/damaged/…                              what was found out to be damaged
//! <store>/trash/…                                what is being removed
//! <store>/used/<key>                             when a model was last used: the file's time
//! <store>/locks/…                                locks, empty files
//! ```
//!
//! There is no index apart from the records, so none can disagree with the disk. A record is replaced as a whole, and
//! a copy becomes a model by the renaming of its directory, record and all; so a model is there or it is not,
//! wherever a process was killed. What is listed or handed out is there with all of its files in their full size.
//!
//! Processes share a store by locks that the system frees when a process ends: a shared one on a model in use, one on
//! a model that is fetched, and one on the whole store for the few steps that make or remove a model. The store must
//! lie on a disk of this machine.

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

/// The models on one machine's disk: copies that it keeps by digest, and those in the standard cache of the hub,
/// where other tools find what this one fetched and the other way round.
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
    /// What it was fetched as.
    pub model: ModelRef,
    /// What names its content; nothing while that is not known yet.
    pub digest: Option<Digest>,
    /// The size of its files together, as far as it is known.
    pub bytes: u64,
    /// When it was last used, or fetched.
    pub last_used: WallTime,
    /// Whether it can be used.
    pub state: StoredState,
}

/// Whether a model of the store can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoredState {
    /// All of its files are there.
    Ready,
    /// It is being fetched.
    Fetching {
        /// Bytes that are there.
        done: u64,
        /// Bytes that will be, where that is known.
        total: Option<u64>,
    },
    /// Files of it are missing, or were found to be damaged; the next download or import fetches those.
    Incomplete,
}

/// What went wrong with a store, beyond what its disk refused.
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
                "of the model's file {file:?} {there} bytes are there; it cannot go on at byte {at}"
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
                "the source of model {model} gave nothing of its file {file:?} for {after} s"
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
                "another process fetches model {model}, and has not come further for {after} s"
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
                "there is no room for a model of {bytes} bytes: models that are named by reference may take {budget} \
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
    /// Opens the store in this directory, and makes it where there is none. Removes what was left behind by processes
    /// that were killed: what was being removed, and copies under way that nobody has gone on with for a week.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] where the directory cannot be made or written to.
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

    /// The directory it keeps its own things in.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Where models from the hub lie.
    pub fn hub_cache(&self) -> &Path {
        &self.shared.hub_cache
    }

    /// All models, by their reference, with those that are being fetched. Models that other tools put in the hub's
    /// cache are among them from the first time that they are asked for. Reads directories, so it may block for a
    /// moment.
    pub fn models(&self) -> Vec<StoredModel> {
        let mut models = BTreeMap::new();
        for entry in self.shared.entries() {
            let stored = self.shared.stored(&entry);
            // More than one of a reference only where a process was killed between two steps.
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
            // What is ready already stays so.
            if fetched.state == StoredState::Incomplete {
                fetched.state = StoredState::Fetching { done, total };
            }
        }
        models.into_values().collect()
    }

    /// A number that grows whenever [`models`](Self::models) may answer otherwise than before, apart from the
    /// progress of what is fetched and from what other processes do.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Where damaged files are kept.
    pub fn damaged(&self) -> PathBuf {
        self.shared.dir.join("damaged")
    }
}

impl Shared {
    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// The lock for the steps that make or remove a model.
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

/// What is behind a lock is changed in single steps, so it is whole also after a panic elsewhere.
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
