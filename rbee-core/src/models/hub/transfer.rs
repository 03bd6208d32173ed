//! The transfer of one file into the hub's cache.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Hub, HubError,
    http::{Failure, encode, pause},
    info::{Check, HubFile},
    parts,
    resolve::Resolved,
};
use crate::{
    digest::{Digest, Hasher},
    error::Result,
    models::disk::{self, Disk, Lock, failed, file_size},
};

/// Bytes per read.
const CHUNK: usize = 256 << 10;
/// The most chunks that wait for their checksum.
const WAITING: usize = 8;
/// How often to check whether another process has finished a file.
const LOOK: Duration = Duration::from_millis(100);
/// A file of at most this size is requested as a whole.
const SMALL: u64 = 1 << 30;

/// The state of a download of several files that its threads share.
pub(in crate::models) struct Transfer {
    pub(in crate::models) hub: Hub,
    pub(in crate::models) resolved: Resolved,
    pub(in crate::models) disk: Disk,
    /// The directory of the repository in the cache.
    pub(in crate::models) repository: PathBuf,
    /// The directory of the locks, which other tools use too.
    pub(in crate::models) locks: PathBuf,
    /// The directory of damaged files.
    pub(in crate::models) damaged: PathBuf,
    /// Nobody needs the download any more, or another of its files has failed.
    pub(in crate::models) abandoned: AtomicBool,
    /// Bytes downloaded so far.
    pub(in crate::models) done: AtomicU64,
    /// Called after every chunk.
    pub(in crate::models) tell: Box<dyn Fn(u64) + Send + Sync>,
}

/// One file and its target.
pub(in crate::models) struct Want<'a> {
    pub(in crate::models) file: &'a HubFile,
    pub(in crate::models) blob: PathBuf,
    part: PathBuf,
}

impl Want<'_> {
    /// Bytes of the file that are on the disk.
    pub(in crate::models) fn there(&self) -> u64 {
        match file_size(&self.blob) {
            Some(bytes) if bytes == self.file.bytes => bytes,
            // A part that is too long is ignored.
            _ => file_size(&self.part).filter(|there| *there <= self.file.bytes).unwrap_or(0),
        }
    }
}

impl Transfer {
    pub(in crate::models) fn want<'a>(&self, file: &'a HubFile) -> Want<'a> {
        let name = file.check.name();
        let blob = self.repository.join("blobs").join(&name);
        // Other tools use the same name, under the same lock.
        let part = self.repository.join("blobs").join(format!("{name}.incomplete"));
        Want { file, blob, part }
    }

    fn move_on(&self, bytes: u64) {
        (self.tell)(self.done.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }

    fn step_back(&self, bytes: u64) {
        (self.tell)(self.done.fetch_sub(bytes, Ordering::Relaxed).saturating_sub(bytes));
    }

    /// Downloads the blob if it is missing, and returns its SHA-256.
    pub(in crate::models) fn fetch(&self, want: &Want<'_>) -> Result<Digest> {
        let _lock = self.lock(want)?;
        if file_size(&want.blob) == Some(want.file.bytes) {
            // Downloaded by another process, while this one waited; or a file that occurs twice in this model.
            return self.known(want);
        }
        let mut fresh = file_size(&want.part).unwrap_or(0) == 0;
        loop {
            let sha256 = self.download(want)?;
            let found = match want.file.check {
                Check::Sha256(_) => Check::Sha256(sha256),
                Check::Git(_) => Check::Git(git_id(&want.part, want.file.bytes)?),
            };
            if found == want.file.check {
                self.disk.rename(&want.part, &want.blob)?;
                return Ok(sha256);
            }
            let kept = self.put_aside(want)?;
            self.step_back(want.file.bytes);
            let what = self.what(want.file);
            let (found, expected) = (found.name(), want.file.check.name());
            let damaged = HubError::Damaged { what, found, expected, kept };
            if fresh {
                return Err(damaged.into());
            }
            // The existing part may be the cause.
            tracing::warn!(error = %damaged, "a resumed download starts from the beginning");
            fresh = true;
        }
    }

    /// Moves a damaged file out of the cache. It is kept, unless it would use limited disk space.
    fn put_aside(&self, want: &Want<'_>) -> Result<Option<PathBuf>> {
        if self.hub.tenant_budget().is_some() {
            self.disk.remove_file(&want.part)?;
            return Ok(None);
        }
        let kept = self.damaged.join(format!(
            "{}-{}",
            uuid::Uuid::new_v4().simple(),
            want.file.path.rsplit('/').next().unwrap_or_default()
        ));
        move_across(&self.disk, &want.part, &kept)?;
        Ok(Some(kept))
    }

    /// Removes the parts of a file that no other process uses; the whole file only if it is not `linked`.
    pub(in crate::models) fn discard(&self, want: &Want<'_>, linked: bool) -> Result<()> {
        let path = self.locks.join(format!("{}.lock", want.file.check.name()));
        let Some(_lock) = Lock::try_exclusive(&path)? else { return Ok(()) };
        self.disk.remove_file(&want.part)?;
        if !linked {
            self.disk.remove_file(&want.blob)?;
        }
        Ok(())
    }

    /// The SHA-256 of an existing blob.
    pub(in crate::models) fn known(&self, want: &Want<'_>) -> Result<Digest> {
        match want.file.check {
            Check::Sha256(digest) => Ok(digest),
            Check::Git(_) => Ok(disk::hash(&want.blob, |_| {})?),
        }
    }

    fn what(&self, file: &HubFile) -> String {
        format!("the file {:?} of {}", file.path, self.resolved.model())
    }

    /// The lock on the blob, which other tools use too. Waits as long as its holder makes progress.
    fn lock(&self, want: &Want<'_>) -> Result<Lock> {
        let name = want.file.check.name();
        let path = self.locks.join(format!("{name}.lock"));
        let stall = self.hub.shared.settings.stall.saturating_mul(10);
        let (mut last, mut moved) = (None, Instant::now());
        loop {
            if let Some(lock) = Lock::try_exclusive(&path)? {
                return Ok(lock);
            }
            // Other tools write to files of other names, which begin with the name of the blob.
            let now = growing(&self.repository.join("blobs"), &name);
            if last.replace(now) != Some(now) {
                moved = Instant::now();
            }
            if moved.elapsed() > stall {
                let what = self.what(want.file);
                return Err(HubError::Locked { what, after: stall }.into());
            }
            pause(LOOK, &self.abandoned)?;
        }
    }

    /// Downloads the missing rest of the part, and returns the SHA-256 of the whole file.
    fn download(&self, want: &Want<'_>) -> Result<Digest> {
        let (bytes, part) = (want.file.bytes, &want.part);
        let mut file = self.disk.append(part)?;
        let mut there = file.metadata().map_err(failed("open", part))?.len();
        if there > bytes {
            self.disk.truncate(&file, part, 0)?;
            there = 0;
        }
        let mut hashing = Hashing::begin(part, there)?;
        let (org, repo, ..) = parts(self.resolved.model())?;
        let url =
            self.hub.repository(org, repo, self.resolved.commit()).url(&encode(&want.file.path));
        let page = self.hub.page(org, repo);
        let (what, shared) = (self.what(want.file), &self.hub.shared);
        let came = AtomicU64::new(0);
        shared.persist(
            &self.abandoned,
            || came.load(Ordering::Relaxed),
            || {
                if there == bytes {
                    return Ok(());
                }
                let response = shared.get(&url, there, &what)?;
                match response.status().as_u16() {
                    206 if starts_at(&response, there) => {}
                    // The server does not support ranges, or not this one: start from the beginning.
                    200 | 206 | 416 if there > 0 => {
                        let whole = response.status().as_u16() == 200;
                        self.disk.truncate(&file, part, 0)?;
                        self.step_back(there);
                        there = 0;
                        hashing = Hashing::begin(part, 0).map_err(Failure::from)?;
                        if !whole {
                            let status = response.status().as_u16();
                            let error = HubError::Status { what: what.clone(), status };
                            return Err(Failure::Again(error, None));
                        }
                    }
                    200 => {}
                    _ => return Err(shared.refused(&response, &what, &page)),
                }
                // One byte more than needed, to detect a body that is too long.
                let mut body = response.into_body().into_reader().take(bytes - there + 1);
                loop {
                    if self.abandoned.load(Ordering::Relaxed) {
                        return Err(HubError::Abandoned.into());
                    }
                    let mut chunk = vec![0; CHUNK];
                    let read =
                        body.read(&mut chunk).map_err(|cause| broken(cause, shared, &what))?;
                    if read == 0 {
                        break;
                    }
                    chunk.truncate(read);
                    let end = there + read as u64;
                    if end > bytes {
                        let why = format!("it is longer than the {bytes} bytes that the hub said");
                        return Err(HubError::Malformed { what: what.clone(), why }.into());
                    }
                    self.disk.write(&mut file, part, &chunk)?;
                    there = end;
                    came.fetch_add(read as u64, Ordering::Relaxed);
                    hashing.take(chunk);
                    self.move_on(read as u64);
                }
                match there == bytes {
                    true => Ok(()),
                    false => {
                        let what = what.clone();
                        Err(Failure::Again(HubError::Truncated { what, there, bytes }, None))
                    }
                }
            },
        )?;
        file.sync_all().map_err(failed("sync", part))?;
        Ok(hashing.finish(part)?)
    }
}

/// True if the answer begins at the requested byte.
fn starts_at(response: &ureq::http::Response<ureq::Body>, there: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.trim().strip_prefix("bytes ")?.split('-').next());
    start.and_then(|start| start.trim().parse().ok()) == Some(there)
}

/// The failure for a body that cannot be read further.
fn broken(cause: io::Error, shared: &super::Shared, what: &str) -> Failure {
    let what = what.to_owned();
    let timed_out = cause.kind() == io::ErrorKind::TimedOut
        || cause
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<ureq::Error>())
            .is_some_and(|error| matches!(error, ureq::Error::Timeout(_)));
    let error = match timed_out {
        true => HubError::Stalled { what, after: shared.settings.stall },
        false => HubError::Unreachable { what, cause: cause.to_string() },
    };
    Failure::Again(error, None)
}

/// The total size of all files whose names begin with this name.
fn growing(blobs: &Path, name: &str) -> u64 {
    let entries = std::fs::read_dir(blobs).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
    ours.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// The Git object id of a file.
fn git_id(path: &Path, bytes: u64) -> Result<[u8; 20]> {
    let content = disk::read_small(path, SMALL)?.unwrap_or_default();
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(format!("blob {bytes}\0").as_bytes());
    sha1.update(&content);
    Ok(sha1.digest().bytes())
}

/// Moves a damaged file out of the cache, also to another disk.
fn move_across(disk: &Disk, from: &Path, to: &Path) -> Result<()> {
    if disk.rename(from, to).is_ok() {
        return Ok(());
    }
    std::fs::copy(from, to).map_err(failed("copy", from))?;
    Ok(disk.remove_file(from)?)
}

/// The SHA-256 of a file that is being written, computed on another thread.
struct Hashing {
    chunks: SyncSender<Vec<u8>>,
    thread: JoinHandle<io::Result<Digest>>,
}

impl Hashing {
    /// Begins with the existing bytes.
    fn begin(path: &Path, there: u64) -> Result<Self, disk::DiskError> {
        let (chunks, more) = sync_channel::<Vec<u8>>(WAITING);
        let before = match there {
            0 => None,
            _ => Some(File::open(path).map_err(failed("open", path))?.take(there)),
        };
        let thread = std::thread::Builder::new().name("rbee-checksum".to_owned());
        let thread = thread.spawn(move || {
            let mut hasher = Hasher::default();
            if let Some(mut before) = before {
                let mut buffer = vec![0; CHUNK];
                loop {
                    match before.read(&mut buffer)? {
                        0 => break,
                        read => hasher.update(&buffer[..read]),
                    }
                }
            }
            more.into_iter().for_each(|chunk| hasher.update(&chunk));
            Ok(hasher.finish())
        });
        let thread = thread.map_err(failed("compute the checksum of", path))?;
        Ok(Self { chunks, thread })
    }

    fn take(&self, chunk: Vec<u8>) {
        // A thread that has ended reports the reason at the end.
        let _ = self.chunks.send(chunk);
    }

    fn finish(self, path: &Path) -> Result<Digest, disk::DiskError> {
        drop(self.chunks);
        let done = self.thread.join();
        let done = done.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        done.map_err(failed("compute the checksum of", path))
    }
}
