//! The compiler of rules to a script.

use std::fmt::Write;

use super::read::{Action, Condition, Place, Rule, Rules};

/// The script; a comment before each rule tells where it comes from.
pub(super) fn script(rules: &Rules) -> String {
    let mut text = String::new();
    let description = match &*rules.description {
        "" => "Made of rules.",
        description => description,
    };
    let _ = writeln!(text, "// {}", one_line(description));
    schedule(&mut text, rules);
    admit(&mut text, rules);
    order(&mut text, rules);
    text
}

fn schedule(text: &mut String, rules: &Rules) {
    text.push_str("fn schedule(job, workers, hives) {\n");
    for rule in rules.rules.iter().filter(|rule| rule.then.decides() && !rule.is_for_newcomers()) {
        let _ = writeln!(text, "    // {}", title(rule));
        let _ = writeln!(text, "    if {} {{", conditions(&rule.when));
        decide(text, &rule.then, "        ");
        text.push_str("    }\n");
    }
    match rules.otherwise.as_ref().filter(|action| action.decides()) {
        Some(action) => decide(text, action, "    "),
        None => text.push_str("    return builtin();\n"),
    }
    text.push_str("}\n");
}

/// The rules in their order, as far as they decide on admission: a rule with another decision admits the job, and so
/// does one that may hold or not, because it looks at workers.
fn admit(text: &mut String, rules: &Rules) {
    let last = rules.otherwise.as_ref().and_then(|action| action.reject.as_deref());
    let upto = match last {
        Some(_) => rules.rules.len(),
        None => match rules.rules.iter().rposition(Rule::refuses_newcomers) {
            Some(index) => index + 1,
            None => return,
        },
    };
    text.push_str("fn admit(job, queue) {\n");
    for rule in rules.rules[..upto].iter().filter(|rule| rule.then.decides()) {
        let known: Vec<_> = rule.when.iter().filter(|one| !one.is_of_workers()).collect();
        let reason = rule.then.reject.as_deref().filter(|_| rule.refuses_newcomers());
        let answer = reason.map_or_else(|| "accept()".into(), rejected);
        let _ = writeln!(text, "    // {}", title(rule));
        let _ = writeln!(text, "    if {} {{ return {answer}; }}", conditions(known));
    }
    let _ = writeln!(text, "    {}\n}}", last.map_or_else(|| "accept()".into(), rejected));
}

fn order(text: &mut String, rules: &Rules) {
    let ranked = || rules.rules.iter().filter(|rule| rule.then.rank.is_some());
    let last = rules.otherwise.as_ref().and_then(|action| action.rank);
    if ranked().next().is_none() && last.is_none() {
        return;
    }
    text.push_str("fn order(job) {\n");
    for rule in ranked() {
        let rank = rule.then.rank.unwrap_or_default();
        let _ = writeln!(text, "    // {}", title(rule));
        let _ = writeln!(text, "    if {} {{ return {rank}; }}", conditions(&rule.when));
    }
    let _ = writeln!(text, "    {}\n}}", last.unwrap_or_default());
}

impl Rule {
    /// Returns true if it refuses new jobs because of the length of the queue. It does not end jobs that wait already.
    fn is_for_newcomers(&self) -> bool {
        let looks_at_queue = |one: &Condition| matches!(one, Condition::QueueAbove(_));
        self.refuses_newcomers() && self.when.iter().any(looks_at_queue)
    }

    /// Returns true if it is certain for a new job whether this rule refuses it.
    fn refuses_newcomers(&self) -> bool {
        self.then.reject.is_some() && !self.when.iter().any(Condition::is_of_workers)
    }
}

impl Action {
    /// Returns true if it decides where a job runs.
    fn decides(&self) -> bool {
        self.reject.is_some()
            || self.wait
            || self.choose.is_some()
            || self.require.is_some()
            || self.prefer.is_some()
            || self.spawn.is_some()
    }
}

fn title(rule: &Rule) -> String {
    match &*rule.name {
        "" => format!("line {}", rule.line),
        name => format!("line {}: {}", rule.line, one_line(name)),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text as a string literal of the language.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn any(values: &[String], test: impl Fn(&str) -> String) -> String {
    let tests: Vec<String> = values.iter().map(|value| test(&quoted(value))).collect();
    match &*tests {
        [one] => one.clone(),
        _ => format!("({})", tests.join(" || ")),
    }
}

fn conditions<'a>(conditions: impl IntoIterator<Item = &'a Condition>) -> String {
    let all: Vec<String> = conditions.into_iter().map(condition).collect();
    if all.is_empty() { "true".into() } else { all.join(" && ") }
}

/// The workers that could take the job now.
const CAN_TAKE_IT: &str = "workers.with_model(job.model).with_capacity()";

fn condition(condition: &Condition) -> String {
    match condition {
        Condition::Model(models) => any(models, |model| format!("job.model.matches({model})")),
        Condition::Tenant(tenants) => {
            any(tenants, |tenant| format!("glob(job.tenant ?? \"\", {tenant})"))
        }
        Condition::Priority(names) => any(names, |name| format!("job.priority == {name}")),
        Condition::Task(names) => any(names, |name| format!("job.task == {name}")),
        Condition::SizeAbove(gib) => {
            format!("(model_size_bytes(job.model) ?? 0) > gib({gib:?})")
        }
        // A model of unknown size is not below any size.
        Condition::SizeBelow(gib) => {
            format!("(model_size_bytes(job.model) ?? gib({gib:?})) < gib({gib:?})")
        }
        Condition::PromptAbove(bytes) => format!("job.prompt_bytes > {bytes}"),
        Condition::QueueAbove(depth) => format!("queue_depth_for(job.model) > {depth}"),
        Condition::Between(from, to) => format!("time_between({}, {})", quoted(from), quoted(to)),
        Condition::Days(days) => {
            let days: Vec<String> = days.iter().map(ToString::to_string).collect();
            format!("[{}].contains(weekday())", days.join(", "))
        }
        Condition::OverQuota(true) => "tenant_over_quota(job.tenant)".into(),
        Condition::OverQuota(false) => "!tenant_over_quota(job.tenant)".into(),
        Condition::Region(regions) => {
            any(regions, |region| format!("!{CAN_TAKE_IT}.in_region({region}).is_empty()"))
        }
        Condition::Capability(names) => {
            let has = |name: &String| format!(".with_capability({})", quoted(name));
            format!("!{CAN_TAKE_IT}{}.is_empty()", names.iter().map(has).collect::<String>())
        }
    }
}

/// The filters that reduce a collection to this place.
fn on_workers(place: Option<&Place>) -> String {
    let Some(place) = place else { return String::new() };
    let hive = place.hive.as_ref().map(|hive| format!(".on_hive({})", quoted(hive)));
    narrowed(place, hive)
}

fn on_hives(place: Option<&Place>) -> String {
    let Some(place) = place else { return String::new() };
    let hive = place.hive.as_ref().map(|hive| format!(".filter(|h| h.id == {})", quoted(hive)));
    narrowed(place, hive)
}

fn narrowed(place: &Place, hive: Option<String>) -> String {
    let mut text = hive.unwrap_or_default();
    for (key, value) in &place.labels {
        let _ = write!(text, ".with_label({}, {})", quoted(key), quoted(value));
    }
    if place.gpu {
        text.push_str(".with_gpu()");
    }
    text
}

fn rejected(reason: &str) -> String {
    format!("reject({})", quoted(reason))
}

fn decide(text: &mut String, action: &Action, indent: &str) {
    if let Some(reason) = &action.reject {
        let _ = writeln!(text, "{indent}return {};", rejected(reason));
        return;
    }
    if action.wait {
        let _ = writeln!(text, "{indent}return wait();");
        return;
    }
    let choose = action.choose.as_deref().unwrap_or("least_loaded");
    let (require, prefer) = (action.require.as_ref(), action.prefer.as_ref());
    let _ =
        writeln!(text, "{indent}let all = workers.with_model(job.model){};", on_workers(require));
    let _ = writeln!(text, "{indent}let free = all.with_capacity();");
    let mut ways = Vec::new();
    if prefer.is_some() {
        ways.push(format!("run_on(free{}.{choose}())", on_workers(prefer)));
    }
    ways.push(format!("run_on(free.{choose}())"));
    if action.spawn == Some(false) {
        ways.extend(["wait_for(all)".into(), "wait()".into()]);
    } else if require.is_none() && prefer.is_none() {
        ways.push("builtin()".into());
    } else {
        let _ = writeln!(text, "{indent}let places = hives.available(){};", on_hives(require));
        // While one is busy or loading, no other is started.
        ways.push("wait_for(all)".into());
        let preferred = prefer.map(|_| on_hives(prefer));
        for narrow in preferred.into_iter().chain([String::new()]) {
            for on_disk in [".with_model(job.model)", ""] {
                ways.push(format!("spawn_on(places{narrow}{on_disk}.most_vram_free())"));
            }
        }
        ways.push(if require.is_some() { "wait()" } else { "builtin()" }.into());
    }
    let _ = writeln!(text, "{indent}return {};", ways.join(&format!("\n{indent}    ?? ")));
}
