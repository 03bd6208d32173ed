//! The quantized blocks of the GGUF format: how each type packs the integers and scales of its weights.

use half::f16;

use crate::matrix::WeightType;

/// A group of 32 weights: `scales[i / 16] · weights[i] + minima[i / 16]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) weights: [i8; 32],
    pub(super) scales: [f32; 2],
    pub(super) minima: [f32; 2],
}

/// True if the type has groups of 32 weights.
pub(super) const fn quantized(kind: WeightType) -> bool {
    !matches!(kind, WeightType::F32 | WeightType::F16 | WeightType::Bf16)
}

/// True if a group has a scale for each half; else both scales are equal.
pub(super) const fn has_halves(kind: WeightType) -> bool {
    matches!(kind, WeightType::Q2K | WeightType::Q3K | WeightType::Q6K)
}

/// True if the type has minima; else they are 0.
pub(super) const fn has_minima(kind: WeightType) -> bool {
    matches!(
        kind,
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q2K | WeightType::Q4K | WeightType::Q5K
    )
}

/// The number at an offset of two bytes.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32_const()
}

fn word_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// The 8 scales and the 8 minima of Q4_K and Q5_K, of 6 bits each: four numbers per word.
#[inline(always)]
pub(super) const fn scales_and_minima(words: [u32; 3]) -> [u32; 4] {
    let [a, b, c] = words;
    [
        a & 0x3f3f_3f3f,
        (c & 0x0f0f_0f0f) | ((a >> 6) & 0x0303_0303) << 4,
        b & 0x3f3f_3f3f,
        ((c >> 4) & 0x0f0f_0f0f) | ((b >> 6) & 0x0303_0303) << 4,
    ]
}

/// The 16 scales of Q3_K, of 6 bits each, 32 too large: four numbers per word.
#[inline(always)]
pub(super) const fn six_bit_scales(words: [u32; 3]) -> [u32; 4] {
    let [a, b, c] = words;
    [
        (a & 0x0f0f_0f0f) | (c & 0x0303_0303) << 4,
        (b & 0x0f0f_0f0f) | ((c >> 2) & 0x0303_0303) << 4,
        ((a >> 4) & 0x0f0f_0f0f) | ((c >> 4) & 0x0303_0303) << 4,
        ((b >> 4) & 0x0f0f_0f0f) | ((c >> 6) & 0x0303_0303) << 4,
    ]
}

fn byte_of(words: [u32; 4], index: usize) -> u8 {
    words[index / 4].to_le_bytes()[index % 4]
}

/// Decodes a group of a row of a quantized type.
pub(super) fn decode_group(kind: WeightType, row: &[u8], group: usize) -> Group {
    let per_block = kind.block() / 32;
    let size = kind.block_bytes();
    let block = &row[group / per_block * size..][..size];
    let group = group % per_block;
    let mut weights = [0; 32];
    let mut scales = [0.0; 2];
    let mut minima = [0.0; 2];
    match kind {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => {
            unreachable!("{} has no blocks", kind.name())
        }
        WeightType::Q4_0 | WeightType::Q4_1 | WeightType::Q5_0 | WeightType::Q5_1 => {
            scales = [half_at(block, 0); 2];
            let with_minimum = has_minima(kind);
            if with_minimum {
                minima = [half_at(block, 2); 2];
            }
            let five = matches!(kind, WeightType::Q5_0 | WeightType::Q5_1);
            let start = if with_minimum { 4 } else { 2 };
            let high = if five { word_at(block, start) } else { 0 };
            let nibbles = &block[size - 16..];
            let offset = match (with_minimum, five) {
                (true, _) => 0,
                (false, true) => 16,
                (false, false) => 8,
            };
            for i in 0..16 {
                weights[i] = (nibbles[i] & 15 | ((high >> i & 1) as u8) << 4) as i8 - offset;
                weights[i + 16] =
                    (nibbles[i] >> 4 | ((high >> (i + 16) & 1) as u8) << 4) as i8 - offset;
            }
        }
        WeightType::Q8_0 => {
            scales = [half_at(block, 0); 2];
            for (weight, byte) in weights.iter_mut().zip(&block[2..]) {
                *weight = *byte as i8;
            }
        }
        WeightType::Q2K => {
            let (d, minimum) = (half_at(block, 80), half_at(block, 82));
            for half in 0..2 {
                let packed = block[group * 2 + half];
                scales[half] = d * f32::from(packed & 15);
                minima[half] = -minimum * f32::from(packed >> 4);
            }
            let bits = &block[16 + group / 4 * 32..];
            for (weight, byte) in weights.iter_mut().zip(bits) {
                *weight = (byte >> (group % 4 * 2) & 3) as i8;
            }
        }
        WeightType::Q3K => {
            let d = half_at(block, 108);
            let words =
                six_bit_scales([word_at(block, 96), word_at(block, 100), word_at(block, 104)]);
            for (half, scale) in scales.iter_mut().enumerate() {
                *scale = d * f32::from(byte_of(words, group * 2 + half) as i8 - 32);
            }
            let bits = &block[32 + group / 4 * 32..];
            for i in 0..32 {
                let high = block[i] >> group & 1;
                weights[i] = (bits[i] >> (group % 4 * 2) & 3 | high << 2) as i8 - 4;
            }
        }
        WeightType::Q4K | WeightType::Q5K => {
            let words =
                scales_and_minima([word_at(block, 4), word_at(block, 8), word_at(block, 12)]);
            scales = [half_at(block, 0) * f32::from(byte_of(words, group)); 2];
            minima = [-half_at(block, 2) * f32::from(byte_of(words, group + 8)); 2];
            let five = kind == WeightType::Q5K;
            let nibbles = &block[if five { 48 } else { 16 } + group / 2 * 32..];
            for i in 0..32 {
                let high = if five { block[16 + i] >> group & 1 } else { 0 };
                weights[i] = (nibbles[i] >> (group % 2 * 4) & 15 | high << 4) as i8;
            }
        }
        WeightType::Q6K => {
            let d = half_at(block, 208);
            for half in 0..2 {
                scales[half] = d * f32::from(block[192 + group * 2 + half] as i8);
            }
            let (part, quarter) = (group / 4, group % 4);
            let low = &block[part * 64 + quarter % 2 * 32..];
            let high = &block[128 + part * 32..];
            for i in 0..32 {
                let low = low[i] >> (quarter / 2 * 4) & 15;
                weights[i] = (low | (high[i] >> (quarter * 2) & 3) << 4) as i8 - 32;
            }
        }
    }
    Group { weights, scales, minima }
}

/// The number at an index of a row of a type without blocks.
pub(super) fn decode_plain(kind: WeightType, row: &[u8], index: usize) -> f32 {
    match kind {
        WeightType::F32 => f32::from_bits(word_at(row, index * 4)),
        WeightType::F16 => half_at(row, index * 2),
        _ => f32::from_bits(
            u32::from(u16::from_le_bytes([row[index * 2], row[index * 2 + 1]])) << 16,
        ),
    }
}
