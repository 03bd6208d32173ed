//! A strict parser of Prometheus' text format, with the checks of `promtool check metrics` and of a server, and the
//! rules for names and labels that all programs here follow.

use std::collections::{BTreeMap, BTreeSet};

/// Every sample, by its name with labels.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, f64>, String> {
    let (mut kinds, mut helped) = (BTreeMap::new(), BTreeSet::new());
    let mut samples = BTreeMap::new();
    let (mut family, mut closed) = (String::new(), BTreeSet::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        let wrong = |why: &str| Err(format!("{why}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else { return wrong("no help") };
            if help.trim().is_empty() || !helped.insert(name.to_owned()) {
                return wrong("help that is empty or given twice");
            }
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { return wrong("no type") };
            if !["counter", "gauge", "histogram"].contains(&kind)
                || kinds.insert(name.to_owned(), kind.to_owned()).is_some()
            {
                return wrong("a type that is not known or given twice");
            }
            continue;
        }
        let Some((id, value)) = line.rsplit_once(' ') else { return wrong("no value") };
        let Ok(value) = value.parse::<f64>() else { return wrong("no number") };
        let name = id.split('{').next().unwrap_or_default();
        let allowed = |c: char| c.is_ascii_lowercase() || c == '_';
        if !name.chars().all(allowed) || id.contains('{') != id.ends_with('}') {
            return wrong("a malformed name");
        }
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|base| kinds.get(*base).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(name);
        let Some(kind) = kinds.get(base) else { return wrong("a sample without a type") };
        if !helped.contains(base) {
            return wrong("a sample without help");
        }
        if (kind == "counter") != name.ends_with("_total") || value < 0.0 && kind != "gauge" {
            return wrong("not as its type wants it");
        }
        unit(base, kind).map_err(|why| format!("{why}: {line}"))?;
        for (label, value) in labels(id).ok_or_else(|| format!("malformed labels: {line}"))? {
            if let Some(why) = unwanted(&label, &value) {
                return Err(format!("{label} is {why}: {line}"));
            }
        }
        if base != family {
            if !closed.insert(base.to_owned()) {
                return wrong("a family that is not in one piece");
            }
            family = base.to_owned();
        }
        if samples.insert(id.to_owned(), value).is_some() {
            return wrong("a sample that is given twice");
        }
    }
    histograms(&samples)?;
    Ok(samples)
}

/// Checks that the name ends with its unit, which is a base unit.
fn unit(family: &str, kind: &str) -> Result<(), String> {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| family.ends_with(suffix));
    let not_base = ["_ms", "_millis", "_us", "_minutes", "_hours", "_kb", "_kib", "_mb", "_mib"];
    let name = family.strip_suffix("_total").unwrap_or(family);
    if not_base.iter().any(|unit| name.ends_with(unit)) {
        return Err("a unit that is not a base unit".into());
    }
    if kind == "histogram" && !ends(&["_seconds", "_bytes"]) {
        return Err("a histogram without a unit".into());
    }
    Ok(())
}

/// The labels of a sample, unescaped.
fn labels(id: &str) -> Option<Vec<(String, String)>> {
    let Some((_, mut rest)) = id.split_once('{') else { return Some(Vec::new()) };
    let mut found = Vec::new();
    while rest != "}" {
        let (name, text) = rest.trim_start_matches(',').split_once("=\"")?;
        let (mut value, mut chars) = (String::new(), text.char_indices());
        let end = loop {
            match chars.next()? {
                (end, '"') => break end,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        rest = &text[end + 1..];
        found.push((name.to_owned(), value));
    }
    Some(found)
}

/// Why a label must not have this value: paths tell about the machine, and ids have no bound.
fn unwanted(label: &str, value: &str) -> Option<&'static str> {
    let is_id = |part: &str| part.len() == 36 && part.matches('-').count() == 4;
    if value.split(['/', ':']).any(is_id) {
        return Some("an id");
    }
    // A route is a pattern that the program itself defines.
    let is_path = value.starts_with('/') && label != "route" || value.contains(":/");
    is_path.then_some("a path")
}

/// Checks that the last bucket of each histogram is open, and contains all samples.
fn histograms(samples: &BTreeMap<String, f64>) -> Result<(), String> {
    for (id, count) in samples.iter().filter(|(id, _)| id.contains("_count")) {
        let bucket = id.replacen("_count", "_bucket", 1);
        let (name, labels) = bucket.split_once('{').unwrap_or((&bucket, "}"));
        let comma = if labels == "}" { "" } else { "," };
        let open = format!("{name}{{{}{comma}le=\"+Inf\"}}", labels.trim_end_matches('}'));
        if samples.get(&open) != Some(count) {
            return Err(format!("{open} is {:?}; {id} is {count}", samples.get(&open)));
        }
    }
    Ok(())
}
