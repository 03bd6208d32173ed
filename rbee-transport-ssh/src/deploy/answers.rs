//! The lines that a script prints: [`Lines`] finds them, [`Answers`] are their keys and values.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{error::DeployError, exec::SessionEnd};

/// The most bytes of an answer, including what start files print.
const MOST_BYTES: usize = 1 << 20;
/// The most bytes of unrelated output that an error shows.
const MOST_SHOWN: usize = 400;

/// The lines of an answer, keys and values.
#[derive(Debug)]
pub(super) struct Answers {
    /// What the script does, for errors.
    what: &'static str,
    /// A value is `None` if it is not UTF-8 or has several lines.
    pairs: Vec<Pair>,
}

type Pair = (String, Option<String>);

impl Answers {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, pairs: Vec::new() }
    }

    /// Adds a line, and returns its key.
    pub(super) fn add(&mut self, (key, value): Pair) -> &str {
        self.pairs.push((key, value));
        self.pairs.last().map_or("", |(key, _)| key)
    }

    /// The keys and values in their order. Values that are empty or cannot be used are left out.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().filter_map(|(key, value)| {
            let value = value.as_deref().filter(|value| !value.is_empty())?;
            Some((key.as_str(), value))
        })
    }

    /// The first value of a key; `None` also if it is empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// The values of a key.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.pairs().filter(move |(is, _)| *is == key).map(|(_, value)| value)
    }

    /// Returns true if the script came to its end, or said why it failed. Nothing follows then.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.pairs.last(), Some((key, _)) if key == "end" || key == "fail")
    }

    /// How far the script came.
    pub(super) fn progress(&self) -> String {
        match (self.all("step").last(), self.pairs.last()) {
            (Some(step), _) => format!("step {step}"),
            (None, Some((key, _))) => format!("answer {key}"),
            (None, None) => "the beginning".into(),
        }
    }

    /// The error of a script that is not complete, and whose command has ended.
    pub(super) fn ended_early(&self, end: SessionEnd, lines: &Lines) -> DeployError {
        let what = self.what;
        match self.pairs.last() {
            None => DeployError::NoShell { what, end, printed: lines.shown() },
            Some((last, _)) => {
                let reason = format!("the script ended early, after {last:?}, with {end}");
                DeployError::Answer { what, reason }
            }
        }
    }

    /// The first value of a key that must be there.
    ///
    /// # Errors
    /// [`DeployError::Answer`] if it is missing.
    pub(super) fn require(&self, key: &str) -> Result<&str, DeployError> {
        self.get(key).ok_or_else(|| DeployError::Answer {
            what: self.what,
            reason: format!("{key:?} is missing, or is no text of one line"),
        })
    }
}

/// Finds the lines with the marker in a stream.
#[derive(Default)]
pub(super) struct Lines {
    /// The marker and a blank.
    marker: Vec<u8>,
    /// What was read and is no whole line yet.
    buffer: Vec<u8>,
    /// The bytes read so far.
    read: usize,
    /// The last line without the marker.
    other: Vec<u8>,
}

/// Why no more lines can be read.
pub(super) enum ReadError {
    Connection(io::Error),
    TooLong,
}

impl ReadError {
    pub(super) fn into_error(self, what: &'static str) -> DeployError {
        match self {
            Self::Connection(cause) => DeployError::Session { what, cause },
            Self::TooLong => {
                let reason = format!(
                    "it is longer than {MOST_BYTES} bytes; check what the start files of the user's shell print"
                );
                DeployError::Answer { what, reason }
            }
        }
    }
}

impl Lines {
    pub(super) fn new(marker: &str) -> Self {
        Self { marker: format!("{marker} ").into_bytes(), ..Self::default() }
    }

    /// What was read after the last line.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.buffer
    }

    /// The key and value of the next line; `None` at the end.
    pub(super) async fn next(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Pair>, ReadError> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                match self.parse(line.trim_ascii_end()) {
                    Some(pair) => return Ok(Some(pair)),
                    None => self.other = line,
                }
            }
            let mut chunk = [0; 4096];
            let count = read.read(&mut chunk).await.map_err(ReadError::Connection)?;
            self.buffer.extend_from_slice(&chunk[..count]);
            self.read += count;
            if count == 0 {
                return Ok(None);
            }
            if self.read > MOST_BYTES {
                return Err(ReadError::TooLong);
            }
        }
    }

    /// Reads until the answer is complete, or the command has ended. A process that was started by the user's start
    /// files can keep the output open for long after that.
    pub(super) async fn read_all(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
        answers: &mut Answers,
    ) -> Result<(), ReadError> {
        while !answers.is_complete() {
            match self.next(read).await? {
                Some(pair) => answers.pairs.push(pair),
                None => break,
            }
        }
        Ok(())
    }

    /// Another program may have begun the line.
    fn parse(&self, line: &[u8]) -> Option<Pair> {
        let marker = &self.marker;
        let at = line.windows(marker.len()).position(|bytes| bytes == marker)?;
        let line = &line[at + marker.len()..];
        let end = line.iter().position(|byte| matches!(byte, b'=' | b'!'))?;
        let (key, value) = line.split_at(end);
        let value = match value.split_first()? {
            (b'=', value) => String::from_utf8(value.to_vec()).ok(),
            _ => None,
        };
        let is_text = |value: &String| !value.chars().any(char::is_control);
        Some((String::from_utf8_lossy(key).into_owned(), value.filter(is_text)))
    }

    /// What was printed without the marker, for an error.
    fn shown(&self) -> String {
        let mut bytes = [self.other.as_slice(), &self.buffer].concat();
        bytes.drain(..bytes.len().saturating_sub(MOST_SHOWN));
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_with_the_marker_are_found_in_the_noise_and_bad_values_are_left_out() {
        let mut lines = Lines::new("mark");
        let mut answers = Answers::new("testing");
        let text = b"Welcome!\nloading...mark a=1=2\r\nmark b!\nmark c=\xff\nmark d=\nmark e=x\x1b[0m\nmark a=3\nmark";
        assert!(lines.read_all(&mut &text[..], &mut answers).await.is_ok());
        assert_eq!(answers.pairs().collect::<Vec<_>>(), [("a", "1=2"), ("a", "3")]);
        assert_eq!(answers.require("a").unwrap(), "1=2");
        let missing = answers.require("b").unwrap_err().to_string();
        assert!(missing.contains("testing") && missing.contains("\"b\""), "{missing}");
        assert_eq!(lines.shown(), "Welcome!\nmark");
    }

    #[tokio::test]
    async fn an_endless_answer_is_given_up() {
        let mut lines = Lines::new("mark");
        let read = lines.next(&mut tokio::io::repeat(b'x')).await;
        assert!(matches!(read, Err(ReadError::TooLong)));
        assert!(lines.buffer.len() < 2 * MOST_BYTES);
    }
}
