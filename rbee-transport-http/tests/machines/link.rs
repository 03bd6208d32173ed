//! A worker behind the framed link passes the tests of a worker, and the runs of a link do not disturb each other.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all};
use rbee_core::{
    ErrorKind, JobId, Output, Run, Worker,
    conformance::{self, worker::Subject},
    request::Prompt,
    worker::{EchoFault, EchoGate, EchoWorker},
};
use rbee_transport_http::{
    Token,
    client::{self, LinkWorker},
    server, wire,
};

use super::support::{Daemon, run, token};

mod flow;
mod loss;
mod pipes;
mod protocol;
mod queen;
mod raw;

async fn link(daemon: &Daemon) -> LinkWorker {
    LinkWorker::connect(daemon.endpoint(Some(token()))).await.unwrap()
}

async fn serve(echo: &Arc<EchoWorker>) -> Daemon {
    Daemon::serve(server::worker(echo.clone(), token())).await
}

/// Waits until this many runs are active on the worker.
async fn until_active(echo: &EchoWorker, runs: u32) {
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, echo.until_active(runs)).await.expect("the worker gets there");
}

#[tokio::test]
async fn a_worker_behind_a_link_keeps_the_contract_of_a_worker() {
    let echo = EchoWorker::builder("echo".parse().unwrap())
        .slots(4)
        .token_delay(Duration::from_millis(2))
        .build();
    let daemon = serve(&echo).await;
    let worker = Arc::new(link(&daemon).await);
    let prompt = Prompt::Text("one two three four five six seven eight".repeat(8));
    conformance::worker::check(&Subject::new(worker, prompt)).await;
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_its_run_also_before_the_first_token() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let daemon = serve(&echo).await;
    let worker = link(&daemon).await;
    let stream = worker.execute(run(4)).await.unwrap();
    assert_eq!(echo.active(), 1);
    drop(stream);
    until_active(&echo, 0).await;
}

#[tokio::test]
async fn a_run_that_is_given_up_before_it_is_accepted_frees_its_slot() {
    let echo = EchoWorker::builder("echo".parse().unwrap())
        .fault_times(EchoFault::HangInExecute, 1)
        .build();
    let daemon = serve(&echo).await;
    let worker = link(&daemon).await;
    let begun = tokio::spawn({
        let worker = worker.clone();
        async move { worker.execute(run(4)).await.map(drop) }
    });
    until_active(&echo, 1).await;
    begun.abort();
    until_active(&echo, 0).await;
    assert_eq!(worker.execute(run(4)).await.unwrap().count().await, 5);
}

#[tokio::test]
async fn cancelling_over_http_ends_the_run_of_a_link() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let daemon = serve(&echo).await;
    let worker = link(&daemon).await;
    let run = run(4);
    let job = run.job.id;
    let mut stream = worker.execute(run).await.unwrap();
    assert!(!worker.cancel(JobId::random()).await.unwrap());
    assert!(worker.cancel(job).await.unwrap());
    assert_eq!(echo.active(), 0, "it is over when that is answered");
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(stream.next().await.is_none());
    assert!(!worker.cancel(job).await.unwrap());

    // Also a run that the worker has not accepted yet.
    echo.inject(EchoFault::HangInExecute, 1);
    let run = super::support::run(4);
    let job = run.job.id;
    let begun = tokio::spawn({
        let worker = worker.clone();
        async move { worker.execute(run).await.map(drop) }
    });
    until_active(&echo, 1).await;
    assert!(worker.cancel(job).await.unwrap());
    assert_eq!(echo.active(), 0);
    assert_eq!(begun.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn log_probabilities_arrive_as_the_worker_sends_them() {
    let echo = EchoWorker::builder("echo".parse().unwrap()).build();
    let daemon = serve(&echo).await;
    let mut run = run(6);
    let mut job = rbee_core::Job::clone(&run.job);
    let rbee_core::request::Task::Generate { sampling, .. } = &mut job.task else { panic!("text") };
    sampling.logprobs = Some(2);
    run.job = Arc::new(job);
    let outputs = |stream: rbee_core::OutputStream| stream.map(Result::unwrap).collect::<Vec<_>>();
    let sent = outputs(echo.execute(run.clone()).await.unwrap()).await;
    let received = outputs(link(&daemon).await.execute(run).await.unwrap()).await;
    assert_eq!(received, sent);
    assert!(
        matches!(&received[0], Output::Token { logprobs: Some(found), .. } if found.top.len() == 2)
    );
}

#[tokio::test]
async fn a_client_without_the_token_does_not_get_a_link() {
    let daemon = serve(&EchoWorker::new("echo".parse().unwrap())).await;
    let info = EchoWorker::new("echo".parse().unwrap()).info().clone();
    for wrong in [None, Some(Token::random().unwrap())] {
        let error = LinkWorker::connect(daemon.endpoint(wrong.clone())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WorkerUnreachable);
        assert!(error.message().contains("token"), "{error}");
        let worker = LinkWorker::new(daemon.endpoint(wrong), info.clone());
        let error = worker.execute(run(1)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::WorkerUnreachable);
        assert!(error.message().contains("token"), "{error}");
    }
}

#[tokio::test]
async fn runs_on_one_link_get_their_own_answers() {
    const RUNS: u32 = 256;
    let echo = EchoWorker::builder("echo".parse().unwrap()).slots(RUNS).build();
    let daemon = serve(&echo).await;
    let worker = link(&daemon).await;
    let answers = join_all((0..RUNS).map(|number| {
        let worker = worker.clone();
        async move {
            let mut run = run(40);
            let mut job = rbee_core::Job::clone(&run.job);
            job.seed = u64::from(number);
            run.job = Arc::new(job);
            text(&worker, run).await
        }
    }));
    for (number, answer) in answers.await.into_iter().enumerate() {
        assert_eq!(answer, EchoWorker::text(number as u64, 40));
    }
}

#[tokio::test]
async fn a_panic_of_the_worker_ends_its_run_alone() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).slots(2).gate(&gate).build();
    let daemon = serve(&echo).await;
    let worker = link(&daemon).await;
    let steady = worker.execute(run(4)).await.unwrap();
    echo.inject(EchoFault::PanicInExecute, 1);
    let error = worker.execute(run(4)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WorkerFault);
    until_active(&echo, 1).await;
    gate.open();
    assert_eq!(steady.map(Result::unwrap).count().await, 5);
}

#[tokio::test]
async fn a_worker_without_the_link_is_used_over_http() {
    let echo = EchoWorker::new("echo".parse().unwrap());
    // As an older version, which has no such path.
    let hide = |mut request: axum::extract::Request| async move {
        if request.uri().path() == wire::worker::LINK {
            *request.uri_mut() = "/no/such/path".parse().unwrap();
        }
        request
    };
    let router = axum::Router::new().fallback_service(server::worker(echo.clone(), token()));
    let daemon = Daemon::serve(router.layer(axum::middleware::map_request(hide))).await;
    let endpoint = daemon.endpoint(Some(token()));
    let direct = LinkWorker::new(endpoint.clone(), echo.info().clone());
    assert!(direct.execute(run(3)).await.is_err(), "the link is there");
    for offered in [&[][..], &["rbee-link/9".to_owned()]] {
        let worker = client::worker(endpoint.clone(), echo.info().clone(), offered);
        assert_eq!(text(&worker, run(3)).await, EchoWorker::text(7, 3));
    }
}

#[tokio::test]
async fn a_worker_that_offers_the_link_is_used_over_it() {
    let echo = EchoWorker::new("echo".parse().unwrap());
    let daemon = serve(&echo).await;
    let endpoint = daemon.endpoint(Some(token()));
    let health: wire::worker::Health =
        endpoint.get(wire::HEALTH, Duration::from_secs(10)).await.unwrap();
    let worker = client::worker(endpoint, echo.info().clone(), &health.links);
    assert!(format!("{worker:?}").starts_with("LinkWorker"), "{worker:?}");
    assert_eq!(text(&worker, run(3)).await, EchoWorker::text(7, 3));
}

#[test]
fn each_runtime_has_its_own_link() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (serving, first, second) = (
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap(),
        runtime(),
        runtime(),
    );
    let echo = EchoWorker::builder("echo".parse().unwrap()).slots(4).build();
    let daemon = serving.block_on(serve(&echo));
    let worker = serving.block_on(link(&daemon));
    let expected = EchoWorker::text(7, 5);
    assert_eq!(first.block_on(text(&worker, run(5))), expected);
    assert_eq!(second.block_on(text(&worker, run(5))), expected);
    // Its connection ends with it; the other one remains.
    drop(first);
    assert_eq!(second.block_on(text(&worker, run(5))), expected);
    assert_eq!(runtime().block_on(text(&worker, run(5))), expected);
}

async fn text(worker: &impl Worker, run: Run) -> String {
    let answer =
        async { worker.execute(run).await.unwrap().map(Result::unwrap).collect::<Vec<_>>().await };
    let outputs = tokio::time::timeout(Duration::from_secs(30), answer).await.expect("an answer");
    assert!(matches!(outputs.last(), Some(Output::End { .. })));
    let texts = outputs.into_iter().filter_map(|output| match output {
        Output::Token { text, .. } => Some(String::from(text)),
        _ => None,
    });
    texts.collect()
}
