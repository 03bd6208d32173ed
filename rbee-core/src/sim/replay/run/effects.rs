//! The operations of the machines, and the effects of the engine.

use super::*;
use crate::{model_on_disk::ModelOnDisk, scheduler::Placement, sim::trace::share};

/// The time that a hive takes to stop a worker.
const STOPPING: Duration = Duration::from_millis(200);
/// The time until a requested report arrives.
const REPORTING: Duration = Duration::from_millis(5);
/// The factor by which a download is slower than a load from the disk.
const DOWNLOAD: u32 = 10;
impl Running<'_> {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::AttemptEnds(lease) => self.attempt_ends(lease),
            Event::Ready { worker, hive } => {
                let ready = self.machines.get_mut(&hive).and_then(|machine| machine.ready(worker));
                let result = ready.ok_or_else(|| {
                    let message = format!("worker {worker} was stopped before it was ready");
                    Error::new(ErrorKind::WorkerLost, message)
                });
                self.inputs.push_back(Input::Spawned { worker, result });
            }
            Event::Stopped { worker, hive } => {
                if let Some(machine) = self.machines.get_mut(&hive) {
                    machine.stop(worker);
                }
                self.inputs.push_back(Input::Stopped { worker });
            }
            Event::Downloaded { hive, model } => {
                if let Some(machine) = self.machines.get_mut(&hive) {
                    machine.models.insert(model.model.clone(), model.clone());
                }
                let name = model.model.clone();
                self.inputs.push_back(Input::Provisioned { hive, model: name, result: Ok(model) });
            }
            Event::Report(hive) => self.take_report(&hive),
            Event::Health { worker, hive } => {
                let machine = self.machines.get_mut(&hive);
                if let Some(resident) = machine.and_then(|machine| machine.workers.get_mut(&worker))
                {
                    resident.is_reporting = false;
                    let result = Ok(resident.health());
                    self.inputs.push_back(Input::Probed { worker, result });
                }
            }
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Record { n: Some(n), .. } => {
                self.inputs.push_back(Input::Recorded { n, result: Ok(()) });
            }
            Effect::Accept { job, answer: Err(error), .. } => {
                self.live.remove(&job);
                count(&mut self.report.rejected, &error);
            }
            Effect::Consult { ticket, question, ask } => {
                self.hash(1, ticket.0);
                let advice = self.stage.advise(ticket, question, &ask);
                if let Advice::Placement(Placement::Assign(worker)) = &advice {
                    self.hash_text(&worker.to_string());
                }
                self.inputs.push_back(Input::Advised { ticket, advice });
            }
            Effect::Start { lease, job, worker, .. } => self.start(lease, &job, worker),
            Effect::Abort { lease } => {
                if let Some(attempt) = self.leave(lease) {
                    self.stage.cancel(attempt.ends);
                    let end =
                        AttemptEnd { result: AttemptResult::Aborted, produced: 0, resumable: true };
                    self.inputs.push_back(Input::AttemptEnded { lease, end });
                }
            }
            Effect::Finish { job, outcome } => self.finish(job, &outcome),
            Effect::Provision { hive, model } => self.download(hive, model),
            Effect::Spawn { worker, hive, spec } => {
                self.report.spawns += 1;
                self.hash(4, self.report.spawns as u64);
                let machine = self.machines.get_mut(&hive);
                let begun = machine.map(|machine| machine.begin(worker, &hive, &spec));
                match begun {
                    Some(Ok(bytes)) => {
                        let loading = self.loading(bytes);
                        self.after(loading, Event::Ready { worker, hive });
                    }
                    Some(Err(error)) => {
                        self.inputs.push_back(Input::Spawned { worker, result: Err(error) });
                    }
                    None => {}
                }
            }
            Effect::Stop { worker, hive } => {
                self.report.stops += 1;
                self.after(STOPPING, Event::Stopped { worker, hive });
            }
            Effect::Connect { worker, .. } => {
                self.inputs.push_back(Input::Connected { worker, result: Ok(()) });
            }
            Effect::Probe { worker, .. } => {
                if let Some(hive) =
                    self.stage.engine.view().worker(worker).map(|view| view.info.hive.clone())
                {
                    self.after(REPORTING, Event::Health { worker, hive });
                }
            }
            Effect::ReportHive { hive } => {
                self.after(REPORTING, Event::Report(hive));
            }
            // The only command in a replay loads the workers that exist at the start.
            Effect::ChooseHive { ticket, .. } => {
                let answer = Ok(Placement::Wait);
                self.inputs.push_back(Input::HiveChosen { ticket, answer });
            }
            Effect::Verify { hive, model } => {
                self.inputs.push_back(Input::Verified { hive, model, result: Ok(Vec::new()) });
            }
            Effect::RemoveModel { hive, model } => {
                self.inputs.push_back(Input::ModelRemoved { hive, model, result: Ok(()) });
            }
            Effect::Note(Note::Evicted(..)) => self.report.evictions += 1,
            Effect::Note(Note::ScaledUp(..)) => self.report.scale_ups += 1,
            Effect::Note(Note::ScaledBack(..)) => self.report.scale_backs += 1,
            Effect::Note(Note::Expired(..)) => self.report.expired += 1,
            Effect::Record { n: None, .. }
            | Effect::Admitted { .. }
            | Effect::Accept { answer: Ok(_), .. }
            | Effect::Unheeded { .. }
            | Effect::PolicyHealth(_)
            | Effect::Forget { .. }
            | Effect::Answer { .. }
            | Effect::Note(_)
            | Effect::Drained => {}
        }
    }

    fn loading(&self, bytes: u64) -> Duration {
        share(Duration::from_secs(1), bytes, self.plan.load_bytes_per_second)
    }

    fn download(&mut self, hive: HiveId, model: ModelRef) {
        let Some(bytes) = self.sizes.get(&model).copied() else {
            let message = format!("no hive of the fleet has model {model}: its size is not known");
            let result = Err(Error::new(ErrorKind::ModelNotFound, message));
            return self.inputs.push_back(Input::Provisioned { hive, model, result });
        };
        self.report.downloads += 1;
        let delay = self.loading(bytes).saturating_mul(DOWNLOAD);
        self.after(delay, Event::Downloaded { hive, model: ModelOnDisk::new(model, bytes) });
    }
}
