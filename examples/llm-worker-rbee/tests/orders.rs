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
