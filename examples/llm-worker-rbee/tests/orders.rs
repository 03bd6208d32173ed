//! Tests that a worker that is started by hand, or with an invalid order, says what it is for and ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

fn started_with(order: &[u8]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-worker-rbee"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended before it has read all of this.
    let _ = child.stdin.take().unwrap().write_all(order);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_order_that_is_none_is_refused_without_being_repeated() {
    let secret = "a-secret-that-nobody-is-to-read";
    let broken = format!("{{\"token\": \"{secret}\", \"id\": 7}}\n");
    for order in [&b""[..], b"\n", b"{}\n", b"not json\n", broken.as_bytes(), b"\xff\xfe\n"] {
        let (code, said) = started_with(order);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("a hive starts this program"), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-worker-rbee"));
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_help_says_what_the_program_is_for_and_how_it_ends() {
    for flag in ["--help", "-h"] {
        let (code, said, errors) = run(&[flag]);
        assert_eq!((code, &*errors), (Some(0), ""));
        for part in [
            "A hive starts it",
            "rbee load MODEL",
            "Usage:",
            "Exit codes",
            "lease_ms",
            "milliseconds",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let (code, said, _) = run(&["--version"]);
    assert_eq!((code, said), (Some(0), format!("llm-worker-rbee {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, _, errors) = run(&["--port", "1"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("--port") && errors.contains("--help"), "{errors}");
}

#[test]
fn the_example_of_the_help_starts_a_worker() {
    use std::io::{BufRead, BufReader, Read};
    use std::net::{TcpListener, TcpStream};

    let (_, help, _) = run(&["--help"]);
    let line = help.lines().find_map(|line| line.trim().strip_prefix("echo '")).unwrap();
    let order = line.strip_suffix("' > order").unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bee-tiny");
    let model = std::fs::canonicalize(model).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let order = order.replace("/models/bee-tiny", model.to_str().unwrap()).replace("7899", &port);

    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-worker-rbee"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{order}").unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let ready =
        lines.take_while(|line| !line.contains("load_failed")).find(|line| line.contains("ready"));
    assert!(ready.is_some(), "{:?}", child.try_wait());
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let (_, header) = help.split_once("-H '").unwrap();
    let (header, _) = header.split_once('\'').unwrap();
    write!(
        stream,
        "GET /health HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"phase\":\"ready\""),
        "{answer}"
    );
}
