//! `kill -9` of a process that writes, at times chosen by a seed: everything it acknowledged is stored.
//!
//! The child is this test binary again, running only [`the_child_writes`], with the database named in its environment.
//! It prints each acknowledgement to its standard output; what it printed before the kill is compared.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rbee_core::{
    CorrelationId, Finish, Job, JobId, JobState, Outcome, Priority, Registry, SqliteRegistry,
    TenantId, Usage, WorkerId,
    answer::AnswerFormat,
    id::{Epoch, QueenId},
    registry::{Change, JobFilter, JobRecord, TokenChunk},
    request::{Prompt, Sampling, Task},
    time::WallTime,
};

const DATABASE: &str = "RBEE_TEST_CRASH_DATABASE";
const WITH_ENDS: &str = "RBEE_TEST_CRASH_WITH_ENDS";
const ROUNDS: u64 = 30;
/// Rounds on the same database.
const ROUNDS_PER_FILE: u64 = 6;
const CALLERS: u64 = 8;
/// So long that only the lock of the dead process, not its lease, can explain a takeover.
const LEASE: Duration = Duration::from_secs(24 * 3600);

fn chunk(n: u32) -> TokenChunk {
    TokenChunk { id: Some(n), text: format!("word{n} ").into(), logprobs: None }
}

fn job(order: u64) -> JobRecord {
    let model: rbee_core::ModelRef = "bee".parse().unwrap();
    let tenant = Some(TenantId::new("t").unwrap());
    let request = Job {
        id: JobId::random(),
        model,
        priority: Priority::Interactive,
        task: Task::Generate {
            prompt: Prompt::Text("honey ".repeat(40)),
            sampling: Sampling::default(),
        },
        seed: order,
        prefix: [].into(),
        timeout: Duration::from_secs(300),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    };
    JobRecord::queued(request.into(), order, WallTime::now(), Epoch::default())
}

/// One line, written with one call, so that a kill cuts at most the last one.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // The parent is gone.
        std::process::exit(0);
    }
}

/// Does nothing in an ordinary run. In the child, writes until it is killed.
#[test]
fn the_child_writes() {
    let Ok(database) = std::env::var(DATABASE) else {
        return;
    };
    let with_ends = std::env::var(WITH_ENDS).is_ok();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let registry = std::sync::Arc::new(SqliteRegistry::open(database).unwrap());
        let queen = QueenId::new("child").unwrap();
        let epoch = registry.open(&queen, LEASE).await.unwrap().epoch;
        tell(&format!("epoch {epoch}"));
        let callers = (0..CALLERS).map(|caller| {
            let registry = registry.clone();
            tokio::spawn(async move { write(&*registry, epoch, caller, with_ends).await })
        });
        let callers: Vec<_> = callers.collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

async fn write(registry: &dyn Registry, epoch: Epoch, caller: u64, with_ends: bool) {
    // Bounded, so that a child without a parent ends in any case.
    for n in 0..100_000 {
        let job = job(n * CALLERS + caller);
        let id = job.id;
        let record = async |change| registry.record(epoch, &[change]).await.unwrap();
        record(Change::JobQueued(Box::new(job))).await;
        tell(&format!("queued {id}"));
        if !with_ends {
            continue;
        }
        let start = Change::JobRunning {
            job: id,
            worker: WorkerId::random(),
            attempt: 1,
            at: WallTime::now(),
            numerics: "n".into(),
            format: AnswerFormat::default(),
        };
        record(start).await;
        for at in [0, 4] {
            let chunks = (at..at + 4).map(chunk).collect();
            record(Change::JobTokens { job: id, at, chunks }).await;
            tell(&format!("tokens {id} {}", at + 4));
        }
        if n % 3 == 0 {
            continue;
        }
        let end = Change::JobEnded {
            job: id,
            outcome: Outcome::Complete {
                finish: Finish::Stop,
                usage: Usage { prompt_tokens: 2, completion_tokens: 9, ..Usage::default() },
                stop_text: None,
            },
            at: WallTime::now(),
            used_tokens: 11,
            keep_request: false,
            keep_output: n % 2 == 0,
        };
        record(end).await;
        tell(&format!("ended {id}"));
    }
}

/// What a child has printed.
#[derive(Default)]
struct Acknowledged {
    epoch: Option<Epoch>,
    queued: HashSet<JobId>,
    tokens: HashMap<JobId, u32>,
    ended: HashSet<JobId>,
}

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["epoch", n] => self.epoch = Some(Epoch(n.parse().unwrap())),
            ["queued", id] => drop(self.queued.insert(id.parse().unwrap())),
            ["tokens", id, n] => {
                self.tokens.insert(id.parse().unwrap(), n.parse().unwrap());
            }
            ["ended", id] => drop(self.ended.insert(id.parse().unwrap())),
            // Output of the test harness itself.
            _ => {}
        }
    }
}

/// Killed and waited for in any case, so that no process is left over.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(database: &Path, with_ends: bool) -> KilledOnDrop {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "registry_crash::the_child_writes", "--nocapture", "--test-threads=1"])
        .env(DATABASE, database)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if with_ends {
        command.env(WITH_ENDS, "1");
    }
    KilledOnDrop(command.spawn().unwrap())
}

/// Lets a child write, kills it after this time, and returns what it printed.
fn run_until_killed(database: &Path, with_ends: bool, moment: Moment) -> Acknowledged {
    let mut child = spawn(database, with_ends);
    let output = BufReader::new(child.0.stdout.take().unwrap());
    let mut heard = Acknowledged::default();
    let mut limit = match moment {
        Moment::AfterLines(lines) => lines,
        Moment::AfterTime(time) => {
            std::thread::sleep(time);
            0
        }
    };
    let mut lines = output.split(b'\n');
    while limit > 0 {
        let line = lines.next().expect("the child ends only by a kill").unwrap();
        heard.hear(std::str::from_utf8(&line).unwrap());
        limit -= 1;
    }
    child.0.kill().unwrap();
    // What was in the pipe at the kill was acknowledged too; a line that the kill cut is incomplete.
    let mut rest = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        rest.push(line);
    }
    rest.pop_if(|line| !is_whole(line));
    for line in rest {
        heard.hear(std::str::from_utf8(&line).unwrap());
    }
    heard
}

/// Each line is written with one call, so only the last one can be cut; a cut line is shorter than its kind.
fn is_whole(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    let words: Vec<&str> = text.split(' ').collect();
    match *words {
        ["queued" | "ended", id] | ["tokens", id, _] => id.len() == 36,
        _ => false,
    }
}

#[derive(Clone, Copy, Debug)]
enum Moment {
    AfterLines(u64),
    AfterTime(Duration),
}

/// SplitMix64: the times of the kills are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

#[test]
fn everything_that_was_acknowledged_survives_a_kill() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut random = Random(2026);
    let (mut queued, mut ended) = (0, 0);
    for file in 0..ROUNDS / ROUNDS_PER_FILE {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("rbee.db");
        let mut last = Epoch::default();
        for round in 0..ROUNDS_PER_FILE {
            // One round in six is killed while it opens or migrates the database.
            let moment = match round {
                0 if file % 2 == 0 => {
                    Moment::AfterTime(Duration::from_micros(random.below(40_000)))
                }
                3 => Moment::AfterTime(Duration::from_micros(random.below(60_000))),
                _ => Moment::AfterLines(random.below(1_500)),
            };
            let heard = run_until_killed(&database, round % 2 == 1, moment);
            queued += heard.queued.len();
            ended += heard.ended.len();
            let what = format!("file {file}, round {round}, killed {moment:?}");
            last = runtime.block_on(check(&database, &heard, last, &what));
        }
    }
    println!("{ROUNDS} kills; {queued} acknowledged jobs and {ended} acknowledged ends, all found");
    assert!(
        queued > 1_000 && ended > 100,
        "the children wrote too little: {queued} jobs, {ended} ends"
    );
}

/// Opens the database as another queen, checks everything, and returns the last epoch.
async fn check(database: &Path, heard: &Acknowledged, last: Epoch, what: &str) -> Epoch {
    let registry = SqliteRegistry::open(database).unwrap();
    let queen = QueenId::new("parent").unwrap();
    let found = registry.open(&queen, LEASE).await.unwrap();
    assert!(found.epoch > last, "{what}: the epoch did not grow");
    if let Some(epoch) = heard.epoch {
        assert!(
            last < epoch && epoch < found.epoch,
            "{what}: epochs {last}, {epoch}, {} do not grow",
            found.epoch
        );
    }
    let live: HashMap<JobId, &JobRecord> = found.jobs.iter().map(|job| (job.id, job)).collect();
    for id in &heard.queued {
        let job = live.get(id).copied();
        let at_least = heard.tokens.get(id).copied().unwrap_or(0);
        if let Some(job) = job {
            assert!(!heard.ended.contains(id), "{what}: the acknowledged end of job {id} is lost");
            assert!(job.request.is_some(), "{what}: job {id} has lost its request");
            assert!(
                job.tokens_generated >= at_least,
                "{what}: job {id} has lost acknowledged pieces"
            );
            let expected: Vec<TokenChunk> = (0..job.tokens_generated).map(chunk).collect();
            assert_eq!(job.chunks, expected, "{what}: the answer of job {id} has changed");
            continue;
        }
        let stored = registry.jobs(&JobFilter::one(*id)).await.unwrap();
        let [job] = &*stored else {
            panic!("{what}: the acknowledged job {id} is lost");
        };
        assert_eq!(
            job.status.state(),
            JobState::Complete,
            "{what}: job {id} was not taken over at once"
        );
        assert_eq!(job.request, None, "{what}: the request of job {id} was not erased");
    }
    registry.release(found.epoch).await.unwrap();
    drop(registry);
    let database = rusqlite::Connection::open(database).unwrap();
    let integrity: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok", "{what}: the database is damaged");
    usage_fits_the_ends(&database, what);
    found.epoch
}

/// The end of a job and its usage are stored together.
fn usage_fits_the_ends(database: &rusqlite::Connection, what: &str) {
    let sum = |sql| database.query_row(sql, [], |row| row.get::<_, i64>(0));
    let ends = sum("SELECT count(*) FROM jobs WHERE state = 'complete'").unwrap();
    let used = sum("SELECT coalesce(sum(tokens), 0) FROM tenant_usage").unwrap();
    assert_eq!(used, ends * 11, "{what}: usage and ends do not fit together");
}
