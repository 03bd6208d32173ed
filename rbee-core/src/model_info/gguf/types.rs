//! The names and sizes of the data types in GGUF files.

/// A data type: its name, the numbers per block, and the bytes per block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorType {
    pub(crate) name: &'static str,
    pub(crate) block: u64,
    pub(crate) bytes: u64,
}

pub(crate) const F32: TensorType = TensorType { name: "F32", block: 1, bytes: 4 };
pub(crate) const F16: TensorType = TensorType { name: "F16", block: 1, bytes: 2 };
pub(crate) const BF16: TensorType = TensorType { name: "BF16", block: 1, bytes: 2 };
pub(crate) const Q4_0: TensorType = TensorType { name: "Q4_0", block: 32, bytes: 18 };
pub(crate) const Q4_1: TensorType = TensorType { name: "Q4_1", block: 32, bytes: 20 };
pub(crate) const Q5_0: TensorType = TensorType { name: "Q5_0", block: 32, bytes: 22 };
pub(crate) const Q5_1: TensorType = TensorType { name: "Q5_1", block: 32, bytes: 24 };
pub(crate) const Q8_0: TensorType = TensorType { name: "Q8_0", block: 32, bytes: 34 };
pub(crate) const Q2_K: TensorType = TensorType { name: "Q2_K", block: 256, bytes: 84 };
pub(crate) const Q3_K: TensorType = TensorType { name: "Q3_K", block: 256, bytes: 110 };
pub(crate) const Q4_K: TensorType = TensorType { name: "Q4_K", block: 256, bytes: 144 };
pub(crate) const Q5_K: TensorType = TensorType { name: "Q5_K", block: 256, bytes: 176 };
pub(crate) const Q6_K: TensorType = TensorType { name: "Q6_K", block: 256, bytes: 210 };

/// The type with this number; `None` if not known here.
pub(crate) fn tensor_type(number: u32) -> Option<TensorType> {
    let other = |name, block, bytes| TensorType { name, block, bytes };
    Some(match number {
        0 => F32,
        1 => F16,
        2 => Q4_0,
        3 => Q4_1,
        6 => Q5_0,
        7 => Q5_1,
        8 => Q8_0,
        10 => Q2_K,
        11 => Q3_K,
        12 => Q4_K,
        13 => Q5_K,
        14 => Q6_K,
        15 => other("Q8_K", 256, 292),
        16 => other("IQ2_XXS", 256, 66),
        17 => other("IQ2_XS", 256, 74),
        18 => other("IQ3_XXS", 256, 98),
        19 => other("IQ1_S", 256, 50),
        20 => other("IQ4_NL", 32, 18),
        21 => other("IQ3_S", 256, 110),
        22 => other("IQ2_S", 256, 82),
        23 => other("IQ4_XS", 256, 136),
        24 => other("I8", 1, 1),
        25 => other("I16", 1, 2),
        26 => other("I32", 1, 4),
        27 => other("I64", 1, 8),
        28 => other("F64", 1, 8),
        29 => other("IQ1_M", 256, 56),
        30 => BF16,
        34 => other("TQ1_0", 256, 54),
        35 => other("TQ2_0", 256, 66),
        39 => other("MXFP4", 32, 17),
        _ => return None,
    })
}

/// True for a type of plain numbers.
pub(crate) fn is_plain(name: &str) -> bool {
    matches!(name, "F64" | "F32" | "F16" | "BF16")
}

/// The mixture of types that `general.file_type` names, if known: a `Q4_K_M` file has tensors of several types.
pub(crate) fn mixture(file_type: u64) -> Option<&'static str> {
    Some(match file_type {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        _ => return None,
    })
}
