//! Tests of the quickstart as a user runs it: the real program, the bundled model, a database on disk.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

fn quickstart(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command
        .arg("--data-dir")
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Kills a program, and the processes that it has started.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let children = children(self.0.id());
        let _ = self.0.kill();
        let _ = self.0.wait();
        for pid in children {
            let pid = pid.to_string();
            let _ = Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status();
        }
    }
}

fn children(of: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-o", "pid=", "--ppid", &of.to_string()]).output();
    text(&output.unwrap().stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    quickstart(data, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_answer_is_on_standard_output_and_the_rest_on_standard_error() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--once", "--seed", "7", "--prompt", "Name three flowers."];
    let first = run(data.path(), &arguments);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let answer = text(&first.stdout);
    assert!(answer.split_whitespace().count() >= 4, "{answer:?}");
    assert!(!answer.contains('\u{1b}'), "no control sequences where there is no terminal");
    let rest = text(&first.stderr);
    for part in ["queue wait", "first token after", "tokens/s", "is recorded in"] {
        assert!(rest.contains(part), "{part:?} is missing in {rest}");
    }
    let again = run(data.path(), &arguments);
    assert_eq!(text(&again.stdout), answer, "the same seed gives the same answer");
}

#[test]
fn a_job_whose_process_was_killed_in_the_middle_is_finished_by_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let story = ["--once", "--seed", "3", "--max-tokens", "400", "--prompt"];
    let story = [&story[..], &["Tell me a long story about a bee."]].concat();
    let whole = text(&run(data.path(), &story).stdout);

    let mut child = Guard(quickstart(data.path(), &story).spawn().unwrap());
    let mut begun = [0; 8];
    child.0.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    child.0.kill().unwrap();
    assert!(!child.0.wait().unwrap().success());

    let next = run(data.path(), &["--once", "--prompt", "Hello!"]);
    let rest = text(&next.stderr);
    assert!(next.status.success(), "{rest}");
    assert!(rest.contains("of a previous run had not ended"), "{rest}");
    assert!(rest.contains("is complete now"), "{rest}");
    assert!(rest.contains(whole.trim()), "the same story, to its end: {rest}");

    let after = run(data.path(), &["--once", "--prompt", "Hello!"]);
    assert!(!text(&after.stderr).contains("had not ended"), "it is accounted for once");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line_and_by_the_exit_code() {
    let data = tempfile::tempdir().unwrap();
    let [empty, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let no_model = format!("file:{}", empty.path().display());
    let file = other.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    for (arguments, said) in [
        (["--temperature", "-1"], "temperature is -1; allowed is 0 to 2"),
        (["--model", "file:/no/such/model"], "/no/such/model"),
        (["--model", &no_model], "has no files in it"),
        (["--model", "file:relative"], "the path is not absolute"),
        (["--max-tokens", "0"], "max_tokens is 0"),
        (["--data-dir", file.to_str().unwrap()], "file"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
        if arguments[0] != "--data-dir" {
            command.arg("--data-dir").arg(data.path());
        }
        let output = command.args(["--once"]).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let rest = text(&output.stderr);
        assert!(rest.contains("error: "), "{rest}");
        assert!(rest.contains(said), "{said:?} is missing in {rest}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        assert!(!rest.contains("panicked"), "{rest}");
    }
}

#[test]
fn it_goes_on_to_serve_what_it_says_until_it_is_told_to_end() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Guard(quickstart(data.path(), &["--max-tokens", "8"]).spawn().unwrap());
    let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines();
    let mut said = String::new();
    let curl = loop {
        let Some(line) = lines.next() else { panic!("it ended before it invited: {said}") };
        let line = line.unwrap();
        if line.contains("curl ") {
            break line;
        }
        said = said + &line + "\n";
    };
    let next = lines.next().unwrap().unwrap();
    assert!(next.contains("OPENAI_BASE_URL=http://127.0.0.1:"), "{next}");

    // The command that a user would paste.
    let output = Command::new("sh").args(["-c", &curl]).output().unwrap();
    let answer = text(&output.stdout);
    assert!(answer.starts_with("data: {") && answer.contains("[DONE]"), "{answer} {output:?}");

    let workers = children(program.0.id());
    assert_eq!(workers.len(), 1, "the worker is a process of its own");
    let pid = program.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(program.0.wait().unwrap().code(), Some(0));
    let worker = workers[0].to_string();
    let is_gone = !Command::new("kill")
        .args(["-0", &worker])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success();
    assert!(is_gone, "no worker is left");
}

#[test]
fn an_order_to_shut_down_over_http_ends_it() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Guard(quickstart(data.path(), &["--max-tokens", "8"]).spawn().unwrap());
    let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines();
    let mut line = || lines.next().expect("it ended before the order").unwrap();
    let url = loop {
        if let Some((_, url)) = line().split_once("OPENAI_BASE_URL=") {
            break url.split("/v1").next().unwrap().to_owned();
        }
    };
    let order = format!("{url}/v1/admin/shutdown");
    let curl = ["-sS", "--fail", "-H", "content-type: application/json", "-d", "{}", &order];
    let output = Command::new("curl").args(curl).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(program.0.wait().unwrap().code(), Some(0));
}
