//! Memory for unpacked weights.

/// A cache line: 16 numbers of 32 bits, aligned.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; 16]);

/// Rows of weights, unpacked and transposed, so that a vector has the same columns of several rows.
#[derive(Debug, Default)]
pub(super) struct Tile {
    /// For four columns after the other: these four integers of every row.
    pub(super) weights: Vec<Line>,
    /// For a group or half after the other: the scales of every row.
    pub(super) scales: Vec<Line>,
    /// The same for the minima.
    pub(super) minima: Vec<Line>,
}

impl Tile {
    /// Makes room for rows of this many groups, in whole steps of 8 groups.
    pub(super) fn reserve(&mut self, groups: usize) {
        let groups = groups.next_multiple_of(8);
        if self.scales.len() < groups * 2 {
            let zero = Line([0; 16]);
            self.weights.resize(groups * 8, zero);
            self.scales.resize(groups * 2, zero);
            self.minima.resize(groups * 2, zero);
        }
    }
}
