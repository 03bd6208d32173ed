//! Workers and hives in other processes, behind the traits of `rbee-core`.

mod hive;
mod http;
#[cfg(feature = "openai")]
mod openai;
mod worker;

pub use hive::HttpHive;
pub use http::{Answer, Endpoint, EventStream};
#[cfg(feature = "openai")]
pub use openai::OpenAiWorker;
pub use worker::HttpWorker;
