//! Memory for weights: mapped files, and memory for copies.
//!
//! The bytes of a mapped file are those on the disk at every moment: while the model is loaded, the file must not be
//! shortened or overwritten in place. If it is shortened, the operating system ends the process at the next access to
//! the missing part. Replacing it by renaming another file onto its path is safe, and so is removing it.
#![allow(unsafe_code)]

use std::{fs::File, io};

use bytes::Bytes;
use memmap2::{Mmap, MmapMut};

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

/// Memory for a copy. Its pages are huge if the system has some: every token reads all weights, and the translation of
/// the addresses of small pages costs time, above all in a virtual machine.
pub(super) fn zeroed(length: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(length.max(1))?;
    #[cfg(target_os = "linux")]
    // A hint; systems without such pages refuse it.
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}
