//! Pages in a real browser, against the real program: a hostile one tries every route and is always refused, an
//! allowed one works. Chromium runs without its sandbox, because the tests may run as root; the pages are part of the
//! tests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use crate::support::{self, Queen};
use serde_json::{Value, json};

/// How long a page may take for all attempts.
const PAGE_TIMEOUT: Duration = Duration::from_secs(240);
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Set to `1` if there is no browser, and the tests should pass without it.
const SKIP: &str = "RBEE_SKIP_CLIENTS";

fn browser() -> Option<&'static str> {
    if std::env::var(SKIP).is_ok_and(|value| value == "1") {
        eprintln!("{SKIP}=1: NO PAGE IS TESTED IN A BROWSER");
        return None;
    }
    let is_there = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let found = NAMES.iter().find(is_there);
    let found = found.unwrap_or_else(|| {
        panic!("none of {NAMES:?} is installed (Debian: chromium); {SKIP}=1 leaves this out")
    });
    Some(found)
}

/// A browser without a window that has one page open; killed when this is dropped.
struct Page {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Page {
    fn open(browser: &str, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-dev-shm-usage"])
            // Every name of this domain resolves to this machine, as after DNS rebinding.
            .arg("--host-resolver-rules=MAP *.test 127.0.0.1")
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _profile: profile }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves a page and its targets, and receives its report. Everything else is passed on to the queen, byte for byte:
/// for a browser the two are one server, as when the page's name resolves to the queen's machine.
struct Site {
    address: SocketAddr,
    reports: mpsc::Receiver<Value>,
}

impl Site {
    fn new(script: &'static str, targets: impl FnOnce(SocketAddr) -> (SocketAddr, Value)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (queen, targets) = targets(address);
        let (report, reports) = mpsc::channel();
        let targets = targets.to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (report, targets) = (report.clone(), targets.clone());
                std::thread::spawn(move || {
                    // A disconnect of the browser does not matter.
                    let _ = serve(stream, script, &targets, queen, &report);
                });
            }
        });
        Self { address, reports }
    }

    fn report(&self) -> Value {
        self.reports.recv_timeout(PAGE_TIMEOUT).expect("the page reports")
    }
}

/// One request on a connection of its own.
fn serve(
    stream: TcpStream,
    script: &str,
    targets: &str,
    queen: SocketAddr,
    report: &mpsc::Sender<Value>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PAGE_TIMEOUT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.to_ascii_lowercase().starts_with("connection:") {
            line = "Connection: close\r\n".into();
        }
        head += &line;
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let answer = match path {
        "/page" => ("text/html", format!("<!doctype html><body><script>{script}</script>")),
        "/targets" => ("application/json", targets.to_owned()),
        "/report" => {
            let _ = report.send(serde_json::from_slice(&body).unwrap_or_default());
            ("text/plain", String::new())
        }
        _ => return pass_on(stream, queen, head.as_bytes(), &body),
    };
    let (kind, text) = answer;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    (&stream).write_all((head + text.as_str()).as_bytes())
}

fn pass_on(
    mut stream: TcpStream,
    queen: SocketAddr,
    head: &[u8],
    body: &[u8],
) -> std::io::Result<()> {
    let mut queen = TcpStream::connect(queen)?;
    queen.set_read_timeout(Some(PAGE_TIMEOUT))?;
    queen.write_all(head)?;
    queen.write_all(body)?;
    std::io::copy(&mut queen, &mut stream).map(drop)
}

/// Every route with its methods, from the queen's own description.
fn routes(queen: &Queen, job: &str) -> Vec<(String, String)> {
    let description = queen.json("/openapi.json");
    let mut routes = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let id = match path.split('/').nth(2) {
            Some("jobs") => job,
            Some("workers") => "00000000-0000-4000-8000-000000000000",
            _ => "local",
        };
        let path = path.replace("{id}", id).replace("{name}", "bee-tiny").replace("{n}", "1");
        for method in methods.as_object().unwrap().keys() {
            routes.push((method.to_uppercase(), path.replace("{hash}", "x")));
        }
    }
    routes
}

/// The state that a page could change, without values that change by themselves.
fn state(queen: &Queen) -> Vec<Value> {
    let mut state = Vec::new();
    for path in ["/v1/hives", "/v1/workers", "/v1/jobs", "/v1/policy", "/v1/tenants"] {
        let mut seen = queen.json(path);
        for entry in seen["data"].as_array_mut().into_iter().flatten() {
            if path == "/v1/hives" {
                *entry = json!([entry["id"], entry["status"], entry["draining"], entry["workers"]]);
            }
            if path == "/v1/workers" {
                *entry = json!([entry["id"], entry["state"], entry["model"], entry["pinned"]]);
            }
        }
        state.push(seen);
    }
    state
}

fn finished_job(queen: &Queen) -> String {
    let body = json!({
        "model": "bee-tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2,
    });
    let (status, job) = queen.post("/v1/jobs", &body);
    assert_eq!(status, 202, "{job}");
    let id = job["id"].as_str().unwrap().to_owned();
    support::until("the job ends", || {
        (queen.json(&format!("/v1/jobs/{id}"))["state"] == "complete").then_some(())
    });
    id
}

fn data() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_hostile_page_tries_every_route_and_gets_nowhere() {
    let Some(browser) = browser() else { return };
    let data = data();
    let queen = Queen::start(Path::new(data.path()), &[]);
    let job = finished_job(&queen);
    let routes = routes(&queen, &job);
    assert!(routes.len() > 40, "{routes:?}");
    let before = state(&queen);
    let port = queen.address.port();
    // Across origins, by a name and by an address; and by its own name, which resolves to the queen's machine.
    let bases = json!([format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}"), ""]);
    let site = Site::new(include_str!("pages/hostile.js"), |_| {
        (queen.address, json!({"bases": bases, "routes": routes}))
    });
    let url = format!("http://evil.test:{}/page", site.address.port());
    let page = Page::open(browser, &url);
    let report = site.report();
    drop(page);
    assert_eq!(report["leaks"], json!([]), "{report:#}");
    assert_eq!(report["error"], Value::Null, "{report:#}");
    let sent = report["sent"].as_u64().unwrap();
    eprintln!("{sent} attempts on {} routes", routes.len());
    assert!(sent as usize > 3 * 3 * routes.len(), "{sent}");
    assert_eq!(state(&queen), before);
}

#[test]
fn an_allowed_page_uses_the_api_as_a_client_does() {
    let Some(browser) = browser() else { return };
    let data = data();
    let token = "a-token-of-more-than-forty-characters-for-a-test-0123456789";
    let token_file = data.path().join("token");
    std::fs::write(&token_file, token).unwrap();
    let mut queen = None;
    let site = Site::new(include_str!("pages/friendly.js"), |site| {
        let origin = format!("http://chat.test:{}", site.port());
        let arguments = ["--allow-origins", &origin, "--token-file", token_file.to_str().unwrap()];
        let started = queen.insert(Queen::start(data.path(), &arguments));
        let base = format!("http://127.0.0.1:{}", started.address.port());
        (started.address, json!({"bases": [base], "token": token}))
    });
    let page = Page::open(browser, &format!("http://chat.test:{}/page", site.address.port()));
    let report = site.report();
    drop(page);
    assert_eq!(report["status"], 200, "{report:#}");
    assert_eq!(report["models"], json!(["bee-tiny"]), "{report:#}");
    assert!(report["text"].as_str().unwrap().ends_with("data: [DONE]\n\n"), "{report:#}");
    assert!(report["job"].is_string(), "{report:#}");
    assert_eq!(report["removed"], 200, "{report:#}");
    assert_eq!(report["bare"], json!([401, "UNAUTHORIZED"]), "{report:#}");
}
