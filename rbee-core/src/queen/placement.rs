//! Where a model is loaded at an operator's word, and whether it would fit.

use std::{sync::Arc, time::Duration};

use super::{Queen, fresh_seed, policies, policy, time_since};
use crate::{
    Ask, ClusterView, DeviceEstimate, Error, ErrorKind, HiveId, HiveView, LeastLoaded, ModelOnDisk,
    ModelRef, ModelSource, Now, Placement, Progress, Request, Result, Scheduler, WallTime,
    WorkerId, WorkerState, engine::Command,
};

/// How long the policy may take to say where a model is to be loaded.
const DECISION_PATIENCE: Duration = Duration::from_secs(5);

/// A model to be loaded, and where that may be done. What is left open the scheduler decides.
///
/// ```
/// use rbee_core::{HiveId, LoadRequest};
///
/// let mut load = LoadRequest::new("my-model".parse()?);
/// load.hive = Some(HiveId::local());
/// load.pin = true;
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadRequest {
    /// The model.
    pub model: ModelRef,
    /// On this hive.
    pub hive: Option<HiveId>,
    /// On one of these devices, by index.
    pub devices: Option<Vec<u32>>,
    /// Runs it shall do at once.
    pub slots: Option<u32>,
    /// Never evict it.
    pub pin: bool,
}

impl LoadRequest {
    /// This model, anywhere.
    pub fn new(model: ModelRef) -> Self {
        Self { model, hive: None, devices: None, slots: None, pin: false }
    }
}

/// Questions to the policy until it is told that there is no place: after the first the size of the model is known.
const QUESTIONS: usize = 3;

impl Queen {
    /// Starts a worker of a model, or finds the one that is there or on its way; it takes jobs when
    /// [`cluster`](Self::cluster) shows it ready. The scheduler decides what the request leaves open, and the built-in
    /// policy where it fails, is suspended, or would wait. Where the model is not on the machine's disk it is fetched first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::HiveUnreachable`] where the hive is not there,
    /// [`ErrorKind::ModelNotFound`] where the model is nowhere, [`ErrorKind::InsufficientVram`] where it has no place.
    pub async fn load_model(&self, mut request: LoadRequest) -> Result<WorkerId> {
        request.model = self.locate(request.model.as_str()).await?;
        if request.slots == Some(0) {
            let message = "slots is 0; allowed is at least 1";
            return Err(Error::new(ErrorKind::InvalidRequest, message).with_param("slots"));
        }
        for _ in 0..QUESTIONS {
            let cluster = self.candidates(&request).await?;
            let usable = |state| matches!(state, WorkerState::Ready | WorkerState::Loading);
            if let Some(worker) = cluster.with_model(&request.model).find(|w| usable(w.state)) {
                if request.pin {
                    self.pin(worker.info.id, true).await?;
                }
                return Ok(worker.info.id);
            }
            let (hive, spec, evict) = match self.ask_for_place(&request, cluster.clone()).await? {
                Placement::Spawn { hive, spec, evict } => (hive, spec, evict),
                Placement::Reject(error) => return Err(error),
                Placement::Wait | Placement::Assign(_) => {
                    let message =
                        format!("there is no place for model {} at the moment", request.model);
                    return Err(Error::new(ErrorKind::InsufficientVram, message));
                }
            };
            let is_there = |view: &Arc<HiveView>| view.models.contains_key(&request.model);
            if !cluster.hive(&hive).is_some_and(is_there) {
                self.provision(hive, request.model.clone(), Progress::ignore()).await?;
                continue;
            }
            let (worker, pin) = (WorkerId::random(), request.pin);
            self.command(Command::Load { worker, hive, spec, evict, pin }).await?;
            return Ok(worker);
        }
        let message = format!("model {} was fetched, and is not on the disk", request.model);
        Err(Error::new(ErrorKind::ModelNotFound, message))
    }

    /// Whether a worker of this model would fit now, on every device that the request allows, with every figure; the
    /// sequences are reckoned to be `context` tokens long, or 4,096 where that is not said. Nothing is started.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] where the model is no reference, [`ErrorKind::NotFound`] or
    /// [`ErrorKind::HiveUnreachable`] where the hive is not there.
    pub async fn estimate(
        &self,
        request: &LoadRequest,
        context: Option<u32>,
    ) -> Result<Vec<DeviceEstimate>> {
        let asked = self.resolve(request.model.as_str())?;
        let cluster = self.candidates(request).await?;
        let mut held = cluster.hives().flat_map(|hive| hive.models.keys());
        let model = held.find(|model| model.is_of(&asked)).cloned().unwrap_or(asked);
        let mut sizing = *self.shared.built_in.sizing();
        if let Some(slots) = request.slots {
            sizing = sizing.with_slots(slots);
        }
        if let Some(context) = context {
            sizing = sizing.with_context(context);
        }
        let known = cluster.largest_on_disk(&model).cloned();
        let known = match (known, model.source()) {
            // It may lie on this machine, to be copied from here.
            (None, ModelSource::File(_)) => ModelOnDisk::read(&model, None).await.ok(),
            (known, _) => known,
        };
        Ok(sizing.estimate_with(&model, known.as_ref(), &cluster))
    }

    /// The part of the fleet that the request allows.
    async fn candidates(&self, request: &LoadRequest) -> Result<ClusterView> {
        let mut cluster = self.cluster().await?;
        // Who asks for a model by name need not wait for what was loaded a moment ago.
        let young = cluster.workers().filter(|worker| !worker.settled);
        for worker in young.map(|worker| worker.info.id).collect::<Vec<_>>() {
            cluster.edit_worker(worker, |worker| worker.settled = true);
        }
        let Some(only) = &request.hive else {
            return narrowed(cluster, request);
        };
        let Some(view) = cluster.hive(only) else {
            return Err(Error::new(ErrorKind::NotFound, format!("hive {only} does not exist")));
        };
        if !view.online {
            let message = format!("hive {only} is not online");
            return Err(Error::new(ErrorKind::HiveUnreachable, message));
        }
        keep_only(&mut cluster, only);
        narrowed(cluster, request)
    }

    /// Where the policy would start a worker for this. An operator who asks for a model is not left without it because
    /// the policy fails, or would have its jobs wait: the built-in one decides then, and it reckons for the slots that
    /// are wanted, on the devices that the policy chose where it chose any.
    async fn ask_for_place(
        &self,
        request: &LoadRequest,
        cluster: ClusterView,
    ) -> Result<Placement> {
        let wanted = Request::completion(request.model.as_str(), "x");
        let job = wanted.into_job(request.model.clone(), &self.shared.settings, fresh_seed())?;
        let now = Now { at: time_since(self.shared.began), wall: WallTime::now() };
        let ask = Ask::first(Arc::new(job), now, fresh_seed());
        let built_in = self.shared.built_in.clone();
        let built_in = match request.slots {
            Some(slots) => LeastLoaded::new(built_in.sizing().with_slots(slots)),
            None => built_in,
        };
        match self.ask_policy(ask.clone(), cluster.clone()).await {
            Some(Placement::Spawn { hive, spec, .. })
                if request.slots.is_some_and(|slots| slots != spec.slots) =>
            {
                let mut there = cluster.clone();
                keep_only(&mut there, &hive);
                if !spec.devices.is_empty() {
                    keep_devices(&mut there, &spec.devices);
                }
                if let spawn @ Placement::Spawn { .. } = built_in.place(&ask, &there)? {
                    return Ok(spawn);
                }
            }
            Some(decision) => return Ok(decision),
            None => {}
        }
        built_in.place(&ask, &cluster)
    }

    /// What the policy in force says; nothing where it does not say anything that is of use.
    async fn ask_policy(&self, ask: Ask, cluster: ClusterView) -> Option<Placement> {
        let in_force = self.shared.reign.look();
        if in_force.health.is_suspended {
            return None;
        }
        let asked =
            policies::aside(move || policy::guarded(|| in_force.scheduler.place(&ask, &cluster)));
        let late = |_| {
            let message = format!("it did not decide within {DECISION_PATIENCE:?}");
            Err(Error::new(ErrorKind::Internal, message))
        };
        let answer = tokio::time::timeout(DECISION_PATIENCE, asked).await.unwrap_or_else(late);
        match answer.flatten() {
            Ok(Placement::Wait | Placement::Assign(_)) => None,
            Ok(decision) => Some(decision),
            Err(error) => {
                tracing::warn!(%error, "the policy failed to say where a model is to be loaded; the built-in one decides");
                None
            }
        }
    }
}

/// Without the devices that are not wanted.
fn narrowed(mut cluster: ClusterView, request: &LoadRequest) -> Result<ClusterView> {
    let Some(wanted) = &request.devices else { return Ok(cluster) };
    let known = |index: &u32| {
        cluster.hives().any(|hive| hive.devices.iter().any(|device| device.index == *index))
    };
    if let Some(index) = wanted.iter().find(|index| !known(index)) {
        let message = format!("no such hive has a device {index}");
        return Err(Error::new(ErrorKind::InvalidRequest, message).with_param("devices"));
    }
    keep_devices(&mut cluster, wanted);
    Ok(cluster)
}

/// Leaves this hive alone, and the workers on it.
fn keep_only(cluster: &mut ClusterView, only: &HiveId) {
    let others: Vec<_> =
        cluster.hives().map(|hive| hive.id.clone()).filter(|id| id != only).collect();
    for hive in others {
        let workers: Vec<_> = cluster.on_hive(&hive).map(|worker| worker.info.id).collect();
        workers.into_iter().for_each(|worker| _ = cluster.remove_worker(worker));
        cluster.remove_hive(&hive);
    }
}

/// Leaves these devices of every hive.
fn keep_devices(cluster: &mut ClusterView, wanted: &[u32]) {
    let hives: Vec<_> = cluster.hives().map(|hive| hive.id.clone()).collect();
    for hive in hives {
        cluster.edit_hive(&hive, |view| {
            let left = view.devices.iter().filter(|device| wanted.contains(&device.index));
            view.devices = left.cloned().collect();
        });
    }
}
