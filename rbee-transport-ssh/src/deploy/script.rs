//! Scripts that are run on another machine by `sh`: [`Script`].
//!
//! The command is the bare word `sh`, which every login shell understands, and the script goes over standard input. The
//! lines of an answer begin with a random marker, because the user's start files may print anything.

use std::{future::Future, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

use super::{
    error::DeployError,
    exec::{Exec, Session, SessionEnd},
    source::FileSource,
};

/// The most bytes of an answer, including what start files print.
const MOST_BYTES: usize = 1 << 20;
/// The most bytes of unrelated output that an error shows.
const MOST_SHOWN: usize = 400;
/// The time in which some bytes must be accepted.
const STALLED: Duration = Duration::from_secs(60);
/// The time that a session has to end after its script did.
const END: Duration = Duration::from_secs(10);
/// The functions that all scripts use.
const COMMON: &str = include_str!("common.sh");

/// A text in single quotes for a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// 16 random hexadecimal digits.
pub(super) fn random_word() -> Result<String, DeployError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|cause| DeployError::Session {
        what: "making a random name",
        cause: io::Error::other(cause.to_string()),
    })?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// A script that is ready to run.
pub(super) struct Script {
    /// What it does, for errors: "looking at the machine".
    pub(super) what: &'static str,
    /// Variables and their values, which are quoted.
    pub(super) variables: Vec<(&'static str, String)>,
    /// The commands.
    pub(super) body: String,
    /// The time it has, apart from the time to send a file.
    pub(super) limit: Duration,
}

impl Script {
    /// Runs it to its end. It gets no input.
    pub(super) async fn run(&self, exec: &dyn Exec) -> Result<Answers, DeployError> {
        let running = async {
            let mut running = self.open(exec, " </dev/null").await?;
            // If the command has ended already, its output tells why.
            let _ = running.session.shutdown().await;
            running.finish().await
        };
        timed(self.limit, self.what, running).await?
    }

    /// Starts it and waits until it says that it is `ready` for its input, or ends.
    pub(super) async fn start(&self, exec: &dyn Exec) -> Result<Running, DeployError> {
        let running = async {
            let mut running = self.open(exec, "").await?;
            while let Some(key) = running.read_line().await? {
                if key == "ready" {
                    running.is_ready = true;
                    break;
                }
            }
            Ok(running)
        };
        timed(self.limit, self.what, running).await?
    }

    async fn open(&self, exec: &dyn Exec, input: &str) -> Result<Running, DeployError> {
        let (a, b) = (random_word()?, random_word()?);
        let mut text = format!("{{ a={a} b={b}\n");
        for (name, value) in &self.variables {
            text += &format!("{name}={}\n", quoted(value));
        }
        text += COMMON;
        text += &self.body;
        // The shell reads up to here before it runs anything, so it reads nothing of what is sent later.
        text += &format!("}}{input}\n");
        let failed = |cause| DeployError::Session { what: self.what, cause };
        let mut session = exec.exec("sh").await.map_err(failed)?;
        // If the command has ended already, its output tells why.
        if session.write_all(text.as_bytes()).await.is_ok() {
            let _ = session.flush().await;
        }
        let answers = Answers { what: self.what, pairs: Vec::new() };
        let lines = Lines { marker: format!("{a}{b} ").into_bytes(), ..Lines::default() };
        Ok(Running { session, lines, answers, limit: self.limit, is_ready: false })
    }
}

/// A script that runs.
pub(super) struct Running {
    session: Box<dyn Session>,
    lines: Lines,
    answers: Answers,
    limit: Duration,
    is_ready: bool,
}

impl Running {
    /// Returns true if it waits for its input.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The answers so far.
    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What comes after the answers is no text: the session, and what was already read of it.
    pub(super) fn into_stream(self) -> (Vec<u8>, Box<dyn Session>) {
        (self.lines.buffer, self.session)
    }

    /// Sends a file and runs the script to its end.
    pub(super) async fn send(
        mut self,
        source: &mut FileSource<'_>,
    ) -> Result<Answers, DeployError> {
        let (what, limit) = (self.answers.what, self.limit);
        let (mut read, mut write) = split(&mut self.session);
        let written = {
            let mut lines = std::pin::pin!(self.lines.read_all(&mut read, &mut self.answers));
            tokio::select! {
                biased;
                // The script ends before it has read everything only if it failed, and then it has said why.
                ended = &mut lines => ended.map(|()| Ok(())),
                written = write_all(&mut write, source, what) => match written {
                    Err(error @ DeployError::LocalProgram { .. }) => return Err(error),
                    Err(error @ DeployError::TimedOut { .. }) => return Err(error),
                    written => timed(limit, what, lines).await?.map(|()| written),
                },
            }
        };
        let written = written.map_err(|error| error.into_error(what))?;
        match written {
            // The script knows better than the connection why it took no more.
            Err(error) if !self.answers.is_complete() => Err(error),
            _ => self.finish().await,
        }
    }

    /// Reads the rest of the answer, and ends the session.
    pub(super) async fn finish(mut self) -> Result<Answers, DeployError> {
        let what = self.answers.what;
        let read = timeout(self.limit, self.lines.read_all(&mut self.session, &mut self.answers));
        match read.await {
            Ok(read) => read.map_err(|error| error.into_error(what))?,
            Err(_) => return Err(late(what, &self.answers, self.limit)),
        }
        let ended = timed(END, what, self.session.end()).await?;
        if self.answers.is_complete() {
            return Ok(self.answers);
        }
        let end = ended.map_err(|cause| DeployError::Session { what, cause })?;
        if self.answers.pairs.is_empty() {
            return Err(DeployError::NoShell { what, end, output: self.lines.shown() });
        }
        Err(ended_early(&self.answers, &end))
    }

    async fn read_line(&mut self) -> Result<Option<String>, DeployError> {
        let what = self.answers.what;
        let line = self.lines.next(&mut self.session).await;
        let Some((key, value)) = line.map_err(|error| error.into_error(what))? else {
            return Ok(None);
        };
        self.answers.pairs.push((key.clone(), value));
        Ok(Some(key))
    }
}

async fn write_all(
    write: &mut (impl AsyncWrite + Unpin),
    source: &mut FileSource<'_>,
    what: &'static str,
) -> Result<(), DeployError> {
    let failed = |cause| DeployError::Session { what, cause };
    while let Some(chunk) = source.next().await? {
        let written = timed(STALLED, what, write.write_all(&chunk)).await?;
        written.map_err(failed)?;
        source.sent();
    }
    timed(STALLED, what, write.shutdown()).await?.map_err(failed)
}

async fn timed<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, DeployError> {
    let late = |_| DeployError::TimedOut { what, after: "the beginning".into(), limit };
    timeout(limit, work).await.map_err(late)
}

fn late(what: &'static str, answers: &Answers, limit: Duration) -> DeployError {
    let after = match (answers.all("step").last(), answers.pairs.last()) {
        (Some(step), _) => format!("step {step}"),
        (None, Some((key, _))) => format!("answer {key}"),
        (None, None) => "the beginning".into(),
    };
    DeployError::TimedOut { what, after, limit }
}

fn ended_early(answers: &Answers, end: &SessionEnd) -> DeployError {
    let last = answers.pairs.last().map_or("nothing", |(key, _)| key);
    DeployError::Answer {
        what: answers.what,
        reason: format!("the script ended early, after {last:?}, with {end}"),
    }
}

/// The lines of an answer, keys and values.
#[derive(Debug)]
pub(super) struct Answers {
    what: &'static str,
    /// A value is `None` if it is not UTF-8 or has several lines.
    pairs: Vec<(String, Option<String>)>,
}

impl Answers {
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

    /// Returns true if the script came to its end, or said why it failed.
    fn is_complete(&self) -> bool {
        self.get("end").is_some() || self.get("fail").is_some()
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
struct Lines {
    /// The marker and a blank.
    marker: Vec<u8>,
    /// What was read and is no whole line yet.
    buffer: Vec<u8>,
    /// The bytes read so far.
    read: usize,
    /// The last line without the marker.
    other: Vec<u8>,
}

enum ReadError {
    Connection(io::Error),
    TooLong,
}

impl ReadError {
    fn into_error(self, what: &'static str) -> DeployError {
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
    /// The key and value of the next line; `None` at the end.
    async fn next(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<(String, Option<String>)>, ReadError> {
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

    async fn read_all(
        &mut self,
        read: &mut (impl AsyncRead + Unpin),
        answers: &mut Answers,
    ) -> Result<(), ReadError> {
        while let Some(pair) = self.next(read).await? {
            answers.pairs.push(pair);
        }
        Ok(())
    }

    /// Another program may have begun the line.
    fn parse(&self, line: &[u8]) -> Option<(String, Option<String>)> {
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

    #[test]
    fn a_quoted_text_is_one_word_for_a_shell() {
        let text = "it's \"a\" $(b) `c` \\ \n *";
        let script = format!("printf %s {}", quoted(text));
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
    }

    #[tokio::test]
    async fn lines_with_the_marker_are_found_in_the_noise_and_bad_values_are_left_out() {
        let mut lines = Lines { marker: b"mark ".to_vec(), ..Lines::default() };
        let mut answers = Answers { what: "testing", pairs: Vec::new() };
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
        let mut lines = Lines { marker: b"mark ".to_vec(), ..Lines::default() };
        let read = lines.next(&mut tokio::io::repeat(b'x')).await;
        assert!(matches!(read, Err(ReadError::TooLong)));
        assert!(lines.buffer.len() < 2 * MOST_BYTES);
    }
}
