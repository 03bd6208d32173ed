//! Scripts that exceed their limits are stopped soon, with the line where they were.
//!
//! Scripts that could exhaust the machine or kill the process if they were not stopped run in a process of their own:
//! see [`apart`].

use std::time::Duration;

use rbee_core::{ClusterView, RhaiScheduler, Scheduler};

use super::{
    apart::{self, Cost},
    fleet::{ask, cluster, hive, worker},
};

/// The most processor time of a stopped script: its limit, and the operation it was in, which is slow in a test build.
const SOON: Duration = Duration::from_millis(150);
/// The most memory that it has taken.
const MOST_KIB: u64 = 64 * 1024;
/// The same with a limit so long that it can fill all the variables it may have.
const MOST_HELD_KIB: u64 = 128 * 1024;

/// The script behaves on the fleet of the dry run, and does harm only afterwards.
fn policy(body: &str) -> RhaiScheduler {
    RhaiScheduler::new(format!(
        "fn schedule(job, workers, hives) {{\n    if job.model != \"evil\" {{ return wait(); }}\n    {body}\n}}\n{REST}{}",
        hold()
    ))
    .unwrap()
}

/// The error with which it is stopped.
fn stopped(policy: &RhaiScheduler) -> (String, Cost) {
    let cluster = fleet();
    let (answer, cost) = apart::measured(|| policy.place(&ask("evil"), &cluster));
    let error = answer.expect_err("it must be stopped");
    assert!(cost.time < SOON, "it took {cost:?}: {error}");
    assert!(error.message().contains("line "), "{error}");
    (error.message().to_owned(), cost)
}

fn fleet() -> ClusterView {
    cluster(
        [hive("a", &[24], &[("evil", 1)], &[])],
        (1..=2_000).map(|number| worker(number, "a", "evil", 0)),
    )
}

fn fault(body: &str) -> String {
    stopped(&policy(body)).0
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
    assert_eq!(
        (replayed.info().name, replayed.info().source),
        (policy.info().name, policy.info().source)
    );
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

/// Processor time until a text is loaded or refused.
const LOADED: Duration = Duration::from_millis(1_500);

fn refused(script: &str) -> String {
    RhaiScheduler::new(script).expect_err("it must be refused").message().to_owned()
}

fn body(body: &str) -> String {
    refused(&format!("fn schedule(job, workers, hives) {{\n{body}\nwait()\n}}"))
}

#[test]
fn a_closure_that_is_kept_is_refused() {
    for text in [
        "let f = |x| x;",
        "let f = (); f = || f;",
        "let a = [|x| x];",
        "let m = #{f: || 1};",
        "let a = []; a.push(|| a.len());",
        "let a = []; a.pad(3, |x| x);",
        "let a = []; (a)[0] = || a.len();",
        "let a = []; a.push({ if true {} || a.len() });",
        "if true {} |x| x;",
        "return |x| x;",
        "throw |x| x;",
        "let f = [1].reduce(|acc, x| { || acc });",
        "[1].reduce(|acc, x| acc, |x| x);",
        "[1].map(|x| |y| y);",
        "deeper(|x| x);",
        "1.order(|x| x);",
        "filter(|x| x);",
        "let n = 0; // a comment\r let f = |x| x;",
    ] {
        let said = closures(text);
        assert!(said.contains("closure") || said.contains("put brackets"), "{text}: {said}");
    }
    for text in ["let a = []; a.curry(1);", "let a = []; a.call();"] {
        assert!(closures(text).contains("write the closure where it is used"), "{text}");
    }
    let said = closures("let f = deeper; { let deeper = 1; }");
    assert!(said.contains("deeper is a function"), "{said}");
    let harmless = "let most = 1; if hour() > 20 { most = 2; } workers.filter(|w| w.running < most); \
                    most = 3; let n = 0; [1, 2].for_each(|x| n += x); if n != 3 { throw n; } \
                    let odd = [1, 2, 3].filter(|x, i| x % 2 == 1 && i < 9).map(|x, i| x + i).sort(|a, b| b - a);";
    RhaiScheduler::new(format!("fn schedule(job, workers, hives) {{ {harmless} wait() }}"))
        .unwrap();
}

/// The error for this body, in a script with a function `order`.
fn closures(body: &str) -> String {
    refused(&format!(
        "fn schedule(job, workers, hives) {{\n{body}\nwait()\n}}\nfn order(job) {{ 1 }}\n{REST}"
    ))
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
    assert!(body("loop { }").contains("line 2"));
    assert!(
        refused("const X = { loop { } };\nfn schedule(job, workers, hives) { wait() }")
            .contains("line 1")
    );
    assert!(refused(&"x".repeat(100_000)).contains("allowed are 65536"));
    for deep in ["(", "[", "{", "`${", "fn ", "|", "#{a:", "-", "!", "a.", "a ?? ", "a && ", "1 + "]
    {
        refused(&deep.repeat(8_000));
        refused(&format!("fn schedule(job, workers, hives) {{ {} }}", deep.repeat(8_000)));
    }
}

/// A list of a thousand zeros, and two more.
const LISTS: &str = "let a = []; a.pad(1000, 0); let b = a; let c = a;";

/// Each of them would block the processor, exhaust the memory or overflow the stack if a scheduler had only the limits
/// of the language.
const GREEDY: &[(&str, &str)] = &[
    ("closures in closures", "a.for_each(|| b.for_each(|| c.for_each(|| 0)));"),
    ("maps in maps", "a.map(|x| b.map(|y| c.map(|z| 0).len()).len());"),
    ("sums in sums", "workers.sum(|w| a.reduce(|s, x| s + b.filter(|y| y == x).len(), 0));"),
    ("sorts in finds", "let all = workers; workers.find(|w| { all.sort_by(|v| v.load); false });"),
    ("closures caught", "loop { try { a.map(|x| b.map(|y| c.len())); } catch { } }"),
    ("one list many times", "loop { a.map(|x| b); }"),
    ("a list for each worker", "loop { workers.map(|w| b); }"),
    ("a list in a list", "let d = []; loop { d = [d]; }"),
    ("a map in a map", "let m = #{}; loop { m = #{m: m}; }"),
    ("a list reduced to a nest", "a.reduce(|all, x| [all], [])"),
    (
        "nests compared",
        "let d = [0]; for n in 0..14 { d = [d]; } loop { if [[[[d]]]] != [[[[d]]]] { break; } }",
    ),
    ("nests shown", "let d = [0]; for n in 0..14 { d = [d]; } loop { `${[[[[d]]]]}`; }"),
    ("texts squared", "let s = \"\"; s.pad(4000, \"x\"); loop { let t = s; t.replace(\"x\", s); }"),
    ("letters squared", "let s = \"\"; s.pad(4000, \"x\"); loop { let t = s; t.replace('x', s); }"),
    (
        "texts in pieces",
        "let s = \"\"; s.pad(4000, \"x\"); loop { try { s.split(\"\"); } catch { } }",
    ),
    ("narrowed for ever", "let w = workers; loop { w = w.online(); }"),
    ("long keys", "let s = \"\"; s.pad(4000, \"x\"); loop { workers.sort_by(|w| s + w.id); }"),
    ("lists in calls", "give(a)"),
    ("deep calls of deep values", "let d = [0]; for n in 0..14 { d = [d]; } climb(0, d)"),
    ("many maps", "let m = []; loop { m.push(#{a: 1}); }"),
];

/// Everything that a script can hold; it has enough time for that only with a long limit.
const HOLDING: &[(&str, &str)] = &[
    ("zeros in every variable", "hold(a)"),
    ("texts in every variable", "for n in 0..1000 { a[n] = `${n}`; } hold(a)"),
    ("lists in every variable", "for n in 0..499 { b[n] = [n]; } b.truncate(499); hold(b)"),
    ("small maps in every variable", "let m = []; for n in 0..99 { m.push(#{a: n}); } hold(m)"),
    (
        "some of each in every variable",
        "let m = []; for n in 0..98 { m.push(#{a: n}); } for n in 0..430 { m.push([n]); } \
         let k = #{}; for n in 0..400 { k[`k${n}`] = n; } m.push(k); hold(m)",
    ),
    ("a map in every variable", "let m = #{}; for n in 0..499 { m[`k${n}`] = n; } hold(m)"),
    ("workers in every variable", "hold_rest(workers)"),
];

/// Functions that hold the value in as many variables as allowed, and call themselves.
fn hold() -> String {
    let held = |value: &str| -> String {
        (0..60).map(|number| format!("let v{number} = {value}; ")).collect()
    };
    let given =
        (0..20).fold("give(v)".to_owned(), |inner, _| format!("many(v,v,v,v,v,v,v,{inner})"));
    let climbed = (0..20).fold("climb(n + 1, d)".to_owned(), |inner, _| format!("min(1, {inner})"));
    format!(
        "fn climb(n, d) {{ if n > 6 {{ [[[[d]]]] == [[[[d]]]] }} else {{ {climbed} }} }}\n\
         fn hold(v) {{ {} hold(v); 0 }}\nfn hold_rest(v) {{ {} hold_rest(v); 0 }}\n\
         fn many(a,b,c,d,e,f,g,h) {{ 0 }}\nfn give(v) {{ {given} }}\n",
        held("v"),
        held("v.skip(1)")
    )
}

#[test]
fn what_a_script_takes_is_bounded() {
    let name = "rhai_scheduler::hostile::what_a_script_takes_is_bounded";
    apart::each(name, GREEDY.iter().map(|(what, _)| *what), |what| {
        let (_, body) = GREEDY.iter().find(|(name, _)| *name == what).unwrap();
        let (said, cost) = stopped(&policy(&format!("{LISTS} {body}")));
        assert!(cost.kib < MOST_KIB, "it took {cost:?}: {said}");
        format!("{cost:?}: {said}")
    });
}

#[test]
fn what_a_script_can_hold_is_bounded() {
    let name = "rhai_scheduler::hostile::what_a_script_can_hold_is_bounded";
    apart::each(name, HOLDING.iter().map(|(what, _)| *what), |what| {
        let (_, body) = HOLDING.iter().find(|(name, _)| *name == what).unwrap();
        let patient = policy(&format!("{LISTS} {body}")).with_limit(Duration::from_secs(20));
        let cluster = fleet();
        let (answer, cost) = apart::measured(|| patient.place(&ask("evil"), &cluster));
        let said = answer.unwrap_err();
        assert!(said.message().contains("too deeply"), "{said}");
        assert!(cost.kib < MOST_HELD_KIB, "it took {cost:?}: {said}");
        format!("{cost:?}: {said}")
    });
}

/// Texts that would block the queen before any job, made of a repeated part.
const SLOW: &[(&str, &str, &str, &str)] = &[
    ("a loop", "", "", "loop { }"),
    ("closures in closures", "", "", "LISTS a.for_each(|| b.for_each(|| c.for_each(|| 0)));"),
    ("a loop that catches", "", "", "loop { try { loop { } } catch { } }"),
    ("slow each time", "", "", "let n = 0; while n < 60000 { n += 1; workers.count(); }"),
    (
        "all that it can hold",
        "",
        "",
        "LISTS for n in 0..499 { b[n] = [n]; } b.truncate(499); hold(b);",
    ),
    ("loops around closures", "loop{", "}", "workers.any(|w| true);"),
    ("empty blocks", "{}", "", ""),
    ("blocks", "{1}", "", ""),
    ("statements", "1;", "", ""),
    ("calls", "min(", "", ""),
    ("calls of its own", "schedule(", "", ""),
    ("for", "for ", "", ""),
    ("closures", "[].any(|w| ", "", ""),
    ("bars", "| ", "", ""),
    ("numbers", "#", "", ""),
    ("functions", "} fn a() {", "", ""),
    ("variables", "let a=1;", "", ""),
    ("texts", "`${1}`;", "", ""),
    ("comments", "/*", "", ""),
];

#[test]
fn a_policy_is_loaded_or_refused_within_a_second() {
    let name = "rhai_scheduler::hostile::a_policy_is_loaded_or_refused_within_a_second";
    apart::each(name, SLOW.iter().map(|(what, ..)| *what), |what| {
        let (_, before, after, middle) = SLOW.iter().find(|(name, ..)| *name == what).unwrap();
        let times = 60_000usize.checked_div(before.len() + after.len()).unwrap_or(0);
        let functions = if middle.contains("hold") { hold() } else { String::new() };
        let text = format!(
            "fn schedule(job, workers, hives) {{ {}{}{} wait() }}\n{functions}",
            before.repeat(times),
            middle.replace("LISTS", LISTS),
            after.repeat(times)
        );
        let (answer, cost) = apart::measured(|| RhaiScheduler::new(text));
        assert!(cost.time < LOADED, "it took {cost:?}: {answer:?}");
        assert!(cost.kib < MOST_HELD_KIB, "it took {cost:?}: {answer:?}");
        format!("{cost:?}: {:?}", answer.map_err(|error| error.message().to_owned()))
    });
    let nested = |times| {
        let (open, close) = ("switch 1 { 1 => 2, _ => ".repeat(times), "}".repeat(times));
        format!("fn schedule(job, workers, hives) {{ let n = {open} 3 {close}; wait() }}")
    };
    assert!(refused(&nested(18)).contains("switch stands inside more than 4 others"));
    RhaiScheduler::new(nested(4)).unwrap();
    let begin = "const X = { let a = []; a.pad(1000, 0); let b = a; let c = a; \
                 a.for_each(|| b.for_each(|| c.for_each(|| 0))); 1 };";
    let (answer, cost) = apart::measured(|| {
        RhaiScheduler::new(format!("{begin}\nfn schedule(job, workers, hives) {{ wait() }}"))
    });
    assert!(cost.time < LOADED, "it took {cost:?}");
    assert!(answer.unwrap_err().message().contains("line 1"));
}
