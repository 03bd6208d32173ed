//! Batches, poolings and cancellation, with an encoder that records its calls.

use std::sync::{Arc, Mutex};

use candle_core::Device;

use super::*;
use crate::model_info::Pooling;

/// The number of texts and tokens of each requested batch.
type Asked = Arc<Mutex<Vec<(usize, usize)>>>;

/// Returns the vector (id, minus id) for each token, and records the shapes of its calls.
#[derive(Debug, Default)]
struct Plain(Asked);

impl Encoder for Plain {
    fn encode(&self, texts: &[&[u32]]) -> candle_core::Result<Tensor> {
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        self.0.lock().unwrap().push((texts.len(), longest));
        let mut numbers = Vec::new();
        for text in texts {
            for at in 0..longest {
                // Padding is large, so that counting it is detected.
                let id = text.get(at).map_or(1e6, |id| *id as f32);
                numbers.extend([id, -id]);
            }
        }
        Tensor::from_vec(numbers, (texts.len(), longest, 2), &Device::Cpu)
    }
}

fn embedder(pooling: Pooling, normalize: bool) -> (Embedder, Asked) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert-tiny");
    let asked = Asked::default();
    let model = Plain(Arc::clone(&asked));
    let codec = Codec::load(std::path::Path::new(dir), 1_000, "").unwrap();
    let embedder = Embedder {
        model: Box::new(model),
        codec,
        pooling,
        normalize,
        longest: 1_000,
        vocab: 1_000,
        length: 2,
        shorter: Lengths::All,
    };
    (embedder, asked)
}

/// Takes outputs until this many batches were requested.
struct Until {
    asked: Asked,
    most: usize,
    outputs: Vec<Output>,
}

impl Sink for Until {
    fn put(&mut self, output: Output) -> bool {
        self.outputs.push(output);
        true
    }

    fn closed(&self) -> bool {
        self.asked.lock().unwrap().len() >= self.most
    }
}

fn vectors(embedder: &Embedder, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let plan = Plan { texts: texts.to_vec(), tokens: 0, length: 2 };
    let mut sink = Until { asked: Arc::default(), most: 1, outputs: Vec::new() };
    embedder.embed(&plan, &mut sink).unwrap().expect("an end");
    match sink.outputs.pop() {
        Some(Output::Vectors(vectors)) => vectors,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_pooling_sees_the_tokens_of_its_text_and_no_padding() {
    let texts = [vec![3, 9, 6], vec![5], vec![2, 4]];
    for (pooling, expected) in [
        (Pooling::Mean, [[6.0, -6.0], [5.0, -5.0], [3.0, -3.0]]),
        (Pooling::Cls, [[3.0, -3.0], [5.0, -5.0], [2.0, -2.0]]),
        (Pooling::Max, [[9.0, -3.0], [5.0, -5.0], [4.0, -2.0]]),
        (Pooling::Last, [[6.0, -6.0], [5.0, -5.0], [4.0, -4.0]]),
    ] {
        assert_eq!(vectors(&embedder(pooling, false).0, &texts), expected, "{pooling:?}");
    }
    let unit = vectors(&embedder(Pooling::Cls, true).0, &[vec![3], vec![0]]);
    assert!((unit[0][0] - 0.5_f32.sqrt()).abs() < 1e-6, "{unit:?}");
    assert_eq!(unit[1], [0.0, 0.0], "there is no division by zero");
}

#[test]
fn batches_are_of_like_lengths_and_bounded_and_the_order_is_that_of_the_texts() {
    let (embedder, asked) = embedder(Pooling::Cls, false);
    let texts: Vec<Vec<u32>> = (1..=90).map(|n| vec![n; 1 + (n as usize * 37) % 60]).collect();
    let made = vectors(&embedder, &texts);
    assert!(made.iter().zip(1..).all(|(vector, n)| vector[0] == n as f32), "{made:?}");
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().all(|(count, longest)| count * longest <= BATCH_TOKENS), "{asked:?}");
    assert!(asked.is_sorted_by_key(|(_, longest)| Reverse(*longest)), "{asked:?}");
    assert!(asked.len() < 8, "{asked:?}");
    assert_eq!(batches([2 * BATCH_TOKENS, 1].into_iter()), [vec![0], vec![1]]);
}

#[test]
fn nothing_more_is_computed_for_one_who_has_gone() {
    let (embedder, asked) = embedder(Pooling::Mean, true);
    let plan = Plan { texts: vec![vec![1; BATCH_TOKENS]; 5], tokens: 0, length: 2 };
    let mut sink = Until { asked: asked.clone(), most: 2, outputs: Vec::new() };
    assert!(embedder.embed(&plan, &mut sink).unwrap().is_none());
    assert_eq!(asked.lock().unwrap().len(), 2);
    assert!(sink.outputs.is_empty());
}
