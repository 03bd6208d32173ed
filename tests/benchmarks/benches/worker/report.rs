//! The results as a table.

use crate::{
    cases::{Kind, Scene},
    peer::Measured,
};

pub(crate) const HEAD: &str = "\
| case | engine | tokens/s | tokens per CPU second | of the bandwidth | memory |
|---|---|---|---|---|---|";

/// One line: an engine in a case. All values are medians of the rounds.
pub(crate) fn line(
    scene: &Scene,
    engine: &str,
    rounds: &[Measured],
    bandwidth: f64,
    per_token: u64,
) -> String {
    let of = |value: &dyn Fn(&Measured) -> f64| median(rounds.iter().map(value).collect());
    let memory = of(&|m| m.memory as f64) / 1e6;
    let (name, tail) = (&scene.name, format!("{memory:.0} MB"));
    if rounds.iter().all(|m| m.wall == 0.0) {
        return format!("| {name} | {engine} | cannot | - | - | {tail} |");
    }
    match scene.kind {
        Kind::Decode => {
            let speed = of(&|m| m.tokens as f64 / m.wall);
            let cpu = of(&|m| m.tokens as f64 / m.cpu);
            // All sequences of a step read the weights together.
            let passes = speed / scene.sequences as f64;
            let share = passes * per_token as f64 / bandwidth;
            format!("| {name} | {engine} | {speed:.1} | {cpu:.1} | {share:.2} | {tail} |")
        }
        Kind::Prefill => {
            let speed = of(&|m| m.prompt_tokens as f64 / m.wall);
            let cpu = of(&|m| m.prompt_tokens as f64 / m.cpu);
            format!("| {name} | {engine} | {speed:.1} | {cpu:.1} | - | {tail} |")
        }
        Kind::Again => {
            let first = of(&|m| m.wall) * 1e3;
            format!("| {name} | {engine} | first token after {first:.0} ms | - | - | {tail} |")
        }
        Kind::Arrival => {
            let first = of(&|m| m.arrival.map_or(f64::NAN, |(first, _)| first * 1e3));
            let gap = of(&|m| m.arrival.map_or(f64::NAN, |(_, gap)| gap * 1e3));
            format!(
                "| {name} | {engine} | first token after {first:.0} ms, longest gap {gap:.0} ms | - | - | {tail} |"
            )
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
