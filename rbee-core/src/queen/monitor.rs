//! Background tasks: the hives are watched, and the ownership of the store is renewed.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, MissedTickBehavior},
};

use super::{
    inbox::{Inbox, Message},
    logs::Logs,
    tenants::TenantIndex,
    writer::Writer,
};
use crate::{
    engine::{HiveFact, Input},
    error::{Error, ErrorKind, Result},
    hive::{HiveBackend, HiveEvent},
    id::Epoch,
    registry::Registry,
    settings::Settings,
    within::within,
};

/// The shortest and the longest delay between two tries to reach a hive.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long a hive may take until it can be watched: it may have to be deployed and started first.
const START_TIMEOUT: Duration = Duration::from_secs(300);

/// Watches one hive as long as it belongs to the fleet. `reported` is signaled when its first report has arrived.
pub(super) async fn watch(
    hive: Arc<dyn HiveBackend>,
    owner: Epoch,
    settings: Arc<Settings>,
    inbox: Inbox,
    report_soon: Arc<Notify>,
    reported: oneshot::Sender<()>,
) {
    let reported = Some(reported);
    let mut watch = Watch { hive, owner, settings, inbox, report_soon, reported };
    let mut delay = RETRY.0;
    loop {
        let began = Instant::now();
        let Err(error) = watch.connected().await;
        if error.kind() == ErrorKind::Fenced {
            tracing::error!(hive = %watch.hive.info().id, %error, "another queen owns the hive");
        }
        // A connection that had lasted is made again at once, before the hive counts as offline.
        if began.elapsed() > RETRY.1 {
            delay = RETRY.0;
        } else {
            tracing::warn!(hive = %watch.hive.info().id, %error, "the hive is not reachable");
            watch.tell(HiveFact::Unreachable(error)).await;
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY.1);
        }
    }
}

struct Watch {
    hive: Arc<dyn HiveBackend>,
    owner: Epoch,
    settings: Arc<Settings>,
    inbox: Inbox,
    report_soon: Arc<Notify>,
    reported: Option<oneshot::Sender<()>>,
}

impl Watch {
    async fn tell(&self, fact: HiveFact) {
        // After the driver's end nobody needs it.
        let input = Input::Hive { hive: self.hive.info().id.clone(), fact };
        let _ = self.inbox.send_when_room(Message::Input(input)).await;
    }

    /// Follows the hive until the connection ends, which is always an error.
    async fn connected(&mut self) -> Result<std::convert::Infallible> {
        let limit = self.settings.probe_timeout;
        let watching = self.hive.watch(self.owner);
        let mut events = self.bounded(START_TIMEOUT, "start and answer", watching).await?;
        let mut probe = tokio::time::interval(self.settings.probe_interval);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        probe.reset();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(HiveEvent::Report(report)) => {
                        self.tell(HiveFact::Report(report)).await;
                        if let Some(reported) = self.reported.take() {
                            let _ = reported.send(());
                        }
                    }
                    Some(HiveEvent::Exited { worker, why }) => {
                        self.tell(HiveFact::WorkerExited { worker, why }).await;
                    }
                    None => {
                        let message = "the connection to the hive broke off";
                        return Err(Error::new(ErrorKind::HiveUnreachable, message));
                    }
                },
                _ = probe.tick() => self.probe(limit).await?,
                () = self.report_soon.notified() => self.probe(limit).await?,
            }
        }
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        what: &str,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let what = format!("hive {} did not {what}", self.hive.info().id);
        within(limit, ErrorKind::HiveUnreachable, what, answer).await
    }

    async fn probe(&self, limit: Duration) -> Result<()> {
        let report = self.bounded(limit, "report", self.hive.report()).await?;
        self.tell(HiveFact::Report(Box::new(report))).await;
        Ok(())
    }
}

/// Sends heartbeats to the store, takes over what dead queens left behind, and reads what other queens have changed
/// about tenants and their keys. Ends when the ownership of this run is superseded.
pub(super) async fn own(
    registry: Arc<dyn Registry>,
    epoch: Epoch,
    lease: Duration,
    inbox: Inbox,
    logs: Arc<Logs>,
    tenants: TenantIndex,
    writer: Writer,
) {
    let mut beat = tokio::time::interval(lease / 3);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    loop {
        beat.tick().await;
        logs.trim();
        // What the store says of tenants is old news where one is changed here at the same time.
        let alone = tenants.lock_changes_within(lease / 6).await;
        let renewed =
            within(lease, ErrorKind::Storage, "the store did not answer", registry.renew(epoch))
                .await;
        match renewed {
            Ok(mut snapshot) => {
                let new = match alone {
                    Some(_) => tenants.learn(&snapshot.tenants),
                    None => Vec::new(),
                };
                if snapshot.jobs.is_empty() || alone.is_none() {
                    snapshot.tenants = new;
                }
                if snapshot.jobs.is_empty() && snapshot.tenants.is_empty() {
                    continue;
                }
                let jobs = logs.restore(&snapshot);
                if !jobs.is_empty() {
                    tracing::info!(jobs = jobs.len(), "took over jobs of a queen that is gone");
                }
                inbox.input(Input::Restore { snapshot: Box::new(snapshot) });
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                tracing::error!(%error, "another queen owns this queen's jobs now; it stops");
                let (reply, _) = oneshot::channel();
                inbox.send(Message::Freeze { reply, why: error });
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the store did not take the heartbeat");
                writer.probe();
            }
        }
    }
}
