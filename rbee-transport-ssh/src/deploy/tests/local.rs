//! A machine of the tests: commands run in a shell of this system, as an SSH server runs them.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use crate::deploy::exec::{Exec, Session, SessionEnd};

/// Runs `SHELL -c COMMAND` with a home directory of its own.
pub(super) struct LocalExec {
    pub(super) home: PathBuf,
    pub(super) shell: PathBuf,
    pub(super) path: String,
    pub(super) variables: Vec<(&'static str, String)>,
    /// A command that runs the shell in a namespace.
    pub(super) prefix: Vec<String>,
    /// The connection is cut after so many bytes of input of one session.
    pub(super) cut_after: Option<usize>,
    /// The commands whose connection was cut.
    pub(super) cut: Arc<Mutex<Vec<Child>>>,
    open: Arc<AtomicUsize>,
    opened: AtomicUsize,
}

impl LocalExec {
    pub(super) fn new(home: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let user = home.metadata().unwrap().uid();
        for other in ["/var/tmp", "/dev/shm"].map(|base| format!("{base}/rbee-{user}")) {
            let why = "a deployment there is preferred to the home directories of these tests";
            assert!(!Path::new(&other).exists(), "remove {other}: {why}");
        }
        Self {
            home: home.into(),
            shell: "/bin/sh".into(),
            path: "/usr/bin:/bin".into(),
            variables: Vec::new(),
            prefix: Vec::new(),
            cut_after: None,
            cut: Arc::default(),
            open: Arc::default(),
            opened: AtomicUsize::new(0),
        }
    }

    /// The number of sessions since the last call.
    pub(super) fn sessions(&self) -> usize {
        self.opened.swap(0, Ordering::SeqCst)
    }

    /// Waits for the commands whose connection was cut.
    pub(super) async fn wait_for_cut(&self) {
        let children = std::mem::take(&mut *self.cut.lock().unwrap());
        assert!(!children.is_empty(), "no connection was cut");
        for mut child in children {
            child.wait().await.unwrap();
        }
    }

    fn command(&self) -> Command {
        match self.prefix.split_first() {
            None => Command::new(&self.shell),
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(&self.shell);
                command
            }
        }
    }
}

#[async_trait]
impl Exec for LocalExec {
    async fn exec(&self, command: &str) -> io::Result<Box<dyn Session>> {
        assert_eq!(self.open.fetch_add(1, Ordering::SeqCst), 0, "only one session may be open");
        self.opened.fetch_add(1, Ordering::SeqCst);
        let mut child = self
            .command()
            .arg("-c")
            .arg(command)
            .env_clear()
            .env("HOME", &self.home)
            .env("SHELL", &self.shell)
            .env("USER", "bee")
            .env("PATH", &self.path)
            .envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())))
            .current_dir(&self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut stderr = child.stderr.take().unwrap();
        let stderr = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Box::new(LocalSession {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            child: Some(child),
            stderr,
            left: self.cut_after,
            cut: self.cut.clone(),
            _open: Open(self.open.clone()),
        }))
    }
}

/// Counts a session for as long as it is open.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct LocalSession {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    child: Option<Child>,
    stderr: JoinHandle<String>,
    left: Option<usize>,
    cut: Arc<Mutex<Vec<Child>>>,
    _open: Open,
}

impl LocalSession {
    fn cut_off(&mut self) -> io::Error {
        self.stdin = None;
        self.stdout = None;
        self.cut.lock().unwrap().extend(self.child.take());
        was_cut()
    }
}

/// Ends what the command has started, so that no test leaves a process behind.
impl Drop for LocalSession {
    fn drop(&mut self) {
        if let Some(group) = self.child.as_ref().and_then(Child::id) {
            let _ = std::process::Command::new("kill")
                .args(["-9", "--", &format!("-{group}")])
                .status();
        }
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection was cut")
}

impl AsyncRead for LocalSession {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stdout {
            Some(stdout) => Pin::new(stdout).poll_read(context, buffer),
            None => Poll::Ready(Err(was_cut())),
        }
    }
}

impl AsyncWrite for LocalSession {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let most = self.left.unwrap_or(bytes.len()).min(bytes.len());
        if most == 0 {
            return Poll::Ready(Err(self.cut_off()));
        }
        let Some(stdin) = &mut self.stdin else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = std::task::ready!(Pin::new(stdin).poll_write(context, &bytes[..most]))?;
        if let Some(left) = &mut self.left {
            *left -= written;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Session for LocalSession {
    async fn end(mut self: Box<Self>) -> io::Result<SessionEnd> {
        self.stdin = None;
        let Some(child) = &mut self.child else {
            return Err(was_cut());
        };
        if let Some(stdout) = &mut self.stdout {
            tokio::io::copy(stdout, &mut tokio::io::sink()).await?;
        }
        let status = child.wait().await?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Ok(SessionEnd {
            status: status.code().and_then(|code| code.try_into().ok()),
            signal: signal.map(|signal| signal.to_string()),
            stderr: (&mut self.stderr).await.map_err(io::Error::other)?,
        })
    }
}
