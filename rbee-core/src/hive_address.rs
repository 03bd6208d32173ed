//! The address of a hive.

use serde::{Deserialize, Serialize};

/// The address of a hive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum HiveAddress {
    /// On the queen's machine.
    Local,
    /// At its host name and port, over HTTP; the queen does not start it.
    Http,
    /// On another machine, over SSH.
    Network {
        /// The host to connect to.
        ssh_host: String,
        /// Its SSH port.
        ssh_port: u16,
        /// The user there.
        ssh_user: String,
        /// The key to log in with; `None` if the SSH agent or the SSH configuration decides.
        ssh_key_path: Option<String>,
    },
}
