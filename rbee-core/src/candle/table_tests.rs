//! Tables that exist twice, because the headers of files are read without the decoder's crate: both are the same.

use rbee_decoder::{
    backend::{self, CacheShape},
    matrix::WeightType,
};

use crate::{
    model_info::{CachePool, CacheType, gguf::types::tensor_type},
    test_gguf::GgufType,
};

/// The type of a tensor with such weights.
fn in_a_file(kind: WeightType) -> GgufType {
    match kind {
        WeightType::F32 => GgufType::F32,
        WeightType::F16 => GgufType::F16,
        WeightType::Bf16 => GgufType::Bf16,
        WeightType::Q4_0 => GgufType::Q4_0,
        WeightType::Q4_1 => GgufType::Q4_1,
        WeightType::Q5_0 => GgufType::Q5_0,
        WeightType::Q5_1 => GgufType::Q5_1,
        WeightType::Q8_0 => GgufType::Q8_0,
        WeightType::Q2K => GgufType::Q2K,
        WeightType::Q3K => GgufType::Q3K,
        WeightType::Q4K => GgufType::Q4K,
        WeightType::Q5K => GgufType::Q5K,
        WeightType::Q6K => GgufType::Q6K,
    }
}

#[test]
fn a_weight_type_has_the_number_name_and_size_of_its_tensor_type() {
    for kind in WeightType::ALL {
        let number = in_a_file(kind) as u32;
        let tensor = tensor_type(number).unwrap();
        assert_eq!(tensor.name, kind.name());
        let size = (tensor.block as usize, tensor.bytes as usize);
        assert_eq!(size, (kind.block(), kind.block_bytes()), "{}", kind.name());
    }
    let numbered = |number: u32| WeightType::of(tensor_type(number)?.name);
    let known: Vec<_> = (0..256).filter_map(|number| Some((number, numbered(number)?))).collect();
    assert_eq!(known.len(), WeightType::ALL.len());
    assert!(known.iter().all(|(number, kind)| *number == in_a_file(*kind) as u32), "{known:?}");
}

#[test]
fn a_cache_type_has_the_name_and_size_of_its_counterpart() {
    for kind in CacheType::ALL {
        let own = backend::CacheType::from(kind);
        assert_eq!(kind.name(), own.name());
        for head_dim in [1, 8, 24, 33, 64, 80, 96, 128, 256] {
            let (layers, kv_heads) = (3, 2);
            let shape = CacheShape { kind: own, layers, blocks: 5, kv_heads, head_dim };
            let pool = CachePool { tokens: None, kind };
            let numbers = (2 * head_dim * kv_heads * layers) as u64;
            let tokens = 5 * u64::from(CachePool::BLOCK);
            let bytes = pool.bytes(numbers, Some(head_dim as u32), tokens);
            assert_eq!(bytes, shape.bytes(), "{kind}, heads of {head_dim}");
        }
    }
}
