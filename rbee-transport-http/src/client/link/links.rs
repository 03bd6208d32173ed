//! The links to one worker: one for each tokio runtime, because a connection belongs to the runtime that has opened it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, Shared as SharedFuture};
use rbee_core::{Error, ErrorKind, Result};
use tokio::runtime::{Handle, Id};

use super::{super::Endpoint, connection::Connection, shared::Link};
use crate::{client::worker::unreachable, wire::worker};

/// The time limit for opening a link: the connection, the request and its response.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

type Opening = SharedFuture<BoxFuture<'static, Result<Arc<Link>>>>;

/// The links to one worker.
pub(super) struct Links {
    endpoint: Endpoint,
    links: Mutex<Vec<(Id, State)>>,
}

enum State {
    /// Being opened by a task, for everyone who waits for it.
    Opening(Opening),
    Open(Arc<Link>),
}

impl State {
    /// False if it is of no use any more.
    fn is_usable(&self) -> bool {
        match self {
            // A task that has ended has replaced it, unless its runtime has ended with it.
            Self::Opening(opening) => opening.peek().is_none(),
            Self::Open(link) => link.is_open(),
        }
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Links({})", self.endpoint.authority())
    }
}

impl Links {
    pub(super) fn new(endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Self { endpoint, links: Mutex::default() })
    }

    /// The link of this runtime. Opens it if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerUnreachable`] if the worker cannot be reached.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Link>> {
        let opening = {
            let runtime = Handle::current().id();
            let mut links = self.lock();
            let known = links.iter().position(|(id, _)| *id == runtime);
            match known.map(|at| &links[at].1) {
                Some(State::Open(link)) if link.is_open() => return Ok(link.clone()),
                Some(State::Opening(opening)) if opening.peek().is_none() => opening.clone(),
                _ => {
                    links.retain(|(_, state)| state.is_usable());
                    let opening = self.open(runtime);
                    links.push((runtime, State::Opening(opening.clone())));
                    opening
                }
            }
        };
        opening.await
    }

    /// Opens a link in a task, so that it does not matter which of the callers continues to wait.
    fn open(self: &Arc<Self>, runtime: Id) -> Opening {
        let (endpoint, links) = (self.endpoint.clone(), Arc::downgrade(self));
        let task = tokio::spawn(async move {
            let (path, protocol) = (worker::LINK, worker::LINK_PROTOCOL);
            let opened = endpoint.upgrade(path, protocol, OPEN_TIMEOUT).await;
            let opened = opened.map_err(unreachable).map(|(io, read)| {
                let (link, connection) = Connection::new(io, &read, endpoint.authority().into());
                tokio::spawn(connection.serve());
                link
            });
            Self::opened(&links, runtime, opened.as_ref().ok());
            opened
        });
        let opened = async move {
            task.await.unwrap_or_else(|_| {
                let message = "the runtime ended while a link to the worker was opened";
                Err(Error::new(ErrorKind::WorkerUnreachable, message))
            })
        };
        opened.boxed().shared()
    }

    /// Records the link that was opened; without one, the next caller tries again.
    fn opened(links: &Weak<Self>, runtime: Id, link: Option<&Arc<Link>>) {
        let Some(links) = links.upgrade() else { return };
        let mut links = links.lock();
        links.retain(|(id, state)| *id != runtime && state.is_usable());
        if let Some(link) = link {
            links.push((runtime, State::Open(link.clone())));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Id, State)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
