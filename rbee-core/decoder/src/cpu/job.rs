//! A product, and the parts of it that threads compute.
#![allow(unsafe_code)]

use std::{marker::PhantomData, ops::Range};

use super::columns::Columns;
use crate::matrix::StoredMatrix;

/// The products of all rows of activations with a matrix, whose rows are columns of the outputs.
///
/// [`WholeProduct::new`] has checked that all bytes of the matrix exist, and so does the bias.
#[derive(Debug)]
pub(super) struct WholeProduct<'a> {
    pub(super) matrix: &'a StoredMatrix,
    bias: Option<&'a [f32]>,
    out: Columns<'a>,
    row_bytes: usize,
}

impl<'a> WholeProduct<'a> {
    /// Takes all columns.
    pub(super) fn new(
        matrix: &'a StoredMatrix,
        bias: Option<&'a [f32]>,
        out: &'a mut [f32],
        rows: usize,
    ) -> Self {
        assert_eq!(matrix.cols % matrix.kind.block(), 0, "a row must be whole blocks");
        let row_bytes = matrix.kind.bytes(matrix.cols);
        assert_eq!(
            Some(matrix.bytes.len()),
            matrix.rows.checked_mul(row_bytes),
            "bytes of a matrix"
        );
        assert_eq!(Some(out.len()), matrix.rows.checked_mul(rows), "outputs of a product");
        assert!(bias.is_none_or(|bias| bias.len() == matrix.rows), "a bias for every output");
        Self { matrix, bias, out: Columns::new(out, matrix.rows), row_bytes }
    }

    /// A part of the columns.
    ///
    /// # Safety
    ///
    /// Parts that are in use at the same time must not overlap.
    pub(super) unsafe fn part(&self, columns: Range<usize>) -> Job<'_> {
        assert!(
            columns.start <= columns.end && columns.end <= self.matrix.rows,
            "columns of a product"
        );
        let Self { matrix, bias, out, row_bytes } = *self;
        Job { matrix, bias, columns, out, row_bytes, one_thread: PhantomData }
    }
}

/// Some columns of a product, which one thread computes.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) matrix: &'a StoredMatrix,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) columns: Range<usize>,
    out: Columns<'a>,
    row_bytes: usize,
    /// Makes the type stay on its thread.
    one_thread: PhantomData<*mut f32>,
}

#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only kernels for x86-64 need it")
)]
impl<'a> Job<'a> {
    /// The bytes of a row of the matrix.
    pub(super) fn row(&self, column: usize) -> &'a [u8] {
        &self.matrix.bytes[column * self.row_bytes..][..self.row_bytes]
    }

    /// The number of bytes of a row of the matrix.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Writes an output, after it added the bias.
    pub(super) fn write(&self, row: usize, column: usize, sum: f32) {
        assert!(self.columns.contains(&column), "a column of this part");
        let sum = self.bias.map_or(sum, |bias| sum + bias[column]);
        // SAFETY: the column is one of this part, which no other thread writes.
        unsafe { self.out.at(row, column).write(sum) }
    }

    /// The place of an output and of the columns of this part that follow it.
    pub(super) fn place(&self, row: usize, column: usize) -> *mut f32 {
        assert!(self.columns.contains(&column), "a column of this part");
        // SAFETY: as above.
        unsafe { self.out.at(row, column) }
    }
}
