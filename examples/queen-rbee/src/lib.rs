//! The queen as a daemon: everything around a [`Queen`](rbee_core::Queen) that makes her a program.
mod config;
mod hive_url;
pub mod log;

pub use config::{
    Arguments, Config, Embedded, HiveEntry, Loaded, LogFormat, Origin, Sources, Wish,
    default_data_dir,
};
pub use hive_url::HiveUrl;
