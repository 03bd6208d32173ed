//! A large piece of memory that takes no room until it is used.
#![allow(unsafe_code)]

use std::{fmt, slice};

use candle_core::{Error, Result};
use memmap2::MmapMut;

/// Bytes that start as zeros. The system provides a page when it is first written to.
///
/// The pages are huge if the system has some. Attention reads all keys and values for each token, and small pages cost
/// it up to half of the memory bandwidth, above all in a virtual machine: each needs an address to be translated.
pub(super) struct Memory {
    map: MmapMut,
}

/// Numbers, and arrays of them: every pattern of bits is a value, and there is no padding.
///
/// # Safety
/// Both must be so.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: They are numbers.
unsafe impl Plain for f32 {}
// SAFETY: They are numbers.
unsafe impl Plain for u16 {}
// SAFETY: They are numbers.
unsafe impl Plain for i8 {}
// SAFETY: Arrays have no padding between their elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

impl Memory {
    /// Reserves this many bytes.
    pub(super) fn zeroed(len: usize) -> Result<Self> {
        let map = MmapMut::map_anon(len.max(1))
            .map_err(|error| Error::wrap(error).context(format!("no memory for {len} bytes")))?;
        #[cfg(target_os = "linux")]
        // A hint; systems without such pages refuse it.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map })
    }

    /// Checks that `count` values that start `offset` bytes from the beginning exist, and are aligned.
    fn check<T: Plain>(&self, offset: usize, count: usize) {
        let end = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        let exist = end.is_some_and(|end| end <= self.map.len());
        assert!(exist, "{count} values at {offset} of {self:?}");
        // The beginning is one of a page.
        assert!(offset.is_multiple_of(align_of::<T>()), "values at {offset}");
    }

    /// Values that start `offset` bytes from the beginning.
    pub(super) fn slice<T: Plain>(&self, offset: usize, count: usize) -> &[T] {
        self.check::<T>(offset, count);
        // SAFETY: the bounds and the alignment are checked; all bytes are initialized, and any are a value.
        unsafe { slice::from_raw_parts(self.map.as_ptr().add(offset).cast(), count) }
    }

    /// The same, to be written.
    pub(super) fn slice_mut<T: Plain>(&mut self, offset: usize, count: usize) -> &mut [T] {
        self.check::<T>(offset, count);
        // SAFETY: as for `slice`; and nothing else has access while `self` is borrowed.
        unsafe { slice::from_raw_parts_mut(self.map.as_mut_ptr().add(offset).cast(), count) }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.map.len())
    }
}
