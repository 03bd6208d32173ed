//! What clients of the real program see when it shuts down or hands over, and after its restart.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
};

use crate::support::{self, Queen, chat, request};
use serde_json::{Value, json};

/// A client that reads the events of a job, across runs of the queen.
#[derive(Debug, Default)]
struct Reader {
    /// Position, name and data of each.
    events: Vec<(Option<u64>, String, String)>,
    /// True if it got a reconnection delay, and has read nothing since.
    retry: bool,
}

impl Reader {
    fn last(&self) -> Option<u64> {
        self.events.iter().rev().find_map(|event| event.0)
    }

    /// Reads until the stream ends, or until the event at this position.
    fn read(&mut self, stream: &mut BufReader<TcpStream>, until: Option<u64>) {
        let (mut id, mut name, mut line) = (None, String::new(), String::new());
        while until.is_none() || self.last() < until {
            line.clear();
            if stream.read_line(&mut line).unwrap() == 0 {
                return;
            }
            // Chunk sizes are between them, and are not fields of events.
            let Some((field, value)) = line.trim_end().split_once(": ") else { continue };
            match field {
                "id" => id = value.parse().ok(),
                "event" => name = value.to_owned(),
                "retry" => self.retry = true,
                "data" => {
                    self.events.push((id.take(), std::mem::take(&mut name), value.to_owned()));
                    self.retry = false;
                }
                _ => {}
            }
        }
    }

    fn ids(&self) -> Vec<u64> {
        self.events.iter().filter_map(|event| event.0).collect()
    }

    /// The events that are the same in every run: the queen measures again, and may not know the first worker any
    /// more.
    fn words(&self) -> Vec<&(Option<u64>, String, String)> {
        let is_word = |event: &&(_, String, _)| !matches!(&*event.1, "started" | "metrics");
        self.events.iter().filter(is_word).collect()
    }

    fn ends(&self) -> usize {
        self.events.iter().filter(|event| matches!(&*event.1, "end" | "error")).count()
    }
}

fn story(seed: u64) -> Value {
    let mut story = chat("Tell me a long story about a bee.", 400);
    story["seed"] = json!(seed);
    // So that none ends by itself before the queen does.
    story["min_tokens"] = json!(400);
    story
}

/// Two followers of jobs that continue (one runs, one may wait), and a client that cannot reconnect, across one
/// signal.
fn through(signal: &str, arguments: &[&str]) {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), arguments);
    let submit = |queen: &Queen, seed| {
        let (status, job) = queen.post("/v1/jobs", &story(seed));
        assert_eq!(status, 202, "{job}");
        format!("/v1/jobs/{}", job["id"].as_str().unwrap())
    };
    let jobs = [1, 2].map(|seed| submit(&queen, seed));
    let events = |job: &str| format!("{job}/events");
    let mut readers = [Reader::default(), Reader::default()];
    let mut streams = jobs.each_ref().map(|job| queen.follow(&events(job), None));
    readers[0].read(&mut streams[0], Some(10));
    let mut plain = story(3);
    plain["stream"] = json!(true);
    let mut plain = queen.open("/v1/chat/completions", &plain);
    let keyed = std::thread::spawn({
        let (address, body) = (queen.address, story(4).to_string());
        move || {
            let key = [("idempotency-key", "the-key")];
            request(address, "POST", "/v1/chat/completions", Some(&body), &key)
        }
    });
    support::until("all are there", || {
        (queen.json("/v1/jobs")["data"].as_array().unwrap().len() == 4).then_some(())
    });
    queen.signal(signal);
    for (reader, stream) in readers.iter_mut().zip(&mut streams) {
        reader.read(stream, None);
        assert!(reader.retry, "got a reconnection delay: {:?}", reader.events.last());
        assert_eq!(reader.ends(), 0, "nothing has ended: {:?}", reader.events.last());
    }
    let mut told = String::new();
    plain.read_to_string(&mut told).unwrap();
    assert!(told.contains("shutting_down") && !told.contains("[DONE]"), "{told}");
    let (status, told) = keyed.join().unwrap();
    assert!(status == 503 && told.contains("job_interrupted"), "{status} {told}");
    assert_eq!(queen.wait().code(), Some(0), "{:#?}", queen.said());

    let next = Queen::start(data.path(), &[]);
    for (job, reader) in jobs.iter().zip(&mut readers) {
        reader.read(&mut next.follow(&events(job), reader.last()), None);
        let last = reader.last().unwrap();
        assert_eq!(reader.ids(), (0..=last).collect::<Vec<_>>(), "{signal}: a gap or a repeat");
        assert_eq!(reader.ends(), 1);
        assert_eq!(reader.events.last().unwrap().1, "end");
        // It is the one stream that every reader gets.
        let mut whole = Reader::default();
        whole.read(&mut next.follow(&events(job), None), None);
        assert_eq!(whole.words(), reader.words());
    }
    let key = [("idempotency-key", "the-key")];
    let body = story(4).to_string();
    let path = "/v1/chat/completions";
    let (status, answer) = request(next.address, "POST", path, Some(&body), &key);
    assert_eq!(status, 200, "{answer}");
    let listed = next.json("/v1/jobs");
    let listed = listed["data"].as_array().unwrap();
    let of = |state: &str| listed.iter().filter(|job| job["state"] == state).collect::<Vec<_>>();
    assert_eq!((of("complete").len(), of("failed").len()), (3, 1), "{listed:?}");
    assert_eq!(of("failed")[0]["error"]["code"], "SHUTTING_DOWN", "the one without a client");
}

#[test]
fn a_shutdown_past_its_grace_loses_no_stream_and_runs_nothing_for_nobody() {
    through("-TERM", &["--drain-grace", "10ms"]);
}

#[test]
fn a_hand_over_loses_no_stream_and_runs_nothing_for_nobody() {
    through("-USR1", &[]);
}
