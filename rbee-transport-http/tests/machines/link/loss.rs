//! Links that are lost, and links of workers that stop.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use rbee_core::{
    ErrorKind, Worker,
    worker::{EchoGate, EchoWorker},
};
use rbee_transport_http::{
    client::{Endpoint, LinkWorker},
    dial::Tcp,
    server::{self, Server},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    super::support::{run, token},
    link,
    pipes::{Pipes, Way},
    serve,
};

#[tokio::test]
async fn a_lost_connection_ends_each_of_its_runs_and_the_next_run_opens_another() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).slots(4).gate(&gate).build();
    let pipes = Pipes::new(server::worker(echo.clone(), token()));
    let worker = pipes.worker(&echo);
    let begun = (0..3).map(|_| worker.execute(run(4)));
    let mut streams: Vec<_> = join_all(begun).await.into_iter().map(Result::unwrap).collect();
    gate.release(3);
    for stream in &mut streams {
        stream.next().await.unwrap().unwrap();
    }
    pipes.way.send_replace(Way::Cut);
    for stream in streams {
        let rest: Vec<_> = stream.collect().await;
        let [Err(error)] = &rest[..] else { panic!("{rest:?}") };
        assert_eq!(error.kind(), ErrorKind::WorkerLost, "{error}");
        assert!(error.message().contains("pipes:1"), "{error}");
    }
    echo.until_active(0).await;
    pipes.way.send_replace(Way::Open);
    gate.open();
    assert_eq!(worker.execute(run(4)).await.unwrap().map(Result::unwrap).count().await, 5);
    assert_eq!(pipes.dials.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn runs_that_begin_together_open_one_connection() {
    let echo = EchoWorker::builder("echo".parse().unwrap()).slots(64).build();
    let pipes = Pipes::new(server::worker(echo.clone(), token()));
    let worker = pipes.worker(&echo);
    let counts =
        join_all((0..64).map(|_| async { worker.execute(run(4)).await.unwrap().count().await }));
    assert_eq!(counts.await, [5; 64]);
    assert_eq!(pipes.dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_ends_before_a_run_is_accepted_has_begun_nothing() {
    let echo = EchoWorker::builder("echo".parse().unwrap())
        .fault(rbee_core::worker::EchoFault::HangInExecute)
        .build();
    let pipes = Pipes::new(server::worker(echo.clone(), token()));
    let worker = pipes.worker(&echo);
    let begun = worker.execute(run(4));
    let cut = async {
        echo.until_active(1).await;
        pipes.way.send_replace(Way::Cut);
    };
    let (begun, ()) = tokio::join!(begun, cut);
    let error = begun.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WorkerUnreachable, "{error}");
    assert!(!error.kind().costs_a_try());
    echo.until_active(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_whose_other_side_is_silent_is_lost_on_both_sides_after_a_while() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let pipes = Pipes::new(server::worker(echo.clone(), token()));
    let worker = pipes.worker(&echo);
    let mut stream = worker.execute(run(4)).await.unwrap();
    let began = Instant::now();
    pipes.way.send_replace(Way::Silent);
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkerLost, "{error}");
    let took = began.elapsed();
    assert!((60..=80).contains(&took.as_secs()), "after {took:?}");
    echo.until_active(0).await;
    assert!(began.elapsed() <= Duration::from_secs(80));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_answer_the_request_for_a_link_is_unreachable_in_time() {
    let echo = EchoWorker::new("echo".parse().unwrap());
    let pipes = Pipes::new(server::worker(echo.clone(), token()));
    pipes.way.send_replace(Way::Silent);
    let worker = pipes.worker(&echo);
    let began = Instant::now();
    let begun = join_all((0..8).map(|_| worker.execute(run(4)))).await;
    for begun in begun {
        assert_eq!(begun.err().unwrap().kind(), ErrorKind::WorkerUnreachable);
    }
    assert!(began.elapsed() <= Duration::from_secs(11), "after {:?}", began.elapsed());
    assert_eq!(pipes.dials.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_not_used_stays_open() {
    let echo = EchoWorker::new("echo".parse().unwrap());
    let pipes = Pipes::new(server::worker(echo.clone(), token()));
    let worker = pipes.worker(&echo);
    for _ in 0..3 {
        assert_eq!(worker.execute(run(2)).await.unwrap().count().await, 3);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
    assert_eq!(pipes.dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_goes_on_after_its_worker_client_is_dropped_and_then_the_link_is_closed() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let pipes = Pipes::new(server::worker(echo.clone(), token()));
    let worker = pipes.worker(&echo);
    let stream = worker.execute(run(4)).await.unwrap();
    drop(worker);
    gate.open();
    assert_eq!(stream.map(Result::unwrap).count().await, 5);
    let closed = async {
        // The relay between the two sides has one while they are connected.
        while pipes.way.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the link is closed");
}

#[tokio::test]
async fn a_worker_that_is_gone_is_lost_in_mid_run_and_unreachable_after() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).gate(&gate).build();
    let daemon = serve(&echo).await;
    let worker = link(&daemon).await;
    let mut stream = worker.execute(run(4)).await.unwrap();
    drop(daemon);
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkerLost, "{error}");
    let error = worker.execute(run(4)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WorkerUnreachable, "nothing has begun: {error}");
}

#[tokio::test]
async fn a_server_that_stops_lets_the_runs_of_a_link_end_and_takes_no_more() {
    let gate = EchoGate::new();
    let echo = EchoWorker::builder("echo".parse().unwrap()).slots(64).gate(&gate).build();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (port, stop) = (server.address().port(), CancellationToken::new());
    let router = server::worker(echo.clone(), token());
    let mut serving = tokio::spawn(server.run(router, stop.clone(), Duration::from_secs(60)));
    let endpoint = Endpoint::new(Arc::new(Tcp::loopback()), port, Some(token()));
    let worker = LinkWorker::new(endpoint, echo.info().clone());
    let stream = worker.execute(run(4)).await.unwrap();
    stop.cancel();
    // Begun before the signal has arrived, or refused after it.
    let refused = async {
        loop {
            match worker.execute(run(4)).await {
                Ok(early) => drop(early),
                Err(error) => break error,
            }
            tokio::task::yield_now().await;
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(10), refused).await.expect("refused");
    assert_eq!(error.kind(), ErrorKind::WorkerUnreachable, "{error}");
    assert!(!serving.is_finished());
    gate.open();
    assert_eq!(stream.map(Result::unwrap).count().await, 5);
    // Long before the grace is over.
    tokio::time::timeout(Duration::from_secs(10), &mut serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_links_without_runs() {
    let echo = EchoWorker::new("echo".parse().unwrap());
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (port, stop) = (server.address().port(), CancellationToken::new());
    let router = server::worker(echo.clone(), token());
    let serving = tokio::spawn(server.run(router, stop.clone(), Duration::from_secs(600)));
    let endpoint = Endpoint::new(Arc::new(Tcp::loopback()), port, Some(token()));
    let worker = LinkWorker::new(endpoint, echo.info().clone());
    worker.execute(run(1)).await.unwrap().count().await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("it ends").unwrap();
    let error = worker.execute(run(1)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WorkerUnreachable);
}
