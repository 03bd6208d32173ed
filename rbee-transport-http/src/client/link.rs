//! [`LinkWorker`]: a worker in a process of its own, all of whose runs share one connection.

mod connection;
mod links;
mod payload;
mod queue;
mod shared;
mod stream;

use std::sync::Arc;

use async_trait::async_trait;
use rbee_core::{
    Error, ErrorKind, JobId, OutputStream, Result, Run, Worker, WorkerInfo, request::Task,
    worker::WorkerHealth,
};

use super::{
    Endpoint, HttpWorker,
    worker::{ask, ready},
};
use crate::wire::worker::{Execute, LINK_PROTOCOL, offers_link};
use links::Links;
use stream::RunStream;

/// A worker that is reached over the framed link: one connection carries all its runs, so a token costs less than with
/// [`HttpWorker`]. The connection is opened with the first run, and again if it was lost; each tokio runtime has its
/// own. Dropping a run's stream cancels the run, and the connection remains.
///
/// ```no_run
/// # async fn example() -> rbee_core::Result<()> {
/// use std::sync::Arc;
/// use rbee_core::Worker;
/// use rbee_transport_http::{client::{Endpoint, LinkWorker}, dial::Tcp};
///
/// let token = std::env::var("WORKER_TOKEN").ok().map(|text| text.parse()).transpose()?;
/// let endpoint = Endpoint::new(Arc::new(Tcp::loopback()), 4000, token);
/// let worker = LinkWorker::connect(endpoint).await?;
/// println!("{} has {} slots", worker.info().id, worker.info().slots);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LinkWorker {
    /// For everything except runs.
    http: HttpWorker,
    links: Arc<Links>,
}

impl LinkWorker {
    /// The worker behind this endpoint, with this description. It must offer the framed link;
    /// [`worker`](super::worker()) makes the right client for any worker.
    pub fn new(endpoint: Endpoint, info: Arc<WorkerInfo>) -> Self {
        let links = Links::new(endpoint.clone());
        Self { http: HttpWorker::new(endpoint, info), links }
    }

    /// Asks the worker behind this endpoint for its description.
    ///
    /// # Errors
    /// As [`HttpWorker::connect`], and [`ErrorKind::Unsupported`] if it does not offer the framed link.
    pub async fn connect(endpoint: Endpoint) -> Result<Self> {
        let health = ask(&endpoint).await?;
        let has_link = offers_link(&health.links);
        let info = ready(health)?.0;
        if !has_link {
            let message = format!("worker {} does not offer {LINK_PROTOCOL}", info.id);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(Self::new(endpoint, Arc::new(info)))
    }

    /// The endpoint of the worker.
    pub fn endpoint(&self) -> &Endpoint {
        self.http.endpoint()
    }

    /// Ends the run of a job, and returns when it is over: true if there was one. Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerUnreachable`] if the worker does not respond.
    pub async fn cancel(&self, job: JobId) -> Result<bool> {
        self.http.cancel(job).await
    }
}

#[async_trait]
impl Worker for LinkWorker {
    fn info(&self) -> &Arc<WorkerInfo> {
        self.http.info()
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let link = self.links.get().await?;
        let stream = RunStream::begin(link, &Execute::from(run)).await?;
        Ok(Box::pin(stream))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        self.http.health().await
    }

    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        self.http.count_tokens(task).await
    }
}

#[cfg(test)]
mod tests;
