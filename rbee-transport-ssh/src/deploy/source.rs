//! A file of this machine that is sent to another: [`FileSource`].

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use rbee_core::models::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncReadExt};

use super::error::DeployError;

/// The bytes that are read at once.
const CHUNK: usize = 64 << 10;

type Encoder = GzEncoder<Vec<u8>>;

/// Gives the bytes of a file in chunks, and checks that they are the expected ones.
pub(super) struct FileSource<'a> {
    path: &'a Path,
    file: File,
    expected: Digest,
    hasher: Sha256,
    /// The chunk to give next. It is kept until the one after it is read, so that the last chunk is given only if all
    /// are the expected ones: the other side has no other way to notice.
    pending: Option<Vec<u8>>,
    /// The bytes of the file that were given.
    given: u64,
    encoder: Option<Encoder>,
    /// Gets the number of bytes sent so far.
    on_sent: &'a (dyn Fn(u64) + Send + Sync),
}

impl<'a> FileSource<'a> {
    /// With `compress`, the chunks are in the format of gzip.
    pub(super) async fn open(
        path: &'a Path,
        expected: Digest,
        compress: bool,
        on_sent: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Result<Self, DeployError> {
        let file = File::open(path).await.map_err(|cause| unreadable(path, &cause))?;
        let hasher = Sha256::new();
        let encoder = compress.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let mut source =
            Self { path, file, expected, hasher, pending: None, given: 0, encoder, on_sent };
        source.pending = source.read().await?;
        Ok(source)
    }

    /// The next bytes to send; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or it has changed since its hash was computed.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, DeployError> {
        let Some(mut chunk) = self.pending.take() else { return Ok(None) };
        self.pending = self.read().await?;
        self.given += chunk.len() as u64;
        if let Some(encoder) = self.encoder.take() {
            let is_last = self.pending.is_none();
            // It takes some milliseconds.
            let encoded =
                tokio::task::spawn_blocking(move || encode(encoder, &chunk, is_last)).await;
            let encoded = encoded.map_err(io::Error::other).and_then(|encoded| encoded);
            (chunk, self.encoder) = encoded.map_err(|cause| unreadable(self.path, &cause))?;
        }
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

/// What the encoder has so far, and the encoder if there is more to come.
fn encode(
    mut encoder: Encoder,
    chunk: &[u8],
    is_last: bool,
) -> io::Result<(Vec<u8>, Option<Encoder>)> {
    encoder.write_all(chunk)?;
    if is_last {
        return Ok((encoder.finish()?, None));
    }
    Ok((std::mem::take(encoder.get_mut()), Some(encoder)))
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
        let mut source = FileSource::open(&path, hash, false, &record).await.unwrap();
        let mut given = Vec::new();
        while let Some(chunk) = source.next().await.unwrap() {
            given.extend(chunk);
            source.sent();
        }
        assert_eq!(given, bytes);
        assert_eq!(*sent.lock().unwrap(), [1, 2, 3].map(|count| (count * CHUNK) as u64));

        bytes[0] = 8;
        std::fs::write(&path, &bytes).unwrap();
        let mut source = FileSource::open(&path, hash, false, &|_| {}).await.unwrap();
        assert!(source.next().await.unwrap().is_some());
        assert!(source.next().await.unwrap().is_some());
        let error = source.next().await.unwrap_err();
        assert!(matches!(error, DeployError::LocalProgram { .. }), "{error}");
        assert!(source.next().await.unwrap().is_none());
    }
    #[tokio::test]
    async fn a_compressed_file_is_one_stream_of_gzip_and_its_end_is_held_back_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut bytes: Vec<u8> = (0..3 * CHUNK + 5).map(|index| (index / 1000) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let (hash, _) = hash_file(&path).unwrap();
        let sent = std::sync::Mutex::new(0);
        let record = |count| *sent.lock().unwrap() = count;
        let mut source = FileSource::open(&path, hash, true, &record).await.unwrap();
        let mut given = Vec::new();
        while let Some(chunk) = source.next().await.unwrap() {
            given.extend(chunk);
            source.sent();
        }
        assert!(given.len() < bytes.len() / 10, "{} bytes", given.len());
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&given[..]).read_to_end(&mut read).unwrap();
        assert!(read == bytes);
        assert_eq!(*sent.lock().unwrap(), bytes.len() as u64);

        bytes[0] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let mut source = FileSource::open(&path, hash, true, &record).await.unwrap();
        let mut given = Vec::new();
        let error = loop {
            match source.next().await {
                Ok(chunk) => given.extend(chunk.unwrap()),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("changed"), "{error}");
        let cut = flate2::read::GzDecoder::new(&given[..]).read_to_end(&mut Vec::new());
        assert!(cut.is_err());
    }
}
