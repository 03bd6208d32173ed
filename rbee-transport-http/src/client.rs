//! Workers and hives in other processes, behind the traits of `rbee-core`.

mod answer;
mod connector;
mod hive;
mod http;
#[cfg(feature = "openai")]
mod openai;
mod worker;

pub use answer::{Answer, EventStream};
pub use hive::HttpHive;
pub use http::Endpoint;
#[cfg(feature = "openai")]
pub use openai::OpenAiWorker;
pub use worker::HttpWorker;
