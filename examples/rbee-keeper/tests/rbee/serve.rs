//! Tests of `rbee serve`, with a stand-in for the queen's program next to it.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::support::Rbee;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A folder with a copy of the program, and a `queen-rbee` that is this script.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(script: &str) -> Self {
        // Next to the built program, so that a hard link can be used instead of a copy.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // It is the data directory too, which other users must not be able to read.
        let alone = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(folder.path(), alone).unwrap();
        std::fs::hard_link(env!("CARGO_BIN_EXE_rbee"), folder.path().join("rbee")).unwrap();
        let place = Self { folder };
        // Written by another process: a file that is open for writing in this process, or in a child that it is about
        // to start, cannot be executed.
        let write =
            format!("cat > queen-rbee <<'END'\n#!/bin/sh\n{script}\nEND\nchmod 755 queen-rbee");
        let mut shell = std::process::Command::new("/bin/sh");
        let written = shell.current_dir(place.folder.path()).args(["-c", &write]).status();
        assert!(written.unwrap().success());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rbee(&self, arguments: &[&str]) -> Rbee {
        Rbee::at(self.path("rbee"), arguments)
            .env("RBEE_DATA_DIR", self.folder.path().to_str().unwrap())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("queen.log")).unwrap_or_default()
    }
}

/// Ends the stand-in with the test, even if the test fails.
struct Stop(PathBuf);

impl Drop for Stop {
    fn drop(&mut self) {
        if let Some(pid) = pid_in(&self.0) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn pid_in(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A script that writes its process id and keeps running.
const STAYS: &str = "echo $$ > \"$RBEE_DATA_DIR/pid\"\nexec sleep 60";

/// Answers instead of the stand-in, once that runs. Returns the port.
async fn answers_for(place: &Place) -> u16 {
    answers_as(place, |pid| {
        format!(
            r#"{{"status":"ok","queen":"q","version":"1","pid":{pid},"uptime_ms":1,"jobs_waiting":0,"jobs_running":0,"hives_online":0,"workers_ready":0}}"#
        )
    })
    .await
}

/// The same, with this health.
async fn answers_as(place: &Place, health: impl Fn(i32) -> String + Send + 'static) -> u16 {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let pid = place.path("pid");
    tokio::spawn(async move {
        let pid = loop {
            match pid_in(&pid) {
                Some(pid) => break pid,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            let body = match buffer[..count].starts_with(b"GET /health") {
                true => health(pid),
                false => r#"{"data":[]}"#.to_owned(),
            };
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_foreground_it_becomes_the_queens_program() {
    let place = Place::new("echo \"$@\"\nenv | grep ^RBEE_ | sort\nexit 7");
    let serve = ["serve", "--port", "7999", "--retries", "5", "--host", "10.0.0.1"];
    let ended = place.rbee(&serve).env("RBEE_HOST", "elsewhere").run().await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines[0], "--listen-port 7999 --retries 5 --host 10.0.0.1");
    let port = "RBEE_LISTEN_PORT=7833";
    assert_eq!(lines[2..], [port], "only that and the data directory: {ended:?}");
    assert!(lines[1].starts_with("RBEE_DATA_DIR="), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variable_with_the_address_counts_unless_something_more_specific_does() {
    let place = Place::new("echo \"$@\"\nenv | grep ^RBEE_LISTEN | sort");
    let (host, port) = ("RBEE_LISTEN_HOST", "RBEE_LISTEN_PORT");
    for (flags, variables, told) in [
        (&[][..], &[][..], "\nRBEE_LISTEN_HOST=10.0.0.2\nRBEE_LISTEN_PORT=9000\n"),
        (&[], &[(host, "::1")], "\nRBEE_LISTEN_HOST=::1\nRBEE_LISTEN_PORT=9000\n"),
        (&[], &[(port, "1")], "\nRBEE_LISTEN_HOST=10.0.0.2\nRBEE_LISTEN_PORT=1\n"),
        (
            &["--port", "2"],
            &[],
            "--listen-port 2\nRBEE_LISTEN_HOST=10.0.0.2\nRBEE_LISTEN_PORT=9000\n",
        ),
    ] {
        let mut rbee = place.rbee(&[&["serve"], flags].concat()).env("RBEE_HOST", "10.0.0.2:9000");
        for (name, value) in variables {
            rbee = rbee.env(name, value);
        }
        let ended = rbee.run().await.ok();
        assert_eq!(ended.out, told, "{flags:?} {variables:?}");
        assert!(ended.err.contains("RBEE_HOST says to listen at http://"), "{ended:?}");
    }
    // A flag replaces the whole variable.
    let ended = place.rbee(&["serve", "--host", "127.0.0.1"]).env("RBEE_HOST", "bee:9000");
    assert_eq!(ended.run().await.ok().out, "--listen-host 127.0.0.1 --listen-port 7833\n");
    // Both loopback addresses.
    let ended = place.rbee(&["serve"]).env("RBEE_HOST", "localhost:9000").run().await.ok();
    assert_eq!(ended.out, "\nRBEE_LISTEN_HOST=localhost\nRBEE_LISTEN_PORT=9000\n");
    let ended = place.rbee(&["serve", "--host", "localhost:9000"]).run().await.ok();
    assert_eq!(ended.out, "--listen-host localhost --listen-port 9000\n");
    for elsewhere in ["bee", "https://bee.example"] {
        let ended = place.rbee(&["serve"]).env("RBEE_HOST", elsewhere).run().await;
        ended.failed(2, &["RBEE_HOST is", "this machine only", "`rbee serve --host 127.0.0.1`"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_she_is_found_is_where_she_listens_and_the_key_is_her_token() {
    let place = Place::new("echo \"$@\"\nenv | grep ^RBEE_TOKEN=");
    let serve = ["--host", "0.0.0.0", "--api-key", "a-key-of-43-characters", "serve"];
    let ended = place.rbee(&serve).run().await.ok();
    assert_eq!(
        ended.out,
        "--listen-host 0.0.0.0 --listen-port 7833\nRBEE_TOKEN=a-key-of-43-characters\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background_she_is_waited_for_and_her_log_is_kept() {
    let place = Place::new(&format!("echo hello from the queen\n{STAYS}"));
    let _stop = Stop(place.path("pid"));
    let port = answers_for(&place).await.to_string();
    let ended = place.rbee(&["serve", "--detach", "--port", &port]).run().await.ok();
    let pid = pid_in(&place.path("pid")).unwrap();
    assert_eq!(ended.out, format!("started a queen at http://127.0.0.1:{port} (process {pid})\n"));
    assert!(ended.err.contains("queen.log"), "{ended:?}");
    assert_eq!(place.log(), "hello from the queen\n");
    let mode = std::fs::metadata(place.path("queen.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ended = place.rbee(&["serve", "--detach", "--port", &port]).run().await;
    ended.failed(1, &["CONFLICT", "answers at", &pid.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background_it_is_waited_for_where_localhost_is() {
    for told in [&["--listen-host", "localhost"][..], &[]] {
        let place = Place::new(STAYS);
        let _stop = Stop(place.path("pid"));
        let port = answers_for(&place).await;
        let mut rbee = place.rbee(&[&["serve", "--detach"], told].concat());
        rbee = rbee.env("RBEE_HOST", &format!("192.0.2.7:{port}"));
        if told.is_empty() {
            rbee = rbee.env("RBEE_LISTEN_HOST", "localhost");
        }
        let ended = rbee.run().await.ok();
        let started = format!("started a queen at http://127.0.0.1:{port} ");
        assert!(ended.out.starts_with(&started), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_not_written_through_a_link() {
    let place = Place::new(STAYS);
    let _stop = Stop(place.path("pid"));
    std::fs::write(place.path("victim"), "precious").unwrap();
    std::os::unix::fs::symlink(place.path("victim"), place.path("queen.log")).unwrap();
    let ended = place.rbee(&["serve", "--detach", "--port", "1"]).run().await;
    ended.failed(1, &["CONFIG", "queen.log", "symbolic link"]);
    assert_eq!(std::fs::read_to_string(place.path("victim")).unwrap(), "precious");
    assert!(!place.path("pid").exists(), "nothing is started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_a_log_that_others_may_have_put_there_is_refused() {
    let place = Place::new(STAYS);
    let _stop = Stop(place.path("pid"));
    let shared = place.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("queen.log"), "").unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).unwrap();
    let serve = ["serve", "--detach", "--port", "1"];
    let rbee = Rbee::at(place.path("rbee"), &serve);
    let ended = rbee.env("RBEE_DATA_DIR", shared.to_str().unwrap()).run().await;
    ended.failed(1, &["CONFIG", "mode 0777", "may be theirs"]);
    assert_eq!(std::fs::metadata(&shared).unwrap().permissions().mode() & 0o777, 0o777);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_tells_its_process_to_nobody_is_known_by_its_answer() {
    // Its token is in its own configuration, and not known here.
    let place = Place::new(STAYS);
    let _stop = Stop(place.path("pid"));
    let port = answers_as(&place, |_| r#"{"status":"ok"}"#.into()).await.to_string();
    let ended = place.rbee(&["serve", "--detach", "--port", &port]).run().await.ok();
    let pid = pid_in(&place.path("pid")).unwrap();
    assert!(ended.out.contains(&format!("(process {pid})")), "{ended:?}");
    let ended = place.rbee(&["serve", "--detach", "--port", &port]).run().await;
    ended.failed(1, &["CONFLICT", "answers at"]);
}

/// A stand-in whose file says that it listens on the port in `port`, and keeps its data in `elsewhere`.
const HAS_A_FILE: &str = r#"for flag; do
if [ "$flag" = --print-config ]; then
  if [ "$1 $2" != '--config mine.yaml' ]; then echo "$2: no such file" >&2; exit 1; fi
  echo 'listen_host: 0.0.0.0  # mine.yaml:1'
  echo "listen_port: $(cat "$RBEE_DATA_DIR/port")  # mine.yaml:2"
  echo 'tls_cert: ~  # default'
  echo "data_dir: $RBEE_DATA_DIR/elsewhere  # mine.yaml:3"
  exit
fi
done"#;

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background_it_is_found_where_its_own_file_says() {
    let place = Place::new(&format!("{HAS_A_FILE}\n{STAYS}"));
    let _stop = Stop(place.path("pid"));
    let port = answers_for(&place).await;
    std::fs::write(place.path("port"), port.to_string()).unwrap();
    let ended = place.rbee(&["serve", "--detach", "--config", "other.yaml"]).run().await;
    ended.failed(1, &["NOT_STARTED", "refuses its configuration", "other.yaml: no such file"]);
    assert!(!place.path("pid").exists(), "nothing is started");
    let ended = place.rbee(&["serve", "--detach", "--config", "mine.yaml"]).run().await.ok();
    assert!(ended.out.contains(&format!("http://127.0.0.1:{port}")), "{ended:?}");
    assert!(place.path("elsewhere/queen.log").exists() && place.log().is_empty(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_does_not_start_is_told_with_her_last_words() {
    let place = Place::new("echo the port is taken >&2\nexit 1");
    std::fs::write(place.path("queen.log"), "what an earlier start said\n").unwrap();
    let alone = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(place.path("queen.log"), alone).unwrap();
    let ended = place.rbee(&["serve", "--detach", "--port", "1"]).run().await;
    let ended =
        ended.failed(1, &["NOT_STARTED", "ended at once", "the port is taken", "queen.log"]);
    assert!(!ended.err.contains("an earlier start"), "{ended:?}");
    assert!(place.log().starts_with("what an earlier start said\n"), "the log is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_queens_program_it_says_how_to_get_it() {
    let place = Place::new("");
    std::fs::remove_file(place.path("queen-rbee")).unwrap();
    let ended = place.rbee(&["serve"]).run().await;
    ended.failed(1, &["NOT_INSTALLED", "neither next to this one nor on the PATH"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_queen_runs_one_is_offered_and_the_verb_goes_on() {
    let place = Place::new(STAYS);
    let _stop = Stop(place.path("pid"));
    let port = answers_for(&place).await;
    let address = format!("127.0.0.1:{port}");
    // A conversation offers it before the user types anything.
    let mut terminal = place.rbee(&["chat", "bee"]).env("RBEE_HOST", &address).in_terminal(80);
    terminal.shows("[y/N]").await;
    terminal.types("y\r");
    terminal.shows(">>> ").await;
    assert!(terminal.seen().contains("started a queen"), "{:?}", terminal.seen());
    terminal.types("\x04");
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_is_not_wanted_is_not_started() {
    let place = Place::new(STAYS);
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = unused.to_string();
    let mut terminal = place.rbee(&["ls"]).env("RBEE_HOST", &address).in_terminal(80);
    terminal.shows("[y/N]").await;
    terminal.types("\r");
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(3), "{seen:?}");
    assert!(!place.path("pid").exists());
    // No queen can be started on another machine, and none is offered if nobody can answer.
    let (seen, code) =
        place.rbee(&["ls", "--host", "no-such-host.invalid"]).in_terminal(80).end().await;
    assert!(code == Some(3) && !seen.contains("[y/N]"), "{seen:?}");
    let ended = place.rbee(&["ls", "--host", &address]).run().await.failed(3, &["rbee serve"]);
    assert!(!ended.err.contains("[y/N]"));
}
