use super::*;
use crate::{cpu::testing::numbers, rng::Rng};

/// Decodes what is stored for a token.
struct Decode<'a> {
    cache: &'a Cache,
    offset: usize,
    token: usize,
}

impl Decode<'_> {
    fn numbers<S: Simd, E: Element>(&self, s: S, _: E) -> (Vec<f32>, Vec<f32>) {
        let mut scales = Scales::default();
        let tile = E::tile(s, self.cache, self.offset, &mut scales);
        let (half, lane) = (self.token / LANES, self.token % LANES);
        let mut lanes = [0.0; LANES];
        let head_dim = self.cache.shape.head_dim;
        let (mut k, mut v) = (Vec::new(), Vec::new());
        for d in 0..head_dim {
            let scales = tile.key_scales(s, d / GROUP, half);
            s.store(tile.keys(s, d, half, scales), &mut lanes);
            k.push(lanes[lane]);
        }
        for column in 0..self.cache.layout.columns {
            s.store(tile.values(s, self.token, column), &mut lanes);
            v.extend(lanes);
        }
        v.truncate(head_dim);
        (k, v)
    }
}

impl Kernel for Decode<'_> {
    type Out = (Vec<f32>, Vec<f32>);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Out {
        match self.cache.shape.kind {
            CacheType::F32 => self.numbers(s, F32),
            CacheType::F16 => self.numbers(s, F16),
            CacheType::Q8 => self.numbers(s, Q8),
        }
    }
}

fn shape(kind: CacheType, head_dim: usize) -> CacheShape {
    CacheShape { kind, layers: 2, blocks: 5, kv_heads: 3, head_dim }
}

#[test]
fn a_token_is_stored_at_its_place_as_exactly_as_its_type_allows() {
    let mut rng = Rng::new(8);
    for (kind, head_dim) in [CacheType::F32, CacheType::F16, CacheType::Q8]
        .into_iter()
        .flat_map(|kind| [32, 40, 80, 96, 2].map(|head_dim| (kind, head_dim)))
    {
        let mut cache = Cache::new(&shape(kind, head_dim)).expect("a small cache");
        let width = 3 * head_dim;
        let rows = 37;
        let [k, v] = [(), ()].map(|()| Rows { data: numbers(&mut rng, rows * width, 4.0), width });
        let tokens = vec![0; rows];
        let part = Part { tokens: &tokens, start: 20, blocks: &[4, 1], logits: false };
        cache.store(Isa::best(), 1, &[part], &k, &v).expect("room for 57 positions");
        let mut first = None;
        for isa in Isa::available() {
            let mut all = Vec::new();
            for row in 0..rows {
                let position = 20 + row;
                for head in 0..3 {
                    let offset = cache.offset(1, [4, 1][position / BLOCK], head);
                    let token = position % BLOCK;
                    let (keys, values) = isa.run(Decode { cache: &cache, offset, token });
                    let start = row * width + head * head_dim;
                    close(kind, &k.data[start..start + head_dim], &keys);
                    close(kind, &v.data[start..start + head_dim], &values);
                    all.extend(keys.into_iter().chain(values));
                }
            }
            assert!(*first.get_or_insert_with(|| all.clone()) == all, "{isa:?}");
        }
    }
}

fn close(kind: CacheType, stored: &[f32], found: &[f32]) {
    for (stored, found) in stored.chunks(GROUP).zip(found.chunks(GROUP)) {
        let largest = stored.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        for (stored, found) in stored.iter().zip(found) {
            match kind {
                CacheType::F32 => assert_eq!(stored, found),
                CacheType::F16 => assert_eq!(f16_value(f16_bits(*stored)), *found),
                CacheType::Q8 => {
                    let step = largest / 127.0;
                    assert!((stored - found).abs() <= step * 0.57, "{stored} {found} {step}");
                }
            }
        }
    }
}

#[test]
fn the_same_bytes_are_stored_with_every_instruction_set() {
    let mut rng = Rng::new(9);
    for kind in [CacheType::F16, CacheType::Q8] {
        let [mut k, v] = [(), ()].map(|()| Rows { data: numbers(&mut rng, 240, 4.0), width: 240 });
        k.data[..5].copy_from_slice(&[1e6, -7e7, 1e-9, 0.0, 70_000.0]);
        k.data[80..160].fill(1e-12);
        let part = Part { tokens: &[0], start: 0, blocks: &[0], logits: false };
        let bytes = |isa| {
            let mut cache = Cache::new(&shape(kind, 80)).expect("a small cache");
            cache.store(isa, 0, &[part], &k, &v).expect("room for a token");
            cache.memory.slice::<i8>(0, 3 * cache.layout.bytes).to_vec()
        };
        let expected = bytes(Isa::Portable);
        assert!(expected.iter().any(|byte| *byte != 0));
        for isa in Isa::available() {
            assert!(bytes(isa) == expected, "{kind:?} with {isa:?}");
        }
    }
}

#[test]
fn the_shape_tells_the_size() {
    for kind in [CacheType::F32, CacheType::F16, CacheType::Q8] {
        for head_dim in [2, 40, 64, 80, 256] {
            let shape = shape(kind, head_dim);
            let cache = Cache::new(&shape).expect("a small cache");
            assert_eq!(cache.layout.bytes * shape.layers * shape.kv_heads, shape.block_bytes());
        }
    }
    let bits = |kind| CacheShape { layers: 1, kv_heads: 1, ..shape(kind, 64) }.block_bytes();
    assert_eq!(bits(CacheType::F16), 2 * 32 * 64 * 2);
    assert_eq!(bits(CacheType::Q8), 2 * 32 * 2 * 34);
}

#[test]
fn a_cache_that_no_memory_holds_is_refused() {
    let fault = |blocks, head_dim| {
        let shape = CacheShape { blocks, ..shape(CacheType::F16, head_dim) };
        Cache::new(&shape).expect_err("no such cache").to_string()
    };
    assert!(fault(1 << 58, 64).contains("too large"), "{}", fault(1 << 58, 64));
    assert!(fault(1 << 45, 64).contains("no memory for"), "{}", fault(1 << 45, 64));
    assert!(fault(1, 7).contains("heads of 7"));
    assert!(fault(1, 0).contains("heads of 0"));
}

#[cfg(target_os = "linux")]
#[test]
fn an_unused_cache_takes_no_memory() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("the pages of this process");
        pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0_usize) * 4096
    };
    let before = resident();
    let shape = CacheShape { blocks: 1 << 15, ..shape(CacheType::F16, 128) };
    let cache = Cache::new(&shape).expect("3 GB of addresses");
    assert_eq!(shape.block_bytes() * shape.blocks, 3 << 30);
    let offset = cache.offset(1, (1 << 15) - 1, 2);
    assert!(cache.memory.slice::<u16>(offset, 4096).iter().all(|number| *number == 0));
    assert!(resident().saturating_sub(before) < 1 << 30);
}

#[test]
fn tokens_without_a_place_are_refused() {
    let mut cache = Cache::new(&shape(CacheType::F16, 32)).expect("a small cache");
    let mut store = |layer, start, blocks: &[u32], rows: usize, width: usize| {
        let k = Rows { data: vec![0.0; rows * width], width };
        let part = Part { tokens: &[0, 0], start, blocks, logits: false };
        cache.store(Isa::best(), layer, &[part], &k, &k).is_ok()
    };
    assert!(store(1, 30, &[0], 2, 96));
    assert!(!store(2, 30, &[0], 2, 96), "there are two layers");
    assert!(!store(1, 31, &[0], 2, 96), "the second token is in a second block");
    assert!(!store(1, 30, &[5], 2, 96), "there are five blocks");
    assert!(!store(1, usize::MAX, &[0], 2, 96));
    assert!(!store(1, 30, &[0], 3, 96), "there are two tokens");
    assert!(!store(1, 30, &[0], 2, 64), "there are three heads");
}
