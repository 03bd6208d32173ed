//! The routers that expose a worker, a hive or a queen, and what serves them.

mod auth;
mod correlation;
mod lease;
mod listen;
mod patience;
mod queen;
mod reply;
mod worker;

pub use lease::Lease;
pub use listen::{Limits, Server};
pub use queen::{Examiner, HiveConnector, QueenLimits, QueenServer, queen};
pub use worker::{WorkerServer, worker};
