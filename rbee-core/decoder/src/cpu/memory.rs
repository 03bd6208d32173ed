//! A large piece of memory that takes no room until it is used.
#![allow(unsafe_code)]

use std::{
    alloc::{self, Layout},
    fmt,
    ptr::NonNull,
    slice,
};

use candle_core::{Result, bail};

/// The size of a cache line.
const LINE: usize = 64;

/// Bytes that start as zeros. The system provides a page when it is first written to.
pub(super) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
    /// The distance of the first cache line from `start`.
    offset: usize,
    len: usize,
}

// SAFETY: The memory has one owner, and Rust's rules for references apply to what the methods return.
unsafe impl Send for Memory {}
// SAFETY: A shared `Memory` can only be read.
unsafe impl Sync for Memory {}

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
        // A larger alignment would make the allocator write the zeros itself: so a line is found within.
        let size = len.checked_add(LINE);
        let Some(layout) = size.and_then(|size| Layout::from_size_align(size, 16).ok()) else {
            bail!("{len} bytes exceed the address space");
        };
        // SAFETY: The size is not 0.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            bail!("no memory for {len} bytes");
        };
        let offset = start.as_ptr().addr().next_multiple_of(LINE) - start.as_ptr().addr();
        Ok(Self { start, layout, offset, len })
    }

    /// The address of `count` values, `offset` bytes from the first line.
    fn at<T: Plain>(&self, offset: usize, count: usize) -> NonNull<T> {
        let end = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.len), "{count} values at {offset} of {self:?}");
        assert!(offset.is_multiple_of(align_of::<T>()), "values at {offset}");
        // SAFETY: The offset is within the allocation, which has `len + LINE` bytes.
        unsafe { self.start.add(self.offset + offset).cast() }
    }

    /// Values that start `offset` bytes from the beginning.
    pub(super) fn slice<T: Plain>(&self, offset: usize, count: usize) -> &[T] {
        // SAFETY: `at` checks bounds and alignment; all bytes are initialized, and any are a value.
        unsafe { slice::from_raw_parts(self.at(offset, count).as_ptr(), count) }
    }

    /// The same, to be written.
    pub(super) fn slice_mut<T: Plain>(&mut self, offset: usize, count: usize) -> &mut [T] {
        // SAFETY: As for `slice`; and nothing else has access while `self` is borrowed.
        unsafe { slice::from_raw_parts_mut(self.at(offset, count).as_ptr(), count) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: It was allocated with this layout.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.len)
    }
}
