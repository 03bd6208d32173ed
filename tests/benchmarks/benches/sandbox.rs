//! Hostile scripts: the time until each is stopped, and the most memory that it takes.
//!
//! A decision may take 50 ms. The baseline in the same run is a script that behaves. The fleet has 2,000 workers, so
//! that a helper that scans all of them has work to do. Whatever the fault of a script, the built-in policy decides
//! that job.

use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use rbee_core::{
    Ask, ClusterView, RhaiScheduler, Scheduler, Settings,
    sim::{Fleet, FleetWorker, JobSketch},
    time::Now,
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ROUNDS: usize = 20;
const WORKERS: usize = 2_000;

/// What each does for jobs of the model `evil`; on the fleet of the dry run it behaves.
const SCRIPTS: &[(&str, &str)] = &[
    ("behaves", "run_on(workers.with_model(job.model).with_capacity().least_loaded()) ?? wait()"),
    ("endless loop", "loop { }"),
    ("loop in catch", "try { loop { } } catch { loop { } }"),
    ("deep recursion", "deeper(1)"),
    ("wide recursion", "loop { wide(6); }"),
    ("text doubles", "let s = \"x\"; loop { s += s; }"),
    ("text interpolates", "let s = \"x\"; loop { s = `${s}${s}x`; }"),
    ("text pads", "\"x\".pad(1000000000, \"y\")"),
    (
        "text squares",
        "let s = \"a\"; s.pad(4000, \"a\"); let n = 0; loop { let t = s; t.replace(\"a\", s); n += t.len(); }",
    ),
    (
        "texts in a list",
        "let s = \"x\"; s.pad(4000, \"x\"); let a = []; loop { a.push(s + a.len()); }",
    ),
    ("list doubles", "let a = [1]; loop { a += a; }"),
    ("list pads", "let a = []; a.pad(1000000000, 0)"),
    ("list nests", "let a = [0]; loop { a = [a, a]; }"),
    ("list in itself", "let a = []; loop { a.push(a); }"),
    ("map grows", "let m = #{}; let n = 0; loop { m[`k${n}`] = n; n += 1; }"),
    (
        "lists sorted",
        "let a = []; a.pad(1000, 0); for n in 0..1000 { a[n] = (n * 7919) % 10007; } loop { let b = a; b.sort(); }",
    ),
    ("a list in a list", "let d = []; loop { d = [d]; }"),
    ("a map in a map", "let m = #{}; loop { m = #{m: m}; }"),
    ("closures in closures", "LISTS a.for_each(|| b.for_each(|| c.for_each(|| 0)));"),
    ("maps in maps", "LISTS a.map(|x| b.map(|y| c.map(|z| 0).len()).len());"),
    ("one list many times", "LISTS loop { a.map(|x| b); }"),
    ("a list for each worker", "LISTS loop { workers.map(|w| b); }"),
    ("a list reduced to a nest", "LISTS a.reduce(|all, x| [all], [])"),
    ("sorts in finds", "let all = workers; workers.find(|w| { all.sort_by(|v| v.load); false });"),
    ("narrowed for ever", "let w = workers; loop { w = w.online(); }"),
    ("long keys", "let s = \"\"; s.pad(4000, \"x\"); loop { workers.sort_by(|w| s + w.id); }"),
    ("texts in variables", "LISTS for n in 0..1000 { a[n] = `${n}`; } hold(a)"),
    ("lists in variables", "LISTS for n in 0..499 { b[n] = [n]; } b.truncate(499); hold(b)"),
    ("lists in calls", "LISTS give(a)"),
    ("workers in variables", "hold_rest(workers)"),
    ("workers sorted", "loop { workers.sort_by(|w| w.load); }"),
    ("workers filtered", "loop { workers.filter(|w| true).filter(|w| false).count(); }"),
    ("a million helpers", "for n in 0..1000000 { workers.with_model(job.model).least_loaded(); }"),
    ("a million builtin", "for n in 0..1000000 { builtin(); }"),
];

/// A list of a thousand zeros, and two more.
const LISTS: &str = "let a = []; a.pad(1000, 0); let b = a; let c = a;";

fn policy(body: &str) -> RhaiScheduler {
    let body = body.replace("LISTS", LISTS);
    let held = |value: &str| -> String {
        (0..60).map(|number| format!("let v{number} = {value}; ")).collect()
    };
    let (hold, rest) = (held("v"), held("v.skip(1)"));
    let given =
        (0..20).fold("give(v)".to_owned(), |inner, _| format!("many(v,v,v,v,v,v,v,{inner})"));
    let text = format!(
        "fn deeper(n) {{ deeper(n + 1) }}\n\
         fn wide(n) {{ if n == 0 {{ 1 }} else {{ wide(n - 1) + wide(n - 1) }} }}\n\
         fn hold(v) {{ {hold} hold(v); 0 }}\n\
         fn hold_rest(v) {{ {rest} hold_rest(v); 0 }}\n\
         fn many(a,b,c,d,e,f,g,h) {{ 0 }}\n\
         fn give(v) {{ {given} }}\n\
         fn schedule(job, workers, hives) {{\n\
             if job.model != \"evil\" {{ return wait(); }}\n\
             {body}\n\
         }}"
    );
    RhaiScheduler::new(text).expect("it behaves where it is tried")
}

fn question() -> (Ask, ClusterView) {
    let mut fleet = Fleet::from_yaml(
        "hives: [{id: attic, devices: [{kind: cuda, memory_total: 80000000000}], models: {evil: 1000000}}]",
    )
    .expect("a proper fleet");
    let worker = FleetWorker {
        id: None,
        model: "evil".parse().expect("a proper name"),
        slots: 4,
        device: 0,
        memory_bytes: Some(1_000_000),
        busy: 1,
        embed: false,
        rerank: false,
        pinned: false,
        warm: Vec::new(),
    };
    fleet.hives[0].workers = vec![worker; WORKERS];
    let sketch = JobSketch::from_yaml("model: evil").expect("a proper job");
    let job = sketch.job(&Settings::default(), 1).expect("a proper job");
    (Ask::first(job.into(), Now::default(), 1), fleet.view().expect("a proper fleet"))
}

fn main() {
    let (ask, cluster) = question();
    println!("{:<22} {:>10} {:>10} {:>10}   the end", "", "median ms", "most ms", "most KiB");
    for (name, body) in SCRIPTS {
        let policy = policy(body);
        let mut took = Vec::new();
        let mut most = 0;
        let mut end = String::new();
        for _ in 0..ROUNDS {
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let begin = Instant::now();
            let placed = policy.place(&ask, &cluster);
            took.push(begin.elapsed());
            most = most.max(MEMORY.peak_usage().saturating_sub(before));
            end = match placed {
                Ok(_) => "a decision".into(),
                Err(error) => error.message().to_owned(),
            };
        }
        took.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, longest) = (ms(took[ROUNDS / 2]), ms(took[ROUNDS - 1]));
        println!("{name:<22} {median:>10.3} {longest:>10.3} {:>10}   {end}", most / 1024);
    }
}
