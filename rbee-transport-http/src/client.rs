//! Workers and hives in other processes, behind the traits of `rbee-core`.

mod hive;
mod http;
mod worker;

pub use hive::HttpHive;
pub use http::{Answer, Endpoint, EventStream};
pub use worker::HttpWorker;
