//! The configuration as it is in effect, in a form that can be read again.

use super::{
    Loaded,
    table::{Forms, KEYS},
};

impl Loaded {
    /// Every key with its value and, as a comment, where it came from. Secrets are hidden; what is left is a
    /// configuration file.
    pub fn show(&self) -> String {
        let mut lines = Vec::with_capacity(KEYS.len());
        for (key, origin) in KEYS.iter().zip(&self.origins) {
            let line = format!("{}: {}", key.name, (key.show)(&self.config));
            // What is not allowed in a file is a comment in it.
            lines.push(match key.forms {
                Forms::All => (line, origin),
                Forms::Variable => (format!("# {line}"), origin),
            });
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(48);
        let shown = lines.iter().map(|(line, origin)| {
            let line_and_origin = format!("{line:width$}  # {origin}");
            line_and_origin + "\n"
        });
        shown.collect()
    }
}
