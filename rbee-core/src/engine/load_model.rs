//! The load of a model by order of an operator: the policy chooses the machine, the model is fetched there, a worker is
//! started. It goes on even if the operator no longer waits.

use super::{
    operators::{Choosing, ModelLoad, Waiter, answer},
    *,
};
use crate::{
    cluster::WorkerState,
    error::{ErrorKind, Result},
    id::{CorrelationId, Ticket},
    load_request::LoadRequest,
    scheduler::{Ask, LeastLoaded, Placement, Scheduler},
    task::{Prompt, Sampling, Task},
};

/// Questions to the policy until the operator gets the answer that there is no room: the first question may be asked
/// before the size of the model is known.
const QUESTIONS: u32 = 3;

/// Where a worker of the model can come from.
enum Found {
    /// It runs already, or is being started.
    Worker(WorkerId),
    /// It must be started on a part of the cluster.
    Candidates(Box<ClusterView>),
}

impl Engine {
    pub(super) fn load_model(&mut self, now: Now, n: u64, request: LoadRequest, out: &mut Out) {
        if request.slots == Some(0) {
            let message = "slots is 0; allowed is at least 1";
            let error = Error::new(ErrorKind::InvalidRequest, message).with_param("slots");
            return answer(n, Err(error), out);
        }
        self.go_on_loading(now, ModelLoad { n, request, questions: 0 }, out);
    }

    /// Takes the next step: answers with the worker that exists, or asks the policy.
    pub(super) fn go_on_loading(&mut self, now: Now, load: ModelLoad, out: &mut Out) {
        let n = load.n;
        match self.find_worker(&load.request) {
            Err(error) => answer(n, Err(error), out),
            Ok(Found::Worker(worker)) => self.loaded_already(n, worker, load.request.pin, out),
            Ok(Found::Candidates(_)) if load.questions == QUESTIONS => {
                let model = load.request.model;
                let message = format!("model {model} was fetched, and is not on the disk");
                answer(n, Err(Error::new(ErrorKind::ModelNotFound, message)), out);
            }
            Ok(Found::Candidates(_)) => {
                let ask = self.ask_for(now, &load.request.model);
                let ticket = Ticket(self.number());
                let request = Box::new(load.request.clone());
                self.operators.choosing.insert(ticket, Choosing { load, ask: ask.clone() });
                if self.policy.breaker.places().is_none() {
                    // A suspended policy is not asked; the built-in one decides.
                    return self.hive_chosen(now, ticket, Ok(Placement::Wait), out);
                }
                out.push(Effect::ChooseHive { ticket, ask, request });
            }
        }
    }

    fn find_worker(&self, request: &LoadRequest) -> Result<Found> {
        let candidates = request.candidates(&self.view)?;
        let usable = |state| matches!(state, WorkerState::Ready | WorkerState::Loading);
        let worker = candidates.with_model(&request.model).find(|worker| usable(worker.state));
        if let Some(worker) = worker {
            return Ok(Found::Worker(worker.info.id));
        }
        self.check_starts()?;
        Ok(Found::Candidates(Box::new(candidates)))
    }

    fn loaded_already(&mut self, n: u64, worker: WorkerId, pin: bool, out: &mut Out) {
        let output = CommandOutput::Worker(worker);
        match pin {
            true => self.pin(n, worker, true, output, out),
            false => answer(n, Ok(output), out),
        }
    }

    /// The question to the policy, as for a job of this model.
    fn ask_for(&mut self, now: Now, model: &ModelRef) -> Ask {
        let id = JobId::from_random_bits(self.random.rng.bits128());
        let job = Job {
            id,
            model: model.clone(),
            priority: Priority::default(),
            task: Task::Generate {
                prompt: Prompt::Text("x".into()),
                sampling: Sampling::default(),
            },
            seed: self.random.rng.next(),
            prefix: Arc::default(),
            timeout: self.config.settings.job_timeout,
            deadline: None,
            detached: false,
            stored: false,
            metadata: None,
            tenant: None,
            rank: 0,
            correlation_id: CorrelationId::of_job(id),
            idempotency: None,
            streamed: true,
        };
        Ask::first(Arc::new(job), now, self.random.rng.next())
    }

    pub(super) fn hive_chosen(
        &mut self,
        now: Now,
        ticket: Ticket,
        chosen: Result<Placement>,
        out: &mut Out,
    ) {
        let Some(Choosing { mut load, ask }) = self.operators.choosing.remove(&ticket) else {
            return out.push(Effect::Note(Note::StaleAnswer(ticket)));
        };
        load.questions += 1;
        let (n, model, pin) = (load.n, load.request.model.clone(), load.request.pin);
        let candidates = match self.find_worker(&load.request) {
            Err(error) => return answer(n, Err(error), out),
            Ok(Found::Worker(worker)) => return self.loaded_already(n, worker, pin, out),
            Ok(Found::Candidates(candidates)) => candidates,
        };
        match self.place_load(&load.request, &ask, &candidates, chosen, out) {
            Ok(Placement::Spawn { hive, spec, evict }) => {
                let view = candidates.hive(&hive);
                if view.is_some_and(|view| !view.models.contains_key(&model)) {
                    return self.download(now, hive, model, Waiter::Load(load), out);
                }
                let worker = WorkerId::from_random_bits(self.random.rng.bits128());
                let started = self.load(now, worker, hive, spec, pin, evict, out);
                answer(n, started.map(|()| CommandOutput::Worker(worker)), out);
            }
            Ok(Placement::Reject(error)) | Err(error) => {
                answer(n, Err(self.with_retry_after(now, error)), out);
            }
            Ok(Placement::Wait | Placement::Assign(_)) => {
                let message = format!("there is no room for model {model} now");
                answer(n, Err(Error::new(ErrorKind::InsufficientVram, message)), out);
            }
        }
    }

    /// Decides where to start a worker. If the policy fails or would have jobs wait, the built-in one decides, so that
    /// an operator still gets the model. If the policy chose another number of slots than the operator wants, the
    /// built-in one places the worker again, on the hive and the devices that the policy chose.
    fn place_load(
        &self,
        request: &LoadRequest,
        ask: &Ask,
        candidates: &ClusterView,
        chosen: Result<Placement>,
        out: &mut Out,
    ) -> Result<Placement> {
        let sizing = match request.slots {
            Some(slots) => self.config.sizing.with_slots(slots),
            None => self.config.sizing,
        };
        let built_in = LeastLoaded::new(sizing);
        let chosen = chosen.and_then(|chosen| checked(request, candidates, chosen));
        match chosen {
            Ok(Placement::Spawn { hive, spec, .. })
                if request.slots.is_some_and(|slots| slots != spec.slots) =>
            {
                let mut there = candidates.clone();
                there.keep_only(&hive);
                if !spec.devices.is_empty() {
                    there.keep_devices(&spec.devices);
                }
                if let spawn @ Placement::Spawn { .. } = built_in.place(ask, &there)? {
                    return Ok(spawn);
                }
            }
            Ok(Placement::Wait | Placement::Assign(_)) => {}
            Ok(decision) => return Ok(decision),
            Err(error) => {
                let what = format_args!("asked where to load model {}", request.model);
                out.push(Effect::Note(Note::PolicyFault(error.context(what))));
            }
        }
        built_in.place(ask, candidates)
    }
}

/// Checks that the policy chose something it was asked for; anything else is a fault of the policy.
fn checked(
    request: &LoadRequest,
    candidates: &ClusterView,
    chosen: Placement,
) -> Result<Placement> {
    let fault = |why: String| Err(Error::new(ErrorKind::Internal, why));
    let Placement::Spawn { hive, spec, .. } = &chosen else { return Ok(chosen) };
    if spec.model != request.model {
        return fault(format!("it chose to start model {}", spec.model));
    }
    let Some(view) = candidates.hive(hive) else {
        return fault(format!("hive {hive} is not one of those that it may choose"));
    };
    if let Some(why) = candidates.unreadable(view, &request.model) {
        return fault(format!("hive {hive} cannot read the model: {why}"));
    }
    let missing = |index: &&u32| !view.devices.iter().any(|device| device.index == **index);
    if let Some(index) = spec.devices.iter().find(missing) {
        return fault(format!("device {index} of hive {hive} is not one that it may choose"));
    }
    Ok(chosen)
}
