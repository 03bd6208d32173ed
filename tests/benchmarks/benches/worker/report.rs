//! The results as a table.

use crate::{
    cases::{Kind, Scene},
    peer::Measured,
};

/// The head of the table: a column for each engine.
pub(crate) fn head<'a>(engines: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = engines.collect();
    let line = "|---".repeat(names.len() + 2);
    format!("| case | {} | of the bandwidth |\n{line}|", names.join(" | "))
}

/// A line: all engines in a case, and what share of the bandwidth the first one uses. Values are medians of the rounds.
pub(crate) fn line(
    scene: &Scene,
    engines: &[Vec<Measured>],
    bandwidth: f64,
    per_token: u64,
) -> String {
    let cells: Vec<_> = engines.iter().map(|rounds| cell(scene.kind, rounds)).collect();
    let share = match (scene.kind, engines.first()) {
        (Kind::Decode, Some(rounds)) => {
            // All sequences of a step read the weights together.
            let passes = median(rounds, decode) / scene.sequences as f64;
            format!("{:.2}", passes * per_token as f64 / bandwidth)
        }
        _ => "-".to_owned(),
    };
    format!("| {} | {} | {share} |", scene.name, cells.join(" | "))
}

fn cell(kind: Kind, rounds: &[Measured]) -> String {
    // An engine without sequences beside each other has no result.
    if rounds.iter().all(|m| m.wall == 0.0) {
        return "-".to_owned();
    }
    let of = |value: fn(&Measured) -> f64| median(rounds, value);
    let arrival = |m: &Measured| m.arrival.unwrap_or((f64::NAN, f64::NAN));
    match kind {
        Kind::Decode => {
            let (wall, cpu) = (of(decode), of(|m| m.tokens as f64 / m.cpu));
            format!("{wall:.1} ({cpu:.1})")
        }
        Kind::Prefill => {
            let wall = of(|m| m.prompt_tokens as f64 / m.wall);
            let cpu = of(|m| m.prompt_tokens as f64 / m.cpu);
            format!("{wall:.1} ({cpu:.1})")
        }
        Kind::Again => format!("{:.0} ms", of(|m| m.wall) * 1e3),
        Kind::Arrival => {
            let first = median(rounds, |m| arrival(m).0 * 1e3);
            let gap = median(rounds, |m| arrival(m).1 * 1e3);
            format!("{first:.0} ms, gap {gap:.0} ms")
        }
    }
}

/// Tokens per second after the first one of each sequence: until then a prompt is computed.
fn decode(measured: &Measured) -> f64 {
    (measured.tokens - measured.sequences) as f64 / measured.seconds
}

fn median(rounds: &[Measured], value: impl Fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<_> = rounds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
