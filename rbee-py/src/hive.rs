//! A hive that is an object of Python: [`PyHive`].
//!
//! What every hive needs is in an [`InProcessHive`]: its workers, loads and revisions, the queen that owns it, and the
//! subscriptions. The object starts and stops workers, and knows the machine.

mod data;
mod events;
mod factory;
mod object;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, future::join, stream};
use pyo3::{IntoPyObjectExt, prelude::*};
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, InProcessHive, ModelRef, Worker, WorkerId, WorkerSpec,
    hive::{HiveEvent, HiveInfo, HiveReport, ModelHost, ModelOrigin, Progress},
    id::Epoch,
    models::{Damage, ModelOnDisk},
};

pub(crate) use self::data::spec;
use self::{
    data::{Machine, ProgressView},
    events::{Event, Events},
    factory::{Loads, PyFactory},
    object::{HiveObject, tuple},
};
use crate::{error::to_python, part::Part};

/// The attributes that a hive has.
const NEEDED: [&str; 5] = ["id", "report", "spawn", "worker", "stop"];

/// An object with the methods of `rbee.HiveBackend`.
#[derive(Debug)]
pub(crate) struct PyHive {
    info: HiveInfo,
    inner: Arc<InProcessHive>,
    object: Arc<HiveObject>,
    loads: Arc<Loads>,
}

impl PyHive {
    /// Takes the object.
    ///
    /// # Errors
    /// `TypeError` if it lacks a method, and the error of rbee if its id is not allowed.
    pub(crate) fn new(object: &Bound<'_, PyAny>, event_loop: Option<Py<PyAny>>) -> PyResult<Self> {
        let py = object.py();
        let part = Part::new(
            object,
            "a hive is rbee.SshHive, rbee.UrlHive, or an object that",
            &NEEDED,
            event_loop,
        )?;
        let id: String = object.getattr("id")?.extract()?;
        let mut info =
            HiveInfo::local(id.parse::<HiveId>().map_err(|error| to_python(py, &error))?);
        if let Some(labels) = object.getattr_opt("labels")? {
            info.labels = labels.extract()?;
        }
        let object = Arc::new(HiveObject::new(py, part));
        let loads = Arc::new(Loads::default());
        let factory = PyFactory { object: object.clone(), loads: loads.clone() };
        // The devices are those that the object reports.
        let inner = InProcessHive::new()
            .with_id(info.id.clone())
            .with_devices(Vec::new())
            .with_factory(factory);
        Ok(Self { info, inner: Arc::new(inner), object, loads })
    }

    /// Uses the workers that the object has already, from before this queen.
    async fn adopt(&self, workers: &[WorkerId]) -> rbee_core::Result<()> {
        for id in workers {
            let is_new = !self.loads.is_busy(*id)
                && matches!(self.inner.worker(*id).await, Err(error) if error.kind() == ErrorKind::NotFound);
            if !is_new {
                continue;
            }
            match self.object.worker(*id, &self.info.id).await {
                Ok(worker) => _ = self.inner.adopt(worker),
                // It has ended since.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn unsupported(&self, method: &str) -> Error {
        let message = format!("hive {} has no method {method}", self.info.id);
        Error::new(ErrorKind::Unsupported, message)
    }
}

/// The report of the hive, with what the object says of the machine.
fn merged(mut report: HiveReport, machine: Machine) -> HiveReport {
    (report.devices, report.models) = (machine.devices, machine.models);
    report
}

/// A subscription.
struct Subscription {
    inner: stream::BoxStream<'static, HiveEvent>,
    hive: Arc<InProcessHive>,
    object: Arc<HiveObject>,
    /// What the object reports by itself, if it does.
    events: Option<Events>,
}

impl Subscription {
    /// The next event; `None` if the connection to the hive has ended.
    async fn next(&mut self) -> Option<HiveEvent> {
        loop {
            let event = match &mut self.events {
                None => Next::Inner(self.inner.next().await),
                Some(events) => tokio::select! {
                    biased;
                    event = self.inner.next() => Next::Inner(event),
                    event = events.next() => Next::Object(event),
                },
            };
            let reported = match event {
                Next::Inner(Some(HiveEvent::Report(report))) => {
                    self.object.machine().await.map(|machine| Some(merged(*report, machine)))
                }
                Next::Inner(event) => return event,
                Next::Object(event) => match event? {
                    Ok(event) => self.take(event).await,
                    Err(error) => Err(error),
                },
            };
            match reported {
                Ok(Some(report)) => return Some(HiveEvent::Report(Box::new(report))),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(hive = %self.hive.info().id, %error, "the connection to a hive ends");
                    return None;
                }
            }
        }
    }

    /// Takes what the object reports; returns a report to pass on.
    async fn take(&mut self, event: Event) -> rbee_core::Result<Option<HiveReport>> {
        match event {
            Event::Nothing => Ok(None),
            // The inner hive tells every subscription. A worker that was stopped is not there any more.
            Event::Exited(worker, why) => {
                self.hive.lost(worker, why);
                Ok(None)
            }
            Event::Report(machine) => Ok(Some(merged(self.hive.report().await?, machine))),
        }
    }
}

enum Next {
    Inner(Option<HiveEvent>),
    Object(Option<rbee_core::Result<Event>>),
}

#[async_trait]
impl HiveBackend for PyHive {
    async fn watch(
        &self,
        owner: Epoch,
    ) -> rbee_core::Result<stream::BoxStream<'static, HiveEvent>> {
        let mut events = None;
        let mut first = None;
        if self.object.has.watch {
            let mut begun = Events::begin(&self.object, owner).await?;
            // A generator claims the machine, or refuses, before it gives its first event.
            first = Some(begun.next().await.unwrap_or_else(|| {
                let message = format!("watch of hive {} ended at once", self.info.id);
                Err(Error::new(ErrorKind::HiveUnreachable, message))
            })?);
            events = Some(begun);
        }
        let inner = self.inner.watch(owner).await?;
        let (hive, object) = (self.inner.clone(), self.object.clone());
        let mut subscription = Subscription { inner, hive, object, events };
        let machine = match first {
            // The inner hive reports first.
            Some(Event::Report(machine)) => machine,
            Some(event) => {
                subscription.take(event).await?;
                self.object.machine().await?
            }
            None => self.object.machine().await?,
        };
        self.adopt(&machine.workers).await?;
        Ok(stream::unfold(subscription, |mut subscription| async {
            let event = subscription.next().await?;
            Some((event, subscription))
        })
        .boxed())
    }

    async fn report(&self) -> rbee_core::Result<HiveReport> {
        let machine = self.object.machine().await?;
        Ok(merged(self.inner.report().await?, machine))
    }

    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> rbee_core::Result<Arc<dyn Worker>> {
        let mut inner = spec.clone();
        // The inner hive knows no devices; the object gets the whole order.
        inner.devices.clear();
        self.loads.order(id, spec.clone());
        let spawned = self.inner.spawn(id, &inner, progress).await;
        self.loads.forget(id);
        spawned
    }

    async fn worker(&self, id: WorkerId) -> rbee_core::Result<Arc<dyn Worker>> {
        match self.inner.worker(id).await {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.loads.is_busy(id) => {
                Ok(self.inner.adopt(self.object.worker(id, &self.info.id).await?))
            }
            found => found,
        }
    }

    async fn stop(&self, id: WorkerId, grace: Duration) -> rbee_core::Result<()> {
        let was_loading = self.loads.is_busy(id);
        let _busy = self.loads.busy(id);
        self.loads.forget(id);
        if was_loading {
            // The object can end the load.
            let (ended, stopped) =
                join(self.inner.stop(id, grace), self.object.stop(id, grace)).await;
            ended.and(stopped)?;
        } else {
            self.inner.stop(id, grace).await?;
        }
        self.object.stop(id, grace).await
    }

    async fn shutdown(&self, grace: Duration) -> rbee_core::Result<()> {
        let workers = self.inner.report().await.map(|report| report.workers).unwrap_or_default();
        self.inner.shutdown(grace).await?;
        if !self.object.has.shutdown {
            for worker in workers {
                self.object.stop(worker.info.id, grace).await?;
            }
            return Ok(());
        }
        let arguments =
            move |py: Python<'_>| tuple(py, [grace.as_secs_f64().into_bound_py_any(py)?]);
        self.object.call("shutdown", &self.object.others, arguments, |_| Ok(())).await
    }
}

#[async_trait]
impl ModelHost for PyHive {
    fn info(&self) -> &HiveInfo {
        &self.info
    }

    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> rbee_core::Result<ModelOnDisk> {
        if !self.object.has.provision {
            let there = self.object.machine().await?.models;
            let found = there.into_iter().find(|found| found.model == *model);
            return found.ok_or_else(|| self.unsupported("provision"));
        }
        let origin = match from {
            ModelOrigin::Here => "here",
            ModelOrigin::Hub(_) => "hub",
            ModelOrigin::Files(_) => {
                let message = format!("hive {} takes no files of other machines", self.info.id);
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let name = model.to_string();
        let arguments = move |py: Python<'_>| {
            let progress = ProgressView::new(progress).into_bound_py_any(py)?;
            tuple(py, [name.into_bound_py_any(py)?, origin.into_bound_py_any(py)?, progress])
        };
        self.object.call("provision", &self.object.loads, arguments, data::model).await
    }

    async fn verify(&self, model: &ModelRef, progress: Progress) -> rbee_core::Result<Vec<Damage>> {
        if !self.object.has.verify {
            return Err(self.unsupported("verify"));
        }
        let name = model.to_string();
        let arguments = move |py: Python<'_>| {
            let progress = ProgressView::new(progress).into_bound_py_any(py)?;
            tuple(py, [name.into_bound_py_any(py)?, progress])
        };
        self.object.call("verify", &self.object.loads, arguments, data::damages).await
    }

    async fn remove_model(&self, model: &ModelRef) -> rbee_core::Result<()> {
        if !self.object.has.remove_model {
            return Err(self.unsupported("remove_model"));
        }
        let name = model.to_string();
        let arguments = move |py: Python<'_>| tuple(py, [name.into_bound_py_any(py)?]);
        self.object.call("remove_model", &self.object.others, arguments, |_| Ok(())).await
    }
}
