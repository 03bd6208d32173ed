//! Workers and hives in other processes, behind the traits of `rbee-core`.

mod answer;
mod body;
mod connector;
mod dialled;
mod hive;
mod http;
#[cfg(feature = "https")]
mod http_client;
mod http_error;
mod link;
mod native;
#[cfg(feature = "openai")]
mod openai;
mod pool;
#[cfg(feature = "https")]
mod tls;
#[cfg(feature = "https")]
mod trust;
#[cfg(feature = "tunnel")]
mod tunnel;
#[cfg(feature = "https")]
mod url_connector;
mod worker;

pub use crate::tls_error::TlsError;
pub use answer::{EventStream, HttpAnswer};
pub use body::Body;
pub use hive::HttpHive;
pub use http::Endpoint;
#[cfg(feature = "https")]
pub use http_client::HttpClient;
pub use http_error::HttpError;
pub use link::LinkWorker;
pub use native::worker;
#[cfg(feature = "openai")]
pub use openai::OpenAiWorker;
#[cfg(feature = "https")]
pub use tls::Tls;
#[cfg(feature = "https")]
pub use trust::{SharedTrust, Trust, TrustFile};
#[cfg(feature = "tunnel")]
pub use tunnel::Tunnel;
pub use worker::HttpWorker;

/// The text of an error with its causes, which the errors of HTTP clients leave out.
fn chain(error: &dyn std::error::Error) -> String {
    rbee_core::Error::with_causes(error)
}
