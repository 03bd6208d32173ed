//! The queen as a daemon: everything around a [`Queen`](rbee_core::Queen) that makes her a program.
//!
//! [`Config`] says what can be configured, [`start`] starts her and serves her API, and [`Running`] ends her in order.
//! The program `queen-rbee` is that and a command line; another program embeds the very same thing.

mod bundled;
mod config;
mod daemon;
mod features;
mod fleet;
mod hive_access;
mod hive_url;
mod home;
#[cfg_attr(not(feature = "policies"), path = "no_policy_file.rs")]
mod policy_file;
mod reload;
mod repair;
mod signals;
mod worker;

pub use bundled::NAME as BUNDLED_MODEL;
pub use config::{
    Action, Arguments, ByteSize, Checked, Config, Embedded, HiveEntry, HumanDuration, List, Loaded,
    Origin, Sources, Yaml, default_data_dir,
};
pub use daemon::{Running, start};
pub use hive_url::HiveUrl;
pub use repair::{Repair, repair};
pub use signals::Signals;
pub use worker::be_worker_if_told;
