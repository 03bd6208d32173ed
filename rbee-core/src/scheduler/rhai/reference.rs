//! The reference of the helpers, made of the book that they are registered by.

use std::fmt::Write;

use super::{engine, trial};

/// Every helper that a policy has, as the reference of `docs/scheduler.md`, in Markdown: how it is written, what it does,
/// and an example with what it gives on the fleet that policies are tried on.
///
/// ```
/// let reference = rbee_core::scheduler_reference();
/// assert!(reference.contains("`least_loaded() -> worker or ()`"));
/// ```
pub fn scheduler_reference() -> String {
    let (_, contents) = engine::shared();
    let mut text = String::new();
    for (title, about) in &contents.chapters {
        let helpers = contents.helpers.iter().filter(|(chapter, _)| chapter == title);
        let _ =
            write!(text, "### {title}\n\n{about}\n\n| | | example | gives |\n|---|---|---|---|\n");
        for (_, helper) in helpers {
            let gives = match trial::example(helper.example) {
                Ok(gives) => format!("`{gives}`"),
                Err(error) => format!("fails: {error}"),
            };
            let cells = [
                format!("`{}`", helper.signature),
                helper.doc.to_owned(),
                format!("`{}`", helper.example),
                gives,
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_helpers_and_every_example_works() {
        let (_, contents) = engine::shared();
        assert!(contents.helpers.len() >= 40, "{} helpers", contents.helpers.len());
        for (_, helper) in &contents.helpers {
            let gives = trial::example(helper.example);
            assert!(gives.is_ok(), "{} {}: {gives:?}", helper.on, helper.name);
            assert_ne!(
                gives.as_deref(),
                Ok("nothing"),
                "{}: the example shows nothing",
                helper.name
            );
        }
    }
}
