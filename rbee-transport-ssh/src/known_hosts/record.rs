//! Recording a host key that a person has accepted.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;

/// How long to wait for another program that writes to the file.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// Appends a line to the file, unless `is_recorded` returns true for its current contents. The file and its directory
/// are created for their owner alone.
///
/// The file is locked meanwhile, so that two programs that accept a key at the same time record it once. The line is
/// written in one call, so another reader sees all of it or nothing.
pub(super) fn append(
    path: &Path,
    line: &str,
    is_recorded: impl FnOnce(&[u8]) -> Result<bool, String>,
) -> Result<(), String> {
    let failed = |cause: io::Error| cause.to_string();
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    lock(&file)?;
    let mut contents = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    (&file).take(super::MOST_BYTES).read_to_end(&mut contents).map_err(failed)?;
    if is_recorded(&contents)? {
        return Ok(());
    }
    let missing_end = match contents.last() {
        Some(b'\n') | None => "",
        Some(_) => "\n",
    };
    file.write_all(format!("{missing_end}{line}\n").as_bytes()).map_err(failed)?;
    // A device such as /dev/null cannot be synced, and need not be.
    match file.sync_all() {
        Err(cause) if cause.kind() != io::ErrorKind::InvalidInput => Err(failed(cause)),
        _ => Ok(()),
    }
}

/// Locks the file until it is closed.
fn lock(file: &File) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            // Some network file systems have no locks.
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOLCK) => return Ok(()),
            Err(cause) => return Err(io::Error::from(cause).to_string()),
        }
        if begin.elapsed() > LOCK_LIMIT {
            return Err(format!("another program has locked it for {} s", LOCK_LIMIT.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_locked_while_it_is_read_and_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("known_hosts");
        let is_recorded = |_: &[u8]| {
            let other = File::open(&path).unwrap();
            let attempt = rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
            assert_eq!(attempt, Err(rustix::io::Errno::WOULDBLOCK));
            Ok(false)
        };
        append(&path, "line", is_recorded).unwrap();
        lock(&File::open(&path).unwrap()).unwrap();
    }
}
