//! Machines that answer late or never. They are imitated, because real ones would take minutes.

use std::{
    io,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    time::Instant,
};

use super::TestPrograms;
use crate::deploy::{DeployError, Exec, InstallOptions, Session, SessionEnd, install, probe};

/// Gives each command a stream whose other end is in `machine`.
struct Machine(Mutex<Vec<DuplexStream>>);

/// A session that never ends.
struct Endless(DuplexStream);

impl Machine {
    /// The machine, and the other end of its only session.
    fn new() -> (Self, DuplexStream) {
        let (ours, theirs) = duplex(64 << 10);
        (Self(Mutex::new(vec![ours])), theirs)
    }
}

#[async_trait]
impl Exec for Machine {
    async fn exec(&self, _: &str) -> io::Result<Box<dyn Session>> {
        Ok(Box::new(Endless(self.0.lock().unwrap().pop().unwrap())))
    }
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Session for Endless {
    async fn end(self: Box<Self>) -> io::Result<SessionEnd> {
        std::future::pending().await
    }
}

/// Reads a script and returns its marker.
async fn read_marker(stream: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"}\n") && !text.ends_with(b"} </dev/null\n") {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.unwrap();
        text.extend_from_slice(&chunk[..count]);
    }
    let text = String::from_utf8(text).unwrap();
    let words: Vec<&str> = text.lines().next().unwrap().split(' ').collect();
    assert_eq!(words[0], "{");
    words[1].trim_start_matches("a=").to_owned() + words[2].trim_start_matches("b=")
}

fn timed_out(error: DeployError, step: &str) {
    assert!(matches!(error, DeployError::TimedOut { .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().contains(&format!("after {step}")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_hangs_is_given_up_and_the_last_step_is_named() {
    let (machine, mut stream) = Machine::new();
    let begin = Instant::now();
    let answer = async {
        let marker = read_marker(&mut stream).await;
        let text = format!(
            "{marker} begin=1\n{marker} step=system\n{marker} os=Linux\n{marker} step=nvidia-smi\n"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
    };
    let (result, ()) = tokio::join!(probe(&machine, None, &()), answer);
    timed_out(result.unwrap_err(), "step nvidia-smi");
    assert_eq!(begin.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_reads_nothing_is_given_up() {
    let (ours, theirs) = duplex(100);
    let machine = Machine(Mutex::new(vec![ours]));
    timed_out(probe(&machine, None, &()).await.unwrap_err(), "the beginning");
    drop(theirs);
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_although_its_session_never_ends() {
    let (machine, mut stream) = Machine::new();
    let answer = async {
        let marker = read_marker(&mut stream).await;
        let mut text = format!("{marker} begin=1\n");
        for (key, value) in [
            ("os", "Linux"),
            ("kernel", "6"),
            ("machine", "x86_64"),
            ("name", "box"),
            ("user_id", "1000"),
            ("end", "1"),
        ] {
            text += &format!("{marker} {key}={value}\n");
        }
        stream.write_all(text.as_bytes()).await.unwrap();
    };
    let begin = Instant::now();
    let (facts, ()) = tokio::join!(probe(&machine, None, &()), answer);
    assert_eq!(facts.unwrap().to_string(), "Linux on x86_64 with an unknown C library");
    assert_eq!(begin.elapsed(), Duration::from_secs(10), "the session got this long to end");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_makes_no_progress_is_given_up() {
    let home = tempfile::tempdir().unwrap();
    let programs = TestPrograms::new();
    programs.put("rbee-hive", &[std::fs::read("/bin/true").unwrap(), vec![7; 1 << 20]].concat());
    let facts = super::facts_of(home.path());
    let chosen = programs.programs().choose(&facts).unwrap();
    let (machine, mut stream) = Machine::new();
    let answer = async {
        let marker = read_marker(&mut stream).await;
        stream.write_all(format!("{marker} begin=1\n{marker} ready=1\n").as_bytes()).await.unwrap();
        // It takes some bytes now and then, and then no more.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            stream.read_exact(&mut [0; 100 << 10]).await.unwrap();
        }
        Instant::now()
    };
    let options = InstallOptions::new("queen-1");
    let installing = install(&machine, &facts, &chosen, &options, &());
    let (result, last) = tokio::join!(installing, answer);
    timed_out(result.unwrap_err(), "the beginning");
    assert!(last.elapsed() <= Duration::from_secs(60));
}
