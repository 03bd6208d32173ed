//! Rules as the script that they stand for.

use std::fmt::Write;

use super::read::{Action, Condition, Place, Rule, Rules};

/// The script; each rule in it begins with a comment that says where it comes from.
pub(super) fn script(rules: &Rules) -> String {
    let mut text = String::new();
    let description = match &*rules.description {
        "" => "Made of rules.",
        description => description,
    };
    let _ = writeln!(text, "// {}\nfn schedule(job, workers, hives) {{", one_line(description));
    for rule in rules.rules.iter().filter(|rule| rule.then.decides()) {
        let _ = writeln!(text, "    // {}", title(rule));
        let _ = writeln!(text, "    if {} {{", conditions(&rule.when));
        decide(&mut text, &rule.then, "        ");
        text.push_str("    }\n");
    }
    match rules.otherwise.as_ref().filter(|action| action.decides()) {
        Some(action) => decide(&mut text, action, "    "),
        None => text.push_str("    return builtin();\n"),
    }
    text.push_str("}\n");
    let ranked = || rules.rules.iter().filter(|rule| rule.then.rank.is_some());
    let last = rules.otherwise.as_ref().and_then(|action| action.rank);
    if ranked().next().is_some() || last.is_some() {
        text.push_str("fn order(job) {\n");
        for rule in ranked() {
            let rank = rule.then.rank.unwrap_or_default();
            let _ = writeln!(text, "    // {}", title(rule));
            let _ = writeln!(text, "    if {} {{ return {rank}; }}", conditions(&rule.when));
        }
        let _ = writeln!(text, "    {}\n}}", last.unwrap_or_default());
    }
    text
}

impl Action {
    /// Does it say anything about where a job runs?
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

/// A text as the language writes it.
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

fn conditions(conditions: &[Condition]) -> String {
    if conditions.is_empty() {
        return "true".into();
    }
    conditions.iter().map(condition).collect::<Vec<_>>().join(" && ")
}

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
        Condition::SizeBelow(gib) => {
            format!("(model_size_bytes(job.model) ?? 0) < gib({gib:?})")
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
    }
}

/// What narrows a collection down to this place.
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

fn decide(text: &mut String, action: &Action, indent: &str) {
    if let Some(reason) = &action.reject {
        let _ = writeln!(text, "{indent}return reject({});", quoted(reason));
        return;
    }
    if action.wait {
        let _ = writeln!(text, "{indent}return wait();");
        return;
    }
    let choose = action.choose.as_deref().unwrap_or("least_loaded");
    let (require, prefer) = (action.require.as_ref(), action.prefer.as_ref());
    let must = on_workers(require);
    let _ = writeln!(text, "{indent}let all = workers.with_model(job.model){must};");
    let _ = writeln!(text, "{indent}let free = all.with_capacity();");
    let mut ways = Vec::new();
    if prefer.is_some() {
        ways.push(format!("run_on(free{}.{choose}())", on_workers(prefer)));
    }
    ways.push(format!("run_on(free.{choose}())"));
    let _ = writeln!(text, "{indent}let found = {};", ways.join("\n        ?? "));
    let _ = writeln!(text, "{indent}if type_of(found) != \"()\" {{ return found; }}");
    if action.spawn == Some(false) {
        let _ = writeln!(text, "{indent}return wait();");
        return;
    }
    if require.is_none() && prefer.is_none() {
        let _ = writeln!(text, "{indent}return builtin();");
        return;
    }
    // While one is busy or being loaded, no other is started.
    let _ = writeln!(
        text,
        "{indent}if all.online().any(|w| w.state == \"ready\" || w.state == \"loading\") {{ return wait(); }}"
    );
    let _ = writeln!(text, "{indent}let places = hives.available(){};", on_hives(require));
    let mut ways = Vec::new();
    for narrow in [on_hives(prefer), String::new()] {
        for on_disk in [".with_model(job.model)", ""] {
            ways.push(format!("spawn_on(places{narrow}{on_disk}.most_vram_free())"));
        }
    }
    ways.dedup();
    ways.push("wait()".into());
    let _ = writeln!(text, "{indent}return {};", ways.join(&format!("\n{indent}    ?? ")));
}
