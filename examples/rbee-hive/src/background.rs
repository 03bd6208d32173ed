//! A hive in the background, which a queen on another machine reaches through an SSH connection: `--detach` starts it,
//! and `--relay` carries the bytes of the queen's tunnel to its socket.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::mpsc,
    thread,
};

use rbee_core::{Error, ErrorKind, Result};

use crate::args::Args;

/// The bytes that are carried at once.
const CHUNK: usize = 64 << 10;

/// Starts or finds the hive, and prints a line about it on the standard output.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn detach(args: &Args) -> Result<()> {
    let found = args.detached()?.detach().await?;
    let line = serde_json::to_string(&found).map_err(|cause| failed("write a line", cause))?;
    writeln!(io::stdout(), "{line}").map_err(|cause| failed("write a line", cause))
}

/// Carries bytes until either end closes. Two threads that block: a token of an answer then costs two system calls.
pub(crate) fn relay(args: &Args) -> Result<()> {
    let path = args.relayed();
    let socket = UnixStream::connect(&path).map_err(|cause| {
        let message = format!("no hive listens on {}: {cause}", path.display());
        Error::new(ErrorKind::HiveUnreachable, message).with_source(cause)
    })?;
    let broken = |cause| failed("carry the bytes of a queen", cause);
    let unbuffered = |end: BorrowedFd<'_>| end.try_clone_to_owned().map(File::from);
    let input = unbuffered(io::stdin().as_fd()).map_err(broken)?;
    let output = unbuffered(io::stdout().as_fd()).map_err(broken)?;
    let back = socket.try_clone().map_err(broken)?;
    // The end of either direction ends both, and this process: a tunnel has no use for half a connection.
    let (ended, end) = mpsc::channel();
    let other = ended.clone();
    thread::spawn(move || other.send(carry(input, socket)));
    thread::spawn(move || ended.send(carry(back, output)));
    end.recv().unwrap_or(Ok(())).map_err(broken)
}

fn carry(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn failed(what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, format!("cannot {what}: {cause}")).with_source(cause)
}
