//! A hub for the tests: it speaks the protocol of the real one, and makes errors on request.
//!
//! It sends small files itself. It redirects requests for large ones to a second address, as the real hub does.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rbee_core::models::Digest;
use serde_json::json;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const TOKEN: &str = "hf_secret";

/// The fault of the next request for a file.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// Nothing comes after this many bytes, until the client gives up.
    Stall(usize),
    /// One byte of the body is changed.
    Corrupt,
    /// The whole file, whatever range was requested.
    NoRange,
    /// This status, with a `Retry-After` if given.
    Status(u16, Option<u64>),
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub token: bool,
    /// The client's identification, as it was sent.
    pub authorization: Option<String>,
    /// True if it came to the second address.
    pub cdn: bool,
}

#[derive(Default)]
struct State {
    repos: Mutex<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    faults: Mutex<HashMap<String, VecDeque<Fault>>>,
    seen: Mutex<Vec<Seen>>,
    gated: AtomicBool,
    files_gated: AtomicBool,
    moved: Mutex<Option<String>>,
    over: AtomicBool,
    cdn: Mutex<Option<SocketAddr>>,
}

pub struct HubServer {
    state: Arc<State>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

/// Bytes that differ from position to position.
pub fn weights(seed: u64, bytes: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    });
    step.take(bytes).collect()
}

impl HubServer {
    pub fn start() -> Self {
        let state = Arc::<State>::default();
        let mut threads = Vec::new();
        let mut listen = |cdn| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let state = state.clone();
            threads.push(thread::spawn(move || accept(&listener, &state, cdn)));
            address
        };
        let (address, cdn) = (listen(false), listen(true));
        *state.cdn.lock().unwrap() = Some(cdn);
        Self { state, address, threads }
    }

    /// A hub with `bee/tiny`: weights of this many bytes and two small files.
    pub fn with_model(bytes: usize) -> Self {
        let server = Self::start();
        server.put("bee/tiny", "config.json", br#"{"architectures":["Bee"]}"#.to_vec());
        server.put("bee/tiny", "tokenizer.json", b"{}".to_vec());
        server.put("bee/tiny", "model.safetensors", weights(1, bytes));
        server.put("bee/tiny", "pytorch_model.bin", b"pickle".to_vec());
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn put(&self, repo: &str, path: &str, content: Vec<u8>) {
        let mut repos = self.state.repos.lock().unwrap();
        repos.entry(repo.to_owned()).or_default().insert(path.to_owned(), content);
    }

    pub fn file(&self, repo: &str, path: &str) -> Vec<u8> {
        self.state.repos.lock().unwrap()[repo][path].clone()
    }

    /// The next requests for the content of this file have these faults, one after the other.
    pub fn fail(&self, path: &str, faults: &[Fault]) {
        let mut all = self.state.faults.lock().unwrap();
        all.entry(path.to_owned()).or_default().extend(faults);
    }

    pub fn gate(&self, gated: bool) {
        self.state.gated.store(gated, Ordering::SeqCst);
    }

    /// Describes every repository to every client, but gives files only to clients with the token.
    pub fn gate_files(&self, gated: bool) {
        self.state.files_gated.store(gated, Ordering::SeqCst);
    }

    /// Redirects every request to this address.
    pub fn move_to(&self, endpoint: String) {
        *self.state.moved.lock().unwrap() = Some(endpoint);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Requests for the content of this file, at both addresses.
    pub fn fetches(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen().into_iter();
        seen.filter(|seen| seen.method == "GET" && seen.cdn == is_large(path))
            .filter(|seen| seen.path.ends_with(&format!("/{path}")))
            .collect()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let cdn = *self.state.cdn.lock().unwrap();
        for address in [Some(self.address), cdn].into_iter().flatten() {
            let _ = TcpStream::connect(address);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>, cdn: bool) {
    for stream in listener.incoming() {
        if state.over.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), state) = (stream, state.clone()) else { continue };
        thread::spawn(move || {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            let _ = stream.set_write_timeout(Some(Duration::from_secs(20)));
            let _ = serve(stream, &state, cdn);
        });
    }
}

fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".gguf")
}

fn git_id(content: &[u8]) -> String {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(format!("blob {}\0", content.len()).as_bytes());
    sha1.update(content);
    sha1.digest().to_string()
}

fn serve(stream: TcpStream, state: &State, cdn: bool) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let url = words.next().unwrap_or_default();
    let path = url.split('?').next().unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let token = headers.get("authorization").is_some_and(|is| *is == format!("Bearer {TOKEN}"));
    let shows = headers.contains_key("authorization");
    let range = headers.get("range").cloned();
    let authorization = headers.get("authorization").cloned();
    let (method_seen, path_seen) = (method.clone(), path.clone());
    let seen =
        Seen { method: method_seen, path: path_seen, range, token: shows, authorization, cdn };
    state.seen.lock().unwrap().push(seen.clone());
    let mut answer = Answer { stream, head: method == "HEAD" };
    // A check of access to the file does not request its content.
    let looks = answer.head || seen.range.as_deref() == Some("bytes=0-0");
    if let Some(to) = state.moved.lock().unwrap().clone() {
        return answer.send(307, &format!("Location: {to}{url}\r\n"), b"");
    }
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let gated = state.gated.load(Ordering::SeqCst) && !token && !cdn;
    let repos = state.repos.lock().unwrap().clone();
    let find = |org: &str, repo: &str| repos.get(&format!("{org}/{repo}"));
    match parts[..] {
        ["api", "models", org, repo, ref rest @ ..] => {
            let Some(files) = find(org, repo) else {
                return answer.error(404, "RepoNotFound");
            };
            match rest {
                [] => answer.json(&info(files, org, repo)),
                ["revision", "main" | COMMIT] if gated && !cdn => {
                    let code = if shows { 403 } else { 401 };
                    answer.error(code, "GatedRepo")
                }
                ["revision", "main" | COMMIT] => {
                    if let Some(fault) = next_fault(state, "info") {
                        return answer.fault(fault);
                    }
                    answer.json(&info(files, org, repo))
                }
                ["tree", "main" | COMMIT] => answer.json(&tree(files)),
                _ => answer.error(404, "RevisionNotFound"),
            }
        }
        [org, repo, "resolve", "main" | COMMIT, ref rest @ ..] => {
            let file = rest.join("/");
            let Some(content) = find(org, repo).and_then(|files| files.get(&file)) else {
                return answer.error(404, "EntryNotFound");
            };
            let files_gated = state.files_gated.load(Ordering::SeqCst) && !token;
            if gated || files_gated {
                return answer.error(if shows { 403 } else { 401 }, "GatedRepo");
            }
            let mut about = format!("X-Repo-Commit: {COMMIT}\r\n");
            if is_large(&file) {
                let etag = Digest::of(content).hex();
                let cdn = state.cdn.lock().unwrap().unwrap();
                about += &format!(
                    "X-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\nLocation: http://{cdn}/{org}/{repo}/{file}\r\n",
                    content.len()
                );
                return answer.send(302, &about, b"");
            }
            about += &format!("ETag: \"{}\"\r\n", git_id(content));
            let fault = if looks { None } else { next_fault(state, &file) };
            answer.content(content, &seen, &about, fault)
        }
        [org, repo, ref rest @ ..] if cdn => {
            let file = rest.join("/");
            let Some(content) = find(org, repo).and_then(|files| files.get(&file)) else {
                return answer.error(404, "EntryNotFound");
            };
            let about = format!("ETag: \"{}\"\r\n", Digest::of(content).hex());
            let fault = if looks { None } else { next_fault(state, &file) };
            answer.content(content, &seen, &about, fault)
        }
        _ => answer.error(404, "NotFound"),
    }
}

fn next_fault(state: &State, path: &str) -> Option<Fault> {
    state.faults.lock().unwrap().get_mut(path)?.pop_front()
}

fn info(files: &BTreeMap<String, Vec<u8>>, org: &str, repo: &str) -> serde_json::Value {
    let sibling = |(path, content): (&String, &Vec<u8>)| {
        let mut sibling =
            json!({ "rfilename": path, "size": content.len(), "blobId": git_id(content) });
        if is_large(path) {
            sibling["lfs"] = json!({
                "sha256": Digest::of(content).hex(), "size": content.len(), "pointerSize": 134,
            });
        }
        sibling
    };
    let id = format!("{org}/{repo}");
    json!({
        "_id": "1", "id": id, "modelId": id, "sha": COMMIT, "private": false, "gated": false,
        "siblings": files.iter().map(sibling).collect::<Vec<_>>(),
    })
}

fn tree(files: &BTreeMap<String, Vec<u8>>) -> serde_json::Value {
    let entry = |(path, content): (&String, &Vec<u8>)| {
        let mut entry = json!({
            "type": "file", "path": path, "size": content.len(), "oid": git_id(content),
        });
        if is_large(path) {
            entry["lfs"] = json!({
                "oid": Digest::of(content).hex(), "size": content.len(), "pointerSize": 134,
            });
        }
        entry
    };
    files.iter().map(entry).collect()
}

struct Answer {
    stream: TcpStream,
    head: bool,
}

impl Answer {
    fn start(&mut self, status: u16, headers: &str, length: usize) -> std::io::Result<()> {
        write!(
            self.stream,
            "HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
        )
    }

    fn send(&mut self, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
        self.start(status, headers, body.len())?;
        if self.head { Ok(()) } else { self.stream.write_all(body) }
    }

    fn error(&mut self, status: u16, code: &str) -> std::io::Result<()> {
        self.send(status, &format!("X-Error-Code: {code}\r\n"), b"")
    }

    fn json(&mut self, value: &serde_json::Value) -> std::io::Result<()> {
        self.send(200, "Content-Type: application/json\r\n", value.to_string().as_bytes())
    }

    fn fault(&mut self, fault: Fault) -> std::io::Result<()> {
        match fault {
            Fault::Status(status, after) => {
                let after = after.map(|after| format!("Retry-After: {after}\r\n"));
                self.send(status, &after.unwrap_or_default(), b"")
            }
            // The other faults are about bodies.
            _ => Ok(()),
        }
    }

    fn content(
        &mut self,
        content: &[u8],
        seen: &Seen,
        about: &str,
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        if let Some(fault @ Fault::Status(..)) = fault {
            return self.fault(fault);
        }
        let range = seen.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        let from: Option<usize> = range.and_then(|range| range.split('-').next()?.parse().ok());
        let from = from.filter(|_| !matches!(fault, Some(Fault::NoRange)));
        let mut about = format!("{about}Accept-Ranges: bytes\r\n");
        let (status, mut body) = match from {
            Some(from) if from >= content.len() => return self.send(416, &about, b""),
            Some(from) => {
                let (last, all) = (content.len() - 1, content.len());
                about += &format!("Content-Range: bytes {from}-{last}/{all}\r\n");
                (206, content[from..].to_vec())
            }
            None => (200, content.to_vec()),
        };
        if let (Some(Fault::Corrupt), Some(last)) = (fault, body.last_mut()) {
            *last ^= 1;
        }
        match fault {
            Some(Fault::Cut(bytes)) => {
                self.start(status, &about, body.len())?;
                self.stream.write_all(&body[..bytes.min(body.len())])
            }
            Some(Fault::Stall(bytes)) => {
                self.start(status, &about, body.len())?;
                self.stream.write_all(&body[..bytes.min(body.len())])?;
                // Until the client closes, or the time limit of this server is over.
                let _ = self.stream.read(&mut [0; 1]);
                Ok(())
            }
            _ => self.send(status, &about, &body),
        }
    }
}
