//! A strict parser of Prometheus' text format, with the checks of `promtool check metrics` and of a server.

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
