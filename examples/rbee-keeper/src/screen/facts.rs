//! Facts about one thing, one line each.

use super::{
    style::Style,
    text::{Elide, harmless, harmless_line, shorten, width, wrap},
};

/// Facts with their names. In a terminal a value that is too wide is shortened; a text is shown whole, over several
/// lines.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    lines: Vec<Fact>,
}

#[derive(Clone, Debug)]
struct Fact {
    name: &'static str,
    value: String,
    is_state: bool,
    is_text: bool,
}

impl Facts {
    /// Adds a fact; an empty value is left out.
    pub fn add(&mut self, name: &'static str, value: &str) {
        self.push(name, value, false, false);
    }

    /// Adds a state, in its color.
    pub fn state(&mut self, name: &'static str, value: &str) {
        self.push(name, value, true, false);
    }

    /// Adds a text of any length, which is never shortened.
    pub fn text(&mut self, name: &'static str, value: &str) {
        self.push(name, value, false, true);
    }

    fn push(&mut self, name: &'static str, value: &str, is_state: bool, is_text: bool) {
        if !value.is_empty() {
            let value = value.to_owned();
            self.lines.push(Fact { name, value, is_state, is_text });
        }
    }

    /// The lines, each at most `most` columns wide except for texts.
    pub fn render(&self, most: Option<usize>, paints: bool) -> String {
        let names = self.lines.iter().map(|fact| width(fact.name)).max().unwrap_or(0);
        let room = most.unwrap_or(usize::MAX).saturating_sub(names + 2);
        let mut out = String::new();
        for fact in &self.lines {
            let blank = " ".repeat(names - width(fact.name) + 2);
            out += &Style::Bold.paint(fact.name, paints);
            if fact.is_text {
                // Below the name, unchanged.
                out.push('\n');
                let text = harmless(&fact.value);
                let text = text.trim_end_matches('\n');
                out += &most.map_or_else(|| text.to_owned(), |most| wrap(text, most, Some(0)));
            } else {
                out += &blank;
                let value = harmless_line(&fact.value);
                let shown = shorten(&value, room, Elide::Middle);
                let style = fact.is_state.then(|| Style::of_state(&value)).flatten();
                out +=
                    &style.map_or_else(|| shown.to_string(), |style| style.paint(&shown, paints));
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_each_other_and_fit() {
        let mut facts = Facts::default();
        facts.add("id", "0123456789abcdef");
        facts.add("nothing", "");
        facts.state("state", "complete");
        facts.text("text", "a long text\nof two lines");
        let made = facts.render(Some(17), false);
        assert_eq!(made, "id     01234…cdef\nstate  complete\ntext\na long text\nof two lines\n");
        assert!(facts.render(None, true).contains("\x1b[32mcomplete"));
    }
}
