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

/// An error with what caused it, which the errors of HTTP clients leave out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
