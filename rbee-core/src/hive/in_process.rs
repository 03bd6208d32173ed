//! [`InProcessHive`]: workers inside this process.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::future::join_all;

use super::{HiveBackend, HiveEvent, HiveInfo, HiveReport};
use crate::{
    device::Device,
    error::{Error, ErrorKind, Result},
    id::{Epoch, HiveId, WorkerId},
    models::{InUse, ModelStore},
    progress::Progress,
    worker::{Worker, WorkerInfo},
    worker_spec::WorkerSpec,
};

mod factory;
mod files;
mod link;
mod load;
mod models;
mod order;
mod shared;
mod store;
mod subscription;

pub use factory::WorkerFactory;
pub(crate) use factory::files_of;
pub(crate) use files::is_in_known_form;

use link::LinkState;
use load::Load;
use order::Order;
use shared::Shared;

/// A hive inside the application's own process: workers that the application gave to it, and workers that its factory
/// makes.
///
/// - A stopped worker is removed from the report and gets no new runs from this hive; its current runs end when their
///   streams are dropped, and its memory is freed when its last user drops it.
/// - A `file:` reference of this machine is checked in place and not copied, so
///   [`remove_model`](crate::hive::ModelHost::remove_model) removes the reference and deletes no files: they belong to
///   the user. Models from other places are kept in its [store](Self::with_store), if it has one, and removed from
///   there.
/// - A load belongs to the hive, not to its caller: it continues when its callers disconnect, and the worker appears in
///   the report.
/// - When the hive is dropped, its workers are stopped.
///
/// ```
/// # #[cfg(feature = "test-util")]
/// # {
/// use rbee_core::{worker::EchoWorker, InProcessHive};
///
/// let hive = InProcessHive::new().with_worker(EchoWorker::new("echo".parse()?));
/// # }
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Debug)]
pub struct InProcessHive {
    info: HiveInfo,
    given: Vec<Arc<WorkerInfo>>,
    factory: Option<Arc<dyn WorkerFactory>>,
    store: Option<ModelStore>,
    shared: Arc<Shared>,
}

impl Default for InProcessHive {
    fn default() -> Self {
        Self::new()
    }
}

impl InProcessHive {
    /// A hive with the name `local`, without workers, that reports this machine's devices.
    pub fn new() -> Self {
        Self {
            info: HiveInfo::local(HiveId::local()),
            given: Vec::new(),
            factory: None,
            store: None,
            shared: Arc::new(Shared::new()),
        }
    }

    /// Sets its name.
    pub fn with_id(mut self, id: HiveId) -> Self {
        self.info.id = id;
        self
    }

    /// Adds a worker that exists from the start. It must have the name of this hive and a unique id; otherwise
    /// [`start`](Self::start) fails.
    pub fn with_worker(mut self, worker: Arc<dyn Worker>) -> Self {
        let info = worker.info().clone();
        {
            let mut state = self.shared.state();
            state.rev = state.rev.max(info.since);
            state.workers.insert(info.id, worker);
        }
        self.given.push(info);
        self
    }

    /// Sets the factory that makes its workers. Without one the hive has no devices to load models on, and reports
    /// none.
    pub fn with_factory(mut self, factory: impl WorkerFactory) -> Self {
        let factory: Arc<dyn WorkerFactory> = Arc::new(factory);
        self.factory = Some(factory.clone());
        self.shared.state().factory = Some(factory);
        self
    }

    /// Sets the store of the models that it fetches. Without one it fetches none.
    pub fn with_store(mut self, store: ModelStore) -> Self {
        self.store = Some(store);
        self
    }

    /// Reports these devices, independent of the machine.
    pub fn with_devices(self, devices: Vec<Device>) -> Self {
        self.shared.devices.fix(devices);
        self
    }

    /// Begins with at least this revision: for a hive whose workers outlive it, and that must not seem older to a queen
    /// than its predecessor.
    pub fn with_revision(self, rev: u64) -> Self {
        {
            let mut state = self.shared.state();
            state.rev = state.rev.max(rev);
        }
        self
    }

    /// Adopts an existing worker, for example one that was found after a restart, and returns it with the revision at
    /// which it appeared. If a worker with that id exists already, that one stays.
    pub fn adopt(&self, worker: Arc<dyn Worker>) -> Arc<dyn Worker> {
        let id = worker.info().id;
        let mut known = None;
        // It may be missing in the store: a worker that has loaded its model does not need the files any more.
        let in_use =
            self.store.as_ref().and_then(|store| store.open_model(&worker.info().model).ok()?);
        let adopted = self.shared.change(|state| match state.workers.get(&id) {
            Some(worker) => {
                known = Some(worker.clone());
                None
            }
            None => {
                let worker = order::since(worker.clone(), state.rev + 1);
                state.workers.insert(id, worker.clone());
                if let Some(in_use) = in_use {
                    state.in_use.insert(id, in_use);
                }
                Some(worker)
            }
        });
        adopted.or(known).unwrap_or(worker)
    }

    /// Removes a worker that ended although nobody asked it to stop from the report, and notifies the subscribers.
    /// Returns true if there was a worker with that id. Its current runs end when its streams do.
    pub fn lost(&self, id: WorkerId, why: Error) -> bool {
        let lost = self.shared.change(|state| {
            let worker = state.workers.remove(&id)?;
            state.in_use.remove(&id);
            let _ = self.shared.notes.send(shared::Note::Exited { worker: id, why });
            Some(worker)
        });
        lost.is_some()
    }

    /// Makes the hive ready, also after a shutdown, without claiming it for a queen. [`watch`](HiveBackend::watch) does
    /// this first. Idempotent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the application gave it a worker of another hive, or two workers with the same id.
    pub async fn start(&self) -> Result<()> {
        self.check_given()?;
        self.take_stock().await;
        self.shared.link.send_if_modified(|link| {
            let down = link.state == LinkState::Down;
            if down {
                link.state = LinkState::Up;
            }
            down
        });
        self.check()
    }

    fn check(&self) -> Result<()> {
        self.shared.link.borrow().check(&self.info.id)
    }

    /// Checks the workers that the application gave to the hive.
    fn check_given(&self) -> Result<()> {
        let wrong = |message| Err(Error::new(ErrorKind::Config, message));
        let mut names = BTreeSet::new();
        for WorkerInfo { id, hive, slots, .. } in self.given.iter().map(|info| &**info) {
            if *hive != self.info.id {
                return wrong(format!(
                    "worker {id} belongs to hive {hive}; allowed is {}, the hive it was given to",
                    self.info.id
                ));
            }
            if *slots == 0 {
                return wrong(format!("worker {id} has 0 slots; allowed is at least 1"));
            }
            if !names.insert(*id) {
                return wrong(format!("two workers have the name {id}; allowed is one"));
            }
        }
        Ok(())
    }

    /// Checks that a worker of this kind can be made here.
    async fn check_spec(&self, spec: &WorkerSpec) -> Result<()> {
        let wrong = |message| Err(Error::new(ErrorKind::InvalidRequest, message));
        if spec.slots == 0 {
            return wrong("slots is 0; allowed is at least 1".to_owned());
        }
        let devices = self.shared.devices.read().await;
        let known = |index: &u32| devices.iter().any(|device| device.index == *index);
        if let Some(index) = spec.devices.iter().find(|index| !known(index)) {
            let known: Vec<_> = devices.iter().map(|device| device.index.to_string()).collect();
            return wrong(format!(
                "hive {} has no device {index}; allowed are {}",
                self.info.id,
                known.join(", ")
            ));
        }
        Ok(())
    }

    /// The load of this worker, begun if needed, or the worker itself.
    fn load(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        in_use: Option<InUse>,
    ) -> Result<ControlFlow<Arc<dyn Worker>, Load>> {
        let mut state = self.shared.state();
        // Checked under the lock: a shutdown sets its flag before it takes the lock, so nothing begins after it.
        self.check()?;
        if let Some(worker) = state.workers.get(&id) {
            return Ok(ControlFlow::Break(worker.clone()));
        }
        if let Some(load) = state.loads.get(&id)
            && !load.is_lost()
        {
            return Ok(ControlFlow::Continue(load.clone()));
        }
        let Some(factory) = self.factory.clone() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "hive {} has no worker factory, only the workers it was given",
                    self.info.id
                ),
            ));
        };
        let (spec, in_use) = match in_use {
            Some(in_use) => {
                (WorkerSpec { path: Some(in_use.path().into()), ..spec.clone() }, Some(in_use))
            }
            None => (spec.clone(), None),
        };
        let order = Order { id, hive: self.info.id.clone(), spec, in_use, factory };
        let load = order.begin(self.shared.clone());
        state.loads.insert(id, load.clone());
        Ok(ControlFlow::Continue(load))
    }
}

/// For tests that involve a hive.
#[cfg(feature = "test-util")]
impl InProcessHive {
    /// Ends a worker that nobody asked to stop; returns true if there was one with that id. Its current runs continue,
    /// because an [`EchoWorker`](crate::worker::EchoWorker) can end those itself.
    pub fn kill(&self, id: WorkerId) -> bool {
        self.lost(id, Error::new(ErrorKind::WorkerLost, format!("worker {id} was killed")))
    }

    /// Cuts the connection: current subscriptions and spawns end, and every call fails until
    /// [`reconnect`](Self::reconnect). Workers and loads continue.
    pub fn disconnect(&self) {
        self.shared.link.send_modify(|link| link.end(LinkState::Cut));
    }

    /// Restores the connection.
    pub fn reconnect(&self) {
        self.shared.link.send_if_modified(|link| {
            let cut = link.state == LinkState::Cut;
            if cut {
                link.state = LinkState::Up;
            }
            cut
        });
    }
}

#[async_trait]
impl HiveBackend for InProcessHive {
    /// # Errors
    /// Also those of [`start`](InProcessHive::start).
    async fn watch(&self, owner: Epoch) -> Result<BoxStream<'static, HiveEvent>> {
        self.start().await?;
        subscription::subscribe(&self.shared, &self.info.id, owner)
    }

    async fn report(&self) -> Result<HiveReport> {
        self.check()?;
        Ok(self.shared.report().await)
    }

    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        let mut link = self.shared.link.subscribe();
        let began = *link.borrow_and_update();
        self.check_spec(spec).await?;
        let in_use = self.in_use(&spec.model).await?;
        loop {
            let load = match self.load(id, spec, in_use.clone())? {
                ControlFlow::Break(worker) => return Ok(worker),
                ControlFlow::Continue(load) => load,
            };
            let over = load.given_up;
            let outcome = tokio::select! {
                biased;
                _ = link.wait_for(|link| !link.carries(&began)) => {
                    self.check()?;
                    let message = format!("the link to hive {} was cut during the spawn", self.info.id);
                    return Err(Error::new(ErrorKind::HiveUnreachable, message));
                }
                outcome = load.outcome(&progress) => outcome,
            };
            // A load that was abandoned before this call does not count for this call.
            if !over {
                return outcome;
            }
        }
    }

    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        self.check()?;
        self.shared.state().workers.get(&id).cloned().ok_or_else(|| {
            let message = format!("hive {} has no worker {id}", self.info.id);
            Error::new(ErrorKind::NotFound, message)
        })
    }

    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        self.check()?;
        let mut load = None;
        let worker = self.shared.change(|state| {
            if let Some(loading) = state.loads.get_mut(&id) {
                loading.given_up = true;
                load = Some(loading.clone());
            }
            state.in_use.remove(&id);
            state.workers.remove(&id)
        });
        // Outside the lock: the drop of a worker may run any code.
        drop(worker);
        if let Some(load) = load {
            load.end(grace).await;
        }
        Ok(())
    }

    async fn shutdown(&self, grace: Duration) -> Result<()> {
        if self.shared.link.borrow().state == LinkState::Down {
            return Ok(());
        }
        self.check()?;
        let loads = self.shared.end();
        join_all(loads.into_iter().map(|load| load.end(grace))).await;
        Ok(())
    }
}

impl Drop for InProcessHive {
    fn drop(&mut self) {
        self.shared.end().iter().for_each(Load::force);
    }
}
