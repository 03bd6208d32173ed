//! The daemon as a person or a supervisor runs it: the real program, real signals, real workers.

use std::io::BufRead;

use crate::support::{Queen, chat, command, command_line, lives, request, until};
use serde_json::json;

#[test]
fn without_configuration_it_answers_and_leaves_nothing_behind() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &[]);
    assert_eq!(queen.json("/health")["status"], "ok");
    let (status, answer) = queen.post("/v1/chat/completions", &chat("Name three flowers.", 24));
    assert_eq!(status, 200, "{answer}");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.split_whitespace().count() >= 3, "{text:?}");

    let workers = queen.children();
    assert_eq!(workers.len(), 1, "the worker is a process of its own");
    let line = command_line(workers[0]);
    assert!(line.contains("llm-worker-rbee") && line.contains("bee-tiny"), "{line}");

    queen.signal("-TERM");
    assert_eq!(queen.wait().code(), Some(0), "{:#?}", queen.said());
    assert!(!lives(workers[0]), "SIGTERM leaves no worker");
}

#[test]
fn the_log_is_one_object_a_line_with_the_marks_of_the_request_and_without_its_text() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--log-level", "debug"]);
    let secret = "xyzzy-plugh";
    let body = chat(secret, 4).to_string();
    let marks = [("x-correlation-id", "find-me-7")];
    let path = "/v1/chat/completions";
    let (status, _) = request(queen.address, "POST", path, Some(&body), &marks);
    assert_eq!(status, 200);
    let is_over = |line: &serde_json::Value| line["message"] == "the attempt is over";
    let attempt = until("the end is in the log", || queen.log().into_iter().find(is_over));
    let span = &attempt["spans"][0];
    assert_eq!(span["correlation_id"], "find-me-7");
    assert!(span["job"].is_string() && span["worker"].is_string(), "{attempt}");
    for line in queen.log() {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field} is missing in {line}");
        }
    }
    let said = queen.said().join("\n");
    assert!(!said.contains(secret), "no text of a prompt is in the log");
    let found = queen.json("/v1/logs?correlation_id=find-me-7");
    assert_eq!(found["data"][0]["fields"]["tokens"], "4", "{found}");
    let kept = queen.json("/v1/logs?level=info&lines=1000");
    let kept = kept["data"].as_array().unwrap();
    assert!(kept.iter().any(|line| line["message"] == "serving"), "{kept:?}");
}

#[test]
fn a_second_queen_is_told_who_has_the_directory_and_who_has_the_port() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--local-hive", "off"]);
    let pid = format!("PID {}", queen.child.id());
    let refused = |home: &std::path::Path, port: &str, code: i32| {
        let output = command(home, &["--port", port]).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(data.path(), "0", 1);
    assert!(said.contains("is in use by another queen") && said.contains(&pid), "{said}");
    let other = tempfile::tempdir().unwrap();
    let said = refused(other.path(), &queen.address.port().to_string(), 75);
    assert!(said.contains("listens there already") && said.contains(&pid), "{said}");
}

#[test]
fn the_reason_for_the_end_is_said_once_and_for_people() {
    let data = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = data.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unknown = file("a.yaml", "listen_prt: \"a\"\n");
    let quotes = file("b.yaml", "mode: 'a \"b\"'\n");
    let twice = file("c.yaml", "hives:\n- {id: a, url: http://x}\n- {id: a, url: http://y}\n");
    let policy = file("d.rhai", "fn schedule(job, workers, hives) { workers.idel() }\n");
    let no_pem = file("e.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, code, part) in [
        (
            &["--config", &unknown][..],
            2,
            "a.yaml:1: there is no key \"listen_prt\"; listen_port perhaps?",
        ),
        (&["--config", &quotes], 2, "mode is 'a \"b\"'; allowed is home|platform"),
        (&["--config", &twice], 2, "hives has a twice"),
        (&["--config", "/nowhere"], 2, "/nowhere: No such file"),
        (&["--lease", "90"], 2, "lease is \"90\"; allowed is a duration with its unit"),
        (&["--lease", "5s"], 2, "lease is 5s; allowed is more than"),
        (&["--models", "{a: \"hf:\"}"], 2, "the organization or the repository is missing"),
        (&["--hives", "[{url: \"x\"}]"], 2, "hives[0].url is \"x\""),
        (&["--engines", "[{name: a}]"], 2, "there is no models"),
        (&["--token-file", "/nowhere"], 2, "/nowhere: No such file"),
        (&["--port", &port], 75, "Address already in use"),
        (&["--port", "0", "--policy", "/nowhere.rhai"], 2, "/nowhere.rhai: it cannot be read"),
        (&["--port", "0", "--policy", &policy], 2, "did you mean idle?"),
        (
            &["--port", "0", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"],
            2,
            "/nowhere: cannot be read",
        ),
        (&["--port", "0", "--tls-cert", &no_pem, "--tls-key", &no_pem], 2, "not encoded in base64"),
        (&["--restore", "/nowhere"], 1, "/nowhere cannot be used: No such file"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let output = command(home.path(), arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        let line = text.lines().find(|line| line.starts_with("queen-rbee: ")).unwrap_or_default();
        assert!(line.contains(part), "{arguments:?}: {text}");
        crate::well_said::assert_well_said(line);
    }
}

#[test]
fn without_configuration_localhost_is_both_loopback_addresses() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("NOT TESTED: this machine has no ::1");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--local-hive", "off"]);
    let port = queen.address.port();
    let health = |host: &str| {
        request(format!("{host}:{port}").parse().unwrap(), "GET", "/health", None, &[])
    };
    assert!(queen.address.is_ipv4());
    for host in ["127.0.0.1", "[::1]"] {
        let (status, body) = health(host);
        assert_eq!(status, 200, "{host}: {body}");
    }
    drop(queen);

    // The same port on one address only: the error names that address.
    let other = std::net::TcpListener::bind("[::1]:0").unwrap();
    let taken = other.local_addr().unwrap();
    let output = command(data.path(), &["--port", &taken.port().to_string()]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!(said.contains(&format!("{taken}: another program listens there already")), "{said}");
    let arguments = ["--local-hive", "off", "--host", "127.0.0.1", "--log-format", "json"];
    let mut only = command(data.path(), &arguments);
    only.args(["--port", &taken.port().to_string()]);
    let queen = Queen::spawn(only);
    assert_eq!(queen.get("/health").0, 200);
}

#[test]
fn what_is_not_allowed_ends_the_program_before_it_begins() {
    let data = tempfile::tempdir().unwrap();
    for (arguments, code, said) in [
        (&["--retries", "many"][..], 2, "--retries: retries is \"many\""),
        (&["--host", "0.0.0.0"], 2, "there is no token"),
        (&["--color", "red"], 2, "unexpected argument '--color'"),
        (&["--check-config", "--tls-cert", "/x"], 2, "tls_key"),
    ] {
        let output = command(data.path(), arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(said), "{text}");
    }
    let output = command(data.path(), &["--check-config"]).output().unwrap();
    assert!(output.status.success());
    let output = command(data.path(), &["--print-config", "--port", "9"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("listen_port: 9 ") && text.contains("# --listen-port"), "{text}");
    assert!(text.contains("lease: 1m30s ") && text.contains("# default"), "{text}");
    assert!(!data.path().join("data").exists(), "looking changes nothing");

    let output = command(data.path(), &["--worker-program", "/no/such", "--port", "0"]).output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("worker_program is /no/such; there is no such file"), "{text}");
}

#[test]
fn a_variable_that_is_not_known_is_warned_of_once_and_the_queen_starts() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--port", "0", "--log-format", "json", "--local-hive", "off"];
    let mut command = command(data.path(), &arguments);
    command.env("RBEE_SERVICE_HOST", "10.0.0.1").env("RBEE_RETRYS", "9");
    // Variables of the other programs.
    command.env("RBEE_HIVE_TOKEN", "x").env("RBEE_HOST", "http://queen");
    let queen = Queen::spawn(command);
    assert_eq!(queen.json("/health")["status"], "ok");
    let warnings: Vec<String> = queen
        .log()
        .iter()
        .filter(|line| line["level"] == "WARN")
        .map(|line| line["message"].as_str().unwrap().to_owned())
        .filter(|message| message.contains("RBEE_"))
        .collect();
    assert_eq!(
        warnings,
        [
            "RBEE_RETRYS: there is no such variable, so it is ignored; RBEE_RETRIES perhaps?",
            "RBEE_SERVICE_HOST: there is no such variable, so it is ignored",
        ],
        "in the order of their names"
    );
}

#[test]
fn a_job_that_runs_may_end_while_new_ones_are_turned_away() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &[]);
    let mut story = chat("Tell me a long story about a bee.", 400);
    story["stream"] = json!(true);
    let mut reader = queen.open("/v1/chat/completions", &story);
    let mut line = String::new();
    while !line.contains("\"content\"") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream broke off");
    }
    // Enough work until the queen has reported that it shuts down.
    for _ in 0..4 {
        assert_eq!(queen.post("/v1/jobs", &chat("Tell me a long story.", 400)).0, 202);
    }
    queen.signal("-TERM");
    until("the queen reports that it shuts down", || {
        let (status, body) = queen.get("/health");
        (status == 503 && body.contains("\"draining\"")).then_some(())
    });
    let (status, answer) = queen.post("/v1/chat/completions", &chat("Hello!", 4));
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("shutting_down")), "{answer}");
    let rest: String = reader.lines().map_while(Result::ok).collect();
    assert!(rest.contains("finish_reason") && rest.contains("[DONE]"), "{rest}");
    assert_eq!(queen.wait().code(), Some(0));
}

#[test]
fn a_second_signal_leaves_the_jobs_to_the_next_queen_who_ends_them() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &["--drain-grace", "10m"]);
    let paths: Vec<String> = (0..6)
        .map(|_| {
            let (status, job) = queen.post("/v1/jobs", &chat("Tell me a long story.", 400));
            assert_eq!(status, 202, "{job}");
            format!("/v1/jobs/{}", job["id"].as_str().unwrap())
        })
        .collect();
    let is_running = || paths.iter().any(|path| queen.json(path)["state"] == "running");
    until("one runs", || is_running().then_some(()));
    let workers = queen.children();
    queen.signal("-INT");
    until("the queen reports that it shuts down", || {
        let (status, body) = queen.get("/health");
        (status == 503 && body.contains("\"draining\"")).then_some(())
    });
    queen.signal("-INT");
    assert_eq!(queen.wait().code(), Some(0), "{:#?}", queen.said());
    assert!(workers.iter().all(|pid| !lives(*pid)));

    let next = Queen::start(data.path(), &[]);
    until("the next queen ends them", || {
        paths.iter().all(|path| next.json(path)["state"] == "complete").then_some(())
    });
}

#[test]
fn after_a_hand_over_the_next_queen_has_the_same_worker() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &[]);
    let (status, answer) = queen.post("/v1/chat/completions", &chat("Hello!", 4));
    assert_eq!(status, 200, "{answer}");
    let workers = queen.children();
    let worker = queen.json("/v1/workers")["data"][0]["id"].clone();
    queen.signal("-USR1");
    assert_eq!(queen.wait().code(), Some(0), "{:#?}", queen.said());
    assert!(lives(workers[0]), "it continues");

    let mut next = Queen::start(data.path(), &[]);
    until("it is adopted", || (next.json("/v1/workers")["data"][0]["id"] == worker).then_some(()));
    let (status, answer) = next.post("/v1/chat/completions", &chat("Hello!", 4));
    assert_eq!(status, 200, "{answer}");
    assert!(next.children().is_empty(), "nothing was loaded again");
    next.signal("-TERM");
    assert_eq!(next.wait().code(), Some(0));
    until("the worker has ended", || (!lives(workers[0])).then_some(()));
}

#[test]
fn the_api_wants_the_token_and_the_token_is_nowhere_to_be_seen() {
    let data = tempfile::tempdir().unwrap();
    let token = "t".repeat(64);
    let file = data.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["--token-file", file, "--local-hive", "off", "--log-level", "trace"];
    let queen = Queen::start(data.path(), &arguments);
    assert_eq!(queen.get("/v1/models").0, 401);
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(request(queen.address, "GET", "/v1/models", None, &headers).0, 200);
    assert!(!command_line(queen.child.id()).contains(&token));
    assert!(!queen.said().join("\n").contains(&token));
}

#[test]
fn a_run_that_the_daemon_has_recorded_replays_to_the_same_effects_under_its_script() {
    let data = tempfile::tempdir().unwrap();
    let (policy, run) = (data.path().join("mine.rhai"), data.path().join("run.jsonl"));
    let script = "
        fn admit(job, queue) { if job.max_tokens == 13 { reject(\"unlucky\") } else { accept(-1) } }
        fn order(job) { job.max_tokens ?? 0 }
        fn schedule(job, workers, hives) {
            run_on(workers.with_model(job.model).with_capacity().least_loaded()) ?? builtin()
        }";
    std::fs::write(&policy, script).unwrap();
    let arguments = ["--port", "0", "--log-format", "json", "--policy", policy.to_str().unwrap()];
    let mut command = command(data.path(), &arguments);
    command.env("RBEE_RECORD_RUN", &run);
    let mut queen = Queen::spawn(command);
    for tokens in [4, 13, 8] {
        let (status, answer) = queen.post("/v1/chat/completions", &chat("Hello!", tokens));
        assert_eq!(status == 200, tokens != 13, "{status}: {answer}");
    }
    queen.signal("-TERM");
    assert_eq!(queen.wait().code(), Some(0), "{:#?}", queen.said());

    let recorded = std::fs::read(&run).unwrap();
    let replayed = rbee_core::sim::replay_run(&recorded[..], None).unwrap();
    assert!(replayed.steps > 10 && replayed.effects > 20, "{replayed:?}");
    let scheduler = rbee_core::RhaiScheduler::new(script).unwrap();
    let scheduler = rbee_core::Scheduler::for_replay(&scheduler).unwrap();
    let asked = rbee_core::sim::replay_run(&recorded[..], Some(&*scheduler)).unwrap();
    assert!(asked.questions >= 5, "three admissions, two placements: {asked:?}");
}
