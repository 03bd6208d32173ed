//! Activations as 8-bit integers.

/// The rows of a full tile.
pub(super) const TILE: usize = 8;

/// Rows of activations, quantized in groups of 32.
///
/// A group of `x` becomes `q = round(x · 127 / max|x|)`, ties to even, with the scale `max|x| / 127`. A group whose
/// maximum is below [`SMALLEST`] becomes zeros with the scale 0. A group that contains an infinity or a NaN becomes
/// zeros with the scale NaN, so that every product with it is NaN.
///
/// The rows are in tiles of [`TILE`] (the last tile has the rest), so that a kernel reads a tile from one place: of
/// every array below, a tile of `a` rows holds, for each index, the entries of its `a` rows one after the other. An
/// entry of `values` is four numbers.
#[derive(Debug, Default)]
pub(super) struct Activations {
    pub(super) rows: usize,
    pub(super) groups: usize,
    /// Four numbers per entry.
    pub(super) values: Vec<[i8; 4]>,
    /// A scale per group.
    pub(super) scales: Vec<f32>,
    /// -128 times the sum of the integers of each group.
    pub(super) sums: Vec<i32>,
    /// -128 times the sum of the integers of each half of a group.
    pub(super) half_sums: Vec<i32>,
    /// The scale times the sum of the integers, for each group.
    pub(super) scaled: Vec<f32>,
    /// The same for each half of a group.
    pub(super) half_scaled: Vec<f32>,
}

/// The smallest maximum of a group that is not taken as 0: the quotient 127 / maximum must be finite.
pub(super) const SMALLEST: f32 = f32::MIN_POSITIVE * 256.0;

/// 1.5 · 2^23: a small number added to it is rounded to an integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

const INFINITY: u32 = 0x7f80_0000;

impl Activations {
    /// Replaces the contents by these rows of `width` numbers; `width` is a multiple of 32.
    pub(super) fn resize(&mut self, rows: usize, width: usize) {
        self.rows = rows;
        self.groups = width / 32;
        let groups = rows * self.groups;
        self.values.resize(groups * 8, [0; 4]);
        self.scales.resize(groups, 0.0);
        self.sums.resize(groups, 0);
        self.half_sums.resize(groups * 2, 0);
        self.scaled.resize(groups, 0.0);
        self.half_scaled.resize(groups * 2, 0.0);
    }

    /// The first row of each tile, and its number of rows.
    pub(super) fn tiles(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.rows;
        (0..rows).step_by(TILE).map(move |first| (first, TILE.min(rows - first)))
    }

    /// Quantizes rows; `x` has as many as the last call of [`Activations::resize`] said.
    ///
    /// It is compiled for each instruction set by its caller.
    #[inline(always)]
    pub(super) fn fill(&mut self, x: &[f32]) {
        let groups = self.groups;
        assert_eq!(
            x.len(),
            self.rows * groups * 32,
            "activations must be whole rows of whole groups"
        );
        if groups == 0 {
            return;
        }
        for (row, x) in x.chunks_exact(groups * 32).enumerate() {
            let tile = row / TILE * TILE;
            let height = TILE.min(self.rows - tile);
            let place = |index: usize| tile * groups + index * height + (row - tile);
            for (group, x) in x.as_chunks::<32>().0.iter().enumerate() {
                let (values, scale) = quantize(x);
                let start = tile * groups * 8 + group * 8 * height + (row - tile);
                for (i, four) in values.as_chunks::<4>().0.iter().enumerate() {
                    self.values[start + i * height] = *four;
                }
                let halves = values.as_chunks::<16>().0;
                let sums = [sum(&halves[0]), sum(&halves[1])];
                let at = place(group);
                self.scales[at] = scale;
                self.sums[at] = -128 * (sums[0] + sums[1]);
                self.scaled[at] = scale * (sums[0] + sums[1]) as f32;
                for (half, sum) in sums.into_iter().enumerate() {
                    let at = tile * groups * 2 + (group * 2 + half) * height + (row - tile);
                    self.half_sums[at] = -128 * sum;
                    self.half_scaled[at] = scale * sum as f32;
                }
            }
        }
    }
}

/// Quantizes a group.
#[inline(always)]
fn quantize(x: &[f32; 32]) -> ([i8; 32], f32) {
    // Without their signs, floats are ordered as their bits are: NaN above infinity above numbers.
    let mut bits = 0;
    for x in x {
        bits = bits.max(x.to_bits() & 0x7fff_ffff);
    }
    let mut values = [0; 32];
    if bits >= INFINITY {
        return (values, f32::NAN);
    }
    let max = f32::from_bits(bits);
    if max < SMALLEST {
        return (values, 0.0);
    }
    let inverse = 127.0 / max;
    for (value, x) in values.iter_mut().zip(x) {
        *value = (x * inverse + ROUND).to_bits() as i8;
    }
    (values, max / 127.0)
}

#[inline(always)]
fn sum(values: &[i8; 16]) -> i32 {
    values.iter().map(|value| i32::from(*value)).sum()
}
