use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Endpoint, Tunnel},
    dial::{Dial, Sockets},
    server::Server,
};

/// A hive at the far end, with one worker that returns what it gets.
struct Far {
    directory: tempfile::TempDir,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

const WORKER: u16 = 7;

impl Far {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sockets = Sockets::new(directory.path());
        let worker = UnixListener::bind(sockets.path(WORKER)).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = worker.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                });
            }
        });
        let server = Server::bind_tunnel(&directory.path().join("hive.sock"), sockets).unwrap();
        let endless = || async {
            let bytes = Bytes::from_static(&[7; 64 << 10]);
            let stream =
                futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(bytes.clone()));
            Body::from_stream(stream)
        };
        let router = Router::new()
            .route("/honey", get(|| async { "\"sweet\"" }))
            .route("/endless", get(endless));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.run(router, stop.clone(), Duration::from_secs(5)));
        Self { directory, stop, serving }
    }

    async fn socket(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("hive.sock")).await.unwrap()
    }

    async fn tunnel(&self) -> Tunnel {
        Tunnel::open(self.socket().await, "far").await.unwrap()
    }
}

async fn honey(endpoint: &Endpoint) -> String {
    endpoint.get("/honey", Duration::from_secs(10)).await.unwrap()
}

fn hive(tunnel: &Tunnel) -> Endpoint {
    Endpoint::new(Arc::new(tunnel.clone()), Tunnel::HIVE_PORT, None)
}

#[tokio::test]
async fn the_hive_and_its_workers_are_reached_through_one_stream() {
    let far = Far::start();
    let tunnel = far.tunnel().await;
    assert_eq!(honey(&hive(&tunnel)).await, "sweet");
    let mut worker = tunnel.dial(WORKER).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let (mut read, mut write) = tokio::io::split(&mut worker);
    let mut back = Vec::new();
    let (wrote, count) = tokio::join!(
        async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await
        },
        read.read_to_end(&mut back)
    );
    wrote.unwrap();
    assert_eq!(count.unwrap(), sent.len());
    assert!(back == sent, "the bytes are others");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused_by_its_number() {
    let far = Far::start();
    let tunnel = far.tunnel().await;
    let error = tunnel.dial(9).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(error.to_string(), "nothing listens at port 9 of far");
    // Only this one was refused.
    assert_eq!(honey(&hive(&tunnel)).await, "sweet");
}

#[tokio::test]
async fn readers_that_read_nothing_stop_only_themselves() {
    let far = Far::start();
    let tunnel = far.tunnel().await;
    let endpoint = hive(&tunnel);
    let mut slow = Vec::new();
    for _ in 0..40 {
        let answer = endpoint.send(Method::GET, "/endless", None::<&()>, None).await.unwrap();
        slow.push(answer);
    }
    for _ in 0..20 {
        assert_eq!(honey(&endpoint).await, "sweet");
    }
    drop(slow);
}

#[tokio::test]
async fn the_end_of_the_stream_ends_the_tunnel_and_its_connections_with_a_reason() {
    let far = Far::start();
    let (near, mut middle) = tokio::io::duplex(64 << 10);
    let mut socket = far.socket().await;
    let relay =
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut middle, &mut socket).await });
    let tunnel = Tunnel::open(near, "far").await.unwrap();
    let mut worker = tunnel.dial(WORKER).await.unwrap();
    worker.write_all(b"a").await.unwrap();
    worker.read_u8().await.unwrap();
    assert!(!tunnel.has_ended());
    relay.abort();
    assert!(worker.read_u8().await.is_err());
    tunnel.ended().await;
    let error = tunnel.dial(WORKER).await.err().unwrap();
    assert!(error.to_string().starts_with("the tunnel to far has ended: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_whose_other_end_is_silent_ends() {
    let far = Far::start();
    let (near, mut middle) = tokio::io::duplex(64 << 10);
    let mut socket = far.socket().await;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let copied = tokio::io::copy_bidirectional(&mut middle, &mut socket);
        stopped.run_until_cancelled(copied).await;
        std::future::pending::<()>().await;
    });
    let tunnel = Tunnel::open(near, "far").await.unwrap();
    stop.cancel();
    assert_eq!(tunnel.ended().await, "the other end of the tunnel was silent for 20s");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_no_tunnel_is_refused() {
    // It says nothing.
    let (near, _far) = tokio::io::duplex(1 << 10);
    let error = Tunnel::open(near, "far").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    // It says something else.
    let (near, mut far) = tokio::io::duplex(1 << 10);
    far.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n and more bytes of it").await.unwrap();
    let error = Tunnel::open(near, "far").await.unwrap_err();
    assert_ne!(error.kind(), std::io::ErrorKind::TimedOut);
    // It ends.
    let (near, far) = tokio::io::duplex(1 << 10);
    drop(far);
    assert!(Tunnel::open(near, "far").await.is_err());
}

#[tokio::test]
async fn a_tunnel_ends_with_its_last_clone() {
    let far = Far::start();
    let (near, mut middle) = tokio::io::duplex(64 << 10);
    let mut socket = far.socket().await;
    let tunnel = tokio::spawn(async move { Tunnel::open(near, "far").await.unwrap() });
    let relay = tokio::io::copy_bidirectional(&mut middle, &mut socket);
    let dropped = async {
        let tunnel = tunnel.await.unwrap();
        drop(tunnel.clone());
        tunnel.dial(WORKER).await.unwrap();
    };
    let (relayed, ()) = tokio::join!(relay, dropped);
    relayed.unwrap();
}

#[tokio::test]
async fn a_socket_is_private_replaced_if_it_is_dead_and_removed_at_the_end() {
    use std::os::unix::fs::PermissionsExt;

    let far = Far::start();
    let path = far.directory.path().join("hive.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = Server::bind_socket(&path).unwrap_err();
    assert!(error.message().contains("another program listens there"), "{error}");
    far.stop.cancel();
    far.serving.await.unwrap();
    assert!(!path.exists());
    // A program that was killed leaves its socket.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::bind_socket(&path).unwrap();
    drop(server);
    assert!(!path.exists());
    let long = far.directory.path().join("a".repeat(200));
    let error = Server::bind_socket(&long).unwrap_err();
    assert!(error.message().contains("choose a directory with a shorter path"), "{error}");
}
