//! A hive through an SSH connection, compared with one over TCP on the same machine: the throughput of streams and of a
//! model's files, the time to the first token, and the processor time of this side.
//!
//! The machine is a network namespace that `examples/ssh_machines/machines.sh` makes, so this needs root. Rounds over
//! TCP and through the tunnel alternate. `cargo xtask bench tunnel` builds the programs.

mod machine;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use rbee_core::{
    CorrelationId, HiveBackend, Job, JobId, ModelRef, Output, Priority, Queen, Run, Worker,
    WorkerId, WorkerSpec,
    hive::{ModelHost, Progress},
    id::Epoch,
    request::{Prompt, Sampling, Task},
    worker::Resume,
};
use rbee_transport_ssh::{SshEvent, SshHive};
use rustix::time::{ClockId, clock_gettime};

use machine::Machine;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

const ROUNDS: usize = 8;
const GRACE: Duration = Duration::from_secs(5);
/// The size of the file that is copied.
const FILE_BYTES: usize = 64 << 20;
/// The round trip of the network in the measurement of a deployment that finds everything there.
const ROUND_TRIP: Duration = Duration::from_millis(40);

/// Answers of one shape.
struct Case {
    name: &'static str,
    model: &'static str,
    streams: usize,
    answers: usize,
    tokens: u32,
}

const CASES: [Case; 3] = [
    Case {
        name: "1 stream at full speed",
        model: "bee-fast",
        streams: 1,
        answers: 30,
        tokens: 500,
    },
    Case {
        name: "64 streams at full speed",
        model: "bee-fast",
        streams: 64,
        answers: 256,
        tokens: 500,
    },
    Case {
        name: "64 streams, a token in 20 ms",
        model: "bee-ticks",
        streams: 64,
        answers: 64,
        tokens: 50,
    },
];

#[derive(Clone, Copy, Default)]
struct Measured {
    tokens_per_second: f64,
    /// Microseconds of this process.
    cpu_per_token: f64,
    first_p50: f64,
    first_p99: f64,
}

fn main() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let machine = Machine::up()?;
    first_tokens_of_a_new_machine(&machine).await?;
    round_trips(&machine).await?;
    let tunnel = Arc::new(machine.hive("tunnel"));
    let direct = Arc::new(machine.direct().await?);
    let _events = (tunnel.watch(Epoch(1)).await?, direct.watch(Epoch(1)).await?);
    println!(
        "\nthrough the tunnel / over TCP, medians of {ROUNDS} rounds (tunnel as a multiple of TCP)"
    );
    for case in &CASES {
        let workers = [
            spawned(&*direct, &machine, case.model).await?,
            spawned(&*tunnel, &machine, case.model).await?,
        ];
        let mut rounds: [Vec<Measured>; 2] = Default::default();
        for round in 0..=ROUNDS {
            for (way, worker) in workers.iter().enumerate() {
                let measured = run(worker, case).await?;
                // The first round opens the connections.
                if round > 0 {
                    rounds[way].push(measured);
                }
            }
        }
        let of = |way: usize, value: fn(&Measured) -> f64| {
            let mut all: Vec<f64> = rounds[way].iter().map(value).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!("{}", case.name);
        let line = |what: &str, unit: &str, value: fn(&Measured) -> f64| {
            let (tcp, ssh) = (of(0, value), of(1, value));
            println!("  {what:<28} {ssh:>10.2} / {tcp:>10.2} {unit:<10} ({:.2})", ssh / tcp);
        };
        line("tokens", "per second", |m| m.tokens_per_second);
        line("processor time of a token", "µs", |m| m.cpu_per_token);
        line("first token, median", "ms", |m| m.first_p50);
        line("first token, 99 of 100", "ms", |m| m.first_p99);
    }
    drop(_events);
    let model = machine.file(FILE_BYTES)?;
    let queen = Queen::builder().hive(direct.clone()).hive(tunnel.clone()).build().await?;
    let hives: [Arc<dyn HiveBackend>; 2] = [direct, tunnel];
    let mut rates: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (way, hive) in hives.iter().enumerate() {
            rates[way].push(copied(&queen, &**hive, &model).await?);
            hive.remove_model(&model).await?;
        }
    }
    let [tcp, ssh] = rates.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!(
        "a model of {} MiB\n  copied at                    {ssh:>10.1} / {tcp:>10.1} MiB/s      ({:.2})",
        FILE_BYTES >> 20,
        ssh / tcp
    );
    queen.shutdown(GRACE).await?;
    Ok(())
}

/// How long a machine takes that has never been seen, from the first step to the first token.
async fn first_tokens_of_a_new_machine(machine: &Machine) -> Result<()> {
    let (hive, steps) = observed(machine.hive("new"));
    let began = Instant::now();
    let _events = hive.watch(Epoch(1)).await?;
    let up = began.elapsed();
    let worker = spawned(&hive, machine, "bee-fast").await?;
    let loaded = began.elapsed();
    let case = Case { name: "", model: "bee-fast", streams: 1, answers: 1, tokens: 1 };
    run(&worker, &case).await?;
    println!("a new machine, {:.0} ms to its first token", began.elapsed().as_secs_f64() * 1e3);
    for (step, took) in steps.lock().expect("nothing panics").iter() {
        println!("  {step:<28} {:>8.1} ms", took.as_secs_f64() * 1e3);
    }
    println!("  {:<28} {:>8.1} ms", "worker", (loaded - up).as_secs_f64() * 1e3);
    hive.shutdown(GRACE).await?;
    hive.uninstall(true).await?;
    Ok(())
}

/// The round trips of a connection to a machine where everything is there already.
async fn round_trips(machine: &Machine) -> Result<()> {
    let warm = machine.hive("again");
    drop(warm.watch(Epoch(1)).await?);
    drop(warm);
    let mut took = Vec::new();
    for delay in [Duration::ZERO, ROUND_TRIP / 2] {
        let (hive, steps) = observed(machine.delayed("again", delay).await?);
        drop(hive.watch(Epoch(1)).await?);
        drop(hive);
        took.push(steps.lock().expect("nothing panics").clone());
    }
    println!("\nthe same machine again, round trips (from a delay of {ROUND_TRIP:?} each)");
    for ((step, without), (_, with)) in took[0].iter().zip(&took[1]) {
        let more = with.as_secs_f64() - without.as_secs_f64();
        println!("  {step:<28} {:>8.1}", more / ROUND_TRIP.as_secs_f64());
    }
    let hive = machine.hive("again");
    hive.shutdown(GRACE).await?;
    hive.uninstall(true).await?;
    Ok(())
}

type Steps = Arc<Mutex<Vec<(String, Duration)>>>;

fn observed(hive: SshHive) -> (SshHive, Steps) {
    let steps = Steps::default();
    let seen = steps.clone();
    let show = move |event: SshEvent| {
        if let SshEvent::Finished { step, duration, .. } = event {
            seen.lock().expect("nothing panics").push((format!("{step:?}"), duration));
        }
    };
    (hive.with_progress(Arc::new(show)), steps)
}

async fn spawned(
    hive: &dyn HiveBackend,
    machine: &Machine,
    model: &str,
) -> Result<Arc<dyn Worker>> {
    let mut spec = WorkerSpec::new(machine.model(model)?);
    (spec.slots, spec.devices) = (64, vec![0]);
    Ok(hive.spawn(WorkerId::random(), &spec, Progress::ignore()).await?)
}

/// The MiB per second of a copy of a model on this machine.
async fn copied(queen: &Queen, hive: &dyn HiveBackend, model: &ModelRef) -> Result<f64> {
    let (id, models) = (hive.info().id.clone(), queen.models());
    let began = Instant::now();
    let held = models.provision(id, model.clone(), Progress::ignore()).await?;
    Ok(held.bytes as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64())
}

async fn run(worker: &Arc<dyn Worker>, case: &Case) -> Result<Measured> {
    let firsts = Mutex::new(Vec::new());
    let (began, before) = (Instant::now(), processor_time());
    let left = std::sync::atomic::AtomicUsize::new(case.answers);
    let one = |_| async {
        let take = |left: usize| left.checked_sub(1);
        let order = std::sync::atomic::Ordering::Relaxed;
        while left.fetch_update(order, order, take).is_ok() {
            let asked = Instant::now();
            let mut stream = worker.execute(order_of(worker, case.tokens)).await?;
            let mut is_first = true;
            while let Some(output) = stream.next().await {
                if matches!(output?, Output::Token { .. }) && std::mem::take(&mut is_first) {
                    firsts.lock().expect("nothing panics").push(asked.elapsed());
                }
            }
        }
        Ok::<_, Error>(())
    };
    for done in join_all((0..case.streams).map(one)).await {
        done?;
    }
    let (took, cpu) = (began.elapsed(), processor_time() - before);
    let mut firsts = firsts.into_inner()?;
    firsts.sort();
    let tokens = case.answers as f64 * f64::from(case.tokens);
    let at = |share: f64| firsts[(firsts.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    Ok(Measured {
        tokens_per_second: tokens / took.as_secs_f64(),
        cpu_per_token: cpu.as_secs_f64() * 1e6 / tokens,
        first_p50: at(0.5),
        first_p99: at(0.989),
    })
}

/// The processor time of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn order_of(worker: &Arc<dyn Worker>, tokens: u32) -> Run {
    let sampling = Sampling { max_tokens: Some(tokens), ..Sampling::default() };
    let prompt = Prompt::Text("honey".into());
    let job = Job {
        id: JobId::random(),
        model: worker.info().model.clone(),
        priority: Priority::Interactive,
        task: Task::Generate { prompt, sampling },
        seed: 7,
        prefix: [].into(),
        timeout: Duration::from_secs(600),
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
    Run { job: Arc::new(job), attempt: 1, resume: Resume::default() }
}
