//! The output for people and for scripts.
//!
//! Standard output has only the answer; everything else goes to standard error. In a terminal, control characters from
//! a model or a server are replaced.

mod facts;
pub mod human;
mod progress;
mod style;
mod table;
pub mod text;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    sync::Arc,
};

use console::Term;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::{Exit, Failure};

pub use facts::Facts;
pub(crate) use progress::Bars;
pub(crate) use style::Style;
pub use table::{Column, Table};

/// The width of a terminal that does not report it.
const WIDTH: usize = 80;

/// The three standard streams and the form of the output. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Screen {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    json: bool,
    quiet: bool,
    /// Whether standard output and standard error have colors.
    paints: (bool, bool),
    in_terminal: bool,
    out_terminal: bool,
    err_terminal: bool,
}

impl Screen {
    /// Detects what the three standard streams are connected to.
    pub fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let paints = !no_color && !set("NO_COLOR") && !dumb;
        let (out_terminal, err_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let inner = Inner {
            json,
            quiet,
            paints: (paints && out_terminal && !json, paints && err_terminal),
            in_terminal: io::stdin().is_terminal(),
            out_terminal,
            err_terminal,
        };
        Self { inner: Arc::new(inner) }
    }

    /// True if the output is JSON.
    pub fn is_json(&self) -> bool {
        self.inner.json
    }

    /// True if only the requested output is printed.
    pub fn is_quiet(&self) -> bool {
        self.inner.quiet
    }

    /// True if input and both outputs are a terminal.
    pub fn is_conversation(&self) -> bool {
        self.inner.in_terminal && self.inner.out_terminal && self.inner.err_terminal
    }

    /// True if a person can be asked: standard input and standard error are a terminal.
    pub fn can_ask(&self) -> bool {
        self.inner.in_terminal && self.inner.err_terminal && !self.inner.json && !self.inner.quiet
    }

    /// True if standard output is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.inner.out_terminal
    }

    /// True if standard input is a terminal.
    pub fn is_typed_into(&self) -> bool {
        self.inner.in_terminal
    }

    /// True if bars can be drawn on standard error.
    pub fn draws(&self) -> bool {
        self.inner.err_terminal && !self.inner.quiet && !self.inner.json
    }

    /// The maximum width of a line on standard output, or `None` outside a terminal.
    pub fn width(&self) -> Option<usize> {
        if !self.inner.out_terminal {
            return None;
        }
        Some(width_of(&Term::stdout()))
    }

    /// Text for people, wrapped between words if standard output is a terminal.
    pub fn prose(&self, text: &str, hang: Option<usize>) -> String {
        match self.width() {
            Some(most) => text::wrap(text, most, hang),
            None => text.to_owned(),
        }
    }

    /// Writes text to standard output unchanged.
    pub fn out(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|cause| Failure::output(&cause))
    }

    /// Writes a chunk of a model's text to standard output.
    pub fn chunk(&self, chunk: &str) -> Result<(), Failure> {
        if self.inner.out_terminal { self.out(&text::harmless(chunk)) } else { self.out(chunk) }
    }

    /// Writes a document, over several lines in a terminal.
    pub fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        let written = match self.inner.out_terminal {
            true => serde_json::to_string_pretty(value),
            false => serde_json::to_string(value),
        };
        self.json_text(written)
    }

    /// Writes one object of a stream, on one line.
    pub fn object(&self, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        self.json_text(serde_json::to_string(value))
    }

    /// Writes an event of a stream as one object, with its data unchanged.
    pub fn event(&self, id: Option<&str>, event: &str, data: &RawValue) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Event<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<u64>,
            event: &'a str,
            data: &'a RawValue,
        }
        let id = id.and_then(|id| id.parse().ok());
        self.object(&Event { id, event, data })
    }

    fn json_text(&self, written: serde_json::Result<String>) -> Result<(), Failure> {
        let written = written.map_err(|cause| {
            Failure::new(Exit::Failed, "INTERNAL", format!("cannot be written as JSON: {cause}"))
        })?;
        self.out(&format!("{}\n", text::json_harmless(&written)))
    }

    /// Writes a table to standard output, as wide as the terminal allows.
    pub fn table(&self, table: &Table) -> Result<(), Failure> {
        self.out(&table.render(self.width(), self.inner.paints.0))
    }

    /// Writes facts to standard output.
    pub fn facts(&self, facts: &Facts) -> Result<(), Failure> {
        self.out(&facts.render(self.width(), self.inner.paints.0))
    }

    /// Reports that an operation was done: `removed bee-tiny from every hive`.
    pub fn done(&self, did: &str, what: &str, how: &str) -> Result<(), Failure> {
        if self.inner.json {
            return self.object(&serde_json::json!({ "done": did, "subject": what }));
        }
        if self.inner.quiet {
            return Ok(());
        }
        let line = format!("{did} {what}{}{how}", if how.is_empty() { "" } else { " " });
        self.out(&format!("{}\n", self.prose(&text::harmless_line(&line), None)))
    }

    /// The text in this style, if standard output has colors.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        style.paint(text, self.inner.paints.0)
    }

    /// Writes a progress note to standard error.
    pub fn note(&self, line: &str) {
        if !self.inner.quiet {
            self.line("", Style::Dim, &text::harmless(line));
        }
    }

    /// Writes a line of a unified diff to standard error, whole and in the color of its sign.
    pub(crate) fn diff_line(&self, line: &str) {
        if self.inner.quiet {
            return;
        }
        let line = text::harmless_line(line);
        let painted = match line.chars().next() {
            Some('+') => Style::Green.paint(&line, self.inner.paints.1),
            Some('-') => Style::Red.paint(&line, self.inner.paints.1),
            _ => line.into_owned(),
        };
        // If standard error cannot be written, nobody reads it.
        let _ = writeln!(io::stderr().lock(), "{painted}");
    }

    /// Writes a warning to standard error.
    pub fn warn(&self, line: &str) {
        if !self.inner.quiet {
            self.line("warning:", Style::Yellow, &text::harmless(line));
        }
    }

    /// Writes the failure of the command to standard error, even with `--quiet`.
    pub fn failure(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        if self.inner.json {
            let body = serde_json::json!({ "error": failure });
            let _ = writeln!(io::stderr().lock(), "{}", text::json_harmless(&body.to_string()));
            return;
        }
        self.line("error:", Style::Red, &text::harmless(&failure.to_string()));
    }

    /// Asks a yes-or-no question on standard error. Returns false if there is no answer.
    pub fn confirm(&self, question: &str) -> bool {
        let mut err = io::stderr().lock();
        let asked = write!(err, "{} [y/N] ", text::harmless(question)).and_then(|()| err.flush());
        drop(err);
        let mut answer = String::new();
        asked.is_ok()
            && io::stdin().lock().read_line(&mut answer).is_ok()
            && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Asks for a secret on the terminal, which does not show what is typed. `None` if nothing is typed.
    pub(crate) fn ask_secretly(&self, question: &str) -> Option<String> {
        let terminal = Term::stderr();
        terminal.write_str(&text::harmless(question)).ok()?;
        let typed = terminal.read_secure_line().ok()?;
        (!typed.is_empty()).then_some(typed)
    }

    /// Writes a line to standard error, after a colored label.
    fn line(&self, label: &str, style: Style, line: &str) {
        let gap = if label.is_empty() { "" } else { " " };
        let mut whole = format!("{label}{gap}{line}");
        if self.inner.err_terminal {
            whole = text::wrap(&whole, width_of(&Term::stderr()), None);
        }
        let rest = whole.strip_prefix(label).unwrap_or(&whole);
        // If standard error cannot be written, nobody reads it.
        let _ = writeln!(io::stderr().lock(), "{}{rest}", style.paint(label, self.inner.paints.1));
    }
}

fn width_of(terminal: &Term) -> usize {
    let told = terminal.size_checked().map(|(_, columns)| usize::from(columns));
    told.filter(|width| *width > 0).unwrap_or(WIDTH)
}
