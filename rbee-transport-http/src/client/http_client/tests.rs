use std::sync::Arc;

use futures_util::FutureExt as _;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::client::chain;

/// A server that answers every request with the same bytes.
struct Peer {
    address: String,
    /// Each request, and the number of its connection.
    asked: mpsc::UnboundedReceiver<(usize, String)>,
}

impl Peer {
    async fn answers(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, asked) = mpsc::unbounded_channel();
        let answer: Arc<str> = answer.into();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, number, answer.clone(), tell.clone()));
                number += 1;
            }
        });
        Self { address, asked }
    }

    async fn asked(&mut self) -> (usize, String) {
        self.asked.recv().await.unwrap()
    }
}

async fn talk(
    mut stream: TcpStream,
    number: usize,
    answer: Arc<str>,
    tell: mpsc::UnboundedSender<(usize, String)>,
) {
    let mut asked = String::new();
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        asked += &String::from_utf8_lossy(&buffer[..count]);
        // None of the requests has a body.
        while let Some((head, rest)) = asked.split_once("\r\n\r\n") {
            let _ = tell.send((number, head.to_owned()));
            asked = rest.to_owned();
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}

fn get(url: &str) -> Request<Bytes> {
    let shown = HeaderValue::from_static("Bearer secret");
    Request::get(url).header(header::AUTHORIZATION, shown).body(Bytes::new()).unwrap()
}

fn direct() -> HttpClient {
    HttpClient::with_proxies(None, Matcher::builder().build())
}

fn through(proxy: &str) -> HttpClient {
    HttpClient::with_proxies(None, Matcher::builder().all(proxy.to_owned()).build())
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection_and_name_the_host() {
    let mut peer = Peer::answers(EMPTY).await;
    let client = direct();
    for _ in 0..2 {
        let mut answer = client.send(get(&format!("http://{}/x?y=z", peer.address))).await.unwrap();
        assert_eq!(answer.body_mut().read(0).await.unwrap(), "");
        let (connection, asked) = peer.asked().await;
        assert_eq!(connection, 0);
        assert!(asked.starts_with("GET /x?y=z HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: {}", peer.address)), "{asked}");
    }
}

#[tokio::test]
async fn what_a_request_carries_does_not_follow_a_redirection() {
    let mut elsewhere = Peer::answers(EMPTY).await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let location = &elsewhere.address;
        let head = format!("HTTP/1.1 {status}\r\nlocation: http://{location}/\r\n");
        let peer = Peer::answers(&format!("{head}content-length: 0\r\n\r\n")).await;
        let answer = direct().send(get(&format!("http://{}/", peer.address))).await.unwrap();
        assert!(answer.status().is_redirection(), "{status}");
    }
    assert!(elsewhere.asked.recv().now_or_never().is_none(), "the token went along");
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit_and_no_further() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhoney!";
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhon\r\n3\r\ney!\r\n0\r\n\r\n";
    // The body never arrives, so the announced size alone is refused.
    let endless = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n";
    for (answer, limit, fits) in [
        (announced, 6, true),
        (announced, 5, false),
        (chunked, 6, true),
        (chunked, 5, false),
        (endless, 1 << 20, false),
    ] {
        let peer = Peer::answers(answer).await;
        let mut answer = direct().send(get(&format!("http://{}/", peer.address))).await.unwrap();
        match (answer.body_mut().read(limit).await, fits) {
            (Ok(bytes), true) => assert_eq!(bytes, "honey!"),
            (Err(HttpError::TooLarge(most)), false) => assert_eq!(most, limit),
            (read, _) => panic!("{answer:?}, {limit}: {read:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_differs_from_one_that_breaks_off() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = direct().send(get(&format!("http://{gone}/"))).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)), "{error:?}");
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
    for nonsense in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"] {
        let peer = Peer::answers(nonsense).await;
        let error = direct().send(get(&format!("http://{}/", peer.address))).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_is_told_the_whole_url_and_its_password_and_answers_for_the_server() {
    let mut proxy = Peer::answers(EMPTY).await;
    let client = through(&format!("http://me:pass@{}", proxy.address));
    let answer = client.send(get("http://queen.test:7833/health")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let (_, asked) = proxy.asked().await;
    assert!(asked.starts_with("GET http://queen.test:7833/health HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: queen.test:7833"), "{asked}");
    assert!(asked.contains("proxy-authorization: Basic bWU6cGFzcw=="), "{asked}");
}

#[tokio::test]
async fn a_request_over_tls_goes_through_a_tunnel_that_shows_the_proxy_nothing_of_it() {
    let mut proxy = Peer::answers("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    let client = through(&format!("http://{}", proxy.address));
    let error = client.send(get("https://queen.test/secret")).await.unwrap_err();
    let said = chain(&error);
    assert!(matches!(error, HttpError::Connect(_)) && said.contains(&proxy.address), "{said}");
    let (_, asked) = proxy.asked().await;
    assert!(asked.starts_with("CONNECT queen.test:443 HTTP/1.1\r\n"), "{asked}");
    assert!(!asked.contains("secret"), "{asked}");
}

#[tokio::test]
async fn a_server_on_this_machine_is_never_reached_through_a_proxy() {
    let mut peer = Peer::answers(EMPTY).await;
    let port = peer.address.rsplit(':').next().unwrap().to_owned();
    let client = through("http://me:pass@192.0.2.1:1");
    for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
        client.send(get(&format!("http://{host}:{port}/"))).await.unwrap();
        assert!(!peer.asked().await.1.contains("proxy-authorization"));
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (proxy, why) in [
        (format!("http://me:pass@{gone}"), "refused"),
        (format!("socks5://me:pass@{gone}"), "only http:// and https:// are known"),
    ] {
        for url in ["http://queen.test/", "https://queen.test/"] {
            let error = through(&proxy).send(get(url)).await.unwrap_err();
            let said = chain(&error);
            assert!(said.contains(&gone.to_string()) && said.contains(why), "{said}");
            assert!(!said.contains("pass"), "{said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_made_in_time_is_given_up() {
    // It accepts connections and sends nothing: TLS never begins.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let trust = Trust::only(certificate("localhost").cert.pem().as_bytes()).unwrap();
    let client = HttpClient::with_proxies(Some(trust), Matcher::builder().build());
    let error = client.send(get(&url)).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(_)), "{error:?}");
    assert!(chain(&error).contains("no connection within 5s"), "{}", chain(&error));
}

fn certificate(host: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed([host.to_owned()]).unwrap()
}

#[cfg(feature = "server")]
#[tokio::test]
async fn a_server_is_believed_only_with_a_certificate_that_is_trusted_for_its_name() {
    use crate::server::Server;
    use tokio_util::sync::CancellationToken;

    let made = certificate("localhost");
    let folder = tempfile::tempdir().unwrap();
    let (pem, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&pem, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let server = server.with_tls(&pem, &key).unwrap();
    let port = server.address().port();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "honey" }));
    tokio::spawn(server.run(router, stop, std::time::Duration::ZERO));

    let trusting = |pem: &str| Some(Trust::only(pem.as_bytes()).unwrap());
    let sent = async |trust, host: &str| {
        let client = HttpClient::with_proxies(trust, Matcher::builder().build());
        client.send(get(&format!("https://{host}:{port}/"))).await
    };
    let mut answer = sent(trusting(&made.cert.pem()), "localhost").await.unwrap();
    assert_eq!(answer.body_mut().read(64).await.unwrap(), "honey");
    for (trust, host, why) in [
        (trusting(&made.cert.pem()), "127.0.0.1", "names localhost, and not 127.0.0.1"),
        (
            trusting(&certificate("localhost").cert.pem()),
            "localhost",
            "certificate of the server is not trusted",
        ),
        (None, "localhost", "no certificates to check TLS against"),
    ] {
        let error = sent(trust, host).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect(_)), "{error:?}");
        assert!(chain(&error).contains(why), "{}", chain(&error));
    }
}

#[test]
fn certificates_that_are_none_are_refused_by_what_is_wrong_with_them() {
    let key = certificate("localhost").signing_key.serialize_pem();
    let wrong = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for (pem, why) in [
        ("", "no certificate"),
        (&*key, "no certificate"),
        (wrong, "certificate 1 cannot be used"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "no PEM"),
    ] {
        let error = Trust::only(pem.as_bytes()).unwrap_err();
        assert!(error.message().contains(why), "{error}");
    }
}
