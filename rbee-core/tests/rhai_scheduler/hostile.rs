//! Scripts that want too much are stopped, soon, and with the line where they were.

use std::time::{Duration, Instant};

use rbee_core::{RhaiScheduler, Scheduler};

use crate::fleet::{ask, cluster, hive, worker};

/// What a stopped script may have taken on a busy machine: its limit many times over.
const SOON: Duration = Duration::from_secs(3);

/// The script behaves on the fleet it is tried on, and only then shows what it is.
fn fault(body: &str) -> String {
    let text = format!(
        "fn schedule(job, workers, hives) {{\n    if job.model != \"evil\" {{ return wait(); }}\n    {body}\n}}\n{REST}"
    );
    let policy = RhaiScheduler::new(text).unwrap();
    let cluster = cluster(
        [hive("a", &[24], &[("evil", 1)], &[])],
        (1..=2_000).map(|number| worker(number, "a", "evil", 0)),
    );
    let begin = Instant::now();
    let error = policy.place(&ask("evil"), &cluster).expect_err("it must be stopped");
    assert!(begin.elapsed() < SOON, "it took {:?}: {error}", begin.elapsed());
    assert!(error.message().contains("line "), "{error}");
    error.message().to_owned()
}

const REST: &str = "fn deeper(n) { deeper(n + 1) }\nfn wide(n) { if n == 0 { 1 } else { wide(n - 1) + wide(n - 1) } }\n";

#[test]
fn an_endless_loop_is_ended() {
    assert!(fault("loop { }").contains("line 3"));
    fault("let n = 0; while true { n += 1; }");
    fault("for n in 0..1000000000000 { wide(1); }");
    fault("try { loop { wide(1); } } catch { loop { wide(1); } }");
    fault("loop { wide(4); }");
}

#[test]
fn the_clock_ends_what_the_number_of_operations_would_not() {
    let said = fault("let n = 0; while n < 100000 { workers.sort_by(|w| w.load); n += 1; }");
    assert!(said.contains("it took longer than 50ms"), "{said}");
    let said = fault("for n in 0..1000000 { workers.filter(|w| true).filter(|w| false); }");
    assert!(said.contains("longer than"), "{said}");
}

#[test]
fn in_a_replay_the_number_of_operations_ends_a_script_and_not_the_clock() {
    let cluster = cluster([hive("a", &[24], &[("evil", 1)], &[])], [worker(1, "a", "evil", 0)]);
    let text = "fn schedule(job, workers, hives) { if job.model == \"evil\" { loop { } } wait() }";
    let policy = RhaiScheduler::new(text).unwrap().with_limit(Duration::ZERO);
    let in_use = |policy: &dyn Scheduler, model: &str| policy.place(&ask(model), &cluster);
    assert!(in_use(&policy, "evil").unwrap_err().message().contains("longer than"));
    let replayed = policy.for_replay().unwrap();
    let said = in_use(&*replayed, "evil").unwrap_err();
    assert!(said.message().contains("operations"), "{said}");
    assert_eq!(in_use(&*replayed, "other"), Ok(rbee_core::Placement::Wait));
    assert_eq!((replayed.name(), replayed.source()), (policy.name(), policy.source()));
}

#[test]
fn a_text_cannot_grow_without_end() {
    assert!(fault("let s = \"x\"; loop { s += s; }").contains("too large"));
    fault("\"x\".pad(1000000000, \"y\")");
    fault("let s = \"a\"; s.pad(4000, \"a\"); let t = s; s.replace(\"a\", t); loop { s += t; }");
    fault("let s = \"\"; loop { s = `${s}${s}x`; }");
}

#[test]
fn a_list_or_map_cannot_grow_without_end() {
    assert!(fault("let a = [1]; loop { a += a; }").contains("too large"));
    fault("let a = []; a.pad(1000000000, 0)");
    fault("let a = [0]; loop { a = [a, a]; }");
    fault("let m = #{}; let n = 0; loop { m[`k${n}`] = n; n += 1; }");
    fault("let a = []; loop { a.push(a); }");
}

#[test]
fn functions_cannot_call_one_another_too_deeply() {
    assert!(fault("deeper(1)").contains("too deeply"));
}

#[test]
fn helpers_called_a_million_times_are_ended() {
    for call in [
        "workers.count()",
        "workers.with_model(job.model).least_loaded()",
        "builtin()",
        "hives.available().count()",
        "queue_depth()",
        "model_vram_required(\"other\")",
        "spawn_on(hives.first())",
        "glob(\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"*a*a*a*a*a*b\")",
        "note(\"x\")",
        "random()",
    ] {
        fault(&format!("for n in 0..1000000 {{ {call}; }}"));
    }
}

fn refused(script: &str) -> String {
    RhaiScheduler::new(script).expect_err("it must be refused").message().to_owned()
}

fn body(body: &str) -> String {
    refused(&format!("fn schedule(job, workers, hives) {{\n{body}\nwait()\n}}"))
}

#[test]
fn a_closure_that_would_keep_itself_alive_is_refused() {
    for text in [
        "let f = (); f = || f.call();",
        "let f = (); let g = || f; f = g;",
        "let a = []; let f = || a.len(); a.push(f);",
        "let m = #{f: ()}; let f = || m; m.f = f;",
        "let m = #{f: ()}; let f = || m; m[\"f\"] = f;",
        "let x = (); let f = (); for n in 0..2 { x = f; let g = || x; f = g; }",
    ] {
        let said = body(text);
        assert!(said.contains("line 2") && said.contains("is used in a closure"), "{text}: {said}");
    }
    let harmless =
        "let most = 1; if hour() > 20 { most = 2; } workers.filter(|w| w.running < most);";
    RhaiScheduler::new(format!("fn schedule(job, workers, hives) {{ {harmless} wait() }}"))
        .unwrap();
}

#[test]
fn what_a_sandbox_must_not_have_is_not_there() {
    for (text, word) in [
        ("eval(\"1\");", "eval"),
        ("print(\"x\");", "print"),
        ("debug(\"x\");", "debug"),
        ("sleep(5);", "sleep"),
        ("5.sleep();", "sleep"),
        ("Fn(\"sleep\").call(5);", "Fn"),
        ("exit();", "exit"),
        ("import \"x\" as x;", "import"),
        ("parse_json(\"1\");", "parse_json"),
        ("timestamp();", "timestamp"),
        ("blob(1000000000);", "blob"),
        ("open_file(\"/etc/passwd\");", "open_file"),
    ] {
        let said = body(text);
        assert!(said.contains("line 2") && said.contains(word), "{text}: {said}");
    }
}

#[test]
fn a_script_that_hangs_when_it_is_loaded_is_refused() {
    let begin = Instant::now();
    assert!(body("loop { }").contains("line 2"));
    assert!(
        refused("const X = { loop { } };\nfn schedule(job, workers, hives) { wait() }")
            .contains("line 1")
    );
    assert!(begin.elapsed() < SOON);
    assert!(refused(&"x".repeat(100_000)).contains("allowed are 65536"));
    for deep in ["(", "[", "{", "`${", "fn ", "|", "#{a:", "-", "!", "a."] {
        refused(&deep.repeat(8_000));
        refused(&format!("fn schedule(job, workers, hives) {{ {} }}", deep.repeat(8_000)));
    }
    assert!(begin.elapsed() < SOON * 10);
}
