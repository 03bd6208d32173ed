//! Asking the installed SSH client for the settings of a host: `ssh -G`.

use std::{ffi::OsStr, io, path::Path, process::Stdio, time::Duration};

use tokio::{io::AsyncReadExt, process::Command, time};

use crate::{error::SshError, target::SshTarget};

use super::settings::Settings;

/// How long `ssh -G` may take. It may run the commands of `Match exec` and look names up.
const LIMIT: Duration = Duration::from_secs(20);
/// The most bytes of its output and of its messages.
const MOST_OUTPUT: u64 = 1 << 20;
const MOST_MESSAGES: u64 = 4096;

/// Settings whose value is a list.
const LISTS: [&str; 2] = ["globalknownhostsfile", "userknownhostsfile"];
/// Settings in which the client has expanded tokens already.
const EXPANDED: [&str; 4] =
    ["globalknownhostsfile", "hostname", "identityagent", "userknownhostsfile"];

/// Runs `ssh -G`. Returns `None` if there is no such program.
///
/// # Errors
/// [`SshError::Config`] with what the client said.
pub(super) async fn read(
    program: &OsStr,
    target: &SshTarget,
    file: Option<&Path>,
) -> Result<Option<Settings>, SshError> {
    let mut command = Command::new(program);
    command.arg("-G");
    if let Some(file) = file {
        command.arg("-F").arg(file);
    }
    if let Some(user) = target.user() {
        command.arg("-l").arg(user);
    }
    if let Some(port) = target.port() {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(target.host());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let wrong = |reason| SshError::Config { place: format!("ssh -G {}", target.host()), reason };
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(wrong(format!("it cannot be started: {cause}"))),
    };
    let (output, messages) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let (mut text, mut said) = (Vec::new(), Vec::new());
        let read = async {
            match output {
                Some(output) => output.take(MOST_OUTPUT + 1).read_to_end(&mut text).await,
                None => Ok(0),
            }
        };
        let listen = async {
            let Some(mut messages) = messages else { return Ok(0) };
            (&mut messages).take(MOST_MESSAGES).read_to_end(&mut said).await?;
            // The rest is read and dropped, so that the client does not wait.
            tokio::io::copy(&mut messages, &mut tokio::io::sink()).await
        };
        tokio::try_join!(read, listen)?;
        let status = if text.len() as u64 > MOST_OUTPUT { None } else { Some(child.wait().await?) };
        io::Result::Ok((status, text, said))
    };
    let (status, text, said) = time::timeout(LIMIT, run)
        .await
        .map_err(|_| {
            wrong(format!("it took longer than {} s; see what Match exec runs", LIMIT.as_secs()))
        })?
        .map_err(|cause| wrong(format!("its output cannot be read: {cause}")))?;
    match status {
        None => Err(wrong(format!("its output has more than {MOST_OUTPUT} bytes"))),
        Some(status) if !status.success() => {
            let said = String::from_utf8_lossy(&said);
            Err(wrong(format!("{} ({status})", said.trim())))
        }
        Some(_) => {
            let text =
                String::from_utf8(text).map_err(|_| wrong("its output is not in UTF-8".into()))?;
            settings(&text).map(Some).map_err(wrong)
        }
    }
}

/// Reads the output: a keyword and its value in each line.
fn settings(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    for line in text.lines() {
        let Some((keyword, value)) = line.split_once(' ') else { continue };
        let keyword = keyword.to_ascii_lowercase();
        let mut values = match LISTS.contains(&keyword.as_str()) {
            true => paths(value),
            false => vec![value.to_owned()],
        };
        if EXPANDED.contains(&keyword.as_str()) {
            for value in &mut values {
                if keyword == "hostname" || value.starts_with('/') {
                    *value = value.replace('%', "%%");
                }
            }
        }
        settings.set(&keyword, &values).map_err(|reason| format!("{keyword}: {reason}"))?;
    }
    if settings.host_name.is_none() {
        return Err(
            "its output has no host name; this client is too old (OpenSSH 6.8 is needed)".into()
        );
    }
    Ok(settings)
}

/// Splits a list of paths. The client prints no quotes, so what does not begin like a path belongs to the path before.
fn paths(value: &str) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for word in value.split(' ') {
        match paths.last_mut() {
            Some(last) if !word.starts_with(['/', '~', '%', '$']) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => paths.push(word.into()),
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_paths_are_split_and_blanks_within_a_path_are_kept() {
        assert_eq!(paths("/a b/c /d ~/e %d/f"), ["/a b/c", "/d", "~/e", "%d/f"]);
        assert_eq!(paths("none"), ["none"]);
        assert_eq!(paths("/a  b"), ["/a  b"]);
    }

    #[test]
    fn what_the_client_has_expanded_is_not_expanded_again() {
        let text = "host x\nhostname fe80::1%eth0\nidentityfile %d/k\nidentityagent $A\nuserknownhostsfile /50%h /b\n";
        let settings = settings(text).unwrap();
        assert_eq!(settings.host_name.unwrap(), "fe80::1%%eth0");
        assert_eq!(settings.identity_files, ["%d/k"]);
        assert_eq!(settings.identity_agent.unwrap(), "$A");
        assert_eq!(settings.user_known_hosts.unwrap(), ["/50%%h", "/b"]);
        assert!(super::settings("foo bar\n").unwrap_err().contains("OpenSSH 6.8"));
    }
}
