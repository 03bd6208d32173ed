//! A file of this machine that is sent to another: [`FileSource`].

use std::{
    io::{self, Read as _},
    path::Path,
};

use rbee_core::models::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncReadExt};

use super::error::DeployError;

/// The bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Gives the bytes of a file in chunks, and checks that they are the expected ones.
pub(super) struct FileSource<'a> {
    path: &'a Path,
    file: File,
    expected: Digest,
    hasher: Sha256,
    /// The chunk to give next. It is kept until the one after it is read, so that the last chunk is given only if all
    /// are the expected ones: the other side has no other way to notice.
    pending: Option<Vec<u8>>,
    /// The bytes given.
    given: u64,
    /// Gets the number of bytes sent so far.
    on_sent: &'a (dyn Fn(u64) + Send + Sync),
}

impl<'a> FileSource<'a> {
    pub(super) async fn open(
        path: &'a Path,
        expected: Digest,
        on_sent: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Result<Self, DeployError> {
        let file = File::open(path).await.map_err(|cause| unreadable(path, &cause))?;
        let hasher = Sha256::new();
        let mut source = Self { path, file, expected, hasher, pending: None, given: 0, on_sent };
        source.pending = source.read().await?;
        Ok(source)
    }

    /// The next bytes to send; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or it has changed since its hash was computed.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, DeployError> {
        let Some(chunk) = self.pending.take() else { return Ok(None) };
        self.pending = self.read().await?;
        self.given += chunk.len() as u64;
        Ok(Some(chunk))
    }

    async fn read(&mut self) -> Result<Option<Vec<u8>>, DeployError> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            let read = self.file.read_buf(&mut chunk).await;
            if read.map_err(|cause| unreadable(self.path, &cause))? == 0 {
                break;
            }
        }
        self.hasher.update(&chunk);
        if !chunk.is_empty() {
            return Ok(Some(chunk));
        }
        let found = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        if found == self.expected {
            return Ok(None);
        }
        let reason = "it was changed since it was chosen; start again".into();
        Err(DeployError::LocalProgram { path: self.path.into(), reason })
    }

    /// Reports that everything given so far was sent.
    pub(super) fn sent(&self) {
        (self.on_sent)(self.given);
    }
}

fn unreadable(path: &Path, cause: &io::Error) -> DeployError {
    DeployError::LocalProgram { path: path.into(), reason: cause.to_string() }
}

/// The hash and the size of a file.
pub(super) fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut size, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok((Digest::from_bytes(hasher.finalize().into()), size));
        }
        hasher.update(&chunk[..count]);
        size += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_file_that_was_changed_is_not_given() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut bytes = vec![7; 3 * CHUNK];
        std::fs::write(&path, &bytes).unwrap();
        let (hash, size) = hash_file(&path).unwrap();
        assert_eq!((hash, size), (Digest::of(&bytes), bytes.len() as u64));
        let sent = std::sync::Mutex::new(Vec::new());
        let record = |count| sent.lock().unwrap().push(count);
        let mut source = FileSource::open(&path, hash, &record).await.unwrap();
        let mut given = Vec::new();
        while let Some(chunk) = source.next().await.unwrap() {
            given.extend(chunk);
            source.sent();
        }
        assert_eq!(given, bytes);
        assert_eq!(*sent.lock().unwrap(), [1, 2, 3].map(|count| (count * CHUNK) as u64));

        bytes[0] = 8;
        std::fs::write(&path, &bytes).unwrap();
        let mut source = FileSource::open(&path, hash, &|_| {}).await.unwrap();
        assert!(source.next().await.unwrap().is_some());
        assert!(source.next().await.unwrap().is_some());
        let error = source.next().await.unwrap_err();
        assert!(matches!(error, DeployError::LocalProgram { .. }), "{error}");
        assert!(source.next().await.unwrap().is_none());
    }
}
