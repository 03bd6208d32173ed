//! Workers and hives in other processes, behind the traits of `rbee-core`.

mod http;
mod worker;

pub use http::{Answer, Endpoint, EventStream};
pub use worker::HttpWorker;
