//! Programs that run on another machine: [`Exec`] and [`Session`].

use std::{fmt, io};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Runs commands on a machine, as an SSH server does: the user's login shell gets the command as one text.
///
/// At most one session is open at a time: the next command is run after the previous session has
/// [ended](Session::end) or was dropped. A server that still counts the previous session is asked again by the
/// implementation.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Starts a command.
    ///
    /// # Errors
    /// The connection or the server refused the session. The error is passed on as the cause of
    /// [`DeployError::Session`](super::DeployError::Session).
    async fn exec(&self, command: &str) -> io::Result<Box<dyn Session>>;
}

/// A command that runs: reading gives its standard output, writing goes to its standard input, and shutting down the
/// writer is the end of that input. Dropping it closes the session.
#[async_trait]
pub trait Session: AsyncRead + AsyncWrite + Send + Unpin {
    /// Ends the input, discards the rest of the output, and waits until the command has ended and the session is
    /// closed.
    ///
    /// # Errors
    /// The connection ended first.
    async fn end(self: Box<Self>) -> io::Result<SessionEnd>;
}

/// The end of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionEnd {
    /// The exit status; `None` if a signal ended the command, or if the server did not report it.
    pub status: Option<u32>,
    /// The signal that ended the command, such as `KILL`.
    pub signal: Option<String>,
    /// The last part of its error output, at most some KiB.
    pub stderr: String,
}

/// The most characters of the error output that are shown.
const MOST_SHOWN: usize = 400;

/// `exit status 3`, `signal KILL`, or `no exit status`; and the end of what the command wrote to its error output. It is
/// quoted, because a terminal must not obey another machine.
impl fmt::Display for SessionEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, &self.signal) {
            (Some(status), _) => write!(formatter, "exit status {status}")?,
            (None, Some(signal)) => write!(formatter, "signal {}", signal.escape_debug())?,
            (None, None) => formatter.write_str("no exit status")?,
        }
        let stderr = self.stderr.trim();
        if stderr.is_empty() {
            return Ok(());
        }
        let start = stderr.char_indices().rev().nth(MOST_SHOWN - 1).map_or(0, |(at, _)| at);
        write!(formatter, "; it printed {:?}", &stderr[start..])
    }
}

#[cfg(test)]
mod tests {
    use super::SessionEnd;

    #[test]
    fn an_end_is_shown_with_the_last_part_of_the_error_output_and_without_escapes() {
        let end =
            SessionEnd { status: Some(3), signal: None, stderr: " no\n\x1b[31mred \n".into() };
        assert_eq!(end.to_string(), "exit status 3; it printed \"no\\n\\u{1b}[31mred\"");
        let killed = SessionEnd { signal: Some("KILL".into()), ..SessionEnd::default() };
        assert_eq!(killed.to_string(), "signal KILL");
        let long = SessionEnd { stderr: "ö".repeat(1000) + "end", ..SessionEnd::default() };
        let shown = long.to_string();
        assert!(shown.starts_with("no exit status; it printed \"öö") && shown.ends_with("öend\""));
        assert_eq!(shown.chars().filter(|c| *c == 'ö').count(), 397);
    }
}
