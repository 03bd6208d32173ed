//! The event stream of a hive for a queen.

use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::stream;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

use super::{
    link::Link,
    shared::{Note, Shared},
};
use crate::{
    error::{Error, ErrorKind, Result},
    hive::HiveEvent,
    id::{Epoch, HiveId},
};

/// One stream of events.
struct Subscription {
    shared: Arc<Shared>,
    owner: Epoch,
    /// The state of the connection when the subscription began.
    began: Link,
    link: watch::Receiver<Link>,
    notes: broadcast::Receiver<Note>,
    /// The last reported revision; `None` before the first report.
    reported: Option<u64>,
}

/// Claims the hive and subscribes.
pub(super) fn subscribe(
    shared: &Arc<Shared>,
    hive: &HiveId,
    owner: Epoch,
) -> Result<BoxStream<'static, HiveEvent>> {
    let mut claim = Ok(Link::default());
    shared.link.send_if_modified(|link| {
        claim = link.check(hive).and_then(|()| link.claim(hive, owner));
        claim.is_ok()
    });
    let subscription = Subscription {
        shared: shared.clone(),
        owner,
        began: claim?,
        link: shared.link.subscribe(),
        notes: shared.notes.subscribe(),
        reported: None,
    };
    Ok(Box::pin(stream::unfold(subscription, |mut this| async {
        let event = this.next().await?;
        Some((event, this))
    })))
}

impl Link {
    fn claim(&mut self, hive: &HiveId, owner: Epoch) -> Result<Link> {
        if owner < self.owner {
            let message = format!(
                "hive {hive} is owned by a queen of epoch {}; this one has {owner}",
                self.owner
            );
            return Err(Error::new(ErrorKind::Fenced, message));
        }
        self.owner = owner;
        Ok(*self)
    }
}

impl Subscription {
    async fn next(&mut self) -> Option<HiveEvent> {
        let Self { shared, owner, began, link, notes, reported } = self;
        let over = link.wait_for(|link| !link.carries(began) || link.owner > *owner);
        let event = async {
            while let Some(seen) = *reported {
                match notes.recv().await {
                    Ok(Note::Changed(rev)) if rev <= seen => {}
                    Ok(Note::Exited { worker, why }) => {
                        return Some(HiveEvent::Exited { worker, why });
                    }
                    Err(RecvError::Closed) => return None,
                    // A new state; or notes were lost, and a full report replaces them.
                    Ok(Note::Changed(_)) | Err(RecvError::Lagged(_)) => break,
                }
            }
            let report = shared.report().await;
            *reported = Some(report.rev);
            Some(HiveEvent::Report(Box::new(report)))
        };
        tokio::select! {
            biased;
            _ = over => None,
            event = event => event,
        }
    }
}
