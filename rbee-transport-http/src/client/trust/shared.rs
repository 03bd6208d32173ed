//! Certificates that can be replaced while they are in use: [`SharedTrust`] and [`TrustFile`].

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rbee_core::{Error, ErrorKind, Result};

use super::Trust;

/// A [`Trust`] that can be replaced while connections are made. Clones share it.
#[derive(Clone, Debug)]
pub struct SharedTrust(Arc<RwLock<Trust>>);

impl From<Trust> for SharedTrust {
    fn from(trust: Trust) -> Self {
        Self(Arc::new(RwLock::new(trust)))
    }
}

impl SharedTrust {
    /// The current certificates.
    pub fn current(&self) -> Trust {
        // Only ever replaced as a whole.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the certificates. New connections are checked against the new ones; established ones continue.
    pub fn replace(&self, trust: Trust) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = trust;
    }
}

/// A PEM file with the certificates that are trusted, which can be read again.
#[derive(Clone, Debug)]
pub struct TrustFile {
    path: PathBuf,
    trust: SharedTrust,
    /// What was read last.
    pem: Arc<Mutex<Vec<u8>>>,
}

impl TrustFile {
    /// The largest file that is read, in bytes.
    pub const MOST_BYTES: u64 = 1 << 20;

    /// Reads the file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of the file, if it cannot be read or [`Trust::only`] refuses it.
    pub fn open(path: &Path) -> Result<Self> {
        let (pem, trust) = read(path)?;
        Ok(Self { path: path.to_owned(), trust: trust.into(), pem: Arc::new(Mutex::new(pem)) })
    }

    /// The certificates, also after they are read again.
    pub fn trust(&self) -> &SharedTrust {
        &self.trust
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again, and replaces the certificates. If this fails, nothing changes. Returns true if the
    /// content is another one than before.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reload(&self) -> Result<bool> {
        crate::token::require_regular_file(&self.path)?;
        let (pem, trust) = read(&self.path)?;
        let mut last = self.pem.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = *last != pem;
        *last = pem;
        self.trust.replace(trust);
        Ok(is_other)
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, Trust)> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Config, format!("{}: {why}", path.display()))
    };
    let mut pem = Vec::new();
    let most = TrustFile::MOST_BYTES;
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut pem))
        .map_err(|cause| wrong(&format_args!("cannot be read: {cause}")))?;
    if pem.len() as u64 > most {
        return Err(wrong(&format_args!("larger than {most} bytes")));
    }
    let trust = Trust::only(&pem).map_err(|error| wrong(&error.message()))?;
    Ok((pem, trust))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_certificates_is_read_again_and_what_is_none_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let made = || rcgen::generate_simple_self_signed(["bee.test".to_owned()]).unwrap().cert;
        std::fs::write(&path, made().pem()).unwrap();
        let file = TrustFile::open(&path).unwrap();
        let current = || file.trust().current().0;
        let first = current();
        assert!(!file.reload().unwrap());
        std::fs::write(&path, made().pem()).unwrap();
        assert!(file.reload().unwrap());
        let second = current();
        assert!(!Arc::ptr_eq(&first, &second));
        for wrong in [Vec::new(), b"no pem".to_vec(), vec![b'\n'; (1 << 20) + 1]] {
            std::fs::write(&path, &wrong).unwrap();
            let error = file.reload().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains("ca.pem: "), "{error}");
            assert!(Arc::ptr_eq(&second, &current()));
        }
    }
}
