//! The choice of the client for a worker that speaks rbee's protocol.

use std::sync::Arc;

use rbee_core::{Worker, WorkerInfo};

use super::{Endpoint, HttpWorker, LinkWorker};
use crate::wire::worker::offers_link;

/// The worker behind this endpoint, with this description: a [`LinkWorker`] if it offers the framed link, else an
/// [`HttpWorker`]. `links` is the list from its [`Health`](crate::wire::worker::Health::links).
///
/// ```
/// # use rbee_core::{Worker, WorkerInfo};
/// use std::sync::Arc;
/// use rbee_transport_http::{client::{self, Endpoint}, dial::Tcp, wire::worker::LINK_PROTOCOL};
///
/// let endpoint = Endpoint::new(Arc::new(Tcp::loopback()), 4000, None);
/// let info = Arc::new(WorkerInfo::new("my-model".parse()?, "my-engine"));
/// let worker = client::worker(endpoint, info.clone(), &[LINK_PROTOCOL.to_owned()]);
/// assert_eq!(worker.info(), &info);
/// # Ok::<(), rbee_core::Error>(())
/// ```
pub fn worker(endpoint: Endpoint, info: Arc<WorkerInfo>, links: &[String]) -> Arc<dyn Worker> {
    match offers_link(links) {
        true => Arc::new(LinkWorker::new(endpoint, info)),
        false => Arc::new(HttpWorker::new(endpoint, info)),
    }
}
