//! Workers that are stopped or killed, and queens that are killed, while jobs of the bundled model run.

use std::{
    collections::BTreeMap,
    io::BufRead,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{self, Queen, chat, until};
use serde_json::{Value, json};

/// Settings with which a queue of jobs soon starts more workers.
const SCALED: [&str; 6] =
    ["--scale-up-after", "100ms", "--autoscale-interval", "100ms", "--worker-slots", "1"];

fn story(seed: u64, tokens: u32) -> Value {
    let mut story = chat("Tell me a long story about a bee.", tokens);
    story["seed"] = json!(seed);
    story["temperature"] = json!(1.0);
    story
}

fn submit(queen: &Queen, seed: u64, tokens: u32) -> String {
    let (status, job) = queen.post("/v1/jobs", &story(seed, tokens));
    assert_eq!(status, 202, "{job}");
    job["id"].as_str().unwrap().to_owned()
}

/// Waits for the end of a job.
fn ended(queen: &Queen, id: &str) -> Value {
    until("the job ends", || {
        let job = queen.json(&format!("/v1/jobs/{id}"));
        (!matches!(job["state"].as_str(), Some("queued" | "running"))).then_some(job)
    })
}

/// The text of a job, and the positions of its events.
fn text_of(queen: &Queen, id: &str) -> (String, Vec<u64>) {
    let (status, events) = queen.get(&format!("/v1/jobs/{id}/events"));
    assert_eq!(status, 200, "{events}");
    let (mut text, mut numbers, mut ends) = (String::new(), Vec::new(), 0);
    for event in events.split("\n\n") {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        numbers.extend(field("id: ").map(|id| id.parse::<u64>().unwrap()));
        let data: Value = serde_json::from_str(field("data: ").unwrap_or("null")).unwrap();
        match field("event: ") {
            Some("token") => text += data["text"].as_str().unwrap(),
            Some("end") => ends += 1,
            Some("error") => panic!("{data}"),
            _ => {}
        }
    }
    assert_eq!(ends, 1);
    (text, numbers)
}

/// The workers by id, with their state.
fn workers(queen: &Queen) -> BTreeMap<String, String> {
    let list = queen.json("/v1/workers");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let workers = list["data"].as_array().unwrap().iter();
    workers.map(|worker| (text(&worker["id"]), text(&worker["state"]))).collect()
}

/// A queen with at least two workers, all idle.
fn with_workers(data: &Path) -> Queen {
    let queen = Queen::start(data, &SCALED);
    let jobs: Vec<_> = (0..12).map(|seed| submit(&queen, seed, 200)).collect();
    until("there are two workers", || {
        let ready = |state: &&String| matches!(state.as_str(), "idle" | "busy");
        (workers(&queen).values().filter(ready).count() >= 2).then_some(())
    });
    jobs.iter().for_each(|job| _ = ended(&queen, job));
    queen
}

/// The process of a worker: its command line contains the beginning of its id.
fn process_of(queen: &Queen, worker: &str) -> u32 {
    let is_it = |pid: &u32| support::command_line(*pid).contains(&worker[..8]);
    queen.children().into_iter().find(is_it).expect("it is a child of the queen")
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_stream_goes_on_elsewhere_when_its_worker_is_stopped_or_killed() {
    let data = tempfile::tempdir().unwrap();
    let queen = with_workers(data.path());
    let whole = submit(&queen, 7, 300);
    ended(&queen, &whole);
    let (whole, _) = text_of(&queen, &whole);
    for (how, within) in [("-STOP", Duration::from_secs(10)), ("-KILL", Duration::from_secs(5))] {
        let mut request = story(7, 300);
        request["stream"] = json!(true);
        let mut reader = queen.open("/v1/chat/completions", &request);
        let mut line = String::new();
        let mut next = |text: &mut String| loop {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the stream broke off");
            let Some(data) = line.trim().strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                return false;
            }
            let event: Value = serde_json::from_str(data).unwrap();
            if let Some(chunk) = event["choices"][0]["delta"]["content"].as_str() {
                text.push_str(chunk);
                return true;
            }
        };
        let mut text = String::new();
        for _ in 0..20 {
            assert!(next(&mut text));
        }
        let busy = workers(&queen).into_iter().find(|(_, state)| state == "busy");
        let (worker, _) = busy.expect("one runs");
        let pid = process_of(&queen, &worker);
        let faulty = Instant::now();
        signal(pid, how);
        while next(&mut text) {}
        assert!(faulty.elapsed() < within, "{how}: {:?}", faulty.elapsed());
        assert_eq!(text, whole, "{how}");
        if how == "-STOP" {
            assert_eq!(queen.json(&format!("/v1/workers/{worker}"))["slots_available"], 0);
            signal(pid, "-CONT");
            until("it works again", || {
                let worker = queen.json(&format!("/v1/workers/{worker}"));
                (worker["slots_available"] == 1 && worker["suspected"] == false).then_some(())
            });
        }
    }
}

#[test]
fn jobs_that_run_while_the_queen_is_killed_lose_no_try_and_no_word() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = with_workers(data.path());
    let pids = queen.children();
    let whole = submit(&queen, 3, 300);
    ended(&queen, &whole);
    let (whole, _) = text_of(&queen, &whole);
    let jobs: Vec<_> = (0..6).map(|_| submit(&queen, 3, 300)).collect();
    // More often than a job may be tried.
    for _ in 0..6 {
        let is_running = |id: &String| queen.json(&format!("/v1/jobs/{id}"))["state"] == "running";
        if !jobs.iter().any(is_running) {
            break;
        }
        queen.child.kill().unwrap();
        queen.child.wait().unwrap();
        queen = Queen::start(data.path(), &SCALED);
    }
    for id in &jobs {
        let job = ended(&queen, id);
        assert_eq!((&job["state"], &job["attempts"]), (&json!("complete"), &json!(1)), "{job}");
        let (text, numbers) = text_of(&queen, id);
        assert_eq!(text, whole);
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    }
    drop(queen);
    pids.into_iter().for_each(support::end);
}
