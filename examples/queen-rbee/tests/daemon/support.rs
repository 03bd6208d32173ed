//! The real program, and requests to it.

pub(crate) mod exposition;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Nothing here takes this long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A queen in a process of its own. Dropping this kills it and its workers.
pub(crate) struct Queen {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_queen-rbee"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("RBEE_")) {
            command.env_remove(name);
        }
    }
    // Neither the configuration nor the data of the user who runs the tests.
    command.env("XDG_CONFIG_HOME", data.join("config")).env("HOME", data.join("home"));
    command.arg("--data-dir").arg(data.join("data")).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Queen {
    /// Starts it on a free port and waits until it serves.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        let arguments = [&["--port", "0", "--log-format", "json"], arguments].concat();
        Self::spawn(command(data, &arguments))
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut early = Vec::new();
        let url = loop {
            let Some(line) = lines.next() else {
                let status = child.wait().unwrap();
                panic!("the queen ended with {status}: {early:#?}");
            };
            let line = line.unwrap();
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            early.push(line);
            if parsed["message"] == "serving" {
                break parsed["url"].as_str().unwrap().to_owned();
            }
        };
        let said = Arc::new(Mutex::new(early));
        let more = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                more.lock().unwrap().push(line);
            }
        });
        let address = url.split_once("://").unwrap().1.parse().unwrap();
        Self { child, address, said }
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// The log lines that are JSON objects.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.said().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the queen ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        request(self.address, "GET", path, None, &[])
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = request(self.address, "POST", path, Some(&body.to_string()), &[]);
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Sends a request, and returns the response as it arrives.
    pub(crate) fn open(&self, path: &str, body: &Value) -> BufReader<TcpStream> {
        self.open_with(path, body, &[])
    }

    /// The same, with these headers.
    pub(crate) fn open_with(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> BufReader<TcpStream> {
        BufReader::new(send(self.address, "POST", path, Some(&body.to_string()), headers))
    }

    /// Follows events, and returns them as they arrive.
    pub(crate) fn follow(&self, path: &str, after: Option<u64>) -> BufReader<TcpStream> {
        let after = after.map(|after| after.to_string());
        let headers: Vec<_> = after.iter().map(|after| ("last-event-id", after.as_str())).collect();
        BufReader::new(send(self.address, "GET", path, None, &headers))
    }

    /// The processes that it has started.
    pub(crate) fn children(&self) -> Vec<u32> {
        children(self.child.id())
    }
}

impl Drop for Queen {
    fn drop(&mut self) {
        let workers = self.children();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in workers {
            end(pid);
        }
    }
}

/// Ends a process that a queen of this test has started.
pub(crate) fn end(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}

pub(crate) fn children(of: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-o", "pid=", "--ppid", &of.to_string()]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state comes after the name in parentheses; a zombie has ended.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Waits until there is a result.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&str>,
    headers: &[(&str, &str)],
) -> TcpStream {
    try_send(address, method, path, body, headers).unwrap()
}

fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&str>,
    headers: &[(&str, &str)],
) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = body.unwrap_or_default();
    head += &format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes())?;
    Ok(stream)
}

/// Sends a request to a queen that may be gone, and returns the response as it arrives. `after` is the number of the
/// last event that was read.
pub(crate) fn try_open(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
    after: Option<&str>,
) -> std::io::Result<BufReader<TcpStream>> {
    let headers: Vec<_> = after.iter().map(|after| ("last-event-id", *after)).collect();
    let body = body.map(Value::to_string);
    try_send(address, method, path, body.as_deref(), &headers).map(BufReader::new)
}

/// One request on a connection of its own: the status and the body.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&str>,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let mut text = String::new();
    send(address, method, path, body, headers).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status.unwrap_or(0), if is_chunked { unchunked(body) } else { body.to_owned() })
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            break;
        }
        whole += &rest[..length];
        body = &rest[length + 2..];
    }
    whole
}

pub(crate) fn chat(text: &str, tokens: u32) -> Value {
    serde_json::json!({
        "model": "bee-tiny", "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens, "seed": 7,
    })
}
