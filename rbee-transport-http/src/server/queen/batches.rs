//! OpenAI's Batch API: files with requests, and their processing as jobs of the queue.
//!
//! Everything that must survive a restart is in files of one directory: [`records`] has their content, [`disk`] writes
//! them, [`file_store`] and [`batch_store`] hold what is known of them. A [`runner`] processes one batch: it checks the
//! input file ([`input`]), submits each line as a job ([`line`]) and appends the answers to the output file
//! ([`results`]). Each job has a key that is made of the batch and the line. So a runner that takes up a batch after a
//! restart submits the lines without a result again, and gets the jobs of the previous run.

mod ask;
mod batch_store;
mod disk;
mod file_routes;
mod file_store;
mod input;
mod line;
mod page;
mod records;
mod removed_tenants;
mod results;
mod routes;
mod runner;
mod sweep;
mod upload;
mod views;

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rbee_core::{Error, ErrorKind, Result, private_files::private_directory};

#[cfg(feature = "openapi")]
pub(super) use file_routes::{
    __path_content, __path_delete_file, __path_list_files, __path_show_file, __path_upload_file,
};
pub(super) use file_routes::{content, delete_file, list_files, show_file, upload_file};
#[cfg(feature = "openapi")]
pub(super) use routes::{__path_cancel, __path_create, __path_list, __path_show};
pub(super) use routes::{cancel, create, list, show};

use super::{Inner, Shared};
use batch_store::BatchStore;
use file_store::FileStore;

/// The lock file of the directory.
const LOCK: &str = "batches.lock";
/// The directory of the files.
const FILES: &str = "files";
/// The directory of the records of batches.
const BATCHES: &str = "batches";
/// The most requests of a batch.
const MOST_LINES: usize = 50_000;

/// Limits on files and batches.
///
/// ```
/// use rbee_transport_http::server::BatchLimits;
///
/// let limits = BatchLimits { tenant_files: 100, ..BatchLimits::default() };
/// assert_eq!(limits.lines_in_flight, 64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// An uploaded file, in bytes. 200 MiB by default. Each line of it may be as long as the
    /// [body](super::QueenLimits::body_bytes) of a request.
    pub file_bytes: u64,
    /// The files of one tenant, including output files. 1,000 by default. More uploads are refused.
    pub tenant_files: usize,
    /// All files of one tenant together, including output files, in bytes. 4 GiB by default. More uploads are refused.
    /// Lines whose answers would be more fail, and then the lines of their batch that have not begun.
    pub tenant_bytes: u64,
    /// The free space that uploads and results leave on the disk, in bytes. 1 GiB by default. Results wait for it, until
    /// their batch is cancelled or expires; it can always end, because errors are written below this limit too.
    pub free_bytes: u64,
    /// Concurrent uploads of one tenant; all tenants together have four times as many, and those of the operator do not
    /// count. 4 by default.
    pub tenant_uploads: usize,
    /// Jobs of one batch at once: one for each line, and several for a line with `n` or several prompts. Fewer if the
    /// queue takes no more. All batches together have at most a quarter of the queue's capacity, and those of a tenant at
    /// most half of its concurrent jobs. A batch without jobs always begins its next line. 64 by default.
    pub lines_in_flight: usize,
    /// Concurrent batches of one tenant; all together have eight times as many. Others wait as `validating`. 4 by
    /// default.
    pub tenant_active: usize,
    /// Batches of one tenant that have not ended. 100 by default. More are refused.
    pub tenant_batches: usize,
    /// The time after which a batch expires. Clients always ask for 24 hours, which is the default.
    pub window: Duration,
    /// How long files are kept, and batches after their end. 30 days by default. Of the batches of a tenant that have
    /// ended, only the last 1,000 are kept.
    pub retention: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            file_bytes: 200 << 20,
            tenant_files: 1_000,
            tenant_bytes: 4 << 30,
            free_bytes: 1 << 30,
            tenant_uploads: 4,
            lines_in_flight: 64,
            tenant_active: 4,
            tenant_batches: 100,
            window: DAY,
            retention: 30 * DAY,
        }
    }
}

/// The files and batches of a server.
#[derive(Debug)]
pub(super) struct Batches {
    limits: BatchLimits,
    files: Arc<FileStore>,
    batches: Arc<BatchStore>,
    is_started: AtomicBool,
    /// Held while a tenant is added or removed, with what belongs to it.
    tenants: tokio::sync::Mutex<()>,
    /// Held as long as this is in use.
    _lock: File,
}

impl Batches {
    /// Opens the directory, which is created if it is missing, and reads what is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the directory cannot be used, [`ErrorKind::Conflict`] if another server uses it.
    pub(super) fn open(directory: &Path, limits: BatchLimits) -> Result<Self> {
        private_directory(directory, |names| names.iter().any(|name| name == LOCK))?;
        let lock = disk::lock(&directory.join(LOCK))?;
        let (files, batches) = (directory.join(FILES), directory.join(BATCHES));
        for below in [&files, &batches] {
            disk::create_private(below).map_err(|cause| disk::unusable(below, cause))?;
        }
        let batches = BatchStore::open(batches, limits)?;
        let files = FileStore::open(files, limits, &batches.files())?;
        Ok(Self {
            limits,
            files: Arc::new(files),
            batches: Arc::new(batches),
            is_started: AtomicBool::new(false),
            tenants: tokio::sync::Mutex::default(),
            _lock: lock,
        })
    }
}

impl Inner {
    /// The files and batches.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the server has no directory for them.
    fn batches(&self) -> Result<&Arc<Batches>> {
        self.batches.as_ref().ok_or_else(|| {
            let message = "this server has no directory for files and batches; its application sets one with \
                           QueenServer::with_batches (the daemon queen-rbee always has one)";
            Error::for_client(ErrorKind::Unsupported, message)
        })
    }
}

/// Takes up the batches that have not ended, and begins to remove what has expired. Does nothing outside a Tokio runtime,
/// or if that was done before.
pub(super) fn start(shared: &Shared) {
    let Some(batches) = &shared.batches else { return };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !batches.is_started.swap(true, Ordering::Relaxed) {
        runtime.spawn(sweep::run(Arc::downgrade(shared), shared.stop.clone()));
    }
    runner::start_waiting(shared, batches);
}
