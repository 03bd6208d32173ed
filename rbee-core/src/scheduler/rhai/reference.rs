//! The reference of the helpers, generated from their registry.

use std::{collections::BTreeSet, fmt::Write};

use super::{dry_run, engine, registry::Helper};

/// The reference of all helpers in Markdown, as it is in `docs/scheduler.md`: the signature of each, what it does, and
/// an example with its result on the fleet of the dry run.
///
/// ```
/// let reference = rbee_core::scheduler::scheduler_reference();
/// assert!(reference.contains("`workers.least_loaded() -> worker or ()`"));
/// ```
pub fn scheduler_reference() -> String {
    let (_, index) = engine::shared();
    let mut text = String::new();
    // Helpers that workers and hives share are listed once.
    let mut told = BTreeSet::new();
    for (title, about) in &index.sections {
        let _ =
            write!(text, "### {title}\n\n{about}\n\n| | | example | gives |\n|---|---|---|---|\n");
        for (_, helper) in index.helpers.iter().filter(|(section, _)| section == title) {
            let is_shared = ["workers", "hives"].contains(&helper.on);
            let is_told = is_shared && !told.insert((helper.signature, helper.doc));
            if !is_told {
                let _ = writeln!(text, "| {} |", cells(helper).join(" | "));
            }
        }
        text.push('\n');
    }
    text
}

fn cells(helper: &Helper) -> [String; 4] {
    let gives = match dry_run::example(helper.example) {
        Ok(gives) => code(&gives),
        Err(error) => format!("fails: {error}"),
    };
    let written = match helper.on {
        "" => helper.signature.to_owned(),
        on => format!("{on}.{}", helper.signature),
    };
    let cells = [code(&written), helper.doc.to_owned(), code(helper.example), gives];
    cells.map(|cell| cell.replace('|', "\\|"))
}

/// The text as code in Markdown; it may contain backticks.
fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_helpers_and_every_example_works() {
        let (_, index) = engine::shared();
        assert!(index.helpers.len() >= 40, "{} helpers", index.helpers.len());
        for (_, helper) in &index.helpers {
            let gives = dry_run::example(helper.example);
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
