//! Reads rules and checks them.

use crate::{
    error::{Error, ErrorKind},
    scheduler::{capability::Capability, time_of_day::time_of_day},
    similar::nearest,
    yaml::{Malformed, Node, Value, YamlEntry, parse},
};

/// The most rules of one policy.
pub(super) const MOST_RULES: usize = 64;

/// Something in the text that is not allowed there.
#[derive(Debug)]
pub(super) struct RuleError {
    line: usize,
    message: String,
}

impl From<Malformed> for RuleError {
    fn from(malformed: Malformed) -> Self {
        Self { line: malformed.line, message: malformed.message }
    }
}

impl From<RuleError> for Error {
    fn from(RuleError { line, message }: RuleError) -> Self {
        Self::new(ErrorKind::InvalidRequest, format!("line {line}: {message}"))
    }
}

/// The ways to choose one of several workers; each is the name of a helper.
pub(super) const CHOICES: &[&str] = &[
    "least_loaded",
    "most_loaded",
    "most_vram_free",
    "round_robin",
    "power_of_two",
    "prefix_affinity",
];
pub(super) const DAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
pub(super) const TASKS: &[&str] = &["generate", "embed", "rerank"];
pub(super) const PRIORITIES: &[&str] = &["interactive", "batch"];

/// The contents of a file.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) description: String,
    pub(super) rules: Vec<Rule>,
    pub(super) otherwise: Option<Action>,
}

#[derive(Debug, Default)]
pub(super) struct Rule {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) when: Vec<Condition>,
    pub(super) then: Action,
}

#[derive(Debug)]
pub(super) enum Condition {
    Model(Vec<String>),
    Tenant(Vec<String>),
    Priority(Vec<String>),
    Task(Vec<String>),
    SizeAbove(f64),
    SizeBelow(f64),
    PromptAbove(u64),
    QueueAbove(u64),
    Between(String, String),
    Days(Vec<usize>),
    OverQuota(bool),
    /// A worker that could take the job now is in one of these regions.
    Region(Vec<String>),
    /// A worker that could take the job now has all of these.
    Capability(Vec<String>),
}

impl Condition {
    /// Returns true if it looks at workers. Then it is known only when the job is placed, and not when it comes.
    pub(super) fn is_of_workers(&self) -> bool {
        matches!(self, Self::Region(_) | Self::Capability(_))
    }
}

/// A place where a job must or should run.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) labels: Vec<(String, String)>,
    pub(super) hive: Option<String>,
    pub(super) gpu: bool,
}

#[derive(Debug, Default)]
pub(super) struct Action {
    pub(super) reject: Option<String>,
    pub(super) wait: bool,
    pub(super) choose: Option<String>,
    pub(super) require: Option<Place>,
    pub(super) prefer: Option<Place>,
    pub(super) spawn: Option<bool>,
    pub(super) rank: Option<i64>,
}

type Read<T> = Result<T, RuleError>;

fn wrong<T>(line: usize, path: &str, message: impl std::fmt::Display) -> Read<T> {
    Err(RuleError { line, message: format!("{path}: {message}") })
}

pub(super) fn read(text: &str) -> Read<Rules> {
    let Some(root) = parse(text)? else {
        return Err(RuleError { line: 1, message: "there are no rules; begin with rules:".into() });
    };
    let mut rules = Rules::default();
    for entry in map(&root, "the file")? {
        let key = &*entry.key;
        match key {
            "description" => rules.description = scalar(&entry.node, key)?,
            "rules" => {
                for (index, node) in list(&entry.node, key)?.iter().enumerate() {
                    if index == MOST_RULES {
                        return wrong(node.line, key, format!("more than {MOST_RULES} rules"));
                    }
                    rules.rules.push(rule(node, &format!("rules[{index}]"))?);
                }
            }
            "otherwise" => rules.otherwise = Some(action(&entry.node, key)?),
            _ => return unknown(entry, "", &["description", "rules", "otherwise"]),
        }
    }
    Ok(rules)
}

fn rule(node: &Node, path: &str) -> Read<Rule> {
    let mut rule = Rule { line: node.line, ..Rule::default() };
    let mut has_action = false;
    for entry in map(node, path)? {
        let at = format!("{path}.{}", entry.key);
        match &*entry.key {
            "name" => rule.name = scalar(&entry.node, &at)?,
            "when" => {
                for entry in map(&entry.node, &at)? {
                    rule.when.push(condition(entry, &at)?);
                }
            }
            "then" => {
                rule.then = action(&entry.node, &at)?;
                has_action = true;
            }
            _ => return unknown(entry, path, &["name", "when", "then"]),
        }
    }
    if !has_action {
        return wrong(node.line, path, "then is missing");
    }
    if rule.then.rank.is_some() && rule.when.iter().any(Condition::is_of_workers) {
        return wrong(
            node.line,
            &format!("{path}.then.rank"),
            "a rank is given when the job comes, but region and capability are known only when it is placed",
        );
    }
    Ok(rule)
}

const CONDITIONS: &[&str] = &[
    "model",
    "tenant",
    "priority",
    "task",
    "size_above_gib",
    "size_below_gib",
    "prompt_above_bytes",
    "queue_above",
    "between",
    "weekdays",
    "over_quota",
    "region",
    "capability",
];

fn condition(entry: &YamlEntry, path: &str) -> Read<Condition> {
    let node = &entry.node;
    let at = &format!("{path}.{}", entry.key);
    Ok(match &*entry.key {
        "model" => Condition::Model(texts(node, at)?),
        "tenant" => Condition::Tenant(texts(node, at)?),
        "priority" => Condition::Priority(among(node, at, PRIORITIES)?),
        "task" => Condition::Task(among(node, at, TASKS)?),
        "size_above_gib" => Condition::SizeAbove(size(node, at)?),
        "size_below_gib" => Condition::SizeBelow(size(node, at)?),
        "prompt_above_bytes" => Condition::PromptAbove(number(node, at)?),
        "queue_above" => Condition::QueueAbove(number(node, at)?),
        "between" => {
            let times = texts(node, at)?;
            match &*times {
                [from, to] if times.iter().all(|time| time_of_day(time).is_some()) => {
                    Condition::Between(from.clone(), to.clone())
                }
                _ => {
                    return wrong(
                        node.line,
                        at,
                        r#"expected two times of the day, as ["22:00", "06:00"]"#,
                    );
                }
            }
        }
        "weekdays" => {
            let days = among(node, at, DAYS)?;
            let number = |day: &String| DAYS.iter().position(|name| name == day);
            Condition::Days(days.iter().filter_map(number).map(|index| index + 1).collect())
        }
        "over_quota" => Condition::OverQuota(yes(node, at)?),
        "region" => Condition::Region(texts(node, at)?),
        "capability" => Condition::Capability(among(node, at, Capability::NAMES)?),
        _ => return unknown(entry, path, CONDITIONS),
    })
}

const ACTIONS: &[&str] = &["reject", "wait", "choose", "require", "prefer", "spawn", "rank"];

fn action(node: &Node, path: &str) -> Read<Action> {
    let mut action = Action::default();
    for entry in map(node, path)? {
        let node = &entry.node;
        let at = &format!("{path}.{}", entry.key);
        match &*entry.key {
            "reject" => action.reject = Some(scalar(node, at)?),
            "wait" => action.wait = yes(node, at)?,
            "choose" => {
                let choice = scalar(node, at)?;
                check_among(&choice, node, at, CHOICES)?;
                action.choose = Some(choice);
            }
            "require" => action.require = Some(place(node, at)?),
            "prefer" => action.prefer = Some(place(node, at)?),
            "spawn" => action.spawn = Some(yes(node, at)?),
            "rank" => {
                let text = scalar(node, at)?;
                let Ok(rank) = text.parse() else {
                    return wrong(node.line, at, format!("expected a whole number, not {text:?}"));
                };
                action.rank = Some(rank);
            }
            _ => return unknown(entry, path, ACTIONS),
        }
    }
    let places = action.choose.is_some()
        || action.require.is_some()
        || action.prefer.is_some()
        || action.spawn.is_some();
    if usize::from(action.reject.is_some()) + usize::from(action.wait) + usize::from(places) > 1 {
        return wrong(
            node.line,
            path,
            "reject, wait, and the keys that say where to run exclude one another",
        );
    }
    Ok(action)
}

fn place(node: &Node, path: &str) -> Read<Place> {
    let mut place = Place::default();
    for entry in map(node, path)? {
        let at = &format!("{path}.{}", entry.key);
        match &*entry.key {
            "region" => place.labels.push(("region".into(), scalar(&entry.node, at)?)),
            "hive" => place.hive = Some(scalar(&entry.node, at)?),
            "gpu" => place.gpu = yes(&entry.node, at)?,
            "labels" => {
                for label in map(&entry.node, at)? {
                    let value = scalar(&label.node, &format!("{at}.{}", label.key))?;
                    place.labels.push((label.key.clone(), value));
                }
            }
            _ => return unknown(entry, path, &["region", "hive", "gpu", "labels"]),
        }
    }
    Ok(place)
}

fn unknown<T>(entry: &YamlEntry, path: &str, known: &[&str]) -> Read<T> {
    let at = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
    let hint = match nearest(&entry.key, known.iter().copied()) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("allowed are {}", known.join(", ")),
    };
    wrong(entry.line, &at, format!("there is no such key; {hint}"))
}

fn map<'a>(node: &'a Node, path: &str) -> Read<&'a [YamlEntry]> {
    match &node.value {
        Value::Map(entries) => Ok(entries),
        _ => wrong(node.line, path, format!("expected a map, not {}", node.shown())),
    }
}

fn list<'a>(node: &'a Node, path: &str) -> Read<&'a [Node]> {
    match &node.value {
        Value::List(items) => Ok(items),
        _ => wrong(node.line, path, format!("expected a list, not {}", node.shown())),
    }
}

fn scalar(node: &Node, path: &str) -> Read<String> {
    match &node.value {
        Value::Scalar { text, .. } if !text.is_empty() && text.len() <= 500 => Ok(text.clone()),
        _ => wrong(
            node.line,
            path,
            format!("expected a text of 1 to 500 bytes, not {}", node.shown()),
        ),
    }
}

/// One text, or a list of them.
fn texts(node: &Node, path: &str) -> Read<Vec<String>> {
    let texts: Vec<String> = match &node.value {
        Value::List(items) => items.iter().map(|item| scalar(item, path)).collect::<Read<_>>()?,
        _ => vec![scalar(node, path)?],
    };
    if texts.is_empty() || texts.len() > 32 {
        return wrong(node.line, path, format!("expected 1 to 32 texts, not {}", texts.len()));
    }
    Ok(texts)
}

fn among(node: &Node, path: &str, allowed: &[&str]) -> Read<Vec<String>> {
    let texts = texts(node, path)?;
    texts.iter().try_for_each(|text| check_among(text, node, path, allowed))?;
    Ok(texts)
}

fn check_among(text: &str, node: &Node, path: &str, allowed: &[&str]) -> Read<()> {
    if allowed.contains(&text) {
        return Ok(());
    }
    wrong(node.line, path, format!("{text:?} is not allowed; allowed are {}", allowed.join(", ")))
}

fn number(node: &Node, path: &str) -> Read<u64> {
    let text = scalar(node, path)?;
    let number = text.parse().ok().filter(|number| *number <= i64::MAX as u64);
    number.map_or_else(
        || wrong(node.line, path, format!("expected a whole number, not {text:?}")),
        Ok,
    )
}

fn size(node: &Node, path: &str) -> Read<f64> {
    let text = scalar(node, path)?;
    let size = text.parse().ok().filter(|size: &f64| (0.0..=1e6).contains(size));
    size.map_or_else(
        || wrong(node.line, path, format!("expected GiB, 0 to 1000000, not {text:?}")),
        Ok,
    )
}

fn yes(node: &Node, path: &str) -> Read<bool> {
    match &*scalar(node, path)? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => wrong(node.line, path, format!("expected true or false, not {other:?}")),
    }
}
