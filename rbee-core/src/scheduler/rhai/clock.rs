//! Time and randomness in scripts. Both come with the question, so that the same question has the same answer.

use rhai::INT;

use super::{
    collection::whole,
    context::with,
    error::{Res, fault},
    registry::{Helper, HelperRegistry},
};
use crate::{prefix, scheduler::time_of_day::time_of_day};

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;

fn minutes() -> Res<u64> {
    with(|context| Ok(context.ask.now.wall.as_millis() / MINUTE_MS))
}

fn between(from: &str, to: &str) -> Res<bool> {
    let read = |text: &str| {
        time_of_day(text)
            .ok_or_else(|| fault(format!("{text:?} is not a time of day such as \"22:30\"")))
    };
    let (from, to, now) = (read(from)?, read(to)?, minutes()? % DAY_MINUTES);
    Ok(if from <= to { (from..to).contains(&now) } else { now >= from || now < to })
}

pub(super) fn register(registry: &mut HelperRegistry) {
    registry.section(
        "Time and randomness",
        "Both come with the question, so that a decision can be replayed. Times are in UTC.",
    );
    let f = |name, signature, doc, example| Helper { on: "", name, signature, doc, example };
    registry.function(
        f("hour", "hour() -> int", "The hour of the day, 0 to 23, in UTC.", "hour()"),
        || -> Res<INT> { Ok(whole(minutes()? / 60 % 24)) },
    );
    registry.function(
        f("minute", "minute() -> int", "The minute of the hour, 0 to 59.", "minute()"),
        || -> Res<INT> { Ok(whole(minutes()? % 60)) },
    );
    registry.function(
        f(
            "weekday",
            "weekday() -> int",
            "The day of the week in UTC, 1 for Monday to 7 for Sunday.",
            "weekday()",
        ),
        // 1970 began on a Thursday.
        || -> Res<INT> { Ok(whole((minutes()? / DAY_MINUTES + 3) % 7 + 1)) },
    );
    registry.function(
        f("time_between", "time_between(from, to) -> bool", "True if it is between these times of the day, in UTC, the first included and the second not. The range may include midnight.", "time_between(\"22:00\", \"06:00\")"),
        between,
    );
    registry.function(
        f("now_ms", "now_ms() -> int", "Milliseconds since 1970, in UTC.", "now_ms() > 0"),
        || with(|context| Ok(whole(context.ask.now.wall.as_millis()))),
    );
    registry.function(
        f(
            "random",
            "random() -> float",
            "A random number from 0.0 up to, but not including, 1.0; each call returns another one.",
            "random() < 1.0",
        ),
        || with(|context| Ok((context.random() >> 11) as f64 / (1u64 << 53) as f64)),
    );
    registry.function(
        f(
            "random_below",
            "random_below(n) -> int",
            "A random whole number from 0 to n - 1.",
            "random_below(6) < 6",
        ),
        |bound: INT| -> Res<INT> {
            let most = u64::try_from(bound).ok().filter(|bound| *bound > 0);
            let most =
                most.ok_or_else(|| fault(format!("random_below takes 1 or more, not {bound}")))?;
            with(|context| Ok(whole(context.random() % most)))
        },
    );
    registry.function(
        f(
            "hash",
            "hash(text) -> int",
            "A number of 0 or more; always the same for the same text.",
            "hash(\"alice\") % 2",
        ),
        |text: &str| whole(prefix::hash(prefix::START, text.as_bytes()) >> 1),
    );
}
