//! A hive with TLS, whose workers have it too.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{hive, pid_of, run, spec, token, until_gone};
use futures_util::StreamExt;
use rbee_core::{
    ErrorKind, HiveBackend, HiveId, InProcessHive, Output, Worker, WorkerId, WorkerSpec,
    async_trait,
    hive::{Progress, WorkerFactory},
    id::Epoch,
    worker::EchoWorker,
};
use rbee_transport_http::{
    ProcessHive, Token,
    client::{Endpoint, HttpHive, HttpWorker, LinkWorker, Tls, TlsError, Trust},
    dial::{Dial, Io, Tcp},
    server::{HiveServer, Server, TlsFiles, run_worker},
    wire::worker::{LINK_PROTOCOL, Start},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A certificate for `localhost` in a directory of its own, and its key.
struct Certificate {
    dir: TempDir,
    pem: String,
}

impl Certificate {
    fn new() -> Self {
        let mut made = Self { dir: tempfile::tempdir().unwrap(), pem: String::new() };
        made.renew();
        made
    }

    /// Replaces both files by others for the same name.
    fn renew(&mut self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        self.pem = made.cert.pem();
        std::fs::write(self.certificates(), &self.pem).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
    }

    fn certificates(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    fn files(&self) -> TlsFiles {
        TlsFiles::open(&self.certificates(), &self.key()).unwrap()
    }

    /// Trusts this certificate as it is now, and no other.
    fn dial(&self) -> Arc<dyn Dial> {
        let trust = Trust::only(self.pem.as_bytes()).unwrap();
        Arc::new(Tls::new(Tcp::new("localhost"), trust).unwrap())
    }
}

/// The daemon of a hive with TLS, for as long as the test runs.
struct Daemon {
    port: u16,
    _stop: DropGuard,
}

impl Daemon {
    async fn serve(host: HiveServer, files: TlsFiles) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let server = server.with_tls_files(files);
        let (port, stop) = (server.address().port(), CancellationToken::new());
        tokio::spawn(server.run(host.router(token()), stop.clone(), Duration::ZERO));
        Self { port, _stop: stop.drop_guard() }
    }

    async fn connect(&self, dial: Arc<dyn Dial>, token: Token) -> rbee_core::Result<HttpHive> {
        HttpHive::connect(Endpoint::new(dial, self.port, Some(token))).await
    }
}

/// A model of the echo worker.
fn model(dir: &TempDir) -> WorkerSpec {
    let path = dir.path().join("model");
    std::fs::write(&path, "weights").unwrap();
    spec(&format!("file:{}", path.display()))
}

/// What a server sends to a client that does not use TLS.
async fn plain_answer(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let token = token();
    let request = format!(
        "GET /health HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        token.reveal()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A way to another machine that counts its connections.
#[derive(Debug)]
struct Counted(Arc<dyn Dial>, AtomicUsize);

#[async_trait]
impl Dial for Counted {
    async fn dial(&self, port: u16) -> std::io::Result<Box<dyn Io>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.dial(port).await
    }
    fn host(&self) -> &str {
        self.0.host()
    }
}

/// Loads nothing.
#[derive(Debug)]
struct NoModels;

#[async_trait]
impl WorkerFactory for NoModels {
    async fn load(
        &self,
        _: WorkerId,
        _: &HiveId,
        _: &WorkerSpec,
        _: Progress,
    ) -> rbee_core::Result<Arc<dyn Worker>> {
        unreachable!("the order is refused")
    }
}

async fn runs(worker: &dyn Worker) {
    let outputs: Vec<_> = worker.execute(run(3)).await.unwrap().collect().await;
    assert!(matches!(outputs.last(), Some(Ok(Output::End { .. }))), "{outputs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_with_tls_and_its_workers_are_reached_over_it_and_not_without() {
    let (dir, certificate) = (tempfile::tempdir().unwrap(), Certificate::new());
    let local = hive(&dir).with_tls(certificate.certificates(), certificate.key());
    let local = Arc::new(local);
    let host = HiveServer::with_reach(local.clone(), local.clone());
    let daemon = Daemon::serve(host, certificate.files()).await;
    let dial = Arc::new(Counted(certificate.dial(), AtomicUsize::new(0)));
    let hive = daemon.connect(dial.clone(), token()).await.unwrap();
    let _events = hive.watch(Epoch(1)).await.unwrap();
    let id = WorkerId::random();
    let worker = hive.spawn(id, &model(&dir), Progress::ignore()).await.unwrap();
    let before = dial.1.load(Ordering::Relaxed);
    runs(&*worker).await;
    runs(&*worker).await;
    assert_eq!(dial.1.load(Ordering::Relaxed) - before, 1, "both runs share the framed link");
    let address = local.address(id).await.unwrap();
    assert_eq!(address.links, [LINK_PROTOCOL]);
    let url = worker.info().url.clone().unwrap();
    assert_eq!(*url, format!("https://127.0.0.1:{}", address.port));

    for port in [daemon.port, address.port] {
        let answer = plain_answer(port).await;
        assert!(!answer.contains("HTTP/") && !answer.contains("status"), "{answer:?}");
    }
    let error = daemon.connect(certificate.dial(), Token::random().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let other = Certificate::new();
    let on_worker = Endpoint::new(other.dial(), address.port, Some(address.token));
    for refused in [
        daemon.connect(other.dial(), token()).await.unwrap_err(),
        LinkWorker::new(on_worker, Arc::new(address.info)).execute(run(3)).await.err().unwrap(),
    ] {
        assert!(TlsError::find(&refused).unwrap().is_untrusted(), "{refused:?}");
        let said = "the certificate of the server is not trusted";
        assert_eq!(refused.message().matches(said).count(), 1, "{refused}");
    }
    let by_address = Trust::only(certificate.pem.as_bytes()).unwrap();
    let by_address = Arc::new(Tls::new(Tcp::loopback(), by_address).unwrap());
    let error = daemon.connect(by_address, token()).await.unwrap_err();
    assert!(error.message().contains("names localhost, and not 127.0.0.1"), "{error}");
    local.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_taken_up_by_the_hive_and_its_workers_and_others_are_not() {
    let (dir, mut certificate) = (tempfile::tempdir().unwrap(), Certificate::new());
    let local = Arc::new(hive(&dir).with_tls(certificate.certificates(), certificate.key()));
    local.start().await.unwrap();
    let id = WorkerId::random();
    local.spawn(id, &model(&dir), Progress::ignore()).await.unwrap();
    let address = local.address(id).await.unwrap();
    let reached = async |dial: Arc<dyn Dial>| {
        let endpoint = Endpoint::new(dial, address.port, Some(address.token.clone()));
        HttpWorker::connect(endpoint).await.map(drop)
    };
    let old = certificate.dial();
    reached(old.clone()).await.unwrap();
    certificate.renew();
    let new = certificate.dial();
    assert!(reached(new.clone()).await.is_err(), "nobody has ordered it yet");
    local.reload_tls().await;
    reached(new.clone()).await.unwrap();
    assert!(reached(old).await.is_err());
    std::fs::write(certificate.key(), "no key").unwrap();
    local.reload_tls().await;
    reached(new).await.expect("it goes on with what it has");
    local.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_found_again_by_a_hive_with_the_same_tls_alone() {
    let (dir, certificate) = (tempfile::tempdir().unwrap(), Certificate::new());
    let with_tls = || hive(&dir).with_tls(certificate.certificates(), certificate.key());
    let spawned = async |hive: &ProcessHive| {
        hive.start().await.unwrap();
        let id = WorkerId::random();
        hive.spawn(id, &model(&dir), Progress::ignore()).await.unwrap();
        (id, pid_of(&dir, id))
    };
    let plain = hive(&dir);
    let (_, pid) = spawned(&plain).await;
    plain.release();
    let first = with_tls();
    let (id, with) = spawned(&first).await;
    until_gone(pid).await;
    assert_eq!(first.report().await.unwrap().workers.len(), 1);
    let socket = dir.path().join(format!("state/{}.sock", first.address(id).await.unwrap().port));
    assert!(socket.exists());
    first.release();
    let second = with_tls();
    second.start().await.unwrap();
    assert_eq!(pid_of(&dir, id), with, "it is the same process");
    runs(&*second.worker(id).await.unwrap()).await;
    second.release();
    let plain = hive(&dir);
    plain.start().await.unwrap();
    assert_eq!(plain.report().await.unwrap().workers, []);
    until_gone(with).await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn workers_inside_a_hive_with_tls_have_it_too() {
    let certificate = Certificate::new();
    let echo = EchoWorker::new("echo".parse().unwrap());
    let id = echo.info().id;
    let inside: Arc<dyn HiveBackend> = Arc::new(InProcessHive::new().with_worker(echo));
    let host = "127.0.0.1".parse().unwrap();
    let host = HiveServer::with_tls_doors(inside, host, certificate.files());
    let daemon = Daemon::serve(host, certificate.files()).await;
    let hive = daemon.connect(certificate.dial(), token()).await.unwrap();
    let _events = hive.watch(Epoch(1)).await.unwrap();
    runs(&*hive.worker(id).await.unwrap()).await;
}

#[tokio::test]
async fn an_order_with_tls_that_cannot_be_used_is_refused_before_anything_listens() {
    let certificate = Certificate::new();
    let dir = tempfile::tempdir().unwrap();
    let tls = |key: PathBuf| {
        serde_json::json!({
            "certificates": certificate.certificates(), "key": key, "sockets": dir.path(),
        })
    };
    let order = |more: serde_json::Value| {
        let mut order = serde_json::json!({
            "id": WorkerId::random(), "hive": "desk", "spec": spec("file:/model"), "devices": [0],
            "host": "127.0.0.1", "port": 0, "token": token(), "lease_ms": 0,
        });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<Start>(order).unwrap()
    };
    for (order, said) in [
        (order(serde_json::json!({"tls": tls("/no/key".into())})), "/no/key: cannot be read"),
        (
            order(serde_json::json!({"tls": tls(certificate.key()), "sockets": dir.path()})),
            "sockets and tls",
        ),
    ] {
        let error = run_worker(order, NoModels, CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(said), "{error}");
    }
    let far = dir.path().join("d".repeat(80));
    let hive = ProcessHive::new(HiveId::local(), far);
    let error = hive.with_tls(certificate.certificates(), certificate.key()).start().await;
    assert!(error.unwrap_err().message().contains("allowed with TLS are up to 88"));
    let error = Tls::new(Tcp::new("a b"), Trust::only(certificate.pem.as_bytes()).unwrap());
    assert!(error.unwrap_err().message().contains("\"a b\" cannot be the name"));
}
