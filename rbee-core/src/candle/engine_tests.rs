//! The thread and its interface, with models that misbehave instead of the bundled one.

use std::{
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use rbee_decoder::{
    backend::{CacheShape, CacheType},
    model::Model,
    part::Part,
};

use super::*;
use crate::{
    candle::golden_tests::bundled_engine,
    id::{CorrelationId, JobId},
    job::Job,
    priority::Priority,
    task::{Prompt, Sampling, Task},
    worker::Resume,
};

/// Reports each call, and follows its orders.
#[derive(Debug)]
struct Puppet {
    orders: Mutex<Receiver<Order>>,
    /// The last field, so that when this channel ends everything else has been dropped.
    calls: Sender<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    GoOn,
    Panic,
    NotANumber,
}

impl Model for Puppet {
    fn vocab(&self) -> usize {
        1024
    }

    fn cache(&self) -> CacheShape {
        CacheShape { kind: CacheType::F16, layers: 1, blocks: 64, kv_heads: 1, head_dim: 32 }
    }

    fn step(&mut self, parts: &[Part<'_>], logits: &mut Vec<f32>) -> candle_core::Result<()> {
        let _ = self.calls.send(parts.iter().map(|part| part.tokens.len()).sum());
        let order = self.orders.lock().unwrap_or_else(|poison| poison.into_inner()).recv();
        let logit = match order.unwrap_or(Order::GoOn) {
            Order::GoOn => 0.0,
            Order::Panic => panic!("the strings are tangled"),
            Order::NotANumber => f32::NAN,
        };
        logits.resize(parts.iter().filter(|part| part.logits).count() * self.vocab(), logit);
        Ok(())
    }
}

/// An engine with such a model: its interface, the model's reports, and the sender of orders.
async fn puppet() -> (Handle, Receiver<usize>, Sender<Order>) {
    let (calls, told) = channel();
    let (strings, orders) = channel();
    let load = move |_: &dyn Fn() -> bool| {
        let mut engine = bundled_engine();
        engine.model = Box::new(Puppet { calls, orders: Mutex::new(orders) });
        Ok((Engine::Text(Box::new(engine)), ()))
    };
    let (handle, ()) = Handle::start(1, 1, load).await.unwrap();
    (handle, told, strings)
}

fn run(prompt: &str, most: u32) -> Run {
    let sampling = Sampling { max_tokens: Some(most), temperature: 0.0, ..Sampling::default() };
    let job = Job {
        id: JobId::random(),
        model: "bee-tiny".parse().unwrap(),
        priority: Priority::Interactive,
        task: Task::Generate { prompt: Prompt::Text(prompt.into()), sampling },
        seed: 1,
        prefix: [].into(),
        timeout: Duration::from_secs(1),
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

async fn last(mut outputs: mpsc::Receiver<Result<Output>>) -> Result<Output> {
    let mut last = None;
    while let Some(output) = outputs.recv().await {
        last = Some(output);
    }
    last.expect("an end")
}

#[tokio::test]
async fn a_panic_in_a_step_is_a_fault_of_that_run_alone() {
    let (handle, _told, strings) = puppet().await;
    for (order, said) in
        [(Order::Panic, "the strings are tangled"), (Order::NotANumber, "the logit of token 0")]
    {
        strings.send(order).unwrap();
        let error = last(handle.execute(run("x", 3)).await.unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WorkerFault);
        assert!(error.message().contains(said), "{error}");
        assert!(handle.busy() == 0 && handle.is_alive());
    }
    (0..3).for_each(|_| strings.send(Order::GoOn).unwrap());
    assert!(matches!(
        last(handle.execute(run("x", 3)).await.unwrap()).await,
        Ok(Output::End { .. })
    ));
}

#[tokio::test]
async fn a_dropped_stream_ends_a_long_prompt_between_two_chunks_and_is_busy_until_then() {
    let (handle, told, strings) = puppet().await;
    let long = "q7".repeat(130);
    let outputs = handle.execute(run(&long, 3)).await.unwrap();
    let bound = Duration::from_secs(10);
    assert_eq!(told.recv_timeout(bound), Ok(32));
    drop(outputs);
    assert_eq!(handle.busy(), 1, "the thread is still at the chunk");
    assert_eq!(handle.execute(run("x", 1)).await.unwrap_err().kind(), ErrorKind::WorkerBusy);
    strings.send(Order::GoOn).unwrap();
    let free = async {
        while handle.busy() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(bound, free).await.expect("the slot was not given back");
    // The next call belongs to the next run, so the second chunk was never begun.
    strings.send(Order::GoOn).unwrap();
    last(handle.execute(run("x", 1)).await.unwrap()).await.unwrap();
    assert_eq!(told.recv_timeout(bound), Ok(2));
}

#[tokio::test]
async fn dropping_the_door_ends_the_thread_and_frees_the_model() {
    let (handle, told, strings) = puppet().await;
    let outputs = handle.execute(run("x", 3)).await.unwrap();
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    drop(handle);
    strings.send(Order::GoOn).unwrap();
    assert_eq!(last(outputs).await.unwrap_err().kind(), ErrorKind::WorkerLost);
    // The model held the other end.
    assert!(told.recv_timeout(Duration::from_secs(10)).is_err());
    assert!(strings.send(Order::GoOn).is_err());
}

#[tokio::test]
async fn dropping_the_door_ends_a_run_that_waits_for_its_reader() {
    let (handle, told, strings) = puppet().await;
    (0..40).for_each(|_| strings.send(Order::GoOn).unwrap());
    let outputs = handle.execute(run("x", 30)).await.unwrap();
    // The prompt, and as many tokens as the buffer holds in addition to the metrics; nobody reads them.
    for _ in 0..OUTPUTS {
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    drop(handle);
    let ended = told.recv_timeout(Duration::from_secs(10));
    assert_eq!(ended, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(last(outputs).await.unwrap_err().kind(), ErrorKind::WorkerLost);
}

#[tokio::test]
async fn a_panic_while_loading_is_an_error() {
    let load = |_: &dyn Fn() -> bool| -> Loaded<(Engine, ())> { panic!("no such luck") };
    let error = Error::from(Handle::start(1, 1, load).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
    assert!(error.message().contains("no such luck"), "{error}");
}
