//! Machines that the queen reaches by SSH: a real `sshd`, the real programs, and the keeper.

use std::{
    fs,
    io::Read as _,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Command, Output, Stdio},
};

use rbee_end_to_end::built_program;
use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    keys::{Key, user},
    machine::{Machine, is_gone},
    programs,
    support::{self, Queen, request, until},
};

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// The flags of a queen for this machine.
fn flags(machine: &Machine) -> Vec<String> {
    let config = machine.config();
    flags_with(&config)
}

fn flags_with(config: &Path) -> Vec<String> {
    let [config, programs] =
        [config, &programs::directory()].map(|path| path.to_str().unwrap().to_owned());
    let flags = ["--local-hive", "off", "--ssh-config", &config, "--programs-dir", &programs];
    flags.map(str::to_owned).into()
}

fn start(data: &TempDir, flags: &[String]) -> Queen {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Queen::start(data.path(), &flags)
}

/// The request to add the machine `box`.
fn order(machine: &Machine) -> Value {
    json!({"ssh": "box", "directory": machine.root(), "arguments": ["--threads", "1"]})
}

fn with(mut order: Value, key: &str, value: impl Into<Value>) -> Value {
    order[key] = value.into();
    order
}

fn send(queen: &Queen, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let body = body.map(Value::to_string);
    let (status, text) = request(queen.address, method, path, body.as_deref(), &[]);
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Sends a request that is answered by events, and returns their names and data.
fn events(queen: &Queen, body: &Value) -> Vec<(String, Value)> {
    let body = body.to_string();
    let (status, text) = request(queen.address, "POST", "/v1/hives", Some(&body), &[EVENTS]);
    assert_eq!(status, 200, "{text}");
    let blocks = text.split("\n\n").filter_map(|block| block.strip_prefix("event: "));
    let parts = blocks.map(|block| block.split_once("\ndata: ").unwrap());
    parts.map(|(name, data)| (name.into(), serde_json::from_str(data).unwrap())).collect()
}

/// The names of the hives in the fleet.
fn hives(queen: &Queen) -> Vec<String> {
    let listed = queen.json("/v1/hives");
    let all = listed["data"].as_array().unwrap().iter();
    all.map(|hive| hive["id"].as_str().unwrap().to_owned()).collect()
}

/// The keeper with this queen.
fn rbee(queen: &Queen, arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(built_program("rbee-keeper", "rbee"));
    command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
    command.env("RBEE_HOST", format!("http://{}", queen.address));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// What the keeper printed on standard output, and on standard error.
fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_machine_is_added_step_by_step_and_nothing_is_left_when_it_is_removed() {
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    let queen = start(&data, &flags(&machine));
    let events = events(&queen, &order(&machine));
    let steps: Vec<_> =
        events.iter().filter(|(name, _)| name == "step").map(|(_, step)| step).collect();
    for step in [
        "configuration",
        "host_key",
        "authentication",
        "probe",
        "programs",
        "upload",
        "start",
        "tunnel",
        "health",
    ] {
        let of = |state: &str| {
            steps.iter().find(|found| found["step"] == step && found["state"] == state)
        };
        assert!(of("started").is_some(), "{step}: {steps:?}");
        let finished = of("finished").unwrap_or_else(|| panic!("{step}: {steps:?}"));
        assert!(finished["duration_ms"].is_u64() && finished["detail"].is_string(), "{finished}");
    }
    let (_, sent) = events.iter().rfind(|(name, _)| name == "sent").unwrap();
    assert!(sent["done"] == sent["total"] && sent["total"].as_u64() > Some(1 << 20), "{sent}");
    let (last, view) = events.last().unwrap();
    assert_eq!(
        (last.as_str(), &view["id"], &view["status"]),
        ("done", &json!("box"), &json!("online"))
    );
    assert_eq!(view["address"], format!("ssh {}@box:{}", user(), machine.sshd.port));

    let (status, error) = send(&queen, "POST", "/v1/hives", Some(&order(&machine)));
    assert_eq!((status, &error["error"]["details"]["param"]), (409, &json!("id")), "{error}");

    let doctor = queen.json("/v1/hives/box/doctor");
    assert_eq!(doctor["verdict"], "ok", "{doctor}");
    let checks = doctor["checks"].as_array().unwrap();
    let check = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap();
    assert!(check("host key of box")["duration_ms"].is_u64());
    assert_eq!(check("answers")["message"], "online");
    let directory = check("directory")["message"].as_str().unwrap();
    assert!(directory.starts_with(machine.root().to_str().unwrap()), "{directory}");
    let logs = queen.json("/v1/hives/box/logs?lines=50");
    let lines = logs["data"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["message"] == "ready"), "{logs}");

    let daemon = machine.pid();
    let (status, removed) = send(&queen, "DELETE", "/v1/hives/box?models=true", None);
    assert_eq!(status, 200, "{removed}");
    let paths: Vec<_> =
        removed["removed"].as_array().unwrap().iter().map(|one| &one["path"]).collect();
    assert!(paths.contains(&&json!(machine.root().join("versions"))), "{removed}");
    assert_eq!(removed["kept"], json!([]), "{removed}");
    until_gone(daemon);
    assert!(!machine.root().exists(), "{removed}");
    assert!(hives(&queen).is_empty());
    assert_eq!(fs::read_dir(data.path().join("data/hives")).unwrap().count(), 0);
}

#[test]
fn a_dry_run_says_what_would_be_used_and_changes_nothing_there() {
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    let queen = start(&data, &flags(&machine));
    let dry = with(order(&machine), "dry_run", true);
    let events = events(&queen, &dry);
    let (last, doctor) = events.last().unwrap();
    assert_eq!(
        (last.as_str(), &doctor["hive"], &doctor["verdict"]),
        ("checked", &json!("box"), &json!("ok"))
    );
    let (status, doctor) = send(&queen, "POST", "/v1/hives", Some(&dry));
    assert_eq!((status, &doctor["verdict"]), (200, &json!("ok")), "{doctor}");
    assert!(!machine.root().exists() && hives(&queen).is_empty());
}

#[test]
fn the_keeper_adds_a_machine_that_it_is_told_to_trust_and_looks_after_it() {
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    machine.sshd.set_known_hosts("");
    let queen = start(&data, &flags(&machine));
    let root = machine.root();
    let add =
        ["hive", "add", "box", "--directory", root.to_str().unwrap(), "--hive-arg=--threads=1"];
    let refused = rbee(&queen, &add);
    let (_, error) = said(&refused);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains(&machine.sshd.host_keys[0].fingerprint()), "{error}");
    assert!(error.contains("rbee hive add box --accept-new"), "{error}");
    assert!(machine.sshd.known_hosts().is_empty() && !root.exists() && hives(&queen).is_empty());

    let trusted = [&add[..], &["--accept-new", "--label", "region=eu"]].concat();
    let dry = rbee(&queen, &[&trusted[..], &["--dry-run", "--json"]].concat());
    let doctor: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((&doctor["hive"], &doctor["verdict"]), (&json!("box"), &json!("ok")), "{doctor}");
    assert!(dry.stderr.is_empty() && !root.exists(), "{:?}", said(&dry));
    let (out, steps) = said(&rbee(&queen, &trusted));
    assert_eq!(
        out,
        format!("added hive box (ssh {}@box:{})\n", user(), machine.sshd.port),
        "{steps}"
    );
    for step in ["host key of box", "upload of box", "health of box"] {
        assert!(steps.lines().any(|line| line.starts_with(step)), "{step}: {steps}");
    }
    assert!(!machine.sshd.known_hosts().is_empty());
    let (shown, _) = said(&rbee(&queen, &["hive", "show", "box"]));
    assert!(shown.contains("region=eu") && shown.contains("online"), "{shown}");

    let doctor = rbee(&queen, &["hive", "doctor", "box"]);
    let (out, _) = said(&doctor);
    assert!(doctor.status.success() && out.contains("✓ host key of box: "), "{out}");
    let (logs, _) = said(&rbee(&queen, &["hive", "logs", "box", "-n", "20"]));
    assert!(logs.contains("ready"), "{logs}");

    let daemon = machine.pid();
    assert_eq!(said(&rbee(&queen, &["hive", "stop", "box"])).0, "stopped hive box\n");
    until_gone(daemon);
    let (started, error) = said(&rbee(&queen, &["hive", "start", "box"]));
    assert_eq!(started, "started hive box\n", "{error}");
    let removed = rbee(&queen, &["hive", "rm", "box", "--models", "--json"]);
    let removed: Value = serde_json::from_slice(&removed.stdout).unwrap();
    assert_eq!((&removed["done"], &removed["kept"]), (&json!("removed"), &json!([])));
    assert!(!root.exists(), "{removed}");
}

#[test]
fn a_queen_that_was_killed_finds_its_hive_again_and_one_that_ends_stops_it() {
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    let flags = flags(&machine);
    let queen = start(&data, &flags);
    let (status, view) = send(&queen, "POST", "/v1/hives", Some(&order(&machine)));
    assert_eq!((status, &view["status"]), (201, &json!("online")), "{view}");
    let daemon = machine.pid();
    drop(queen);
    let mut queen = start(&data, &flags);
    until("the hive is online again", || {
        (queen.json("/v1/hives/box")["status"] == "online").then_some(())
    });
    assert_eq!(machine.pid(), daemon, "it is the same process");
    queen.signal("-TERM");
    assert!(queen.wait().success());
    until_gone(daemon);
}

#[test]
fn a_hive_of_the_configuration_is_started_and_its_files_are_kept_if_asked() {
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    let config = data.path().join("queen.yaml");
    let text = format!(
        "hives:\n- {{id: box, ssh: {}@box, directory: {}, arguments: [--threads, '1'], labels: region=eu}}\n",
        user(),
        machine.root().display()
    );
    fs::write(&config, text).unwrap();
    let flags =
        [flags(&machine), vec!["--config".into(), config.to_str().unwrap().into()]].concat();
    let queen = start(&data, &flags);
    let view = until("the hive is online", || {
        Some(queen.json("/v1/hives/box")).filter(|view| view["status"] == "online")
    });
    assert_eq!(view["labels"], json!({"region": "eu"}));
    let daemon = machine.pid();
    let (status, kept) = send(&queen, "DELETE", "/v1/hives/box?keep_files=true", None);
    assert_eq!((status, &kept["kept"][0]["path"]), (200, &json!(machine.root())), "{kept}");
    until_gone(daemon);
    assert!(machine.root().join("versions").exists());
}

#[test]
fn a_machine_that_is_away_leaves_the_fleet_and_what_is_left_there_is_said() {
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    // A port on which nothing listens.
    let config = fs::read_to_string(machine.config()).unwrap();
    let config = config.replace(&format!("Port {}", machine.sshd.port), "Port 1");
    let path = machine.sshd.path("away_config");
    fs::write(&path, config).unwrap();
    let entry = format!("[{{id: box, ssh: box, directory: {}}}]", machine.root().display());
    let flags = [flags_with(&path), vec!["--hives".into(), entry]].concat();
    let queen = start(&data, &flags);
    let doctor = queen.json("/v1/hives/box/doctor");
    assert_eq!(doctor["verdict"], "failed", "{doctor}");
    let (status, error) = send(&queen, "DELETE", "/v1/hives/box", None);
    let message = error["error"]["message"].as_str().unwrap();
    assert_eq!(status, 502, "{message}");
    for said in [
        "belongs to the fleet no more",
        "on box, its files are still in",
        machine.root().to_str().unwrap(),
    ] {
        assert!(message.contains(said), "{said}: {message}");
    }
    assert!(hives(&queen).is_empty());
}

#[test]
fn a_client_that_goes_away_leaves_no_half_of_a_hive() {
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    let queen = start(&data, &flags(&machine));
    let mut stream = queen.open_with("/v1/hives", &order(&machine), &[EVENTS]);
    let mut text = String::new();
    while !text.contains("event: sent") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0] as char);
    }
    drop(stream);
    // The name is free again once the queen has noticed.
    let view = until("it can be added again", || {
        let (status, view) = send(&queen, "POST", "/v1/hives", Some(&order(&machine)));
        assert!(matches!(status, 201 | 409), "{view}");
        (status == 201).then_some(view)
    });
    assert_eq!(view["status"], "online", "{view}");
    assert_eq!(hives(&queen), ["box"]);
}

#[test]
fn machines_are_added_side_by_side_and_one_that_fails_does_not_hold_the_others() {
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    let queen = start(&data, &flags(&machine));
    let named = |id: &str| {
        let order = with(order(&machine), "directory", json!(machine.sshd.path(id)));
        with(order, "id", id)
    };
    let bad = with(named("bad"), "ssh", "nobody@127.0.0.1:1");
    std::thread::scope(|scope| {
        let add = |order: Value| {
            scope.spawn(|| {
                let order = order;
                send(&queen, "POST", "/v1/hives", Some(&order))
            })
        };
        let good = [add(named("a")), add(named("b"))];
        let (status, error) = add(bad).join().unwrap();
        assert_eq!(status, 502, "{error}");
        for thread in good {
            let (status, view) = thread.join().unwrap();
            assert_eq!((status, &view["status"]), (201, &json!("online")), "{view}");
        }
    });
    assert_eq!(hives(&queen), ["a", "b"]);
    for id in ["a", "b"] {
        let (status, removed) =
            send(&queen, "DELETE", &format!("/v1/hives/{id}?models=true"), None);
        assert_eq!((status, machine.sshd.path(id).exists()), (200, false), "{removed}");
    }
}

#[test]
fn a_passphrase_is_asked_for_sent_once_and_stored_nowhere() {
    const PASSPHRASE: &str = "correct horse battery";
    let (machine, data) = (Machine::start(), tempfile::tempdir().unwrap());
    let key =
        Key::with_passphrase(machine.sshd.directory.path(), "id_secret", "ed25519", PASSPHRASE);
    fs::write(machine.sshd.path("authorized_keys"), key.public() + "\n").unwrap();
    let token = data.path().join("token");
    fs::write(&token, "t".repeat(50)).unwrap();
    let more = [
        "--listen-host",
        "0.0.0.0",
        "--log-level",
        "trace",
        "--token-file",
        token.to_str().unwrap(),
    ];
    let flags =
        [flags_with(&machine.config_with(&key.path)), more.map(str::to_owned).into()].concat();
    let queen = start(&data, &flags);
    let bearer = format!("Bearer {}", "t".repeat(50));
    let post_to = |path: &str, address: SocketAddr, order: &Value| {
        let headers = [("authorization", bearer.as_str())];
        let body = order.to_string();
        let (status, text) = request(address, "POST", path, Some(&body), &headers);
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    let post = |address: SocketAddr, order: &Value| post_to("/v1/hives", address, order);
    let here = SocketAddr::from(([127, 0, 0, 1], queen.address.port()));
    let (order, file) = (order(&machine), key.path.to_str().unwrap());
    for (order, said) in [
        (order.clone(), "is encrypted, and its passphrase is needed"),
        (with(order.clone(), "passphrase", "wrong"), "the passphrase is not that of the key file"),
    ] {
        let (status, error) = post(here, &order);
        let message = error["error"]["message"].as_str().unwrap();
        assert_eq!(
            (status, &error["error"]["details"]["param"]),
            (400, &json!("passphrase")),
            "{message}"
        );
        assert!(message.contains(said) && message.contains(file), "{message}");
    }
    let order = with(order, "passphrase", PASSPHRASE);
    match own_address() {
        Some(ip) => {
            let (status, error) = post((ip, queen.address.port()).into(), &order);
            let message = error["error"]["message"].as_str().unwrap();
            assert!(status == 400 && message.contains("only over TLS"), "{message}");
        }
        None => eprintln!("NOT TESTED: this machine has no address but loopback ones"),
    }
    let (status, view) = post(here, &order);
    assert_eq!((status, &view["status"]), (201, &json!("online")), "{view}");
    // Another run of the queen does not know it.
    let daemon = machine.pid();
    drop(queen);
    let queen = start(&data, &flags);
    let here = SocketAddr::from(([127, 0, 0, 1], queen.address.port()));
    let again = |order: Value| post_to("/v1/hives/box/start", here, &order);
    for order in [json!({}), json!({"passphrase": "wrong"})] {
        let (status, error) = again(order);
        assert_eq!(
            (status, &error["error"]["details"]["param"]),
            (400, &json!("passphrase")),
            "{error}"
        );
    }
    let (status, view) = again(json!({"passphrase": PASSPHRASE}));
    assert_eq!((status, &view["status"]), (202, &json!("online")), "{view}");
    assert_eq!(machine.pid(), daemon);
    assert!(!queen.said().iter().any(|line| line.contains(PASSPHRASE)), "it is in the log");
    let mut directories = vec![data.path().to_owned(), machine.root().join("hives")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => directories.push(entry.path()),
                kind if kind.is_file() => {
                    let bytes = fs::read(entry.path()).unwrap();
                    let mut windows = bytes.windows(PASSPHRASE.len());
                    assert!(
                        !windows.any(|part| part == PASSPHRASE.as_bytes()),
                        "{:?}",
                        entry.path()
                    );
                }
                _ => {}
            }
        }
    }
    for pid in support::children(queen.child.id()).into_iter().chain([queen.child.id()]) {
        assert!(!support::command_line(pid).contains(PASSPHRASE));
    }
}

/// Waits until a process has ended.
fn until_gone(pid: Pid) {
    until("the hive has ended", || is_gone(pid).then_some(()));
}

/// An address of this machine that is not a loopback one. Nothing is sent for that.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}
