//! Files in memory without a copy.
//!
//! The bytes of a mapped file are those on the disk at every moment: while the model is loaded, the file must not be
//! shortened or overwritten in place. If it is shortened, the operating system ends the process at the next access to
//! the missing part. Replacing it by renaming another file onto its path is safe, and so is removing it.
#![allow(unsafe_code)]

use std::{fs::File, io};

use bytes::Bytes;
use memmap2::Mmap;

/// The whole file.
pub(super) fn map(file: &File) -> io::Result<Bytes> {
    // SAFETY: the mapping is read-only and only read as bytes, every value of which is valid. The documentation
    // of the options says that the file must not be changed while the model is loaded.
    let mapped = unsafe { Mmap::map(file)? };
    #[cfg(unix)]
    // A hint to read ahead; without it the load is only slower.
    let _ = mapped.advise(memmap2::Advice::WillNeed);
    Ok(Bytes::from_owner(mapped))
}
