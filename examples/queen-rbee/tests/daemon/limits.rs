//! The daemon with a low limit on open files, under a flood of connections.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use crate::support::{Queen, chat, command, until};
use serde_json::Value;

/// A queen with this hard limit on open files.
fn queen_with(descriptors: u32, data: &Path, arguments: &[&str]) -> Queen {
    let arguments = [&["--port", "0", "--log-format", "json"], arguments].concat();
    let inner = command(data, &arguments);
    let mut limited = Command::new("sh");
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    limited.stderr(std::process::Stdio::piped());
    Queen::spawn(limited)
}

fn flood(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// True if the server has closed it.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn warnings(queen: &Queen) -> Vec<Value> {
    let about = |line: &Value| {
        line["message"].as_str().is_some_and(|text| text.starts_with("too many connections"))
    };
    queen.log().into_iter().filter(about).collect()
}

#[test]
fn with_few_descriptors_silent_connections_keep_out_neither_requests_nor_workers() {
    let data = tempfile::tempdir().unwrap();
    let queen = queen_with(256, data.path(), &[]);
    let told = until("it says how many connections it takes", || {
        queen.log().into_iter().find(|line| line["open_files"] == 256)
    });
    assert_eq!(told["connections"], 192, "a quarter stays free");
    let mut silent = flood(queen.address, 300);
    assert_eq!(queen.json("/health")["status"], "ok");
    // A worker needs descriptors too: a process with its pipes, and a connection.
    let (status, answer) = queen.post("/v1/chat/completions", &chat("Hello!", 4));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(queen.children().len(), 1);
    let open = silent.iter_mut().filter_map(|stream| (!is_closed(stream)).then_some(())).count();
    assert!((1..=204).contains(&open), "{open}");
    let warned = warnings(&queen);
    assert!((1..=7).contains(&warned.len()), "one in ten seconds at most: {warned:#?}");
    let says = warned[0]["message"].as_str().unwrap();
    assert!(says.contains("silent closed") || says.contains("had to wait"), "{warned:#?}");
}

#[test]
fn with_too_few_descriptors_it_waits_and_serves_whoever_asks() {
    let data = tempfile::tempdir().unwrap();
    // The files that it has open by itself and a few more: fewer than the connections that it would accept.
    let probe = queen_with(256, data.path(), &["--local-hive", "off"]);
    let own = std::fs::read_dir(format!("/proc/{}/fd", probe.child.id())).unwrap().count();
    drop(probe);
    let limit = u32::try_from(own).unwrap() + 8;
    let queen = queen_with(limit, data.path(), &["--local-hive", "off"]);
    let mut silent = flood(queen.address, 100);
    for _ in 0..5 {
        assert_eq!(queen.json("/health")["status"], "ok");
    }
    until("the flood has gone round", || {
        let closed = silent.iter_mut().filter_map(|stream| is_closed(stream).then_some(()));
        (closed.count() >= 80).then_some(())
    });
    assert_eq!(queen.json("/health")["status"], "ok");
    let warned = warnings(&queen);
    assert!((1..=7).contains(&warned.len()), "{warned:#?}");
    let failed = |line: &Value| line["message"].as_str().unwrap().contains("not accepted");
    assert!(warned.iter().any(failed), "{warned:#?}");
    // It waits between two attempts instead of spinning.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", queen.child.id())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    assert!(Duration::from_millis(ticks * 10) < Duration::from_secs(10), "{ticks} ticks");
}
