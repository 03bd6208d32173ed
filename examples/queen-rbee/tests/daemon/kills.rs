//! A queen that is killed at points chosen by a seed, under clients that submit, follow and resume: what they were told
//! before still holds after.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::support::{self, Queen, chat, until};
use serde_json::{Value, json};

const KILLS: usize = 6;
const CLIENTS: usize = 4;
/// The tokens of each answer: more than between two checkpoints.
const TOKENS: u32 = 40;
/// The most lines that all clients have read before a kill: a few answers of each.
const MOST_LINES: u64 = 5_000;

/// What a client got of one job.
#[derive(Default)]
struct Told {
    /// The number of the last event.
    last: Option<u64>,
    text: String,
    ends: usize,
    /// It is a stream of OpenAI's API: its events have no numbers, and its answer is not kept.
    is_chat: bool,
}

/// By job.
type AllTold = BTreeMap<String, Told>;

/// The request of every job: all have the same answer.
fn story() -> Value {
    let mut story = chat("Tell me a story about a bee.", TOKENS);
    story["temperature"] = json!(1.0);
    story
}

/// SplitMix64: the points of the kills are the same in every run.
fn random(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Reads the lines of a response, until it ends or breaks off.
fn lines(reader: BufReader<TcpStream>) -> impl Iterator<Item = String> {
    // A line that the kill has cut off has no end.
    let whole = |line: &Vec<u8>| line.ends_with(b"\n");
    let mut reader = reader;
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok()?;
        Some(line).filter(whole)
    })
    .map(|line| String::from_utf8(line).unwrap().trim_end().to_owned())
}

impl Told {
    /// Takes the events of the job; `read` is called for each line.
    fn follow(&mut self, reader: BufReader<TcpStream>, read: impl Fn()) {
        let (mut id, mut name, mut data) = (None, String::new(), Value::Null);
        for line in lines(reader) {
            read();
            match line.split_once(": ") {
                Some(("id", number)) => id = Some(number.parse::<u64>().unwrap()),
                Some(("event", event)) => name = event.to_owned(),
                Some(("data", json)) => data = serde_json::from_str(json).unwrap(),
                // The end of an event. A number without a gap follows the last one.
                None if line.is_empty() && !name.is_empty() => {
                    if let Some(id) = id.take() {
                        assert_eq!(id, self.last.map_or(0, |last| last + 1), "{name}");
                        self.last = Some(id);
                    }
                    assert_eq!(self.ends, 0, "{name} after the end");
                    match name.as_str() {
                        "token" => self.text += data["text"].as_str().unwrap(),
                        "end" => self.ends += 1,
                        "error" => panic!("{data}"),
                        _ => {}
                    }
                    name.clear();
                }
                _ => {}
            }
        }
    }
}

/// Submits jobs one after the other, and follows each, until the queen is gone.
fn submit_and_follow(address: SocketAddr, read: &AtomicUsize) -> AllTold {
    let mut all = AllTold::new();
    loop {
        let Ok(reader) = support::try_open(address, "POST", "/v1/jobs", Some(&story()), None)
        else {
            return all;
        };
        let answer: Vec<String> = lines(reader).collect();
        let location = answer.iter().find_map(|line| line.strip_prefix("location: /v1/jobs/"));
        // What follows the head has no line end.
        let (true, Some(job)) = (answer.iter().any(String::is_empty), location) else {
            return all;
        };
        read.fetch_add(1, Ordering::Relaxed);
        let told = all.entry(job.to_owned()).or_default();
        let path = format!("/v1/jobs/{job}/events");
        if let Ok(reader) = support::try_open(address, "GET", &path, None, None) {
            told.follow(reader, || _ = read.fetch_add(1, Ordering::Relaxed));
        }
        if told.ends == 0 {
            return all;
        }
    }
}

/// Streams answers over OpenAI's API one after the other, until the queen is gone.
fn stream(address: SocketAddr, read: &AtomicUsize) -> AllTold {
    let mut all = AllTold::new();
    let mut body = story();
    body["stream"] = json!(true);
    loop {
        let path = "/v1/chat/completions";
        let Ok(reader) = support::try_open(address, "POST", path, Some(&body), None) else {
            return all;
        };
        let (mut told, mut job) = (Told { is_chat: true, ..Told::default() }, None);
        for line in lines(reader) {
            read.fetch_add(1, Ordering::Relaxed);
            if let Some(id) = line.strip_prefix("x-rbee-job-id: ") {
                job = Some(id.to_owned());
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            assert_eq!(told.ends, 0, "{line} after the end");
            if data == "[DONE]" {
                told.ends = 1;
                continue;
            }
            let chunk: Value = serde_json::from_str(data).unwrap();
            told.text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        }
        let is_whole = told.ends == 1;
        all.extend(job.map(|job| (job, told)));
        if !is_whole {
            return all;
        }
    }
}

#[test]
fn what_clients_were_told_before_a_kill_still_holds_after_it() {
    let data = tempfile::tempdir().unwrap();
    let start = || Queen::start(data.path(), &["--worker-slots", "4"]);
    let mut queen = start();
    let (status, answer) = queen.post("/v1/chat/completions", &story());
    assert_eq!(status, 200, "{answer}");
    let whole = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    // The worker survives the queen, and the next queen finds it.
    let workers = queen.children();
    let (mut acknowledged, mut ended) = (0, 0);
    for kill in 0..KILLS {
        let (address, read) = (queen.address, Arc::new(AtomicUsize::new(0)));
        let all = Arc::new(Mutex::new(AllTold::new()));
        let clients = (0..CLIENTS).map(|client| {
            let (read, all) = (read.clone(), all.clone());
            thread::spawn(move || {
                let work = if client % 2 == 0 { submit_and_follow } else { stream };
                let told = work(address, &read);
                all.lock().unwrap().extend(told);
            })
        });
        let clients: Vec<_> = clients.collect();
        let lines = usize::try_from(random(kill as u64 + 1) % MOST_LINES).unwrap();
        until("the clients have read enough", || {
            (read.load(Ordering::Relaxed) >= lines).then_some(())
        });
        queen.child.kill().unwrap();
        queen.child.wait().unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
        queen = start();
        let all = std::mem::take(&mut *all.lock().unwrap());
        acknowledged += all.len();
        for (job, mut told) in all {
            let what = format!("kill {kill} after {lines} lines, job {job}");
            let path = format!("/v1/jobs/{job}");
            let (status, found) = queen.get(&path);
            assert_eq!(status, 200, "{what} is lost: {found}");
            assert!(whole.starts_with(&told.text), "{what}: {:?}", told.text);
            let found: Value = serde_json::from_str(&found).unwrap();
            if told.ends > 0 {
                ended += 1;
                assert_eq!(found["state"], "complete", "{what} has ended: {found}");
            } else if told.is_chat {
                until("the job ends", || (queen.json(&path)["state"] == "complete").then_some(()));
            } else {
                let last = told.last.map(|last| last.to_string());
                let events = format!("{path}/events");
                let rest = support::try_open(queen.address, "GET", &events, None, last.as_deref());
                told.follow(rest.unwrap(), || ());
            }
            if told.ends > 0 || !told.is_chat {
                assert_eq!((told.ends, &told.text), (1, &whole), "{what}");
            }
            let found = queen.json(&path);
            assert_eq!(found["state"], "complete", "{what}: {found}");
            assert_eq!(found["attempts"], 1, "{what}: {found}");
        }
    }
    assert!(acknowledged > KILLS * 2 && ended > KILLS, "{acknowledged} jobs, {ended} ends");
    drop(queen);
    workers.into_iter().for_each(support::end);
}
