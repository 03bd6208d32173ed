//! Durable records per second: 64 callers that queue and end jobs through `SqliteRegistry`, compared with one thread
//! that writes the same rows directly, with the same statements, in groups of the same size, into the same tables.
//!
//! The last lines give the ratio of the two, for both durability levels.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rbee_core::{
    CorrelationId, Finish, Job, JobId, Outcome, Priority, Registry, SqliteRegistry, Usage,
    id::{Epoch, QueenId},
    registry::{Change, Durability, JobRecord},
    request::{Prompt, Sampling, Task},
    time::WallTime,
};
use rusqlite::{Connection, params};

const CALLERS: usize = 64;
/// Jobs of one measurement for the ratio; each is two records. Enough for several checkpoints: in a young file the cost
/// of its growth hides that of the records, and the ratio looks better than it is.
const JOBS: usize = 16_384;
const ROUNDS: usize = 5;
/// Jobs of one sample of criterion, which shows how much the results vary.
const SAMPLE: usize = 2_048;

/// A job whose stored request has about 512 bytes.
fn job(order: u64) -> JobRecord {
    let model: rbee_core::ModelRef = "bee-tiny".parse().expect("well-formed");
    let request = Job {
        id: JobId::random(),
        model,
        priority: Priority::Interactive,
        task: Task::Generate {
            prompt: Prompt::Text("x".repeat(80)),
            sampling: Sampling::default(),
        },
        seed: order,
        prefix: [].into(),
        timeout: Duration::from_secs(300),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    };
    JobRecord::queued(Arc::new(request), order, WallTime::now(), Epoch::default())
}

fn jobs(count: usize) -> Vec<JobRecord> {
    (0..count as u64).map(job).collect()
}

fn end(job: JobId) -> Change {
    Change::JobEnded {
        job,
        outcome: Outcome::Complete {
            finish: Finish::Stop,
            usage: Usage { prompt_tokens: 20, completion_tokens: 100, ..Usage::default() },
            stop_text: None,
        },
        at: WallTime::now(),
        used_tokens: 120,
        keep_request: false,
        keep_output: false,
    }
}

/// Time for all jobs through the registry, and records per commit.
fn through_the_registry(count: usize, durability: Durability) -> (Duration, f64) {
    let dir = tempfile::tempdir().expect("a directory for the database");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let options = SqliteRegistry::options().durability(durability);
    let registry = options.open(dir.path().join("rbee.db")).expect("opens");
    let registry = Arc::new(registry);
    runtime.block_on(async {
        let queen = QueenId::random();
        let lease = Duration::from_secs(3600);
        let epoch = registry.open(&queen, lease).await.expect("opens").epoch;
        let mut jobs = jobs(count);
        let shares: Vec<Vec<JobRecord>> =
            (0..CALLERS).map(|_| jobs.split_off(jobs.len() - count / CALLERS)).collect();
        let begun = Instant::now();
        let callers = shares.into_iter().map(|share| {
            let registry = registry.clone();
            tokio::spawn(async move {
                for job in share {
                    let id = job.id;
                    let queued = [Change::JobQueued(Box::new(job))];
                    registry.record(epoch, &queued).await.expect("queues");
                    registry.record(epoch, &[end(id)]).await.expect("ends");
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        for caller in callers {
            caller.await.expect("no caller panics");
        }
        let took = begun.elapsed();
        (took, 2.0 * count as f64 / registry.commits() as f64)
    })
}

/// Time for the same rows directly, in groups of this size.
fn by_hand(count: usize, durability: Durability, group: f64) -> Duration {
    let dir = tempfile::tempdir().expect("a directory for the database");
    let path = dir.path().join("rbee.db");
    drop(SqliteRegistry::open(&path).expect("makes the tables"));
    let db = connect(&path, durability);
    let rows: Vec<_> = jobs(count)
        .into_iter()
        .map(|job| {
            let request = job.request.as_deref().map(serialized);
            (job.id.to_string(), job, request)
        })
        .collect();
    // Half of each group is queued; the other half, queued before, is ended.
    let half = (group / 2.0).round().max(1.0) as usize;
    let begun = Instant::now();
    let mut before: &[_] = &[];
    for chunk in rows.chunks(half) {
        write_group(&db, chunk, before).expect("writes");
        before = chunk;
    }
    write_group(&db, &[], before).expect("writes");
    begun.elapsed()
}

/// Not exactly what the registry stores, but as long: in the registry the callers pay for making it.
fn serialized(job: &Job) -> String {
    format!("{job:?}").chars().cycle().take(512).collect()
}

fn connect(path: &Path, durability: Durability) -> Connection {
    let db = Connection::open(path).expect("opens");
    let synchronous = match durability {
        Durability::ProcessCrash => "NORMAL",
        Durability::PowerLoss => "FULL",
    };
    let pragmas = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA secure_delete = FAST;
         PRAGMA journal_size_limit = 67108864; PRAGMA foreign_keys = 1"
    );
    db.execute_batch(&pragmas).expect("sets the pragmas");
    db.set_prepared_statement_cache_capacity(64);
    db
}

type Row = (String, JobRecord, Option<String>);

fn write_group(db: &Connection, queued: &[Row], ended: &[Row]) -> rusqlite::Result<()> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut insert = db.prepare_cached(
        "INSERT INTO jobs (job_id, tenant_id, model_ref, priority, state, worker_id, submitted_at, started_at,
                           completed_at, error, error_code, finish, attempts, prompt_tokens, tokens_generated,
                           owner, queue_order, correlation_id, numerics, request)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
         ON CONFLICT (job_id) DO NOTHING",
    )?;
    for (id, job, request) in queued {
        let none = None::<&str>;
        insert.execute(params![
            id,
            none,
            job.model.as_str(),
            "interactive",
            "queued",
            none,
            job.submitted_at.as_millis() as i64,
            none,
            none,
            none,
            none,
            none,
            0,
            none,
            0,
            1,
            job.order as i64,
            job.correlation_id.as_str(),
            none,
            request,
        ])?;
    }
    let mut update = db.prepare_cached(
        "UPDATE jobs SET state = ?3, completed_at = ?4, error = ?5, error_code = ?6, finish = ?7,
                prompt_tokens = ?8, tokens_generated = coalesce(?9, tokens_generated),
                request = CASE WHEN ?10 THEN request END
         WHERE job_id = ?1 AND owner = ?2 AND completed_at IS NULL",
    )?;
    let mut delete = db.prepare_cached("DELETE FROM pieces WHERE job_id = ?1")?;
    for (id, _, _) in ended {
        let none = None::<&str>;
        let now = WallTime::now().as_millis() as i64;
        update.execute(params![id, 1, "complete", now, none, none, "stop", 20, 100, false])?;
        delete.execute([id])?;
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

fn per_second(took: Duration) -> f64 {
    2.0 * JOBS as f64 / took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn registry(criterion: &mut Criterion) {
    for (durability, name) in [
        (Durability::ProcessCrash, "survives kill -9"),
        (Durability::PowerLoss, "survives power loss"),
    ] {
        // In alternation, so that a change of the machine's speed affects both.
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let (took, group) = through_the_registry(JOBS, durability);
            let bare = by_hand(JOBS, durability, group);
            rounds.push((per_second(took), per_second(bare), group));
        }
        let rates = rounds.iter().map(|round| round.0).collect();
        let bare = rounds.iter().map(|round| round.1).collect();
        let ratios = rounds.iter().map(|round| round.0 / round.1).collect();
        let groups = rounds.iter().map(|round| round.2).collect();
        let group = median(groups);
        SUMMARY.lock().expect("one thread").push(format!(
            "{name}: {:.0} records/s through the registry with {CALLERS} callers, {group:.0} a commit; \
             {:.0} by hand; ratio {:.2}",
            median(rates),
            median(bare),
            median(ratios),
        ));

        let mut criterion = criterion.benchmark_group(name);
        criterion
            .sample_size(10)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_secs(2))
            .throughput(Throughput::Elements(2 * SAMPLE as u64));
        criterion.bench_function("through the registry", |bench| {
            bench.iter_custom(|n| (0..n).map(|_| through_the_registry(SAMPLE, durability).0).sum());
        });
        criterion.bench_function("by hand", |bench| {
            bench.iter_custom(|n| (0..n).map(|_| by_hand(SAMPLE, durability, group)).sum());
        });
        criterion.finish();
    }
}

static SUMMARY: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn summary(_: &mut Criterion) {
    for line in SUMMARY.lock().expect("one thread").iter() {
        println!("{line}");
    }
}

criterion_group!(benches, registry, summary);
criterion_main!(benches);
