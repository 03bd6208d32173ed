//! SIGHUP: files are read again while the daemon serves, and unusable content changes nothing.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
};

use crate::support::{self, Queen, chat, lives, request, until};
use serde_json::Value;

/// Sends SIGHUP, and waits until this many log lines in total say this about this file.
fn reload(queen: &Queen, file: &Path, says: &str, times: usize) {
    queen.signal("-HUP");
    let about = |line: &Value| {
        line["message"].as_str().is_some_and(|text| text.contains(says))
            && line["fields"]["file"].as_str().or(line["file"].as_str()) == file.to_str()
    };
    until(&format!("the log says {says:?} of {}", file.display()), || {
        (queen.log().iter().filter(|line| about(line)).count() >= times).then_some(())
    });
}

fn status(address: SocketAddr, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    request(address, "GET", "/v1/jobs", None, &[("authorization", &bearer)]).0
}

#[test]
fn a_changed_token_holds_at_once_and_a_broken_one_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("queen.token");
    let [old, new] = ["o".repeat(64), "n".repeat(64)];
    std::fs::write(&file, &old).unwrap();
    let arguments = ["--token-file", file.to_str().unwrap(), "--local-hive", "off"];
    let mut queen = Queen::start(data.path(), &arguments);
    let held = |token: &str| status(queen.address, token);
    assert_eq!((held(&old), held(&new)), (200, 401));
    std::fs::write(&file, &new).unwrap();
    assert_eq!((held(&old), held(&new)), (200, 401), "there was no SIGHUP yet");
    reload(&queen, &file, "the new token is in force", 1);
    assert_eq!((held(&old), held(&new)), (401, 200));
    reload(&queen, &file, "the token has not changed", 1);
    std::fs::write(&file, "hunter2").unwrap();
    reload(&queen, &file, "the token is refused; the old one stays in force", 1);
    std::fs::remove_file(&file).unwrap();
    reload(&queen, &file, "the token is refused; the old one stays in force", 2);
    assert_eq!((held(&old), held(&new), held("hunter2")), (401, 200, 401));
    let said = queen.said().join("\n");
    assert!(said.contains("7 characters") && said.contains("No such file"), "{said}");
    for secret in [&*old, &*new, "hunter2"] {
        assert!(!said.contains(secret), "no token is in the log");
    }
    queen.signal("-TERM");
    assert_eq!(queen.wait().code(), Some(0), "it ran until SIGTERM");
}

#[test]
fn a_token_file_that_others_can_read_by_now_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("queen.token");
    let allow = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::write(&file, "t".repeat(64)).unwrap();
    allow(0o600);
    let arguments = ["--token-file", file.to_str().unwrap(), "--local-hive", "off"];
    let queen = Queen::start(data.path(), &arguments);
    reload(&queen, &file, "the token has not changed", 1);
    assert!(!queen.said().join("\n").contains("chmod"), "no other user can read it");
    allow(0o644);
    reload(&queen, &file, "the token has not changed", 2);
    let said = queen.said().join("\n");
    for words in ["WARN", "token_file: ", "mode 0644", "`chmod 600 "] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// A certificate for localhost with its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A new connection that trusts this certificate alone.
fn handshake(address: SocketAddr, certificate: &str) -> std::io::Result<Tls> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(support::TIMEOUT))?;
    let mut tls = rustls::StreamOwned::new(client, stream);
    tls.conn.complete_io(&mut tls.sock)?;
    Ok(tls)
}

/// Sends a request on a connection, which stays open.
fn ask(tls: &mut Tls) -> String {
    tls.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while !said.contains("\"status\"") {
        let count = tls.read(&mut buffer).unwrap();
        assert!(count > 0, "{said}");
        said += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    said
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_a_broken_one_to_nobody() {
    let data = tempfile::tempdir().unwrap();
    let (cert, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
    let write = |(certificate, secret): &(String, String)| {
        std::fs::write(&cert, certificate).unwrap();
        std::fs::write(&key, secret).unwrap();
    };
    let [old, new, other] = [certificate(), certificate(), certificate()];
    write(&old);
    let arguments = [
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--local-hive",
        "off",
    ];
    let queen = Queen::start(data.path(), &arguments);
    let mut established = handshake(queen.address, &old.0).unwrap();
    assert!(ask(&mut established).starts_with("HTTP/1.1 200"));
    write(&new);
    reload(&queen, &cert, "the new TLS certificate is in force", 1);
    assert!(ask(&mut handshake(queen.address, &new.0).unwrap()).starts_with("HTTP/1.1 200"));
    assert!(handshake(queen.address, &old.0).is_err(), "the old one is not shown any more");
    assert!(ask(&mut established).starts_with("HTTP/1.1 200"), "established connections continue");

    let refused = "the TLS certificate is refused; the old one stays in force";
    for (times, broken) in [
        (new.0.clone(), "no key".to_owned()),
        ("no certificate".to_owned(), new.1.clone()),
        // Each of them is valid, but they do not match.
        (other.0.clone(), new.1.clone()),
    ]
    .iter()
    .enumerate()
    {
        write(broken);
        reload(&queen, &cert, refused, times + 1);
        handshake(queen.address, &new.0).unwrap();
    }
    write(&new);
    reload(&queen, &cert, "the TLS certificate has not changed", 1);
    std::fs::remove_file(&key).unwrap();
    reload(&queen, &cert, refused, 4);
    assert!(ask(&mut handshake(queen.address, &new.0).unwrap()).starts_with("HTTP/1.1 200"));
    assert!(ask(&mut established).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_new_certificate_that_is_not_valid_now_is_warned_of() {
    let data = tempfile::tempdir().unwrap();
    let (cert, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
    let (good, secret) = certificate();
    std::fs::write(&cert, good).unwrap();
    std::fs::write(&key, secret).unwrap();
    let [cert_path, key_path] = [&cert, &key].map(|path| path.to_str().unwrap());
    let arguments = ["--tls-cert", cert_path, "--tls-key", key_path, "--local-hive", "off"];
    let queen = Queen::start(data.path(), &arguments);
    let warnings = || {
        let log = queen.log();
        let warned = log.iter().filter(|line| line["level"] == "WARN").cloned();
        warned.filter_map(|line| line["message"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert!(!warnings().join("\n").contains("tls_cert"), "{:?}", warnings());
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 2, 3);
    let pair = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&cert, parameters.self_signed(&pair).unwrap().pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let expected = format!("tls_cert: {cert_path}: the certificate expired on 2021-02-03");
    for (times, says) in
        ["the new TLS certificate is in force", "the TLS certificate has not changed"]
            .into_iter()
            .enumerate()
    {
        reload(&queen, &cert, says, 1);
        until("the log warns of it", || {
            let told = warnings().iter().filter(|warning| warning.contains(&expected)).count();
            (told > times).then_some(())
        });
    }
}

#[test]
fn a_changed_policy_is_in_force_at_once_and_one_that_does_not_compile_never() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("mine.rhai");
    let text =
        |name: &str| format!("// {name}.\nfn schedule(job, workers, hives) {{ builtin() }}\n");
    std::fs::write(&file, text("First")).unwrap();
    let arguments = ["--policy", file.to_str().unwrap(), "--local-hive", "off"];
    let queen = Queen::start(data.path(), &arguments);
    let described = || queen.json("/v1/policy")["description"].clone();
    assert_eq!(described(), "First.");
    std::fs::write(&file, text("Second")).unwrap();
    // Without the signal it would be read too, after it was unchanged for a moment.
    queen.signal("-HUP");
    until("it is in force", || (described() == "Second.").then_some(()));
    std::fs::write(&file, "fn schedule(job, workers, hives) { workers.idel() }").unwrap();
    reload(&queen, &file, "the old one stays in force", 1);
    assert_eq!(described(), "Second.");
    assert_eq!(queen.json("/health")["status"], "ok");
}

#[test]
fn a_worker_outlives_sighup() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &[]);
    let (status, answer) = queen.post("/v1/chat/completions", &chat("Hello!", 4));
    assert_eq!(status, 200, "{answer}");
    let workers = queen.children();
    for _ in 0..3 {
        let pid = workers[0].to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        queen.signal("-HUP");
        let (status, answer) = queen.post("/v1/chat/completions", &chat("Hello!", 4));
        assert_eq!(status, 200, "{answer}");
    }
    assert!(lives(workers[0]) && queen.children() == workers, "the same worker");
}

#[test]
fn a_daemon_whose_terminal_has_gone_goes_on() {
    use std::io::BufRead;
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--port", "0", "--log-format", "json", "--local-hive", "off"];
    let mut child = support::command(data.path(), &arguments).spawn().unwrap();
    let lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    let url = lines.map_while(Result::ok).find_map(|line| {
        let line: Value = serde_json::from_str(&line).unwrap();
        (line["message"] == "serving").then(|| line["url"].as_str().unwrap().to_owned())
    });
    // From here on nothing reads its output, and each line that it writes is an error.
    drop(child.stdout.take());
    let address: SocketAddr = url.unwrap().split_once("://").unwrap().1.parse().unwrap();
    let pid = child.id().to_string();
    for _ in 0..3 {
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        let (status, _) = request(address, "POST", "/v1/chat/completions", Some("{}"), &[]);
        assert_eq!(status, 400);
    }
    assert_eq!(child.try_wait().unwrap(), None);
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = until("it ends in order", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
