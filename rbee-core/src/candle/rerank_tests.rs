//! Cutting, batches and cancellation, with a scorer that records its calls.

use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    id::{CorrelationId, JobId},
    job::Job,
    priority::Priority,
    worker::Resume,
};

/// The number of pairs and tokens of each requested batch.
type Asked = Arc<Mutex<Vec<(usize, usize)>>>;

/// Scores a pair by its length, and records the shapes of its calls.
#[derive(Debug, Default)]
struct Lengths(Asked);

impl PairScorer for Lengths {
    fn logits(&self, pairs: &[&Pair]) -> candle_core::Result<Vec<f32>> {
        let longest = pairs.iter().map(|pair| pair.ids.len()).max().unwrap_or(0);
        self.0.lock().unwrap().push((pairs.len(), longest));
        Ok(pairs.iter().map(|pair| pair.ids.len() as f32).collect())
    }
}

fn reranker(longest: usize) -> (Reranker, Asked) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bert-reranker-tiny");
    let asked = Asked::default();
    let model = Lengths(Arc::clone(&asked));
    let codec = Codec::load(std::path::Path::new(dir), 96, "").unwrap();
    let function = ScoreFunction::Identity;
    (Reranker { model: Box::new(model), codec, function, longest }, asked)
}

fn run(query: &str, documents: impl IntoIterator<Item = String>) -> Run {
    let job = Job {
        id: JobId::random(),
        model: "bee".parse().unwrap(),
        priority: Priority::Interactive,
        task: Task::rerank(query, documents),
        seed: 1,
        prefix: [].into(),
        timeout: std::time::Duration::from_secs(1),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    };
    Run { job: Arc::new(job), attempt: 1, resume: Resume::default() }
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

#[test]
fn only_the_document_is_cut_and_only_if_the_pair_is_too_long() {
    let (reranker, _) = reranker(10);
    // [CLS] the bee [SEP] … [SEP]: there is room for five tokens of a document.
    let documents = ["lily", "is in the hive and honey", ""].map(str::to_owned);
    let plan = reranker.plan(&run("the bee", documents)).unwrap();
    let id = |token: &str| reranker.codec.id(token).unwrap();
    let ids = |tokens: &str| tokens.split(' ').map(id).collect::<Vec<_>>();
    assert_eq!(plan.pairs[0].ids, ids("[CLS] the bee [SEP] lily [SEP]"));
    assert_eq!(plan.pairs[0].types, [0, 0, 0, 0, 1, 1]);
    assert_eq!(plan.pairs[1].ids, ids("[CLS] the bee [SEP] is in the hive and [SEP]"));
    assert_eq!(plan.pairs[1].types, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    assert_eq!(plan.pairs[2].ids, ids("[CLS] the bee [SEP] [SEP]"));
    assert_eq!(plan.tokens, 6 + 10 + 5);
}

#[test]
fn a_query_that_leaves_no_room_is_refused_with_both_lengths() {
    let (reranker, _) = reranker(10);
    let document = || ["honey".to_owned()];
    // Six tokens leave room for one of the document, seven for none.
    let query = |tokens: usize| "bee ".repeat(tokens);
    assert!(reranker.plan(&run(&query(6), document())).is_ok());
    let error = reranker.plan(&run(&query(7), document())).unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::ContextExceeded, Some("query")));
    let told = "This model's maximum context length is 10 tokens, however you requested 11 tokens";
    assert!(error.message().starts_with(told), "{error}");
}

#[test]
fn the_text_of_a_control_token_in_a_document_is_text() {
    let (reranker, _) = reranker(30);
    let plan = reranker.plan(&run("bee", ["honey [SEP] lily".to_owned()])).unwrap();
    let separator = reranker.codec.id("[SEP]").unwrap();
    let count = plan.pairs[0].ids.iter().filter(|id| **id == separator).count();
    assert_eq!(count, 2, "only those of the template");
}

#[test]
fn batches_are_bounded_and_the_order_is_that_of_the_documents() {
    let (reranker, asked) = reranker(100);
    let lengths: Vec<usize> = (1..=90).map(|n| 1 + (n * 37) % 60).collect();
    let documents = lengths.iter().map(|length| "bee ".repeat(*length));
    let plan = reranker.plan(&run("lily", documents)).unwrap();
    let mut sink = Until { asked: Arc::default(), most: 1, outputs: Vec::new() };
    reranker.rerank(&plan, &mut sink).unwrap().expect("an end");
    let Some(Output::Vectors(vectors)) = sink.outputs.pop() else { panic!("no scores") };
    let expected: Vec<f32> = lengths.iter().map(|length| (length + 4) as f32).collect();
    assert_eq!(vectors, [expected]);
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().all(|(count, longest)| count * longest <= BATCH_TOKENS), "{asked:?}");
    assert!((2..12).contains(&asked.len()), "{asked:?}");
}

#[test]
fn nothing_more_is_computed_for_one_who_has_gone() {
    let (reranker, asked) = reranker(BATCH_TOKENS);
    let documents = (0..5).map(|_| "bee ".repeat(BATCH_TOKENS));
    let plan = reranker.plan(&run("lily", documents)).unwrap();
    let mut sink = Until { asked: asked.clone(), most: 2, outputs: Vec::new() };
    assert!(reranker.rerank(&plan, &mut sink).unwrap().is_none());
    assert_eq!(asked.lock().unwrap().len(), 2);
    assert!(sink.outputs.is_empty());
}
