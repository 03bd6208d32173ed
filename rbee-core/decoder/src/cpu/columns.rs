//! A matrix of outputs whose columns several threads write.
#![allow(unsafe_code)]

use std::marker::PhantomData;

/// Rows of `width` numbers, shared by threads that write different columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the only access is through unsafe functions, whose callers keep to columns of their own.
unsafe impl Send for Columns<'_> {}
// SAFETY: as above.
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    /// Takes rows of `width` numbers, one after the other.
    pub(super) fn new(numbers: &'a mut [f32], width: usize) -> Self {
        let rows = numbers.len().checked_div(width).unwrap_or(0);
        assert_eq!(rows * width, numbers.len(), "outputs must be whole rows");
        Self { start: numbers.as_mut_ptr(), rows, width, borrow: PhantomData }
    }

    /// The place of a number.
    ///
    /// # Safety
    ///
    /// The row and the column must exist. No other thread may read or write this column, or those after it that the
    /// caller writes through the pointer, while the matrix is borrowed.
    pub(super) unsafe fn at(&self, row: usize, column: usize) -> *mut f32 {
        assert!(row < self.rows && column < self.width, "{row}, {column} of {self:?}");
        // SAFETY: the place is within the slice that the value was made of.
        unsafe { self.start.add(row * self.width + column) }
    }
}
