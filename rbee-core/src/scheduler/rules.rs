//! Rules in YAML, for people who do not program: conditions and actions, compiled to a script.

use crate::error::{Error, ErrorKind, Result};

mod compile;
mod read;
mod schema;

pub use schema::rules_schema;

/// The most bytes of a text of rules.
const MOST_BYTES: usize = 64 * 1024;
/// The script that these rules are compiled to, which a policy of rules runs.
///
/// ```
/// let script = rbee_core::scheduler::rules_to_rhai("rules:\n  - when: {tenant: guest-*}\n    then: {reject: not today}\n")?;
/// assert!(script.contains(r#"return reject("not today");"#));
///
/// let error = rbee_core::scheduler::rules_to_rhai("rules:\n  - then: {rejct: no}\n").unwrap_err();
/// assert_eq!(error.message(), "line 2: rules[0].then.rejct: there is no such key; did you mean reject?");
/// # Ok::<(), rbee_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::InvalidRequest`], with the line and the key.
pub fn rules_to_rhai(yaml: &str) -> Result<String> {
    if yaml.len() > MOST_BYTES {
        let message = format!("the rules have {} bytes; allowed are {MOST_BYTES}", yaml.len());
        return Err(Error::new(ErrorKind::PayloadTooLarge, message));
    }
    let mut rules = read::read(yaml)?;
    if rules.description.is_empty() {
        rules.description = comment(yaml).to_owned();
    }
    Ok(compile::script(&rules))
}

/// The first comment line that is meant for people.
fn comment(yaml: &str) -> &str {
    let lines = yaml.lines().map_while(|line| match line.trim().strip_prefix('#') {
        Some(comment) => Some(comment.trim()),
        None => line.trim().is_empty().then_some(""),
    });
    // Such a line tells an editor the schema.
    let for_editors = |line: &str| line.starts_with("yaml-language-server:");
    lines.into_iter().find(|line| !line.is_empty() && !for_editors(line)).unwrap_or_default()
}
