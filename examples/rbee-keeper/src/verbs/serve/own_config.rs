//! The configuration of the queen that is about to be started, as its own program reads it: a file may say where it
//! listens and keeps its data, and only that program knows how to read it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use rbee_transport_http::wire::ListenHost;

use super::{PROGRAM, cannot_start};
use crate::{
    Address,
    failure::{Exit, Failure},
};

/// The timeout of the program that prints its configuration.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnConfig {
    pub(super) data_dir: PathBuf,
    host: ListenHost,
    port: u16,
    is_tls: bool,
}

impl OwnConfig {
    /// Runs the program of this command with the same arguments and variables, to print its configuration.
    pub(super) async fn of(command: &Command) -> Result<Self, Failure> {
        let mut print = tokio::process::Command::new(command.get_program());
        print.args(command.get_args()).arg("--print-config");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => print.env(name, value),
                None => print.env_remove(name),
            };
        }
        print.stdin(Stdio::null()).kill_on_drop(true);
        let refused = |why: String| Failure::new(Exit::Failed, "NOT_STARTED", why);
        let output = match tokio::time::timeout(TIMEOUT, print.output()).await {
            Ok(output) => output.map_err(|cause| cannot_start(command, &cause))?,
            Err(_) => {
                let why = format!("`{PROGRAM} --print-config` did not end within {TIMEOUT:?}");
                return Err(refused(why));
            }
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(refused(format!("{PROGRAM} refuses its configuration:\n{}", said.trim())));
        }
        Self::read(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            refused(format!("`{PROGRAM} --print-config` does not say where it listens"))
                .with_hint(format!("is {PROGRAM} of the same version as this program?"))
        })
    }

    fn read(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let lines = text.lines();
            let mut values =
                lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ").map(plain));
            values.next()
        };
        Some(Self {
            data_dir: value("data_dir")?.into(),
            host: value("listen_host")?.parse().ok()?,
            port: value("listen_port")?.parse().ok()?,
            is_tls: value("tls_cert")? != "~",
        })
    }

    /// The address at which that queen answers, if `expected` is where it was looked for. One with TLS names what is in
    /// the certificate, which is known only to whoever gave it.
    pub(super) fn address(&self, expected: Address) -> Address {
        if expected.is_tls() {
            return expected.with_port(self.port);
        }
        let scheme = if self.is_tls { "https" } else { "http" };
        let empty = format!("{scheme}://127.0.0.1").parse().unwrap_or(expected);
        empty.with_host(&self.host.ip().to_string()).with_port(self.port).reachable()
    }
}

/// The value of a line, without the quotes and the comment.
fn plain(value: &str) -> String {
    if value.starts_with('"') {
        let mut quoted = serde_json::Deserializer::from_str(value).into_iter::<String>();
        if let Some(Ok(text)) = quoted.next() {
            return text;
        }
    }
    value.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_and_the_directory_are_read_whether_they_are_quoted_or_not() {
        let text = |directory: &str, certificate: &str| {
            format!(
                "listen_host: 0.0.0.0   # queen.yaml:1\nlisten_port: 7999  # default\n\
                 tls_cert: {certificate}  # default\ndata_dir: {directory}  # queen.yaml:2\n"
            )
        };
        let read = |directory: &str, certificate: &str| {
            OwnConfig::read(&text(directory, certificate)).unwrap()
        };
        let here: Address = "http://127.0.0.1:7833".parse().unwrap();
        let told = read("/srv/rbee", "~");
        assert_eq!(told.data_dir, PathBuf::from("/srv/rbee"));
        assert_eq!(told.address(here.clone()).to_string(), "http://127.0.0.1:7999");
        let told = read("\"/srv/a # b\"", "/etc/cert.pem");
        assert_eq!(told.data_dir, PathBuf::from("/srv/a # b"));
        assert_eq!(told.address(here).to_string(), "https://127.0.0.1:7999");
        let named: Address = "https://queen.home:7833".parse().unwrap();
        assert_eq!(told.address(named).to_string(), "https://queen.home:7999");
        assert_eq!(OwnConfig::read("listen_port: 7833  # default\n"), None);
    }
}
