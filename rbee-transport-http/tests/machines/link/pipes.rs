//! Connections in memory that a test can cut.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rbee_core::{Worker, async_trait, worker::EchoWorker};
use rbee_transport_http::{
    client::{Endpoint, LinkWorker},
    dial::{Dial, Io},
};
use tokio::sync::watch;

use super::super::support::token;

/// What happens to the bytes on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// The connections are closed, as if the other side had ended.
    Cut,
    /// No bytes arrive any more, and no side sees an error.
    Silent,
}

/// Connections in memory to a router that hyper serves without rbee's own server.
#[derive(Debug)]
pub(super) struct Pipes {
    router: axum::Router,
    pub(super) dials: AtomicUsize,
    pub(super) way: watch::Sender<Way>,
}

impl Pipes {
    pub(super) fn new(router: axum::Router) -> Arc<Self> {
        Arc::new(Self { router, dials: AtomicUsize::new(0), way: watch::Sender::new(Way::Open) })
    }

    pub(super) fn worker(self: &Arc<Self>, echo: &EchoWorker) -> LinkWorker {
        let endpoint = Endpoint::new(self.clone(), 1, Some(token()));
        LinkWorker::new(endpoint, echo.info().clone())
    }
}

#[async_trait]
impl Dial for Pipes {
    async fn dial(&self, _: u16) -> io::Result<Box<dyn Io>> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let (near, mut way_out) = tokio::io::duplex(4_096);
        let (mut way_in, far) = tokio::io::duplex(4_096);
        let service = TowerToHyperService::new(self.router.clone());
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), service)
            .with_upgrades();
        tokio::spawn(served);
        let mut way = self.way.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut way_out, &mut way_in) => return,
                _ = way.wait_for(|way| *way != Way::Open) => {}
            }
            if *way.borrow() == Way::Silent {
                let _ = way.wait_for(|way| *way == Way::Cut).await;
            }
        });
        Ok(Box::new(near))
    }

    fn host(&self) -> &'static str {
        "pipes"
    }
}
