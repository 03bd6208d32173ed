//! [`SshError`]: what can go wrong, and what to do next.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use crate::fingerprint::Fingerprint;

/// An error of an SSH connection. Its text names the machine, the problem, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// A text that names no machine.
    #[error("{text:?} names no machine: {reason}")]
    Target {
        /// The text.
        text: Box<str>,
        /// Why not.
        reason: String,
    },
    /// A setting of `ssh_config` that is wrong or that rbee does not support.
    #[error("{place}: {reason}")]
    Config {
        /// The file and line, or the call of `ssh -G`.
        place: String,
        /// The problem and what to do.
        reason: String,
    },
    /// A file with host keys that exists and cannot be used.
    #[error(
        "the host keys in {path} cannot be read: {reason}; without them no server can be trusted"
    )]
    HostKeyFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A machine that could not be reached: its name is unknown, or no address answered.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The problem of each address, and what to do.
        reason: String,
    },
    /// Something answered, and no SSH connection came about.
    #[error("{host} answered, and no SSH connection came about: {reason}")]
    Handshake {
        /// Host and port.
        host: String,
        /// The problem and what to do.
        reason: String,
    },
    /// The host key is in no file. Nothing was sent to the machine.
    #[error("{0}")]
    HostKeyUnknown(Box<UnknownHostKey>),
    /// The host key is another one than the recorded one. Nothing was sent to the machine.
    #[error("{0}")]
    HostKeyChanged(Box<ChangedHostKey>),
    /// The host key, or the authority of its certificate, is marked as revoked. Nothing was sent to the machine.
    #[error(
        "the host key of {host} is REVOKED by {place}: {fingerprint}; do not connect: whoever answers there has a key \
         that must not be trusted any more. Ask the administrator of {host} for its new key"
    )]
    HostKeyRevoked {
        /// The name whose key was looked up.
        host: String,
        /// The key.
        fingerprint: Fingerprint,
        /// The line that revokes it.
        place: HostKeyPlace,
    },
    /// A host certificate of a trusted authority that is not valid.
    #[error(
        "the certificate of {host}, signed by an authority that {place} trusts, is not valid: {reason}; ask the \
         administrator of {host} for a new one"
    )]
    HostCertificate {
        /// The name whose certificate was checked.
        host: String,
        /// The line with the authority.
        place: HostKeyPlace,
        /// Why it is not valid.
        reason: String,
    },
    /// An accepted host key that could not be recorded.
    #[error("the host key of {host} cannot be recorded in {path}: {reason}")]
    HostKeyRecord {
        /// The name that was to be recorded.
        host: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The server accepted none of the keys.
    #[error("{0}")]
    Authentication(Box<AuthenticationFailure>),
    /// The server takes no further session. It was asked again for a while.
    #[error(
        "{host} opens no further session ({reason}), asked for {:.1} s; raise MaxSessions in its sshd_config, or end \
         other sessions of this connection", waited.as_secs_f32()
    )]
    SessionsFull {
        /// The machine.
        host: String,
        /// The reason that the server gave.
        reason: String,
        /// How long it was asked.
        waited: Duration,
    },
    /// The server refused a channel.
    #[error("{host} refuses {what}: {reason}")]
    ChannelRefused {
        /// The machine.
        host: String,
        /// What was asked for.
        what: String,
        /// The reason that the server gave, and what to do.
        reason: String,
    },
    /// The connection ended.
    #[error("the SSH connection to {host} ended: {reason}")]
    Closed {
        /// The machine.
        host: String,
        /// Why, as far as known.
        reason: String,
    },
    /// Something took too long.
    #[error("{host}: {what} took longer than {:.1} s; check that the machine is not overloaded", limit.as_secs_f32())]
    Timeout {
        /// The machine.
        host: String,
        /// What was waited for.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// An error of the system on this machine.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// The error.
        #[source]
        cause: io::Error,
    },
    /// A machine on the way, a jump host, has the error.
    #[error("on the way to {target}: {cause}")]
    Jump {
        /// The machine that was to be reached.
        target: String,
        /// The error of the jump host.
        #[source]
        cause: Box<SshError>,
    },
}

impl SshError {
    /// Returns true if the same call can succeed later although nobody changes anything: the machine, the network or
    /// the session was away or busy. Wrong names, settings, host keys and user keys stay wrong.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Handshake { .. }
            | Self::SessionsFull { .. }
            | Self::Closed { .. }
            | Self::Timeout { .. } => true,
            Self::Jump { cause, .. } => cause.is_transient(),
            _ => false,
        }
    }
}

/// A line of a file with host keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeyPlace {
    /// The file.
    pub file: Arc<std::path::Path>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for HostKeyPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file.display(), self.line)
    }
}

/// A host key that no file has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownHostKey {
    /// The machine as the person named it.
    pub target: String,
    /// The name that is looked up in the files: `gpu.lan` or `[gpu.lan]:2222`.
    pub host: String,
    /// The key that the server has.
    pub fingerprint: Fingerprint,
    /// Keys of other types that are recorded for this name. The server has none of them.
    pub others: Vec<(Fingerprint, HostKeyPlace)>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// Lines of these files that could not be used, with the reasons.
    pub unusable: Vec<String>,
}

impl fmt::Display for UnknownHostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, host, fingerprint, others, files, unusable } = self;
        write!(formatter, "the host key of {host} is unknown: {fingerprint}; it is in none of ")?;
        list(formatter, files.iter().map(|file| file.display()))?;
        if others.is_empty() {
            write!(
                formatter,
                ". Compare the fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub` prints on that \
                 machine. If they are equal, accept the key once (`{}`, or --accept-new)",
                fingerprint.file_word(),
                command(target)
            )?;
        } else {
            formatter
                .write_str(". Other keys are recorded for it, and the server has none of them: ")?;
            list(formatter, others.iter().map(|(key, place)| format!("{key} ({place})")))?;
            write!(
                formatter,
                ". Either its keys were replaced, or another machine answers. Ask its administrator; if the keys were \
                 replaced, connect once with `{}` and accept the new key there",
                command(target)
            )?;
        }
        if !unusable.is_empty() {
            formatter.write_str(". Lines that could not be used: ")?;
            list(formatter, unusable.iter())?;
        }
        Ok(())
    }
}

/// What a person types to connect to this target. `ssh` takes a port only in a URL.
fn command(target: &str) -> String {
    let has_port = target.rsplit_once(':').is_some_and(|(host, port)| {
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        is_number && (host.ends_with(']') || !host.contains(':'))
    });
    let scheme = if has_port { "ssh://" } else { "" };
    format!("ssh {scheme}{target}")
}

/// A host key that differs from the recorded one of the same type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedHostKey {
    /// The machine as the person named it.
    pub target: String,
    /// The name that is looked up in the files: `gpu.lan` or `[gpu.lan]:2222`.
    pub host: String,
    /// The key that the server has.
    pub fingerprint: Fingerprint,
    /// The recorded keys of this type, each with its line.
    pub recorded: Vec<(Fingerprint, HostKeyPlace)>,
}

impl fmt::Display for ChangedHostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, fingerprint, recorded, .. } = self;
        write!(
            formatter,
            "THE HOST KEY OF {host} HAS CHANGED. The server has {fingerprint}, and recorded is "
        )?;
        list(formatter, recorded.iter().map(|(key, place)| format!("{key} ({place})")))?;
        write!(
            formatter,
            ". Either the machine was installed again, or another machine answers in its place and reads along. Ask \
             its administrator. Only if the change is confirmed, remove the old key and accept the new one:"
        )?;
        let mut files: Vec<_> = recorded.iter().map(|(_, place)| &place.file).collect();
        files.dedup();
        for file in files {
            write!(formatter, " `ssh-keygen -R '{host}' -f '{}'`", file.display())?;
        }
        Ok(())
    }
}

/// The keys that were tried, and why each failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthenticationFailure {
    /// The machine.
    pub host: String,
    /// The user.
    pub user: String,
    /// What was tried, in this order.
    pub attempts: Vec<AuthenticationAttempt>,
    /// The methods that the server still accepts, as far as known.
    pub accepted_methods: Vec<String>,
    /// Why it ended before everything was tried, if so.
    pub ended_early: Option<String>,
}

/// One key or agent, and why it did not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationAttempt {
    /// The key file, or the key in the agent.
    pub what: String,
    /// Why it failed.
    pub reason: String,
}

impl fmt::Display for AuthenticationFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, user, attempts, accepted_methods, ended_early } = self;
        write!(formatter, "{host} accepts no key for user {user}")?;
        if let Some(reason) = ended_early {
            write!(formatter, " ({reason})")?;
        }
        if attempts.is_empty() {
            formatter.write_str(", and nothing could be tried")?;
        } else {
            formatter.write_str(". Tried: ")?;
            list(
                formatter,
                attempts.iter().map(|attempt| format!("{}: {}", attempt.what, attempt.reason)),
            )?;
        }
        let takes_keys = accepted_methods.is_empty()
            || accepted_methods.iter().any(|method| method == "publickey");
        if takes_keys {
            write!(
                formatter,
                ". Put a public key into ~{user}/.ssh/authorized_keys on {host} (`ssh-copy-id`), and check User, \
                 IdentityFile and IdentitiesOnly in ssh_config"
            )
        } else {
            write!(
                formatter,
                ". It accepts only {}, and rbee uses keys and agents alone: set PubkeyAuthentication yes in its \
                 sshd_config",
                accepted_methods.join(", ")
            )
        }
    }
}

/// Writes `a, b, c`.
fn list(
    formatter: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = impl fmt::Display>,
) -> fmt::Result {
    for (index, item) in items.enumerate() {
        if index > 0 {
            formatter.write_str(", ")?;
        }
        write!(formatter, "{item}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn a_target_with_a_port_is_typed_as_a_url() {
        assert_eq!(command("gpu-box"), "ssh gpu-box");
        assert_eq!(command("ada@gpu-box"), "ssh ada@gpu-box");
        assert_eq!(command("ada@gpu-box:2222"), "ssh ssh://ada@gpu-box:2222");
        assert_eq!(command("bee@[198.19.3.2]:22"), "ssh ssh://bee@[198.19.3.2]:22");
        assert_eq!(command("ssh://ada@gpu-box:2222"), "ssh ssh://ada@gpu-box:2222");
        assert_eq!(command("fe80::1"), "ssh fe80::1");
    }
}
