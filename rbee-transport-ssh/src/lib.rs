//! The SSH transport of rbee: connections to machines that a person reaches with `ssh NAME`.
//!
//! A connection is opened in three steps: a name becomes an [`SshTarget`], the person's `ssh_config` makes a
//! [`HostConfig`] of it, and [`Connection::open`] connects, checks the host key, and authenticates with keys.
//!
//! ```no_run
//! use rbee_transport_ssh::{ConnectOptions, Connection, ConfigOptions, HostConfig, SshTarget};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let target: SshTarget = "gpu-box".parse()?;
//! let config = HostConfig::resolve(&target, &ConfigOptions::default()).await?;
//! let connection = Connection::open(&config, &ConnectOptions::default()).await?;
//! let output = connection.exec("uname -m").await?.output(4096).await?;
//! println!("{}", String::from_utf8_lossy(&output.stdout));
//! connection.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is downloaded, nothing listens, and no password is ever sent: a person's keys and agent are all that is
//! used.

mod authentication;
mod channel;
mod config;
mod connection;
pub mod deploy;
mod error;
mod fingerprint;
mod hive;
mod known_hosts;
mod local_user;
mod passphrases;
mod pattern;
mod printable;
mod progress;
mod socket;
mod target;

pub use channel::{Channel, ExitStatus, Output};
pub use config::{AddressFamily, ConfigOptions, ConfigSource, HostConfig};
pub use connection::{ConnectOptions, Connection};
pub use error::{
    AuthenticationAttempt, AuthenticationFailure, ChangedHostKey, HostKeyPlace, SshError,
    UnknownHostKey,
};
pub use fingerprint::Fingerprint;
pub use hive::{SshEvent, SshHive, SshProgress, SshStep};
pub use passphrases::{NoPassphrases, Passphrase, Passphrases};
pub use progress::{ConnectEvent, ConnectStep, Progress};
pub use target::SshTarget;

/// Compiles the example on the page about machines by SSH.
#[cfg(doctest)]
#[doc = include_str!("../../docs/ssh.md")]
struct SshPage;
