//! Programs that run to their end, within a time limit.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use tokio::process::Command;

/// A program and its arguments.
#[derive(Debug)]
pub struct Program {
    command: Command,
    shown: String,
}

/// The output of a program.
#[derive(Clone, Debug)]
pub struct Output {
    /// True if it exited with success.
    pub success: bool,
    /// Its standard output and then its standard error.
    pub text: String,
}

impl Program {
    /// The program at this path. It is killed when the caller that waits for it is dropped.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        let path = path.as_ref();
        let mut command = Command::new(path);
        command
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, shown: path.to_string_lossy().into_owned() }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let arg = arg.as_ref();
        self.shown.push(' ');
        self.shown.push_str(&arg.to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets its working directory.
    pub fn directory(mut self, path: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started, or has not ended within `limit`.
    pub async fn output(mut self, limit: Duration) -> Output {
        let child = self.command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", self.shown));
        let output = tokio::time::timeout(limit, child.wait_with_output()).await;
        let output = output
            .unwrap_or_else(|_| panic!("{} has not ended within {limit:?}", self.shown))
            .unwrap_or_else(|error| panic!("{}: {error}", self.shown));
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Output { success: output.status.success(), text }
    }

    /// Runs it to its end, which must be a success.
    ///
    /// # Panics
    /// As [`output`](Self::output), and if it fails; with its output.
    pub async fn succeed(self, limit: Duration) -> String {
        let shown = self.shown.clone();
        let output = self.output(limit).await;
        assert!(output.success, "{shown} failed:\n{}", output.text);
        output.text
    }
}
