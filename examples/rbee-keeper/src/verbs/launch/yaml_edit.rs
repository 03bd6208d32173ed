//! Changes of top-level keys of a YAML text that leave its other lines as they are.
//!
//! The lines of a key are found by their form. Whether they were the right ones is checked with a parser afterwards: the
//! text must mean what it meant before, with the new values.

use std::collections::BTreeMap;

use serde_json::Value;

/// The most nesting of a configuration.
const MAX_DEPTH: usize = 64;

/// Sets keys at the top level. An empty text has no keys.
///
/// # Errors
/// The place of a syntax error, or that the keys are written in a form that is not changed here.
pub(super) fn set(text: &str, values: &[(&str, Value)]) -> Result<String, String> {
    let mut expected = parse(text)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in values {
        if expected.get(*key) != Some(value) {
            set_line(&mut lines, key, value);
        }
        expected.insert((*key).to_owned(), value.clone());
    }
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let changed: String = lines.iter().flat_map(|line| [line, line_end]).collect();
    match parse(&changed) {
        Ok(found) if found == expected => Ok(changed),
        _ => Err("its keys are written in a form that rbee does not change".into()),
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, Value>, String> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_anchors: 0 },
    };
    if text.lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
        return Ok(BTreeMap::new());
    }
    let parsed = serde_saphyr::from_str_with_options(text, options);
    parsed.map_err(|error| error.to_string().replace('\n', ", "))
}

/// Replaces the lines of this key, or adds a line at the end.
fn set_line(lines: &mut Vec<String>, key: &str, value: &Value) {
    // JSON is YAML.
    let new = format!("{key}: {value}");
    let rest_of = |line: &str| {
        let rest = line.strip_prefix(key)?.trim_start().strip_prefix(':')?;
        (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| rest.trim().to_owned())
    };
    let found = lines.iter().enumerate().find_map(|(at, line)| Some((at, rest_of(line)?)));
    let Some((at, rest)) = found else { return lines.push(new) };
    // Lines that are indented, and items of a list, belong to the key above them.
    let is_part = |line: &&String| line.starts_with([' ', '\t', '-']) && !line.starts_with("---");
    let parts = lines[at + 1..].iter().take_while(is_part).count();
    lines.drain(at + 1..at + 1 + parts);
    // In quotes or in a block a number sign can be a part of the value.
    let is_plain = !rest.starts_with(['"', '\'', '|', '>']);
    let comment = rest.find(" #").filter(|_| is_plain).map(|at| &rest[at..]);
    let comment = comment.or_else(|| rest.starts_with('#').then_some(&*rest));
    lines[at] = match comment {
        Some(comment) => format!("{new}  {}", comment.trim()),
        None => new,
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_set_and_comments_and_other_lines_stay() {
        let values = [("model", json!("x: y")), ("warn", json!(false))];
        for (text, changed) in [
            ("", "model: \"x: y\"\nwarn: false\n"),
            ("# mine\n\n", "# mine\n\nmodel: \"x: y\"\nwarn: false\n"),
            (
                "warn: true # loud\nread:\n  - a # b\n  - c\nmodel: gpt\nmodel-b: z",
                "warn: false  # loud\nread:\n  - a # b\n  - c\nmodel: \"x: y\"\nmodel-b: z\n",
            ),
            ("model:\n- a\n- b\nz: 1\n", "model: \"x: y\"\nz: 1\nwarn: false\n"),
            ("model: 'a # b'\nwarn: yes\n", "model: \"x: y\"\nwarn: false\n"),
            // The same value, written in another way.
            ("model: 'x: y'\nwarn: no\n", "model: 'x: y'\nwarn: no\n"),
            ("model: |\n  a\n  b\nwarn: false\n", "model: \"x: y\"\nwarn: false\n"),
            ("a: 1\r\nwarn: false\r\n", "a: 1\r\nwarn: false\r\nmodel: \"x: y\"\r\n"),
        ] {
            assert_eq!(set(text, &values).unwrap(), changed, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_changed_is_refused_with_the_reason() {
        for (text, why) in [
            ("a: [1\n", "line "),
            ("- a\n- b\n", "line "),
            ("a: 1\na: 2\n", "duplicate"),
            ("{\"model\": 1}\n", "form that rbee does not change"),
            ("\"model\": 1\n", "form that rbee does not change"),
            ("model: |\n  a\n\n  b\n", "form that rbee does not change"),
            ("a: 1\n---\nb: 1\n", "multiple"),
        ] {
            let refused = set(text, &[("model", json!("x"))]).unwrap_err();
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
    }
}
