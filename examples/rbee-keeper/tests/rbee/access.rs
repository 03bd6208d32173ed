//! Tests of keys, certificates, and addresses where another program answers.

use std::io::Write as _;

use crate::support::{Hall, Rbee, echo};
use rbee_transport_http::{Token, server::Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

async fn guarded() -> (Hall, Token) {
    let token = Token::random().unwrap();
    let hall = Hall::built(echo(), |queen| queen, |server| server.with_token(token.clone())).await;
    (hall, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_it_says_how_to_give_it() {
    let (hall, _) = guarded().await;
    for verb in [&["ls"][..], &["run", "bee", "hello"], &["jobs", "ls"]] {
        hall.rbee(verb).run().await.failed(5, &["UNAUTHORIZED", "RBEE_API_KEY", "--token-file"]);
    }
    let wrong = Token::random().unwrap();
    let ended = hall.rbee(&["ls"]).env("RBEE_API_KEY", wrong.reveal()).run().await;
    let ended = ended.failed(5, &["UNAUTHORIZED"]);
    assert!(!ended.err.contains(wrong.reveal()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_operators_key_the_queen_tells_no_more_than_that_it_is_up() {
    let (hall, token) = guarded().await;
    let ended = hall.rbee(&["status"]).run().await.ok();
    assert!(ended.out.contains("status   ok") && !ended.out.contains("process"), "{ended:?}");
    assert!(ended.err.contains("--token-file"), "{ended:?}");
    let ended = hall.rbee(&["status", "--json"]).run().await.ok();
    assert_eq!(ended.json(), serde_json::json!({"status": "ok"}));
    let ended = hall.rbee(&["version"]).run().await.ok();
    assert!(ended.out.contains("shows its version only to its operator"), "{ended:?}");
    let key = ("RBEE_API_KEY", token.reveal());
    let ended = hall.rbee(&["status"]).env(key.0, key.1).run().await.ok();
    assert!(ended.out.contains("workers ready  1") && ended.err.is_empty(), "{ended:?}");
    let wrong = Token::random().unwrap();
    let ended = hall.rbee(&["status"]).env("RBEE_API_KEY", wrong.reveal()).run().await;
    ended.failed(5, &["UNAUTHORIZED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_goes_down_still_tells_how_it_is() {
    let stop = tokio_util::sync::CancellationToken::new();
    let given = stop.clone();
    let hall = Hall::built(echo(), |queen| queen, |server| server.stop(given)).await;
    stop.cancel();
    let ended = hall.rbee(&["status"]).run().await.ok();
    assert!(ended.out.contains("draining") && ended.out.contains("workers ready  1"), "{ended:?}");
    hall.queen.shutdown(std::time::Duration::ZERO).await.unwrap();
    let ended = hall.rbee(&["status", "--json"]).run().await.ok();
    assert_eq!(ended.json(), serde_json::json!({"status": "draining"}));
    assert_eq!(ended.err, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_comes_from_the_environment_a_file_or_the_command_line() {
    let (hall, token) = guarded().await;
    let ended = hall.rbee(&["ls"]).env("RBEE_API_KEY", token.reveal()).run().await.ok();
    assert_eq!(ended.err, "");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{}", token.reveal()).unwrap();
    let path = file.path().to_str().unwrap();
    let ended = hall.rbee(&["ls", "--token-file", path]).run().await.ok();
    assert_eq!(ended.err, "");
    let ended = hall.rbee(&["ls", "--api-key", token.reveal()]).run().await.ok();
    assert!(ended.err.contains("can be read by everybody"), "{ended:?}");
    assert!(!ended.err.contains(token.reveal()));
    let ended = hall.rbee(&["-q", "ls", "--api-key", token.reveal()]).run().await.ok();
    assert_eq!(ended.err, "");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let (hall, token) = guarded().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token.reveal()).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let path = file.path().to_str().unwrap();
    let ended = hall.rbee(&["ls", "--token-file", path]).run().await.ok();
    assert!(ended.err.contains(&format!("`chmod 600 {path}`")), "{ended:?}");
    assert!(ended.err.contains("mode 0644") && !ended.err.contains(token.reveal()), "{ended:?}");
    let ended = hall.rbee(&["-q", "ls", "--token-file", path]).run().await.ok();
    assert_eq!(ended.err, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_that_is_of_no_use_is_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let path = empty.path().to_str().unwrap();
    Rbee::new(&["ls", "--token-file", path]).run().await.failed(2, &[path, "it is empty"]);
    Rbee::new(&["ls", "--token-file", "/nowhere"]).run().await.failed(2, &["/nowhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_behind_tls_is_believed_where_her_certificate_is_named() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("queen.pem"), folder.path().join("queen.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let queen = rbee_core::Queen::builder().build().await.unwrap();
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let server = server.with_tls(&certificate, &key).unwrap();
    let url = format!("https://localhost:{}", server.address().port());
    let router = rbee_transport_http::server::queen(queen);
    let stop = tokio_util::sync::CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(server.run(router, stop, std::time::Duration::ZERO));

    let certificate = certificate.to_str().unwrap();
    let ended = Rbee::new(&["ls", "--url", &url, "--ca-cert", certificate]).run().await.ok();
    assert!(ended.out.starts_with("NAME"), "{ended:?}");
    let ended = Rbee::new(&["status", "--host", &url]).env("RBEE_CA_CERT", certificate).run().await;
    assert!(ended.ok().out.contains(&url));
    // The system's certificates are trusted unless `--ca-cert` is given.
    let ended = Rbee::new(&["ls", "--host", &url]).env("SSL_CERT_FILE", certificate).run().await;
    ended.ok();
    // Neither another authority nor the system's certificates are trusted then.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other_path = folder.path().join("other.pem");
    std::fs::write(&other_path, other.cert.pem()).unwrap();
    let other = other_path.to_str().unwrap();
    let ended = Rbee::new(&["ls", "--host", &url, "--ca-cert", other]).run().await;
    ended.failed(3, &["the certificate of the server is not trusted", "(TLS)", "--ca-cert"]);
    let ended = Rbee::new(&["ls", "--host", &url, "--ca-cert", other]);
    let ended = ended.env("SSL_CERT_FILE", certificate).run().await;
    ended.failed(3, &["the certificate of the server is not trusted", "(TLS)", "--ca-cert"]);
    // Another name of the same machine is none in the certificate, and plain HTTP is not spoken there.
    let elsewhere = url.replace("localhost", "127.0.0.1");
    let ended = Rbee::new(&["ls", "--host", &elsewhere, "--ca-cert", certificate]).run().await;
    ended
        .failed(3, &["names localhost, and not 127.0.0.1", "subjectAltName=IP:127.0.0.1", "(TLS)"]);
    let plain = url.replace("https", "http");
    let ended = Rbee::new(&["ls", "--host", &plain]).run().await;
    ended.failed(3, &["the server speaks TLS", "https://", "(TLS)"]);
    let ended = Rbee::new(&["ls", "--host", &url]).env("SSL_CERT_FILE", "/nowhere").run().await;
    ended.failed(2, &["no certificates", "/nowhere", "SSL_CERT_FILE", "--ca-cert"]);
    let nothing = key.to_str().unwrap();
    let ended = Rbee::new(&["ls", "--host", &url, "--ca-cert", nothing]).run().await;
    ended.failed(2, &["no certificate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_certificate_of_openssl_works_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 365 -subj /CN=localhost";
    let mut command = std::process::Command::new("openssl");
    let made = command.args(openssl.split(' ').skip(1)).current_dir(folder.path()).output();
    assert!(made.expect("this test needs the program openssl").status.success());
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let queen = rbee_core::Queen::builder().build().await.unwrap();
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let server = server.with_tls(&certificate, &key).unwrap();
    let url = format!("https://localhost:{}", server.address().port());
    let stop = tokio_util::sync::CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let router = rbee_transport_http::server::queen(queen);
    tokio::spawn(server.run(router, stop, std::time::Duration::ZERO));

    let certificate = certificate.to_str().unwrap();
    Rbee::new(&["ls", "--url", &url, "--ca-cert", certificate]).run().await.ok();
    let hall = Hall::new().await;
    let plain = hall.url.replace("http://127.0.0.1", "https://localhost");
    let ended = Rbee::new(&["ls", "--url", &plain, "--ca-cert", certificate]).run().await;
    ended.failed(3, &["http:// is needed", "(TLS)"]);
}

/// A server that answers each connection with this.
async fn stranger(answer: impl Into<String>) -> String {
    let (address, _) = stranger_who_tells(answer).await;
    address
}

/// The same, and the requests that it received.
async fn stranger_who_tells(answer: impl Into<String>) -> (String, UnboundedReceiver<String>) {
    let answer = answer.into();
    let (tell, asked) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            let _ = tell.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_at_the_address_is_recognized() {
    for (answer, says) in [
        (
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 12\r\n\r\n<h1>no\x1b[2J</",
            "404",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "missing field"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "larger than 67108864 bytes"),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "302"),
    ] {
        let address = stranger(answer).await;
        let ended = Rbee::new(&["ls", "--host", &address]).run().await;
        let ended = ended.failed(1, &["UNEXPECTED_ANSWER", says, "another program"]);
        assert!(!ended.err.contains('\x1b'), "{ended:?}");
    }
    let address = stranger("SSH-2.0-OpenSSH_9\r\n").await;
    Rbee::new(&["ls", "--host", &address]).run().await.failed(3, &["CONNECTION_LOST"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stops_half_way_is_a_broken_connection() {
    let address = stranger("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"data\":[").await;
    Rbee::new(&["ls", "--host", &address]).run().await.failed(3, &["CONNECTION_LOST"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_too_early_is_no_answer() {
    let address = stranger(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
         data: {\"choices\":[{\"delta\":{\"content\":\"Half an ans\"}}]}\n\n",
    )
    .await;
    let ended = Rbee::new(&["run", "bee", "hello", "--host", &address]).run().await;
    let ended = ended.failed(3, &["CONNECTION_LOST", "too early"]);
    assert_eq!(ended.out, "Half an ans\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_does_not_follow_where_another_program_points() {
    let (elsewhere, mut told) = stranger_who_tells("HTTP/1.1 200 OK\r\n\r\n").await;
    let head = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{elsewhere}/");
    let (address, mut asked) =
        stranger_who_tells(format!("{head}\r\ncontent-length: 0\r\n\r\n")).await;
    let ended = Rbee::new(&["ls", "--host", &address]).env("RBEE_API_KEY", "hunter2").run().await;
    ended.failed(1, &["UNEXPECTED_ANSWER", "307"]);
    let asked = asked.recv().await.unwrap();
    assert!(asked.contains("authorization: Bearer hunter2\r\n"), "{asked}");
    assert!(asked.contains(concat!("user-agent: rbee/", env!("CARGO_PKG_VERSION"), "\r\n")));
    assert!(told.try_recv().is_err(), "the key went along");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_elsewhere_is_reached_through_the_proxy_and_one_on_this_machine_is_not() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"data\":[]}";
    let (proxy, mut asked) = stranger_who_tells(answer).await;
    let proxy = format!("http://{proxy}");
    let ended = Rbee::new(&["ls", "--host", "http://queen.test"]).env("HTTP_PROXY", &proxy);
    ended.run().await.ok();
    let asked = asked.recv().await.unwrap();
    assert!(asked.starts_with("GET http://queen.test/"), "{asked}");
    let hall = Hall::new().await;
    hall.rbee(&["ls"]).env("HTTP_PROXY", "http://127.0.0.1:1").run().await.ok();
}
