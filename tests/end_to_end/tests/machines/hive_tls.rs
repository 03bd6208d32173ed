//! A hive with a certificate, and a queen that reaches it and its workers over TLS alone.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    daemon::{Daemon, Home},
    machine::bee_tiny,
};
use rbee_end_to_end::built;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A user with a certificate for `localhost` and its key.
struct Certified {
    home: Home,
    pem: String,
}

impl Certified {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certified = Self { home: Home::new(), pem: made.cert.pem() };
        fs::write(certified.file("cert.pem"), &certified.pem).unwrap();
        fs::write(certified.file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        certified
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    fn hive(&self, port: u16) -> Daemon {
        let mut command = self.home.command("rbee-hive");
        command.args(["--id", "attic", "--port", &port.to_string(), "--threads", "1"]);
        command.arg("--worker").arg(built("llm-worker-rbee"));
        // One from a variable: they belong together wherever they come from.
        command.arg("--tls-cert").arg(self.file("cert.pem"));
        command.env("RBEE_HIVE_TLS_KEY", self.file("key.pem"));
        Daemon::start(command)
    }
}

fn until(mut reached: impl FnMut() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(30), "it is not reached");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a client gets that does not use TLS.
fn plain_answer(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The answer of the bundled model, and the URL of the worker that it runs on.
fn answered(queen: &Daemon) -> (String, String) {
    let model = bee_tiny().model;
    let order = json!({
        "model": model.as_str(), "messages": [{"role": "user", "content": "Tell me about a lily."}],
        "temperature": 0, "max_tokens": 24,
    });
    let (status, answer) = queen.ask("POST", "/v1/chat/completions", None, &order);
    assert_eq!(status, 200, "{answer}");
    let (_, workers) = queen.ask("GET", "/v1/workers", None, &Value::Null);
    let url = workers["data"][0]["url"].as_str().unwrap_or_else(|| panic!("{workers}"));
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    (text.to_owned(), url.to_owned())
}

#[test]
fn a_job_runs_on_a_hive_that_is_reached_over_tls_and_nothing_there_answers_without() {
    let user = Certified::new();
    let hive = user.hive(0);
    let port = hive.address.port();
    let url = format!("https://localhost:{port}");
    let queen = user.home.queen(&[]);
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    for (order, param, said) in [
        (json!({"url": url, "ca_cert": other}), "ca_cert", "is not trusted"),
        (json!({"url": url, "ca_cert": other}), "ca_cert", "--hive-ca-cert FILE"),
        (json!({"url": url, "ca_cert": "no pem"}), "ca_cert", "ca_cert cannot be used"),
        (
            json!({"url": format!("https://127.0.0.1:{port}"), "ca_cert": user.pem}),
            "url",
            "names localhost, and not 127.0.0.1",
        ),
        (json!({"url": url.replace("https", "http")}), "url", "its address is https://localhost"),
        (
            json!({"url": format!("https://{}", queen.address), "ca_cert": other}),
            "url",
            "does not speak TLS",
        ),
    ] {
        let (_, body) = queen.add(&order);
        let error = &body["error"];
        assert_eq!(error["details"]["param"], param, "{body}");
        assert!(error["message"].as_str().unwrap().contains(said), "{said}: {body}");
    }
    let wrong = json!({"url": url, "ca_cert": user.pem, "token": "w".repeat(64)});
    let (status, body) = queen.add(&wrong);
    assert_eq!((status, &body["error"]["details"]["param"]), (400, &json!("token")), "{body}");

    // Its token is found in its file.
    let (status, view) = queen.add(&json!({"url": url, "ca_cert": user.pem}));
    assert_eq!((status, &view["status"]), (201, &json!("online")), "{view}");
    assert_eq!(view["address"], url);
    let (text, worker) = answered(&queen);
    assert!(!text.is_empty());
    let worker = worker.strip_prefix("https://127.0.0.1:").unwrap().parse().unwrap();
    for port in [port, worker] {
        let answer = plain_answer(port);
        assert!(!answer.contains("HTTP/") && !answer.contains("status"), "{answer:?}");
    }

    // The next run of the queen finds its certificate again.
    queen.end();
    let next = user.home.queen(&[]);
    next.until("online");
    assert_eq!(answered(&next).0, text);
}

#[test]
fn a_new_certificate_is_in_force_after_a_signal_at_the_hive_and_at_the_queen() {
    let user = Certified::new();
    let hive = user.hive(0);
    let config = user.file("queen.yaml");
    let url = format!("https://localhost:{}", hive.address.port());
    let entry = format!("hives:\n  - {{id: attic, url: \"{url}\", ca_cert: cert.pem}}\n");
    fs::write(&config, entry).unwrap();
    let queen = user.home.queen(&["--config", config.to_str().unwrap()]);
    queen.until("online");
    let (text, _) = answered(&queen);

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(user.file("cert.pem"), made.cert.pem()).unwrap();
    fs::write(user.file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let checks = |queen: &Daemon| {
        queen.ask("GET", "/v1/hives/attic/doctor", None, &Value::Null).1["checks"][0].clone()
    };
    assert_eq!(checks(&queen)["verdict"], "ok", "nobody has read the new files yet");
    hive.signal(Signal::HUP);
    until(|| {
        let check = checks(&queen);
        let said = check["message"].as_str().unwrap();
        check["verdict"] == "failed" && said.contains("is not trusted") && said.contains("ca_cert")
    });
    queen.signal(Signal::HUP);
    until(|| checks(&queen)["verdict"] == "ok");
    assert_eq!(answered(&queen).0, text);
}

#[test]
fn a_hive_whose_certificate_cannot_be_used_does_not_start() {
    let user = Certified::new();
    let ended = |arguments: &[&str]| {
        let mut command = user.home.command("rbee-hive");
        let output =
            command.args(["--id", "attic", "--port", "0"]).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (cert, key) = (user.file("cert.pem"), user.file("key.pem"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    for (arguments, said) in [
        (&["--tls-cert", cert, "--tls-key", "/no/key"][..], "/no/key: cannot be read"),
        (&["--tls-cert", key, "--tls-key", key], "key.pem: no certificates in PEM"),
        (&["--tls-cert", cert], "--tls-key <FILE>"),
        (&["--tls-key", key], "--tls-cert <FILE>"),
    ] {
        let (code, err) = ended(arguments);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(said), "{said}: {err}");
    }
    assert!(!user.home.attic().exists(), "nothing was made");
}
