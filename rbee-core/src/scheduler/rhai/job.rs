//! The job in scripts, and the model it wants.

use std::{sync::Arc, time::Duration};

use rhai::{Dynamic, ImmutableString};

use super::{
    collection::{or_unit, whole},
    error::{Res, fault},
    registry::{Helper, HelperRegistry},
};
use crate::{model_ref::ModelRef, priority::Priority, scheduler::Ask, task::Task};

/// The job, and its attempts so far.
#[derive(Clone, Debug)]
pub(super) struct JobObject {
    job: Arc<crate::job::Job>,
    attempts: u32,
    waited: Duration,
}

impl JobObject {
    pub(super) fn new(ask: &Ask) -> Self {
        Self { job: ask.job.clone(), attempts: ask.attempts, waited: ask.waited }
    }
}

/// A model's reference.
#[derive(Clone, Debug)]
pub(super) struct Model(pub(super) ModelRef);

impl Model {
    pub(super) fn parse(text: &str) -> Res<Self> {
        text.parse().map(Self).map_err(|error: crate::error::Error| fault(error.message()))
    }
}

pub(super) fn register(registry: &mut HelperRegistry) {
    registry
        .section("The job", "`schedule`, `admit` and `order` get the job as their first value.");
    registry.object::<JobObject>("job");
    registry.object::<Model>("model");
    job(registry);
    registry.section(
        "One model",
        "A model reference. It can be compared with another or with a text by `==`, and `${job.model}` inserts it into a \
         text.",
    );
    model(registry);
}

fn job(registry: &mut HelperRegistry) {
    type J = JobObject;
    let of = |name, signature, doc, example| Helper { on: "job", name, signature, doc, example };
    registry.property(of("id", "id -> text", "Its id.", "job.id != \"\""), |j: &J| {
        ImmutableString::from(j.job.id.to_string())
    });
    registry
        .property(of("model", "model -> model", "The model it wants.", "job.model"), |j: &J| {
            Model(j.job.model.clone())
        });
    registry.property(
        of("priority", "priority -> text", "`interactive` or `batch`.", "job.priority"),
        |j: &J| ImmutableString::from(j.job.priority.as_str()),
    );
    registry.property(
        of(
            "is_interactive",
            "is_interactive -> bool",
            "True if its priority is `interactive`.",
            "job.is_interactive",
        ),
        |j: &J| j.job.priority == Priority::Interactive,
    );
    registry.property(
        of("is_batch", "is_batch -> bool", "True if its priority is `batch`.", "job.is_batch"),
        |j: &J| j.job.priority == Priority::Batch,
    );
    registry
        .property(of("tenant", "tenant -> text or ()", "Its tenant.", "job.tenant"), |j: &J| {
            or_unit(j.job.tenant.as_ref().map(|tenant| ImmutableString::from(tenant.as_str())))
        });
    registry.property(
        of("task", "task -> text", "`generate`, `embed` or `rerank`.", "job.task"),
        |j: &J| {
            ImmutableString::from(match j.job.task {
                Task::Generate { .. } => "generate",
                Task::Embed { .. } => "embed",
                Task::Rerank { .. } => "rerank",
            })
        },
    );
    registry.property(
        of(
            "prompt_bytes",
            "prompt_bytes -> int",
            "The size of its prompt, in bytes; a token is about four.",
            "job.prompt_bytes",
        ),
        |j: &J| whole(j.job.task.text_bytes()),
    );
    registry.property(
        of(
            "max_tokens",
            "max_tokens -> int or ()",
            "The longest answer, in tokens; `()` if it sets no limit.",
            "job.max_tokens",
        ),
        |j: &J| match &j.job.task {
            Task::Generate { sampling, .. } => or_unit(sampling.max_tokens.map(whole)),
            Task::Embed { .. } | Task::Rerank { .. } => Dynamic::UNIT,
        },
    );
    registry.property(
        of(
            "timeout_ms",
            "timeout_ms -> int",
            "The longest time that it may run.",
            "job.timeout_ms",
        ),
        |j: &J| whole(j.job.timeout.as_millis()),
    );
    registry.property(
        of(
            "deadline_ms",
            "deadline_ms -> int or ()",
            "The longest time from its submission to its end; `()` if it has no deadline.",
            "job.deadline_ms",
        ),
        |j: &J| or_unit(j.job.deadline.map(|deadline| whole(deadline.as_millis()))),
    );
    registry.property(
        of(
            "waited_ms",
            "waited_ms -> int",
            "Milliseconds since its submission; 0 in `admit` and `order`.",
            "job.waited_ms",
        ),
        |j: &J| whole(j.waited.as_millis()),
    );
    registry.property(
        of(
            "remaining_ms",
            "remaining_ms -> int or ()",
            "Milliseconds until its deadline; `()` if it has none.",
            "job.remaining_ms",
        ),
        |j: &J| {
            let left = j.job.deadline.map(|deadline| deadline.saturating_sub(j.waited));
            or_unit(left.map(|left| whole(left.as_millis())))
        },
    );
    registry.property(
        of(
            "detached",
            "detached -> bool",
            "True if it continues without a reader.",
            "job.detached",
        ),
        |j: &J| j.job.detached,
    );
    registry.property(
        of(
            "rank",
            "rank -> int",
            "Its rank, as `admit` and `order` returned it; 0 inside both.",
            "job.rank",
        ),
        |j: &J| j.job.rank,
    );
    registry.property(
        of("attempts", "attempts -> int", "Attempts made so far; 0 for a new one.", "job.attempts"),
        |j: &J| whole(j.attempts),
    );
    registry.property(of("prefix_parts", "prefix_parts -> int", "The number of parts of the prompt that a worker may have computed already: messages, or blocks of a plain text.", "job.prefix_parts"), |j: &J| whole(j.job.prefix.len()));
    registry.property(
        of(
            "conversation",
            "conversation -> text",
            "A key that stays the same over the turns of a conversation, for `sticky`.",
            "job.conversation != \"\"",
        ),
        |j: &J| {
            let key = j.job.prefix.get(1).or(j.job.prefix.first()).copied().unwrap_or(0);
            ImmutableString::from(format!("{key:016x}"))
        },
    );
    registry.engine().register_fn("to_string", |j: &mut J| format!("job {}", j.job.id));
}

fn model(registry: &mut HelperRegistry) {
    type M = Model;
    let of = |name, signature, doc, example| Helper { on: "model", name, signature, doc, example };
    registry.function(of("matches", "matches(pattern) -> bool", "True if its reference matches the pattern. `*` stands for any text, `?` for one character; case is ignored.", "job.model.matches(\"*8b*\")"), |m: &mut M, pattern: &str| glob(m.0.as_str(), pattern));
    registry.function(
        of(
            "contains",
            "contains(text) -> bool",
            "True if its reference contains the text.",
            "job.model.contains(\"llama\")",
        ),
        |m: &mut M, text: &str| m.0.as_str().contains(text),
    );
    registry.function(
        of("to_string", "to_string() -> text", "Its reference as a text.", "job.model.to_string()"),
        |m: &mut M| m.0.to_string(),
    );
    let engine = registry.engine();
    let as_text = |m: &M, text: &str| m.0.as_str() == text;
    engine.register_fn("==", |one: M, two: M| one.0 == two.0);
    engine.register_fn("!=", |one: M, two: M| one.0 != two.0);
    engine.register_fn("==", move |m: M, text: &str| as_text(&m, text));
    engine.register_fn("!=", move |m: M, text: &str| !as_text(&m, text));
    engine.register_fn("==", move |text: &str, m: M| as_text(&m, text));
    engine.register_fn("!=", move |text: &str, m: M| !as_text(&m, text));
    engine.register_fn("+", |text: &str, m: M| format!("{text}{}", m.0));
    let of = |name, signature, doc, example| Helper { on: "", name, signature, doc, example };
    registry.function(
        of(
            "glob",
            "glob(text, pattern) -> bool",
            "The same for any text.",
            "glob(\"team-a\", \"team-*\")",
        ),
        |text: &str, pattern: &str| glob(text, pattern),
    );
}

/// Returns true if the text matches the pattern: `*` stands for any text, `?` for one character. The time is at most
/// the product of the lengths.
pub(super) fn glob(text: &str, pattern: &str) -> bool {
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (text, pattern) = (lower(text), lower(pattern));
    let (mut at, mut in_pattern) = (0, 0);
    // The position of the last star in the pattern, and the end of the text that it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(in_pattern) {
            Some('*') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[at] => {
                at += 1;
                in_pattern += 1;
            }
            _ => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                (in_pattern, at) = (back + 1, taken + 1);
            }
        }
    }
    pattern[in_pattern..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn a_pattern_stands_for_what_people_expect() {
        for (text, pattern, matches) in [
            ("hf:org/Llama-70B", "*70b*", true),
            ("hf:org/Llama-70B", "hf:org/*", true),
            ("llama", "llama", true),
            ("llama", "lla", false),
            ("llama", "l?ama", true),
            ("llama", "*m?", true),
            ("", "*", true),
            ("", "?", false),
            ("aaaaaaaaaaaaaaaaaaaaaaaab", "*a*a*a*a*a*c", false),
        ] {
            assert_eq!(glob(text, pattern), matches, "{text} {pattern}");
        }
    }
}
