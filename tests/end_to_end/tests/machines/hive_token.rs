//! The token of a hive: made by the hive, required for everything, and found by a queen of the same user.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use crate::daemon::{Daemon, Home};
use rbee_transport_http::{Token, wire};
use serde_json::{Value, json};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A port without a listener.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_hive_without_a_token_makes_one_wants_it_for_everything_and_keeps_it() {
    let home = Home::new();
    let hive = home.hive(0);
    let (file, token) = (home.attic().join("token"), home.token());
    assert_eq!((mode(&home.attic()), mode(&file)), (0o700, 0o600));
    token.parse::<Token>().unwrap();
    assert_eq!(token.len(), 64);
    let names_file = |line: &Value| line["token_file"] == file.to_str().unwrap();
    assert!(hive.said.iter().any(names_file), "{:#?}", hive.said);
    let says_token = |line: &Value| line.to_string().contains(&token);
    assert!(!hive.said.iter().any(says_token), "{:#?}", hive.said);

    let wrong = Token::random().unwrap();
    for (method, path) in wire::hive::ROUTES {
        let path = path.replace("{id}", "67e55044-10b1-426f-9247-bb680e5fe0c8");
        let path = path.replace("{digest}", &format!("sha256:{}", "0".repeat(64)));
        for token in [None, Some(wrong.reveal())] {
            let (status, body) = hive.ask(method, &path, token, &json!({}));
            if path == wire::HEALTH && token.is_none() {
                assert_eq!((status, body), (200, json!({"status": "ok"})));
            } else {
                assert_eq!(status, 401, "{method} {path}: {body}");
            }
        }
    }
    let (status, report) = hive.ask("GET", wire::hive::CAPABILITIES, Some(&token), &Value::Null);
    assert_eq!(status, 200, "{report}");
    hive.end();
    let again = home.hive(0);
    assert_eq!((home.token(), mode(&file)), (token, 0o600));
    again.end();
}

#[test]
fn a_queen_of_the_same_user_finds_the_token_also_a_new_one() {
    let home = Home::new();
    let hive = home.hive(0);
    let port = hive.address.port();
    let queen = home.queen(&[]);
    let (status, view) = queen.add(&json!({"url": format!("http://localhost:{port}")}));
    assert_eq!((status, &view["id"], &view["status"]), (201, &json!("attic"), &json!("online")));
    // The token is kept only with the hive.
    let remembered = fs::read_to_string(home.path("queen/hives/attic.json")).unwrap();
    assert!(!remembered.contains(&home.token()), "{remembered}");

    // An invented owner number does not take the hive from the queen, even with the token.
    let wrong = json!({"owner": u64::MAX});
    let (status, body) = hive.ask("POST", wire::LEASE, Some(&home.token()), &wrong);
    assert_eq!((status, &body["error"]["code"]), (409, &json!("FENCED")), "{body}");
    let path = format!("{}?owner={}", wire::hive::EVENTS, u64::MAX);
    assert_eq!(hive.ask("GET", &path, Some(&home.token()), &Value::Null).0, 409);
    queen.until("online");

    hive.end();
    queen.until("offline");
    let old = home.token();
    fs::remove_file(home.attic().join("token")).unwrap();
    let hive = home.hive(port);
    assert_ne!(home.token(), old);
    queen.until("online");
    queen.end();
    // The next run of the queen takes the hive over, and finds the token too.
    let next = home.queen(&[]);
    next.until("online");
    drop(hive);
}

#[test]
fn a_hive_that_other_machines_can_reach_has_a_token_too() {
    let home = Home::new();
    let mut command = home.command("rbee-hive");
    command.args(["--id", "attic", "--port", "0", "--host", "0.0.0.0"]);
    let mut hive = Daemon::start(command);
    hive.address = SocketAddr::from(([127, 0, 0, 1], hive.address.port()));
    assert_eq!(hive.ask("GET", wire::hive::CAPABILITIES, None, &Value::Null).0, 401);
    let queen = home.queen(&[]);
    let (status, view) = queen.add(&json!({"url": hive.url()}));
    assert_eq!(status, 201, "{view}");
}

#[test]
fn a_hive_of_the_configuration_may_start_after_the_queen() {
    let (home, port) = (Home::new(), free_port());
    let config = home.path("queen.yaml");
    fs::write(&config, format!("hives:\n  - {{id: attic, url: \"http://127.0.0.1:{port}\"}}\n"))
        .unwrap();
    let queen = home.queen(&["--config", config.to_str().unwrap()]);
    queen.until("error");
    let hive = home.hive(port);
    queen.until("online");
    drop(hive);
}

#[test]
fn a_hive_with_a_token_of_its_own_writes_none_and_a_queen_is_told_what_to_pass() {
    let home = Home::new();
    home.hive(0).end();
    let kept = home.token();
    let token = Token::random().unwrap();
    let mut command = home.command("rbee-hive");
    command.args(["--id", "attic", "--port", "0"]).env("RBEE_HIVE_TOKEN", token.reveal());
    let hive = Daemon::start(command);
    assert_eq!(hive.ask("GET", wire::hive::CAPABILITIES, Some(&kept), &Value::Null).0, 401);
    let queen = home.queen(&[]);
    let (status, body) = queen.add(&json!({"url": hive.url()}));
    assert_eq!((status, &body["error"]["details"]["param"]), (400, &json!("token")), "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    let hives = home.attic().parent().unwrap().display().to_string();
    for part in
        [&*hive.url(), &*hives, "`token` in the hive's state directory", "--hive-token-file"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    let (status, view) = queen.add(&json!({"url": hive.url(), "token": token.reveal()}));
    assert_eq!(status, 201, "{view}");
    assert_eq!(home.token(), kept);
}

#[test]
fn a_token_that_is_set_and_empty_is_refused_and_not_replaced() {
    let home = Home::new();
    let mut command = home.command("rbee-hive");
    command.args(["--id", "attic", "--port", "0"]).env("RBEE_HIVE_TOKEN", "");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("RBEE_HIVE_TOKEN: the token has 0 characters"), "{said}");
    assert!(!home.attic().exists());
}
