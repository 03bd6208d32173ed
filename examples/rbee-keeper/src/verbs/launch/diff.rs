//! The difference between two versions of a configuration file, without the keys in them.

use similar::TextDiff;

/// How many unchanged lines are shown around a change.
const CONTEXT: usize = 3;

/// The names whose values are keys.
const SECRETS: [&str; 5] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "apiKey",
    "experimental_bearer_token",
    "openai-api-key",
];

/// What is shown in place of a key.
const MASK: &str = "****";

/// The lines of a unified diff of the file with this name.
pub(super) fn lines(name: &str, before: &str, after: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after);
    let unified = diff.unified_diff().context_radius(CONTEXT).header(name, name).to_string();
    unified.lines().map(masked).collect()
}

/// The line without the value of a key: everything behind the name is hidden, except the form of the value.
pub(super) fn masked(line: &str) -> String {
    let ends = SECRETS.iter().filter_map(|name| Some(line.find(name)? + name.len()));
    let Some(end) = ends.min() else { return line.to_owned() };
    let Some(at) = line[end..].find([':', '=']) else { return line.to_owned() };
    let (before, value) = line.split_at(end + at + 1);
    let value = value.trim();
    // No key.
    if value.starts_with("\"\"") && matches!(value.len(), 2 | 3) {
        return line.to_owned();
    }
    let quote = if value.starts_with('"') { "\"" } else { "" };
    let comma = if value.ends_with(',') { "," } else { "" };
    format!("{before} {quote}{MASK}{quote}{comma}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_the_lines_around_them() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n";
        let after = before.replace("6", "six");
        let expected =
            ["--- x", "+++ x", "@@ -3,6 +3,6 @@", " 3", " 4", " 5", "-6", "+six", " 7", " 8"];
        assert_eq!(lines("x", before, &after), expected);
    }

    #[test]
    fn a_key_is_not_shown_in_any_format() {
        for (line, shown) in [
            (
                "+    \"ANTHROPIC_AUTH_TOKEN\": \"s3cret\",",
                "+    \"ANTHROPIC_AUTH_TOKEN\": \"****\",",
            ),
            ("+{\"apiKey\":\"s3cret\",\"a\":1}", "+{\"apiKey\": \"****\""),
            ("+{\"apiKey\":\"\",\"openai-api-key\":\"s3cret\"}", "+{\"apiKey\": \"****\""),
            ("-experimental_bearer_token = \"s3cret\"", "-experimental_bearer_token = \"****\""),
            (" openai-api-key: s3cret", " openai-api-key: ****"),
            (" \"ANTHROPIC_API_KEY\": \"\",", " \"ANTHROPIC_API_KEY\": \"\","),
            (" \"baseURL\": \"http://x\"", " \"baseURL\": \"http://x\""),
        ] {
            assert_eq!(masked(line), shown);
        }
    }
}
