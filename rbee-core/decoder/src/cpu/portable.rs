//! The products in plain Rust. They define the results, bit for bit.
//!
//! Quantized: an output starts at 0. For every group of 32 weights in order (for every half of a group, if the type has
//! scales for halves), the integers of weights and activations are multiplied and summed, exactly, and
//! `sum · (scale of the weights · scale of the activations)` is added by one fused multiply-add; then, if the type has
//! minima, `minimum · (scale of the activations · sum of their integers)` by another one.
//!
//! Not quantized: 16 partial sums, of which number `j` adds the products `k` with `k % 16 == j` in order by fused
//! multiply-adds; then [`sum_lanes`].
//!
//! The bias is added at the end.
//!
//! The loops over 32 or 16 numbers are of constant length, so that the compiler can use the vectors of the processor
//! (NEON on aarch64). There are no kernels with intrinsics of NEON.

use super::{
    blocks::{Group, decode_group, decode_plain, has_halves, has_minima, quantized},
    job::Job,
    quantize::Activations,
};

/// Adds partial sums in the one order that all kernels use.
pub(super) fn sum_lanes(lanes: &[f32; 16]) -> f32 {
    let mut sums = *lanes;
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}

/// Computes the columns of a job, of a quantized type.
pub(super) fn quantized_product(job: &Job<'_>, activations: &Activations) {
    let kind = job.matrix.kind;
    debug_assert!(quantized(kind));
    let mut groups = Vec::with_capacity(activations.groups);
    for column in job.columns.clone() {
        let row = job.row(column);
        groups.clear();
        groups.extend((0..activations.groups).map(|group| decode_group(kind, row, group)));
        for (first, height) in activations.tiles() {
            for i in 0..height {
                let sum =
                    dot(&groups, activations, first, height, i, has_halves(kind), has_minima(kind));
                job.write(first + i, column, sum);
            }
        }
    }
}

fn dot(
    weights: &[Group],
    activations: &Activations,
    first: usize,
    height: usize,
    row: usize,
    halves: bool,
    minima: bool,
) -> f32 {
    let start = first * activations.groups;
    let mut sum = 0.0_f32;
    for (index, group) in weights.iter().enumerate() {
        let at = start + index * height + row;
        let scale = activations.scales[at];
        let values = &activations.values[start * 8 + index * 8 * height + row..];
        let mut products = [0_i32; 2];
        for (i, four) in group.weights.as_chunks::<4>().0.iter().enumerate() {
            let values = &values[i * height];
            for (weight, value) in four.iter().zip(values) {
                products[i / 4] += i32::from(*weight) * i32::from(*value);
            }
        }
        if halves {
            for (half, product) in products.iter().enumerate() {
                sum = (*product as f32).mul_add(group.scales[half] * scale, sum);
                if minima {
                    let at = start * 2 + (index * 2 + half) * height + row;
                    sum = group.minima[half].mul_add(activations.half_scaled[at], sum);
                }
            }
        } else {
            sum = ((products[0] + products[1]) as f32).mul_add(group.scales[0] * scale, sum);
            if minima {
                sum = group.minima[0].mul_add(activations.scaled[at], sum);
            }
        }
    }
    sum
}

/// Computes the columns of a job, of a type that is not quantized.
pub(super) fn plain_product(job: &Job<'_>, x: &[f32]) {
    let width = job.matrix.cols;
    let mut weights = vec![0.0; width];
    for column in job.columns.clone() {
        let row = job.row(column);
        for (index, weight) in weights.iter_mut().enumerate() {
            *weight = decode_plain(job.matrix.kind, row, index);
        }
        for (index, x) in x.chunks_exact(width).enumerate() {
            let mut lanes = [0.0_f32; 16];
            let (whole, rest) = x.as_chunks::<16>();
            let (weights, last) = weights.as_chunks::<16>();
            for (weights, x) in weights.iter().zip(whole) {
                for ((lane, weight), x) in lanes.iter_mut().zip(weights).zip(x) {
                    *lane = weight.mul_add(*x, *lane);
                }
            }
            for ((lane, weight), x) in lanes.iter_mut().zip(last).zip(rest) {
                *lane = weight.mul_add(*x, *lane);
            }
            job.write(index, column, sum_lanes(&lanes));
        }
    }
}
