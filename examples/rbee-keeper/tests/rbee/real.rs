//! Tests against the real daemons: their start and end, machines of every kind, and what each caller may do.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::support::{Ended, Rbee, until};
use rbee_core::test_gguf::{GgufFile, GgufType};
use rbee_end_to_end::{built, private_tempdir};
use rbee_transport_http::Token;
use tempfile::TempDir;

/// The home of a user, with a queen and hives that end with the test.
pub(crate) struct Home {
    folder: TempDir,
    queens: Vec<u32>,
}

impl Home {
    pub(crate) fn new() -> Self {
        for program in ["queen-rbee", "rbee-hive", "llm-worker-rbee"] {
            built(program);
        }
        Self { folder: private_tempdir(), queens: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn rbee(&self, arguments: &[&str]) -> Rbee {
        Rbee::new(arguments)
            .env("RBEE_DATA_DIR", &self.text("queen"))
            .env("XDG_DATA_HOME", &self.text("data"))
            .env("XDG_CONFIG_HOME", &self.text("config"))
    }

    /// Starts a queen on a free port, and returns its URL.
    pub(crate) async fn serve(&mut self, flags: &[&str]) -> String {
        let serve = [&["serve", "--detach", "--port", "0"], flags].concat();
        let ended = self.rbee(&serve).run().await.ok();
        let (url, pid) = address_and_process(&ended);
        self.queens.push(pid);
        url
    }

    /// Starts the hive `attic` on this port.
    fn hive(&self, port: u16) -> Hive {
        let mut command = Command::new(built("rbee-hive"));
        command.env_clear().env("HOME", self.path("home")).env("PATH", "/usr/bin:/bin");
        command.env("XDG_DATA_HOME", self.path("elsewhere"));
        command.args(["--id", "attic", "--port", &port.to_string(), "--log-format", "json"]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the hive ended").unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"] == "ready" {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Hive { child, address }
    }

    /// The file with the token of the hive.
    fn hive_token(&self) -> String {
        self.text("elsewhere/rbee/hives/attic/token")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in &self.queens {
            end(*pid);
        }
    }
}

struct Hive {
    child: Child,
    address: String,
}

impl Hive {
    fn port(&self) -> u16 {
        self.address.rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

impl Drop for Hive {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// `started a queen at http://127.0.0.1:4591 (process 17)`
fn address_and_process(ended: &Ended) -> (String, u32) {
    let words: Vec<_> = ended.out.split_whitespace().collect();
    (words[4].to_owned(), words[6].trim_end_matches(')').parse().unwrap())
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_is_shut_down_has_ended_and_the_next_one_starts_at_once() {
    let mut home = Home::new();
    for flags in [&["--local-hive", "off"][..], &["--local-hive", "processes"]] {
        let url = home.serve(flags).await;
        let pid = *home.queens.last().unwrap();
        let ended = home.rbee(&["shutdown", "--host", &url]).run().await.ok();
        assert_eq!(ended.out, format!("shut down the queen at {url} (process {pid})\n"));
        assert!(!lives(pid), "the process has ended");
        let ended = home.rbee(&["shutdown", "--host", &url]).run().await;
        let ended = ended.failed(3, &["UNREACHABLE", "nothing to shut down"]);
        assert!(!ended.err.contains("rbee serve"), "nothing is to be started: {ended:?}");
    }
    let log = std::fs::read_to_string(home.path("queen/queen.log")).unwrap();
    assert_eq!(log.matches("an operator shuts the queen down").count(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_jobs_or_does_not_and_can_leave_the_workers() {
    let mut home = Home::new();
    let long = ["jobs", "submit", "bee-tiny", "a long story", "--max-tokens", "400", "--seed", "1"];
    let url = home.serve(&["--local-hive", "processes"]).await;
    let at = |arguments: &[&str]| home.rbee(&[arguments, &["--host", &url]].concat());
    at(&["load", "bee-tiny"]).run().await.ok();
    for _ in 0..20 {
        at(&long).run().await.ok();
    }
    let ended = at(&["shutdown", "--timeout", "0"]).run().await;
    ended.failed(1, &["SHUTDOWN_TIMEOUT", "goes on shutting down", "--now"]);
    at(&["shutdown", "--now"]).run().await.ok();

    let url = home.serve(&["--local-hive", "processes"]).await;
    let at = |arguments: &[&str]| home.rbee(&[arguments, &["--host", &url]].concat());
    let left = at(&["jobs", "ls", "--state", "queued,running"]).run().await.ok();
    assert!(left.rows().len() > 1, "jobs were left to this queen: {left:?}");
    for job in at(&["jobs", "ls", "--json"]).run().await.ok().json()["data"].as_array().unwrap() {
        at(&["jobs", "cancel", job["id"].as_str().unwrap()]).run().await.ok();
    }
    at(&["load", "bee-tiny"]).run().await.ok();
    let before = at(&["ps", "--json"]).run().await.ok().json()["data"][0]["id"].clone();
    at(&["shutdown", "--keep-hives"]).run().await.ok();
    let url = home.serve(&["--local-hive", "processes"]).await;
    let at = |arguments: &[&str]| home.rbee(&[arguments, &["--host", &url]].concat());
    until("the next queen has the worker", async || {
        at(&["ps", "--json"]).run().await.ok().json()["data"][0]["id"] == before
    })
    .await;
    at(&["shutdown", "--json"]).run().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_log_of_this_start_is_shown() {
    let mut home = Home::new();
    let url = home.serve(&["--local-hive", "off"]).await;
    let port = url.rsplit_once(':').unwrap().1;
    home.rbee(&["shutdown", "--host", &url]).run().await.ok();
    let taken = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let ended = home.rbee(&["serve", "--detach", "--port", port]).run().await;
    let ended = ended.failed(1, &["NOT_STARTED", "cannot listen on", "the end of its log"]);
    assert!(!ended.err.contains("an operator shuts"), "a line of an earlier start: {ended:?}");
    drop(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queens_own_file_may_say_where_it_listens() {
    let mut home = Home::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::create_dir_all(home.path("config/rbee")).unwrap();
    let file = home.path("config/rbee/queen.yaml");
    write(&file, &format!("listen_port: {port}\nlocal_hive: \"off\"\n"));
    let ended = home.rbee(&["serve", "--detach"]).run().await.ok();
    let (url, pid) = address_and_process(&ended);
    home.queens.push(pid);
    assert_eq!(url, format!("http://127.0.0.1:{port}"));
    let shutdown = format!("`rbee shutdown --host {url}` stops it");
    assert!(ended.err.contains(&shutdown), "{ended:?}");
    home.rbee(&["shutdown", "--host", &url]).run().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_in_the_variable_is_where_the_queen_listens() {
    let mut home = Home::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("localhost:{port}");
    let serve = ["serve", "--detach", "--local-hive", "off"];
    let ended = home.rbee(&serve).env("RBEE_HOST", &address).run().await.ok();
    let (url, pid) = address_and_process(&ended);
    home.queens.push(pid);
    assert_eq!(url, format!("http://{address}"));
    assert!(ended.err.contains("`rbee shutdown` stops it"), "{ended:?}");
    home.rbee(&["status"]).env("RBEE_HOST", &address).run().await.ok();
    home.rbee(&["shutdown"]).env("RBEE_HOST", &address).run().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_this_queen_are_stopped_started_and_drained() {
    let mut home = Home::new();
    for kind in ["inside", "processes", "daemon"] {
        let url = home.serve(&["--local-hive", kind]).await;
        let at = |arguments: &[&str]| home.rbee(&[arguments, &["--host", &url]].concat());
        at(&["load", "bee-tiny"]).run().await.ok();
        let ended = at(&["hive", "drain", "local", "--wait"]).run().await.ok();
        assert_eq!(ended.out, "drained hive local\n", "{kind}");
        assert_eq!(at(&["ps"]).run().await.ok().rows().len(), 1, "{kind}: no worker is left");
        assert_eq!(at(&["hive", "start", "local"]).run().await.ok().out, "started hive local\n");
        let ended = at(&["hive", "stop", "local"]).run().await.ok();
        assert_eq!((&*ended.out, &*ended.err), ("stopped hive local\n", ""), "{kind}");
        let ended = at(&["hive", "start", "local"]).run().await.ok();
        assert_eq!((&*ended.out, &*ended.err), ("started hive local\n", ""), "{kind}");
        at(&["load", "bee-tiny"]).run().await.ok();
        at(&["hive", "rm", "local"]).run().await.ok();
        at(&["hive", "start", "local"]).run().await.failed(4, &["local", "rbee hive ls"]);
        at(&["shutdown"]).run().await.ok();
    }
}

/// A GGUF file with one tensor of four numbers.
fn gguf() -> Vec<u8> {
    let file = GgufFile::new("mamba");
    file.tensor("token_embd.weight", &[4], GgufType::F32, vec![0; 16]).to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engines_of_a_queen_are_those_of_its_machine_of_either_kind() {
    let mut home = Home::new();
    let model = home.text("bee.gguf");
    std::fs::write(&model, gguf()).unwrap();
    let engines = ["--engines", "[{name: own, models: ['*.gguf'], command: 'own {port}'}]"];
    for kind in ["processes", "daemon"] {
        for engines in [&[][..], &engines] {
            let url = home.serve(&[&["--local-hive", kind], engines].concat()).await;
            let at = |arguments: &[&str]| home.rbee(&[arguments, &["--host", &url]].concat());
            let estimate = ["load", &model, "--estimate-only", "--json"];
            let mut devices = serde_json::Value::Null;
            until("the machine reports", async || {
                devices = at(&estimate).run().await.json()["devices"].clone();
                devices.as_array().is_some_and(|devices| !devices.is_empty())
            })
            .await;
            let is_refused = devices[0]["verdict"] == "incompatible";
            assert_eq!(is_refused, engines.is_empty(), "{kind}: {devices}");
            at(&["shutdown"]).run().await.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_an_address_is_not_said_to_start_unless_it_does() {
    let mut home = Home::new();
    let url = home.serve(&["--local-hive", "off"]).await;
    let at = |arguments: &[&str]| home.rbee(&[arguments, &["--host", &url]].concat());
    let mut hive = home.hive(0);
    let (port, address) = (hive.port(), format!("http://{}", hive.address));
    let token = home.hive_token();
    let ended = at(&["hive", "add", &address, "--hive-token-file", &token]).run().await.ok();
    assert_eq!((&*ended.out, &*ended.err), (&*format!("added hive attic ({address})\n"), ""));
    at(&["hive", "drain", "attic"]).run().await.ok();
    assert_eq!(at(&["hive", "start", "attic"]).run().await.ok().out, "started hive attic\n");
    let ended = at(&["hive", "stop", "attic"]).run().await.ok();
    assert_eq!(ended.out, "stopped hive attic\n");
    assert!(ended.err.contains("the queen cannot start it"), "{ended:?}");
    hive.child.wait().unwrap();
    let ended = at(&["hive", "start", "attic"]).run().await;
    let command = format!("`rbee-hive --id attic --port {port}`");
    ended.failed(1, &["HIVE_UNREACHABLE", "the queen cannot start it", &command]);
    drop(hive);
    let _again = home.hive(port);
    assert_eq!(at(&["hive", "start", "attic"]).run().await.ok().out, "started hive attic\n");
    assert_eq!(at(&["hive", "rm", "attic"]).run().await.ok().out, "removed hive attic\n");
    at(&["shutdown"]).run().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_machine_to_add_is_said_of_the_machine() {
    let mut home = Home::new();
    let queen_token = home.text("queen.token");
    write(Path::new(&queen_token), Token::random().unwrap().reveal());
    let url = home.serve(&["--local-hive", "off", "--token-file", &queen_token]).await;
    let at = |arguments: &[&str]| {
        home.rbee(&[arguments, &["--host", &url, "--token-file", &queen_token]].concat())
    };
    let hive = home.hive(0);
    let address = format!("http://{}", hive.address);
    let ended = at(&["hive", "add", &address]).run().await;
    let ended =
        ended.failed(2, &["INVALID_REQUEST, parameter token", "the hive at", "--hive-token-file"]);
    assert!(!ended.err.contains("RBEE_API_KEY"), "{ended:?}");
    let wrong = home.text("wrong.token");
    write(Path::new(&wrong), Token::random().unwrap().reveal());
    let ended = at(&["hive", "add", &address, "--hive-token-file", &wrong]).run().await;
    let ended = ended.failed(
        2,
        &["takes another token", "the file `token`", &wrong, "the queen's own key is not meant"],
    );
    assert!(!ended.err.contains("RBEE_API_KEY"), "{ended:?}");

    // With the right token, and without one.
    let token = home.hive_token();
    let adds = |address: &str| {
        let add = ["hive", "add", address, "--hive-token-file", &token];
        [at(&add[..3]), at(&add)]
    };
    for add in adds(&url) {
        add.run().await.failed(2, &["a queen listens at", "and no hive", "7835"]);
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for add in adds(&format!("http://{closed}")) {
        let ended = add.run().await;
        let ended = ended.failed(1, &["no hive can be reached", "refused", "Start rbee-hive"]);
        assert!(!ended.err.contains("rbee doctor"), "that is about other machines: {ended:?}");
    }
    for (answer, says) in [
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], "speaks TLS"),
        (b"SSH-2.0-OpenSSH_9\r\n", "another program listens"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "another program listens"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stranger = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = stream;
                let _ = stream.write_all(answer);
            }
        });
        for add in adds(&stranger) {
            add.run().await.failed(1, &[says, "parameter url"]);
        }
    }
    let certificate = home.text("cert.pem");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write(Path::new(&certificate), &made.cert.pem());
    let with = |machine: &str| at(&["hive", "add", machine, "--hive-ca-cert", &certificate]);
    let ended = with(&address.replace("http", "https")).run().await;
    ended.failed(2, &["does not speak TLS", "parameter url"]);
    for machine in [&*address, "gpu-box"] {
        let said = format!("begin with https://, and the machine is {machine}");
        with(machine).run().await.failed(2, &["--hive-ca-cert", &said]);
    }
    write(Path::new(&certificate), "no certificate");
    let ended = with("https://gpu-box").run().await;
    ended.failed(2, &["--hive-ca-cert", "cert.pem", "there is no certificate in PEM"]);
    at(&["hive", "add", &address, "--hive-token-file", &token]).run().await.ok();
    at(&["shutdown"]).run().await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_may_do_what_it_may_do_and_is_told_so() {
    let mut home = Home::new();
    let token = home.text("queen.token");
    write(Path::new(&token), Token::random().unwrap().reveal());
    let url = home.serve(&["--local-hive", "inside", "--token-file", &token]).await;
    let operator = |arguments: &[&str]| {
        home.rbee(&[arguments, &["--host", &url, "--token-file", &token]].concat())
    };
    operator(&["tenants", "set", "acme"]).run().await.ok();
    let key = operator(&["tenants", "key", "acme"]).run().await.ok().out.trim().to_owned();
    let tenant = |arguments: &[&str]| {
        home.rbee(&[arguments, &["--host", &url]].concat()).env("RBEE_API_KEY", &key)
    };
    let nobody = |arguments: &[&str]| home.rbee(&[arguments, &["--host", &url]].concat());
    let submit = ["jobs", "submit", "bee-tiny", "hello", "--max-tokens", "1"];
    let job = tenant(&submit).run().await.ok().out.trim().to_owned();
    tenant(&["jobs", "events", &job]).run().await.ok();

    // What everybody with a key may do, and what needs the operator's token.
    let (all, own) = ((0, 0, 5), (0, 5, 5));
    for (verb, (by_operator, by_tenant, by_nobody)) in [
        (&["ls"][..], all),
        (&["ls", "bee", "--json"], all),
        (&["show", "bee-tiny"], all),
        (&["show", "bee-tiny", "--json"], all),
        (&["show", "bee-tinny"], (4, 4, 5)),
        (&["run", "bee-tiny", "hi", "--max-tokens", "1"], all),
        (&["run", "bee-tinny", "hi"], (4, 4, 5)),
        (&["jobs", "ls"], all),
        (&submit, all),
        (&["jobs", "show", &job[..8]], all),
        (&["jobs", "why", &job], all),
        (&["jobs", "events", &job], all),
        (&["jobs", "cancel", &job], all),
        (&["bench", "bee-tiny", "-n", "1", "--max-tokens", "1"], all),
        (&["status"], (0, 0, 0)),
        (&["version"], (0, 0, 0)),
        (&["load", "bee-tiny"], own),
        (&["load", "bee-tiny", "--estimate-only"], own),
        (&["ps"], own),
        (&["pin", "bee-tiny"], own),
        (&["pull", "bee-tiny"], own),
        (&["hive", "ls"], own),
        (&["hive", "show", "local"], own),
        (&["hive", "drain", "local"], own),
        (&["hive", "stop", "local"], own),
        (&["hive", "start", "local"], own),
        (&["hive", "add", "127.0.0.1:1"], (1, 5, 5)),
        (&["tenants"], own),
        (&["tenants", "show", "acme"], own),
        (&["policy", "show"], own),
        (&["logs"], own),
        (&["doctor"], own),
        (&["rm", "bee-tinny"], (4, 5, 5)),
        (&["unload", "bee-tinny"], (4, 5, 5)),
        (&["hive", "rm", "nobody"], (4, 5, 5)),
    ] {
        let ended = tenant(verb).run().await;
        assert_eq!(ended.code, Some(by_tenant), "{verb:?} by a tenant: {ended:?}");
        if by_tenant == 5 {
            assert!(ended.err.contains("this needs the operator's token"), "{verb:?}: {ended:?}");
            assert_eq!(ended.out, "", "{verb:?}");
        }
        if by_tenant == 4 {
            assert!(ended.err.contains("did you mean bee-tiny?"), "{verb:?}: {ended:?}");
        }
        let said = format!("{}{}", ended.out, ended.err);
        let paths = home.folder.path().to_str().unwrap();
        for secret in [paths, "HIVES", "on disk at"] {
            assert!(!said.contains(secret), "{verb:?} tells a tenant {secret}: {said}");
        }
        let ended = nobody(verb).run().await;
        assert_eq!(ended.code, Some(by_nobody), "{verb:?} by nobody: {ended:?}");
        let ended = operator(verb).run().await;
        assert_eq!(ended.code, Some(by_operator), "{verb:?} by the operator: {ended:?}");
    }
    let names = tenant(&["ls"]).run().await.ok();
    assert_eq!(names.rows(), [["NAME"], ["bee-tiny"]]);
    // A conversation finds the only model there is.
    let chat = tenant(&["chat", "--max-tokens", "1"]).input("hello\n").run().await;
    assert_eq!(chat.code, Some(0), "{chat:?}");
    tenant(&["shutdown"]).run().await.failed(5, &["this needs the operator's token"]);
    nobody(&["shutdown"]).run().await.failed(5, &["UNAUTHORIZED"]);
    operator(&["shutdown"]).run().await.ok();
}
