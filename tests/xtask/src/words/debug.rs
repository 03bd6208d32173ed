//! Messages that show a value in the form of `Debug`, which is for programmers: `Some("x")`, `Os { code: 2 }`.

/// Names of variables that hold more than a text, a number or a duration.
const NAMES: [&str; 24] = [
    "answer", "cause", "device", "devices", "e", "err", "error", "failure", "found", "has",
    "health", "info", "kind", "known", "outcome", "output", "phase", "reason", "request",
    "response", "result", "spec", "status", "worker",
];
/// Below these, a message is read by programmers alone.
const FOR_PROGRAMMERS: [&str; 5] = ["/conformance/", "/sim/", "/tests", "tests/", "_tests.rs"];

/// The lines of a source that put such a value into a text.
pub(super) fn find(file: &str, text: &str) -> Vec<String> {
    if !file.ends_with(".rs") || FOR_PROGRAMMERS.iter().any(|part| file.contains(part)) {
        return Vec::new();
    }
    // What follows is for tests.
    let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().enumerate().filter(|(_, line)| {
        let is_check = ["assert", "panic!", "//"].iter().any(|check| line.contains(check));
        !is_check && placeholders(line).any(|name| NAMES.contains(&name))
    });
    let found = lines.map(|(line, _)| {
        format!("{file}:{}: a message with a `{{…:?}}` of a value; write it for people", line + 1)
    });
    found.collect()
}

/// The last names in the placeholders of a line with `:?`: `info` in `{self.info:?}`.
fn placeholders(line: &str) -> impl Iterator<Item = &str> {
    line.split('{').skip(1).filter_map(|rest| {
        let (inside, _) = rest.split_once('}')?;
        let (path, form) = inside.split_once(':')?;
        matches!(form, "?" | "#?").then(|| path.rsplit('.').next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_value_that_is_shown_for_programmers_is_found_and_a_quoted_text_is_not() {
        let source = "fn f() {\n    format!(\"it is {self.info:?}\");\n    format!(\"{name:?} {error}\");\n    \
                      assert!(ok, \"{error:?}\");\n}\n#[cfg(test)]\nmod tests { // {error:?}\n format!(\"{error:?}\"); }\n";
        let found = find("rbee-core/src/x.rs", source);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("rbee-core/src/x.rs:2: "), "{found:?}");
        assert!(find("rbee-core/src/sim/x.rs", source).is_empty());
    }
}
