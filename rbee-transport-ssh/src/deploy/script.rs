//! Scripts that are run on another machine by `sh`: [`Script`].
//!
//! The command is the bare word `sh`, which every login shell understands, and the script goes over standard input. The
//! lines of an answer begin with a random marker, because the user's start files may print anything.

use std::{future::Future, io, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

use super::{
    answers::{Answers, Lines},
    error::DeployError,
    exec::{Exec, Session},
    source::FileSource,
};

/// The time in which some bytes must be accepted.
const STALLED: Duration = Duration::from_secs(60);
/// The time that a session has to end after its script did.
const END: Duration = Duration::from_secs(10);
/// The beginning of all scripts.
const SAY: &str = include_str!("say.sh");
/// The functions of the scripts that look at a machine or change files on it.
pub(super) const COMMON: &str = include_str!("common.sh");

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
        let mut running = timed(self.limit, self.what, self.open(exec, " </dev/null")).await??;
        // If the command has ended already, its output tells why.
        let _ = timed(self.limit, self.what, running.session.shutdown()).await?;
        running.finish().await
    }

    /// Starts it and waits until it says that it is `ready` for its input, or ends.
    pub(super) async fn start(&self, exec: &dyn Exec) -> Result<Running, DeployError> {
        let mut running = timed(self.limit, self.what, self.open(exec, "")).await??;
        timed(self.limit, self.what, running.read_to_ready()).await??;
        Ok(running)
    }

    async fn open(&self, exec: &dyn Exec, input: &str) -> Result<Running, DeployError> {
        let (a, b) = (random_word()?, random_word()?);
        let mut text = format!("{{ a={a} b={b}\n");
        for (name, value) in &self.variables {
            text += &format!("{name}={}\n", quoted(value));
        }
        text += SAY;
        text += &self.body;
        // The shell reads up to here before it runs anything, so it reads nothing of what is sent later.
        text += &format!("}}{input}\n");
        let failed = |cause| DeployError::Session { what: self.what, cause };
        let mut session = exec.exec("sh").await.map_err(failed)?;
        // If the command has ended already, its output tells why.
        if session.write_all(text.as_bytes()).await.is_ok() {
            let _ = session.flush().await;
        }
        let (what, limit) = (self.what, self.limit);
        let (answers, lines) = (Answers::new(what), Lines::new(&format!("{a}{b}")));
        Ok(Running { what, session, lines, answers, limit, is_ready: false })
    }
}

/// A script that runs.
pub(super) struct Running {
    what: &'static str,
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
        (self.lines.into_rest(), self.session)
    }

    /// Sends a file and runs the script to its end.
    pub(super) async fn send(
        mut self,
        source: &mut FileSource<'_>,
    ) -> Result<Answers, DeployError> {
        let (what, limit) = (self.what, self.limit);
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
        let (what, limit) = (self.what, self.limit);
        let read = timeout(limit, self.lines.read_all(&mut self.session, &mut self.answers)).await;
        match read {
            Ok(read) => read.map_err(|error| error.into_error(what))?,
            Err(_) => {
                let after = self.answers.progress();
                return Err(DeployError::TimedOut { what, after, limit });
            }
        }
        let ended = timeout(END, self.session.end()).await;
        if self.answers.is_complete() {
            return Ok(self.answers);
        }
        let late =
            |_| DeployError::TimedOut { what, after: "the end of its output".into(), limit: END };
        let end = ended.map_err(late)?.map_err(|cause| DeployError::Session { what, cause })?;
        Err(self.answers.ended_early(end, &self.lines))
    }

    async fn read_to_ready(&mut self) -> Result<(), DeployError> {
        while !self.is_ready && !self.answers.is_complete() {
            let line = self.lines.next(&mut self.session).await;
            match line.map_err(|error| error.into_error(self.what))? {
                Some(line) => self.is_ready = self.answers.add(line) == "ready",
                None => break,
            }
        }
        Ok(())
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
}
