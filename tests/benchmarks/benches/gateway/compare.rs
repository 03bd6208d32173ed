//! The rounds of all gateways in turn, and their table.

use std::time::Duration;

use crate::{
    Plan, Result, cpu,
    load::Load,
    middle::{Middle, Running},
    scenes::Scene,
    upstream,
};

/// One round of one gateway.
#[derive(Clone, Copy)]
struct Round {
    wall: Duration,
    /// Processor time of the gateway.
    cpu: Duration,
    first_p50: Duration,
    first_p99: Duration,
    memory_kib: u64,
}

/// Measures the gateways of the plan in its cases.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let workers = Running::upstream(upstream::PACE)?;
    let mut middles = Vec::new();
    for kind in &plan.kinds {
        middles.extend(Middle::start(*kind, &workers, &[])?);
    }
    cpu::stay_beside();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for scene in &plan.scenes {
        let playing: Vec<&Middle> =
            middles.iter().filter(|middle| middle.kind.plays(scene)).collect();
        let mut measured = vec![Vec::new(); playing.len()];
        for round in 0..=plan.rounds {
            for (middle, measured) in playing.iter().zip(&mut measured) {
                let answers = if round == 0 { scene.answers / 4 } else { scene.answers };
                let result = runtime.block_on(measure(middle, scene, answers))?;
                // The first one only warms up.
                if round > 0 {
                    measured.push(result);
                }
            }
        }
        report(scene, &playing, &measured);
    }
    Ok(())
}

async fn measure(middle: &Middle, scene: &Scene, answers: usize) -> Result<Round> {
    let (load, process) = (Load::new(scene, middle.address), middle.process());
    let before = process.time()?;
    let measured = load.run(answers.max(scene.connections)).await?;
    Ok(Round {
        wall: measured.wall,
        cpu: process.time()? - before,
        first_p50: measured.first(0.5),
        first_p99: measured.first(0.99),
        memory_kib: process.memory_kib()?,
    })
}

fn report(scene: &Scene, playing: &[&Middle], measured: &[Vec<Round>]) {
    println!("\n{}", scene.name);
    println!(
        "  {:<16} {:>10} {:>12} {:>22} {:>22} {:>9}",
        "", "answers/s", "CPU µs", "CPU of nginx (range)", "first token +p50/+p99", "RSS MiB"
    );
    let Some(base) = measured.first() else { return };
    // Of a token if they are streamed, else of an answer.
    let units = if scene.stream { scene.answers * scene.tokens as usize } else { scene.answers };
    for (middle, rounds) in playing.iter().zip(measured) {
        let pairs = || rounds.iter().zip(base);
        let ratio =
            spread(pairs().map(|(own, base)| own.cpu.as_secs_f64() / base.cpu.as_secs_f64()));
        let rate = spread(rounds.iter().map(|own| scene.answers as f64 / own.wall.as_secs_f64()));
        let cpu = spread(rounds.iter().map(|own| own.cpu.as_secs_f64() * 1e6 / units as f64));
        let added = |of: fn(&Round) -> Duration| {
            spread(
                pairs().map(|(own, base)| (of(own).as_secs_f64() - of(base).as_secs_f64()) * 1e3),
            )
        };
        let (p50, p99) = (added(|round| round.first_p50), added(|round| round.first_p99));
        let memory = spread(rounds.iter().map(|own| own.memory_kib as f64 / 1024.0));
        println!(
            "  {:<16} {:>10.0} {:>12.2} {:>22} {:>22} {:>9.0}",
            middle.kind.name(),
            rate.median,
            cpu.median,
            format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.least, ratio.most),
            format!("{:+.2}/{:+.2} ms", p50.median, p99.median),
            memory.median,
        );
    }
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    Spread { least: at(0), median: at(values.len() / 2), most: at(values.len().saturating_sub(1)) }
}
