//! Files of a model in any readable place.

use std::{
    fmt,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};

use super::{
    Manifest,
    disk::{self, failed},
};
use crate::error::{Error, ErrorKind, Result};

/// Bytes per read.
const CHUNK: u64 = 1 << 20;

/// A readable place with the files of one model: a [`ModelStore`](crate::models::ModelStore), another hive, or a
/// directory.
#[async_trait]
pub trait ModelFiles: fmt::Debug + Send + Sync + 'static {
    /// The list of the files.
    fn manifest(&self) -> &Manifest;

    /// The bytes of one file from this offset to its end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the manifest has no such file, [`ErrorKind::InvalidRequest`] if the offset is beyond
    /// its end, [`ErrorKind::ModelIncompatible`] if the file no longer matches the manifest. The stream ends with the
    /// first failure.
    async fn read(&self, file: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>>;
}

/// Files below a directory of this machine. `keep` is held as long as the files may be read.
pub(super) struct DirectoryFiles<K> {
    pub(super) root: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) keep: std::sync::Arc<K>,
}

impl<K> fmt::Debug for DirectoryFiles<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelFiles")
            .field("root", &self.root)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<K: Send + Sync + 'static> ModelFiles for DirectoryFiles<K> {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn read(&self, file: &str, from: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        let Some(known) = self.manifest.file(file).cloned() else {
            let message = format!("the model has no file {file:?}");
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        if from > known.bytes {
            let message = format!(
                "the file {file:?} has {} bytes; it cannot be read from byte {from} on",
                known.bytes
            );
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        let (path, keep) = (self.root.join(file), self.keep.clone());
        let opened = blocking(move || {
            let mut opened = crate::file_roots::open(&path).map_err(failed("open", &path))?;
            let is = opened.metadata().map_err(failed("open", &path))?.len();
            if is != known.bytes {
                let message = format!(
                    "the model's file {} has {is} bytes; it should have {}",
                    path.display(),
                    known.bytes
                );
                return Err(Error::new(ErrorKind::ModelIncompatible, message));
            }
            opened.seek(SeekFrom::Start(from)).map_err(failed("read", &path))?;
            Ok((opened, path, known.bytes - from))
        })
        .await?;
        // One chunk at a time, so that a slow reader holds no thread.
        let chunks = stream::try_unfold(opened, move |(mut file, path, left)| {
            let keep = keep.clone();
            async move {
                if left == 0 {
                    return Ok(None);
                }
                blocking(move || {
                    let _keep = keep;
                    // At most CHUNK, so this fits.
                    let mut chunk = vec![0; left.min(CHUNK) as usize];
                    file.read_exact(&mut chunk).map_err(failed("read", &path))?;
                    let left = left - chunk.len() as u64;
                    Ok(Some((Bytes::from(chunk), (file, path, left))))
                })
                .await
            }
        });
        Ok(chunks.boxed())
    }
}

/// Runs the function on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|ended| {
        let message = "work on a model's files was ended before it was done";
        let kind = if ended.is_panic() { ErrorKind::Internal } else { ErrorKind::Cancelled };
        Err(Error::new(kind, message).with_source(ended))
    })
}

/// A manifest of files that are all read.
pub(super) fn hashed(
    root: &std::path::Path,
    paths: impl IntoIterator<Item = String>,
    mut known: impl FnMut(&str, &std::path::Path) -> Option<crate::digest::Digest>,
) -> Result<Manifest> {
    let mut files = Vec::new();
    for path in paths {
        let at = root.join(&path);
        let bytes = std::fs::metadata(&at).map_err(failed("read", &at))?.len();
        let sha256 = match known(&path, &at) {
            Some(sha256) => sha256,
            None => disk::hash(&at, |_| {})?,
        };
        files.push(super::ModelFile { path, bytes, sha256 });
    }
    Manifest::new(files)
}
