//! Starting a hive on a machine, and the byte stream to its socket: [`start`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rbee_transport_http::wire::hive::Detached;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    answers::Answers,
    error::DeployError,
    exec::{Exec, Session},
    script::{Script, quoted},
    upload::Installed,
};

const WHAT: &str = "starting the hive";
/// A hive that does not respond within 30 seconds is given up by the script.
const LIMIT: Duration = Duration::from_secs(60);

/// The hive to start.
#[derive(Clone, Debug)]
pub(crate) struct HiveStart {
    pub(crate) id: String,
    /// How long it continues without a queen.
    pub(crate) lease: Duration,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
}

/// Starts a hive, or finds the one that runs with the same programs. Returns what it said, and the byte stream to its
/// socket.
///
/// # Errors
/// [`DeployError::DoesNotStart`] with the last lines of its log, and the errors of the connection.
pub(crate) async fn start(
    exec: &dyn Exec,
    installed: &Installed,
    hive: &HiveStart,
) -> Result<(Detached, Relayed), DeployError> {
    let running = script(installed, hive, true).start(exec).await?;
    if !running.is_ready() {
        return Err(failed(installed, &running.finish().await?));
    }
    let detached = read(running.answers().require("hive")?)?;
    let (rest, session) = running.into_stream();
    Ok((detached, Relayed { rest, at: 0, session }))
}

fn script(installed: &Installed, hive: &HiveStart, relay: bool) -> Script {
    let arguments: Vec<String> = hive.arguments.iter().map(|text| quoted(text)).collect();
    Script {
        what: WHAT,
        variables: vec![
            ("root", installed.root.clone()),
            ("directory", installed.directory.clone()),
            ("id", hive.id.clone()),
            ("lease", format!("{}s", hive.lease.as_secs().max(1))),
            ("relay", u8::from(relay).to_string()),
        ],
        body: format!("set -- {}\n{}", arguments.join(" "), include_str!("start.sh")),
        limit: LIMIT,
    }
}

/// Starts a hive, or finds the one that runs with the same programs, and leaves it alone.
///
/// # Errors
/// As [`start`].
pub(crate) async fn start_only(
    exec: &dyn Exec,
    installed: &Installed,
    hive: &HiveStart,
) -> Result<(), DeployError> {
    let answers = script(installed, hive, false).run(exec).await?;
    match answers.get("fail") {
        Some(_) => Err(failed(installed, &answers)),
        None => Ok(()),
    }
}

fn failed(installed: &Installed, answers: &Answers) -> DeployError {
    let status = answers.get("status").unwrap_or("unknown");
    let reason = answers.get("reason").unwrap_or("it printed nothing");
    // The status of a shell whose program is not there.
    if status == "127" || status == "126" {
        return DeployError::Gone { directory: installed.directory.clone() };
    }
    DeployError::DoesNotStart { reason: format!("exit status {status}: {reason}") }
}

fn read(line: &str) -> Result<Detached, DeployError> {
    serde_json::from_str(line).map_err(|cause| DeployError::Answer {
        what: WHAT,
        // Not the line: it has a token.
        reason: format!("what the hive prints about itself is not understood: {cause}"),
    })
}

/// The byte stream to the socket of a hive.
pub(crate) struct Relayed {
    /// What was read together with the answers of the script.
    rest: Vec<u8>,
    at: usize,
    session: Box<dyn Session>,
}

impl AsyncRead for Relayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this.rest.get(this.at..).filter(|rest| !rest.is_empty()) {
            let count = buffer.remaining().min(rest.len());
            buffer.put_slice(&rest[..count]);
            this.at += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.session).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Relayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.session).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_shutdown(cx)
    }
}
