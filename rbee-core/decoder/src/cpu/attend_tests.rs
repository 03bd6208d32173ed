use super::*;
use crate::{
    backend::CacheShape,
    cpu::testing::{bits, numbers},
    rng::Rng,
};

/// A model's attention, and the queries, keys and values of some sequences.
struct Case {
    kind: CacheType,
    spec: Attention,
    sequences: Vec<Sequence>,
    /// The blocks of its cache; two are free.
    blocks: usize,
}

#[derive(Clone)]
struct Sequence {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    len: usize,
    blocks: Vec<u32>,
}

impl Case {
    fn new(rng: &mut Rng, kind: CacheType, spec: Attention, lens: &[usize]) -> Self {
        let blocks = lens.iter().map(|len| len.div_ceil(BLOCK)).sum::<usize>() + 2;
        let mut free: Vec<u32> = (0..blocks as u32).collect();
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
        Self { kind, spec, sequences, blocks }
    }

    /// A cache in which nothing may be read that was not stored.
    fn cache(&self) -> Cache {
        let Attention { kv_heads, head_dim, .. } = self.spec;
        let blocks = self.blocks;
        let shape = CacheShape { kind: self.kind, layers: 2, blocks, kv_heads, head_dim };
        let mut cache = Cache::new(&shape).expect("a small cache");
        let tokens = vec![0; blocks * BLOCK];
        let blocks: Vec<u32> = (0..blocks as u32).collect();
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

    /// Stores a sequence's first keys and values, without attention.
    fn store(&self, cache: &mut Cache, index: usize, count: usize) {
        let width = self.spec.kv_heads * self.spec.head_dim;
        let sequence = &self.sequences[index];
        let rows = |data: &[f32]| Rows { data: data[..count * width].to_vec(), width };
        let tokens = vec![0; count];
        let part = Part { tokens: &tokens, start: 0, blocks: &sequence.blocks, logits: false };
        let (k, v) = (rows(&sequence.k), rows(&sequence.v));
        cache.store(Isa::best(), 1, &[part], &k, &v).expect("room for all tokens");
    }

    /// All tokens of a sequence in one step.
    fn prefill(&self, isa: Isa, index: usize) -> Vec<f32> {
        let step = vec![(index, self.sequences[index].len)];
        self.compute(isa, &[step]).swap_remove(index)
    }

    /// The definition, in 64 bits, of exact keys and values.
    fn exact(&self, index: usize) -> Vec<f64> {
        (0..self.sequences[index].len).flat_map(|p| self.exact_row(index, p)).collect()
    }

    /// That of one token.
    fn exact_row(&self, index: usize, p: usize) -> Vec<f64> {
        let Attention { heads, kv_heads, head_dim, scale, softcap, window } = self.spec;
        let sequence = &self.sequences[index];
        let (query, key) = (heads * head_dim, kv_heads * head_dim);
        let mut out = Vec::new();
        for head in 0..heads {
            let kv = head / (heads / kv_heads) * head_dim;
            let q = &sequence.q[p * query + head * head_dim..][..head_dim];
            let first = window.map_or(0, |window| (p + 1).saturating_sub(window));
            let score = |t: usize| {
                let k = &sequence.k[t * key + kv..][..head_dim];
                let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
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
        (3, 1, 96, Some(20), None),
        (8, 1, 64, Some(34), None),
        (7, 1, 40, Some(1), None),
        (5, 1, 34, None, None),
        (2, 1, 256, Some(32), Some(30.0)),
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
        let mut case = Case::new(&mut rng, CacheType::F32, spec, &[40]);
        let exact = case.exact(0);
        for (kind, allowed) in
            [(CacheType::F32, 2e-6), (CacheType::F16, 4e-3), (CacheType::Q8, 6e-2)]
        {
            case.kind = kind;
            let found = case.prefill(Isa::best(), 0);
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
            let case = Case::new(&mut rng, kind, spec, &[37]);
            let last = |isa| {
                let mut cache = case.cache();
                case.store(&mut cache, 0, 34);
                let mut outputs = [Vec::new()];
                case.step(isa, &mut cache, &[(0, 3)], &mut [34], &mut outputs);
                bits(&outputs[0])
            };
            let expected = last(Isa::Portable);
            for isa in Isa::available() {
                assert!(last(isa) == expected, "{kind:?} {spec:?} {isa:?}");
            }
        }
    }
}

#[test]
fn attention_does_not_depend_on_how_a_sequence_is_divided_into_steps_or_on_other_sequences() {
    let mut rng = Rng::new(12);
    let lens = [45, 34, 5];
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
                let count = (rng.below(30) as usize).min(left[index]);
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
        let compute = |threads, steps: &[Vec<(usize, usize)>]| {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let mut cache = case.cache();
            case.store(&mut cache, 0, 1270);
            let (mut done, mut outputs) = (vec![1270, 0], vec![Vec::new(), Vec::new()]);
            pool.install(|| {
                for step in steps {
                    case.step(Isa::best(), &mut cache, step, &mut done, &mut outputs);
                }
            });
            outputs
        };
        let steps = [vec![(0, 11), (1, 39)], vec![(0, 18), (1, 1)], vec![(0, 1)]];
        let expected = compute(1, &steps);
        let found = compute(16, &steps);
        for index in 0..2 {
            assert!(bits(&found[index]) == bits(&expected[index]), "window {window:?}");
        }
        let at_once = compute(3, &[vec![(0, 30)]]);
        assert!(bits(&at_once[0]) == bits(&expected[0]));
        let exact = case.exact_row(0, 1299);
        let error = |(found, exact): (&f32, &f64)| (f64::from(*found) - exact).abs();
        let found = &expected[0][29 * 128..];
        assert!(found.iter().zip(&exact).map(error).fold(0.0, f64::max) < 4e-3);
    }
}

/// The attention of the last token of the only sequence, whose other tokens are stored before.
fn last(case: &Case) -> Vec<f32> {
    let before = case.sequences[0].len - 1;
    let mut cache = case.cache();
    case.store(&mut cache, 0, before);
    let mut outputs = [Vec::new()];
    case.step(Isa::best(), &mut cache, &[(0, 1)], &mut [before], &mut outputs);
    let [output] = outputs;
    output
}

#[test]
fn a_score_far_above_all_others_gives_its_value_alone_wherever_it_is() {
    const LEN: usize = 1_060;
    let mut case = Case::new(&mut Rng::new(16), CacheType::F32, spec(2, 1, 32), &[LEN]);
    case.sequences[0].q.fill(30.0);
    // In the first, another and the last block of a segment, and in each segment.
    for hot in [3, 40, 511, 520, 1_030, LEN - 1] {
        let sequence = &mut case.sequences[0];
        for (position, key) in sequence.k.chunks_mut(32).enumerate() {
            // The exponentials of the other scores, less the largest of them, are not small.
            key.fill(if position == hot { 5.0 } else { -5.0 + position as f32 * 1e-3 });
        }
        let expected = [&sequence.v[hot * 32..][..32]; 2].concat();
        assert_eq!(last(&case), expected, "{hot}");
    }
}

#[test]
fn nothing_before_a_window_is_read() {
    let windowed = Attention { window: Some(20), ..spec(2, 1, 32) };
    let mut case = Case::new(&mut Rng::new(17), CacheType::F32, windowed, &[60]);
    let expected = last(&case);
    let sequence = &mut case.sequences[0];
    // The window begins in the middle of a block.
    sequence.k[..40 * 32].fill(f32::NAN);
    sequence.v[..40 * 32].fill(f32::NAN);
    assert_eq!(bits(&last(&case)), bits(&expected));
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
    assert!(!refused(&[0, 2], 128, &good));
    assert!(refused(&[0], 128, &good), "the second block is missing");
    assert!(refused(&[0, 3], 128, &good), "there are three blocks");
    assert!(refused(&[0, 2], 96, &good), "rows have four heads");
    assert!(refused(&[0, 2], 96, &spec(3, 2, 32)), "three heads have no equal groups");
    assert!(refused(&[0, 2], 128, &spec(2, 2, 64)), "the cache has heads of 32");
    assert!(refused(&[0, 2], 128, &Attention { window: Some(0), ..good }));
}
