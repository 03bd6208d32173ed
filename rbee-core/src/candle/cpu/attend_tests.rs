use super::*;
use crate::{
    candle::{
        cpu::testing::{bits, numbers},
        decoder::backend::CacheShape,
    },
    rng::Rng,
};

/// A model's attention, and the queries, keys and values of some sequences.
struct Case {
    kind: CacheType,
    spec: Attention,
    sequences: Vec<Sequence>,
}

#[derive(Clone)]
struct Sequence {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    len: usize,
    blocks: Vec<u32>,
}

const BLOCKS: usize = 128;

impl Case {
    fn new(rng: &mut Rng, kind: CacheType, spec: Attention, lens: &[usize]) -> Self {
        let mut free: Vec<u32> = (0..BLOCKS as u32).collect();
        let mut sequence = |len: usize| {
            let (query, key) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
            let mut block = || free.swap_remove(rng.below(free.len() as u64) as usize);
            let blocks = (0..len.div_ceil(BLOCK)).map(|_| block()).collect();
            let q = numbers(rng, len * query, 3.0);
            let k = numbers(rng, len * key, 3.0);
            let v = numbers(rng, len * key, 1.0);
            Sequence { q, k, v, len, blocks }
        };
        let sequences = lens.iter().map(|len| sequence(*len)).collect();
        Self { kind, spec, sequences }
    }

    /// A cache in which nothing may be read that was not stored.
    fn cache(&self) -> Cache {
        let Attention { kv_heads, head_dim, .. } = self.spec;
        let shape = CacheShape { kind: self.kind, layers: 2, blocks: BLOCKS, kv_heads, head_dim };
        let mut cache = Cache::new(&shape).expect("a small cache");
        let tokens = vec![0; BLOCKS * BLOCK];
        let blocks: Vec<u32> = (0..BLOCKS as u32).collect();
        let width = kv_heads * head_dim;
        let value = if self.kind == CacheType::Q8 { 1e6 } else { f32::NAN };
        let poison = Rows { data: vec![value; tokens.len() * width], width };
        let part = Part { tokens: &tokens, start: 0, blocks: &blocks, logits: false };
        cache.store(Isa::best(), 1, &[part], &poison, &poison).expect("the whole cache");
        cache
    }

    /// Computes steps: each has numbers of tokens of sequences. Returns the outputs of each sequence.
    fn compute(&self, isa: Isa, steps: &[Vec<(usize, usize)>]) -> Vec<Vec<f32>> {
        let mut done = vec![0; self.sequences.len()];
        let mut outputs = vec![Vec::new(); self.sequences.len()];
        let mut cache = self.cache();
        for step in steps {
            self.step(isa, &mut cache, step, &mut done, &mut outputs);
        }
        outputs
    }

    fn step(
        &self,
        isa: Isa,
        cache: &mut Cache,
        step: &[(usize, usize)],
        done: &mut [usize],
        outputs: &mut [Vec<f32>],
    ) {
        let (query, key) =
            (self.spec.heads * self.spec.head_dim, self.spec.kv_heads * self.spec.head_dim);
        let tokens = vec![0; 2048];
        let mut q = Rows { data: Vec::new(), width: query };
        let [mut k, mut v] = [(), ()].map(|()| Rows { data: Vec::new(), width: key });
        let mut parts = Vec::new();
        for &(index, count) in step {
            let sequence = &self.sequences[index];
            let start = done[index];
            let end = start + count;
            q.data.extend(&sequence.q[start * query..end * query]);
            k.data.extend(&sequence.k[start * key..end * key]);
            v.data.extend(&sequence.v[start * key..end * key]);
            let tokens = &tokens[..count];
            parts.push(Part { tokens, start, blocks: &sequence.blocks, logits: false });
            done[index] = end;
        }
        cache.store(isa, 1, &parts, &k, &v).expect("room for all tokens");
        let mut out = Rows::default();
        attend(isa, cache, 1, &parts, &q, &self.spec, &mut out).expect("attention");
        let mut rows = out.data.as_slice();
        for &(index, count) in step {
            let (of_part, rest) = rows.split_at(count * query);
            outputs[index].extend(of_part);
            rows = rest;
        }
    }

    /// All tokens of a sequence in one step.
    fn prefill(&self, isa: Isa, index: usize) -> Vec<f32> {
        let step = vec![(index, self.sequences[index].len)];
        self.compute(isa, &[step]).swap_remove(index)
    }

    /// The definition, in 64 bits, of exact keys and values.
    fn exact(&self, index: usize) -> Vec<f64> {
        let Attention { heads, kv_heads, head_dim, scale, softcap, window } = self.spec;
        let sequence = &self.sequences[index];
        let (query, key) = (heads * head_dim, kv_heads * head_dim);
        let mut out = Vec::new();
        for p in 0..sequence.len {
            for head in 0..heads {
                let kv = head / (heads / kv_heads) * head_dim;
                let q = &sequence.q[p * query + head * head_dim..][..head_dim];
                let first = window.map_or(0, |window| (p + 1).saturating_sub(window));
                let score = |t: usize| {
                    let k = &sequence.k[t * key + kv..][..head_dim];
                    let dot: f64 =
                        q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                    let score = dot * f64::from(scale);
                    softcap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh())
                };
                let weights: Vec<f64> = (first..=p).map(|t| score(t).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let value = |t: usize| f64::from(sequence.v[t * key + kv + d]);
                    let total: f64 =
                        weights.iter().enumerate().map(|(i, w)| w * value(first + i)).sum();
                    out.push(total / sum);
                }
            }
        }
        out
    }
}

fn spec(heads: usize, kv_heads: usize, head_dim: usize) -> Attention {
    let scale = (head_dim as f32).sqrt().recip();
    Attention { heads, kv_heads, head_dim, scale, softcap: None, window: None }
}

/// Shapes of all kinds: query heads, heads of keys, their width, window, soft cap.
fn specs() -> Vec<Attention> {
    [
        (1, 1, 32, None, None),
        (4, 2, 80, None, Some(20.0)),
        (3, 1, 96, Some(33), None),
        (8, 1, 64, Some(70), None),
        (7, 1, 40, Some(1), None),
        (5, 1, 34, None, None),
        (2, 1, 256, Some(64), Some(30.0)),
        (2, 2, 128, None, None),
    ]
    .into_iter()
    .map(|(heads, kv_heads, head_dim, window, softcap)| Attention {
        window,
        softcap,
        ..spec(heads, kv_heads, head_dim)
    })
    .collect()
}

#[test]
fn attention_is_close_to_its_definition() {
    let mut rng = Rng::new(10);
    for spec in specs() {
        for (kind, allowed) in
            [(CacheType::F32, 2e-6), (CacheType::F16, 4e-3), (CacheType::Q8, 6e-2)]
        {
            let case = Case::new(&mut rng, kind, spec, &[75]);
            let found = case.prefill(Isa::best(), 0);
            let exact = case.exact(0);
            assert_eq!(found.len(), exact.len());
            let error = |(found, exact): (&f32, &f64)| (f64::from(*found) - exact).abs();
            let worst = found.iter().zip(&exact).map(error).fold(0.0, f64::max);
            assert!(worst <= allowed, "{kind:?} {spec:?}: {worst}");
            assert!(found.iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn attention_has_the_same_bits_with_every_instruction_set() {
    let mut rng = Rng::new(11);
    for spec in specs() {
        for kind in [CacheType::F32, CacheType::F16, CacheType::Q8] {
            let case = Case::new(&mut rng, kind, spec, &[70]);
            let expected = bits(&case.prefill(Isa::Portable, 0));
            for isa in Isa::available() {
                assert!(bits(&case.prefill(isa, 0)) == expected, "{kind:?} {spec:?} {isa:?}");
            }
        }
    }
}

#[test]
fn attention_does_not_depend_on_how_a_sequence_is_divided_into_steps_or_on_other_sequences() {
    let mut rng = Rng::new(12);
    let lens = [99, 70, 5];
    for (i, spec) in specs().into_iter().enumerate() {
        let kind = [CacheType::F16, CacheType::Q8, CacheType::F32][i % 3];
        let case = Case::new(&mut rng, kind, spec, &lens);
        let isa = Isa::best();
        let expected: Vec<Vec<f32>> = (0..3).map(|index| case.prefill(isa, index)).collect();
        let decode = (0..99)
            .map(|t| (0..3).filter(|index| t < lens[*index]).map(|index| (index, 1)).collect());
        let mut chunks = Vec::new();
        let mut left = lens;
        while left != [0; 3] {
            let mut step = Vec::new();
            for index in [2, 0, 1] {
                let count = (rng.below(40) as usize).min(left[index]);
                if count > 0 {
                    step.push((index, count));
                    left[index] -= count;
                }
            }
            chunks.push(step);
        }
        chunks.retain(|step| !step.is_empty());
        for steps in [decode.collect(), chunks] {
            let found = case.compute(isa, &steps);
            for (index, expected) in expected.iter().enumerate() {
                let same = bits(&found[index]) == bits(expected);
                assert!(same, "{kind:?} {spec:?} sequence {index}");
            }
        }
    }
}

#[test]
fn sequences_share_the_blocks_of_a_common_start() {
    let mut rng = Rng::new(13);
    let mut case = Case::new(&mut rng, CacheType::F16, spec(4, 2, 32), &[80, 90]);
    let expected = {
        let [first, second] = &mut case.sequences[..] else { panic!("two sequences") };
        for (from, to) in [(&first.q, &mut second.q), (&first.k, &mut second.k)] {
            let shared = to.len() / 90 * 64;
            to[..shared].copy_from_slice(&from[..shared]);
        }
        second.v[..64 * 64].copy_from_slice(&first.v[..64 * 64]);
        case.prefill(Isa::best(), 1)
    };
    let shared: Vec<u32> = case.sequences[0].blocks[..2].to_vec();
    case.sequences[1].blocks[..2].copy_from_slice(&shared);
    let (mut done, mut outputs) = (vec![0, 64], vec![Vec::new(), Vec::new()]);
    let mut cache = case.cache();
    case.step(Isa::best(), &mut cache, &[(0, 80)], &mut done, &mut outputs);
    case.step(Isa::best(), &mut cache, &[(1, 26)], &mut done, &mut outputs);
    assert!(bits(&outputs[1]) == bits(&expected[64 * 128..]));
}

#[test]
fn segments_on_several_threads_change_no_bits() {
    let mut rng = Rng::new(14);
    for window in [None, Some(700)] {
        let spec = Attention { window, ..spec(4, 1, 32) };
        let case = Case::new(&mut rng, CacheType::F16, spec, &[1300, 40]);
        let steps = [vec![(0, 500), (1, 39)], vec![(0, 780)], vec![(0, 19), (1, 1)], vec![(0, 1)]];
        let compute = |threads| {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| case.compute(Isa::best(), &steps))
        };
        let expected = compute(1);
        let last = case.exact(0);
        let last = &last[1299 * 128..];
        let error = |(found, exact): (&f32, &f64)| (f64::from(*found) - exact).abs();
        let found = &expected[0][1299 * 128..];
        assert!(found.iter().zip(last).map(error).fold(0.0, f64::max) < 4e-3);
        for threads in [2, 5, 16] {
            let found = compute(threads);
            for index in 0..2 {
                assert!(bits(&found[index]) == bits(&expected[index]), "{threads} threads");
            }
        }
    }
}

#[test]
fn a_step_that_does_not_fit_its_cache_is_refused() {
    let mut rng = Rng::new(15);
    let case = Case::new(&mut rng, CacheType::F16, spec(4, 2, 32), &[3]);
    let cache = case.cache();
    let tokens = [0; 3];
    let refused = |blocks: &[u32], width: usize, spec: &Attention| {
        let q = Rows { data: vec![0.0; 3 * width], width };
        let part = Part { tokens: &tokens, start: 31, blocks, logits: false };
        attend(Isa::best(), &cache, 0, &[part], &q, spec, &mut Rows::default()).is_err()
    };
    let good = spec(4, 2, 32);
    assert!(!refused(&[0, 127], 128, &good));
    assert!(refused(&[0], 128, &good), "the second block is missing");
    assert!(refused(&[0, 128], 128, &good), "there are 128 blocks");
    assert!(refused(&[0, 127], 96, &good), "rows have four heads");
    assert!(refused(&[0, 127], 96, &spec(3, 2, 32)), "three heads have no equal groups");
    assert!(refused(&[0, 127], 128, &spec(2, 2, 64)), "the cache has heads of 32");
    assert!(refused(&[0, 127], 128, &Attention { window: Some(0), ..good }));
}
