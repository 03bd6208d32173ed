//! The queen as a daemon: everything that makes a program of a [`Queen`](rbee_core::Queen).
//!
//! [`Config`] is the configuration, [`start`] starts the queen and serves its API, and [`Running`] shuts it down
//! gracefully. The program `queen-rbee` is [`run`]; another program can embed the same daemon.

mod aliases;
mod bundled;
mod config;
mod daemon;
mod features;
mod fleet;
mod hive_access;
mod hive_probe;
#[cfg_attr(not(feature = "tls"), path = "no_hive_tls.rs")]
mod hive_tls;
mod hive_url;
mod home;
mod own_log;
#[cfg_attr(not(feature = "policies"), path = "no_policy_file.rs")]
mod policy_file;
mod prepare;
mod program;
mod reload;
mod repair;
mod signals;
mod worker;

pub use bundled::{NAME as BUNDLED_MODEL, set_directory as set_bundled_model};
pub use config::{
    Action, Arguments, BatchKeys, ByteSize, Checked, Config, Embedded, HiveEntry, HumanDuration,
    List, Loaded, Origin, Sources, Yaml, default_data_dir,
};
pub use daemon::{Running, start};
pub use hive_url::HiveUrl;
pub use prepare::check;
pub use program::run;
pub use repair::{Repair, repair};
pub use signals::Signals;
#[cfg(feature = "inside")]
pub use worker::be_worker_if_told;
