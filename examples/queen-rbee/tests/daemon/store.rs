//! The database of the queue: unavailable for a while, lost, damaged, restored. The real program, real files.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Output,
};

use crate::support::{Queen, chat, command, request, until};
use serde_json::{Value, json};

/// No workers: every job waits in the queue.
const IDLE: [&str; 2] = ["--local-hive", "off"];

fn database(data: &Path) -> PathBuf {
    data.join("data/queen.db")
}

/// Runs the program until it ends by itself.
fn run(data: &Path, arguments: &[&str]) -> Output {
    let output = command(data, arguments).output().unwrap();
    assert!(output.status.code().is_some());
    output
}

/// Checks that it does not start, and prints this and what can be done.
fn refused(data: &Path, words: &str) {
    let output = run(data, &[&["--port", "0"], &IDLE[..]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let database = database(data).display().to_string();
    for part in [words, &database, "--restore latest", "--accept-loss", "--new-database"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

/// Repairs the database, and returns the output of the program.
fn repair(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{error}");
    said
}

/// Submits a job that waits, and returns its id.
fn submit(queen: &Queen) -> String {
    let (status, answer) = queen.post("/v1/jobs", &chat("Hello!", 4));
    assert_eq!(status, 202, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

fn kill(queen: &mut Queen) {
    queen.signal("-KILL");
    queen.wait();
}

fn job(queen: &Queen, id: &str) -> (u16, Value) {
    let (status, text) = queen.get(&format!("/v1/jobs/{id}"));
    (status, serde_json::from_str(&text).unwrap_or_default())
}

#[test]
fn a_lost_database_stops_the_start_and_the_last_backup_is_restored() {
    let data = tempfile::tempdir().unwrap();
    let often = [&IDLE[..], &["--backup-interval", "1s", "--backups-kept", "2"]].concat();
    let mut queen = Queen::start(data.path(), &often);
    let (early, backups) = (submit(&queen), data.path().join("data/backups"));
    let count = || {
        fs::read_dir(&backups).map_or(0, |found| {
            let names = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.ends_with(".db")).count()
        })
    };
    until("there is a backup", || (count() > 0).then_some(()));
    until("the doctor knows of it", || {
        let found = queen.json("/v1/doctor");
        let checks = found["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["check"] == "backups").unwrap();
        check["message"].as_str().unwrap().contains("the last of").then_some(())
    });
    let output = run(data.path(), &["--restore"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && said.contains("is in use by another queen"),
        "{said}"
    );
    kill(&mut queen);

    fs::write(database(data.path()), "").unwrap();
    refused(data.path(), "the file is empty");
    let said = repair(data.path(), &["--restore"]);
    assert!(said.contains("restored") && said.contains("1 jobs in it had not ended"), "{said}");
    assert!(said.contains("is kept as"), "{said}");
    let mut queen = Queen::start(data.path(), &IDLE);
    assert_eq!(job(&queen, &early).1["state"], "queued");
    kill(&mut queen);

    fs::remove_file(database(data.path())).unwrap();
    refused(data.path(), "the file is gone");
    let file = fs::read_dir(&backups).unwrap().next().unwrap().unwrap().path();
    repair(data.path(), &["--restore", file.to_str().unwrap()]);
    let queen = Queen::start(data.path(), &IDLE);
    assert_eq!(job(&queen, &early).1["state"], "queued");
}

#[test]
fn a_damaged_log_stops_the_start_until_the_loss_is_accepted() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &IDLE);
    let jobs: Vec<_> = (0..4).map(|_| submit(&queen)).collect();
    kill(&mut queen);
    let log = data.path().join("data/queen.db-wal");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 5_000]).unwrap();
    refused(data.path(), "is damaged or gone");
    repair(data.path(), &["--accept-loss"]);
    let queen = Queen::start(data.path(), &IDLE);
    assert_eq!(job(&queen, &jobs[0]).0, 200);
    assert_eq!(job(&queen, &jobs[3]).0, 404, "what was cut off is lost");
}

#[test]
fn a_new_database_keeps_the_old_one_and_begins_with_a_greater_epoch() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &IDLE);
    let old = submit(&queen);
    kill(&mut queen);
    // With its WAL it would be complete again: all of it is in there.
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(data.path().join(format!("data/queen.db{suffix}"))).unwrap();
    }
    fs::write(database(data.path()), "nonsense").unwrap();
    let output = run(data.path(), &["--accept-loss"]);
    assert_eq!(output.status.code(), Some(1), "nonsense is no database");
    let said = repair(data.path(), &["--new-database"]);
    assert!(said.contains("is empty now") && said.contains("is kept as"), "{said}");
    let queen = Queen::start(data.path(), &IDLE);
    assert_eq!(job(&queen, &old).0, 404);
    submit(&queen);
    let output = run(data.path(), &["--restore", "--new-database"]);
    assert_eq!(output.status.code(), Some(2), "one thing at a time");
}

#[test]
fn the_backups_of_a_lost_database_are_not_removed_for_those_of_a_new_one() {
    let data = tempfile::tempdir().unwrap();
    let often = [&IDLE[..], &["--backup-interval", "1s", "--backups-kept", "1"]].concat();
    let backups = data.path().join("data/backups");
    let newest = || {
        let found = fs::read_dir(&backups).into_iter().flatten().flatten();
        let paths = found.map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "db")).max()
    };
    let mut queen = Queen::start(data.path(), &often);
    let old = submit(&queen);
    // The first one may be older than the job.
    let first = until("there is a backup", newest);
    submit(&queen);
    let kept = until("there is another", || newest().filter(|path| *path != first));
    kill(&mut queen);
    let kept = newest().unwrap_or(kept);
    fs::remove_file(database(data.path())).unwrap();
    let said = repair(data.path(), &["--new-database"]);
    let (_, aside) = said.trim_end().split_once("its earlier backups are kept in ").unwrap();
    let aside = Path::new(aside);
    assert_eq!(aside.parent(), backups.parent(), "{said}");
    assert!(!backups.exists());
    let mut queen = Queen::start(data.path(), &often);
    submit(&queen);
    let first = until("there is a backup of the new one", newest);
    submit(&queen);
    until("it was replaced", || newest().filter(|path| *path != first));
    queen.signal("-TERM");
    queen.wait();
    let kept = aside.join(kept.file_name().unwrap());
    repair(data.path(), &["--restore", kept.to_str().unwrap()]);
    let queen = Queen::start(data.path(), &IDLE);
    assert_eq!(job(&queen, &old).1["state"], "queued");
    // Without backups there is nothing to keep.
    let empty = tempfile::tempdir().unwrap();
    let said = repair(empty.path(), &["--new-database"]);
    assert!(said.contains("is empty now") && !said.contains("backups"), "{said}");
}

#[test]
fn while_another_process_locks_the_database_nothing_is_accepted_and_no_end_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &[]);
    // Its worker is loaded.
    assert_eq!(queen.post("/v1/chat/completions", &chat("Hello!", 1)).0, 200);
    let mut body = chat("Tell me a story.", 200);
    body["stream"] = true.into();
    let mut stream = queen.open("/v1/chat/completions", &body);
    let mut head = [0; 600];
    stream.read_exact(&mut head).unwrap();
    let other = rusqlite::Connection::open(database(data.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"), "the reader gets its answer to the end: {rest}");

    until("health says so", || {
        let (status, health) = queen.get("/health");
        let health: Value = serde_json::from_str(&health).unwrap();
        (status == 503 && health["status"] == "store_failed").then_some(())
    });
    let (status, refused) = queen.post("/v1/jobs", &chat("Hello!", 1));
    assert_eq!((status, &refused["error"]["code"]), (503, &json!("STORAGE")), "{refused}");
    assert!(refused["error"]["details"]["retry_after_ms"].as_u64().unwrap() > 0, "{refused}");
    assert!(!refused.to_string().contains("queen.db"), "a client does not see the path: {refused}");
    let text = request(queen.address, "GET", "/v1/doctor", None, &[]).1;
    let found: Value = serde_json::from_str(&text).unwrap();
    let writes =
        found["checks"].as_array().unwrap().iter().find(|check| check["check"] == "writes");
    assert_eq!(writes.unwrap()["verdict"], "failed", "{found}");
    assert!(writes.unwrap()["message"].as_str().unwrap().contains("holds its lock"), "{found}");

    other.execute_batch("ROLLBACK").unwrap();
    until("it recovers by itself", || (queen.get("/health").0 == 200).then_some(()));
    let ended = queen.json("/v1/jobs");
    let jobs = ended["data"].as_array().unwrap();
    assert!(jobs.iter().all(|job| job["state"] == "complete"), "{ended}");
    assert_eq!(jobs.len(), 2, "{ended}");
    kill(&mut queen);
    let next = Queen::start(data.path(), &IDLE);
    let jobs = next.json("/v1/jobs");
    let is_over = |job: &Value| job["state"] == "complete" && job["attempts"] == 1;
    assert!(jobs["data"].as_array().unwrap().iter().all(is_over), "nothing runs again: {jobs}");
}

#[test]
fn an_end_that_was_told_while_the_database_was_locked_stands_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &[]);
    assert_eq!(queen.post("/v1/chat/completions", &chat("Hello!", 1)).0, 200);
    let mut body = chat("Tell me a story.", 60);
    body["stream"] = true.into();
    let mut stream = queen.open("/v1/chat/completions", &body);
    let mut head = [0; 600];
    stream.read_exact(&mut head).unwrap();
    let other = rusqlite::Connection::open(database(data.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
    kill(&mut queen);
    drop(other);
    let next = Queen::start(data.path(), &IDLE);
    let jobs = next.json("/v1/jobs");
    let is_over = |job: &Value| job["state"] == "complete" && job["attempts"] == 1;
    assert!(jobs["data"].as_array().unwrap().iter().all(is_over), "nothing runs again: {jobs}");
}
