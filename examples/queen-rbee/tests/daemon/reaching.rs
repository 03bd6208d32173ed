//! How the daemon is reached, and how it reaches others: TLS, and hives that are added while it runs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::support::{self, Queen, request, until};
use rbee_core::{HiveId, InProcessHive};
use rbee_transport_http::{
    Token,
    client::{HttpClient, Trust},
    server::{HiveServer, Server},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[test]
fn with_a_certificate_the_api_speaks_tls_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let arguments = [
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--local-hive",
        "off",
    ];
    let queen = Queen::start(data.path(), &arguments);
    assert!(queen.said().iter().any(|line| line.contains("https://127.0.0.1")));

    let url = format!("https://localhost:{}/health", queen.address.port());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let trust = Trust::only(made.cert.pem().as_bytes()).unwrap();
        let client = HttpClient::new(Some(trust));
        let get = |url: &str| http::Request::get(url).body(bytes::Bytes::new()).unwrap();
        let mut health = client.send(get(&url)).await.unwrap();
        let health = health.body_mut().read(64 << 10).await.unwrap();
        let health: serde_json::Value = serde_json::from_slice(&health).unwrap();
        assert_eq!(health["status"], "ok");
        let plain = client.send(get(&url.replace("https", "http"))).await;
        assert!(plain.is_err(), "there is no plain HTTP on the same port");
    });

    let wrong = support::command(
        data.path(),
        &["--port", "0", "--tls-cert", "/none", "--tls-key", "/none"],
    );
    let output = { wrong }.output().unwrap();
    assert!(!output.status.success());
}

/// The hive daemon of a machine, in this process.
struct Machine {
    address: SocketAddr,
    token: Token,
    stopped: CancellationToken,
    closed: CancellationToken,
}

async fn machine(name: &str) -> Machine {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let hive = Arc::new(InProcessHive::new().with_id(HiveId::new(name).unwrap()));
    let host = HiveServer::new(hive);
    let machine = Machine {
        address: server.address(),
        token: Token::random().unwrap(),
        stopped: host.stopped(),
        closed: CancellationToken::new(),
    };
    let router = host.router(machine.token.clone());
    tokio::spawn(server.run(router, machine.closed.clone(), Duration::from_secs(1)));
    machine
}

#[test]
fn a_machine_that_was_added_is_found_again_and_its_daemon_outlives_the_queen() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let attic = runtime.block_on(machine("attic"));
    let data = tempfile::tempdir().unwrap();
    let online = |queen: &Queen| {
        let hives = queen.json("/v1/hives");
        let attic = hives["data"].as_array().unwrap().iter().find(|hive| hive["id"] == "attic");
        attic.is_some_and(|hive| hive["status"] == "online")
    };

    let mut queen = Queen::start(data.path(), &["--local-hive", "off"]);
    let url = format!("http://{}", attic.address);
    let (status, view) = queen.post("/v1/hives", &json!({"url": url}));
    let error = &view["error"];
    // Its token is in no file, so that it cannot be found.
    assert_eq!((status, &error["code"]), (400, &json!("INVALID_REQUEST")), "{view}");
    assert_eq!(error["details"]["param"], "token");
    let said = error["message"].as_str().unwrap();
    for part in [&*url, "wants its token", "rbee/hives", "--hive-token-file FILE", "token_file"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let other = json!({"url": url, "token": Token::random().unwrap().reveal()});
    let (status, view) = queen.post("/v1/hives", &other);
    assert_eq!(status, 400, "{view}");
    assert!(view["error"]["message"].as_str().unwrap().contains("takes another token"), "{view}");
    let order = json!({"url": url, "token": attic.token.reveal()});
    let (status, view) = queen.post("/v1/hives", &order);
    assert_eq!(status, 201, "{view}");
    assert_eq!((&view["id"], &view["status"]), (&json!("attic"), &json!("online")));
    let (status, view) = queen.post("/v1/hives", &order);
    assert_eq!((status, &view["error"]["code"]), (409, &json!("CONFLICT")), "{view}");
    queen.signal("-TERM");
    assert_eq!(queen.wait().code(), Some(0), "{:#?}", queen.said());
    assert!(!attic.stopped.is_cancelled(), "the queen did not start it, so it does not stop it");

    let mut next = Queen::start(data.path(), &["--local-hive", "off"]);
    until("it is found again", || online(&next).then_some(()));
    let (status, body) = request(next.address, "DELETE", "/v1/hives/attic", None, &[]);
    assert_eq!(status, 204, "{body}");
    next.signal("-TERM");
    assert_eq!(next.wait().code(), Some(0));

    let last = Queen::start(data.path(), &["--local-hive", "off"]);
    assert_eq!(last.json("/v1/hives")["data"], json!([]), "it is forgotten");
    attic.closed.cancel();
}

#[test]
fn the_checks_of_a_machine_with_an_address_say_what_works_and_what_does_not() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let attic = runtime.block_on(machine("attic"));
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--local-hive", "off"]);
    let order = json!({
        "url": format!("http://{}", attic.address), "token": attic.token.reveal(),
    });
    assert_eq!(queen.post("/v1/hives", &order).0, 201);
    let doctor = queen.json("/v1/hives/attic/doctor");
    let checks = doctor["checks"].as_array().unwrap();
    let names: Vec<_> = checks.iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(names, ["connection", "token", "version", "answers"], "{doctor}");
    assert_eq!((&doctor["verdict"], checks[0]["duration_ms"].is_u64()), (&json!("ok"), true));
    let (status, body) = queen.get("/v1/hives/attic/logs");
    assert!(status == 404 && body.contains("no log is kept here"), "{body}");

    attic.closed.cancel();
    let failed = until("it is away", || {
        let doctor = queen.json("/v1/hives/attic/doctor");
        (doctor["checks"][0]["verdict"] == "failed").then_some(doctor)
    });
    assert_eq!(
        (&failed["verdict"], &failed["checks"][0]["check"]),
        (&json!("failed"), &json!("connection"))
    );
    let message = failed["checks"][0]["message"].as_str().unwrap();
    assert!(message.contains(&attic.address.to_string()), "{message}");
}
