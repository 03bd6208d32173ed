//! Commands of operators in progress, and operations on model files by order of operators.

use super::*;
use crate::{
    cluster::WorkerState,
    error::{ErrorKind, Result},
    id::Ticket,
    load_request::LoadRequest,
    models::Damage,
    scheduler::Ask,
};

/// The most commands in progress at once.
const MOST_COMMANDS: usize = 1_024;
/// When to try again if there are that many: one of so many ends all the time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A model on a hive.
pub(super) type OnHive = (HiveId, ModelRef);

/// An operator's load of a model.
#[derive(Debug)]
pub(super) struct ModelLoad {
    /// The number of the operator's answer.
    pub(super) n: u64,
    pub(super) request: LoadRequest,
    /// Questions that were answered.
    pub(super) questions: u32,
}

/// A load that waits for the policy to choose a hive.
#[derive(Debug)]
pub(super) struct Choosing {
    pub(super) load: ModelLoad,
    pub(super) ask: Ask,
}

/// Those that wait for a download.
#[derive(Debug)]
pub(super) enum Waiter {
    /// Jobs, for which a worker with this number of slots will be started.
    Jobs(u32),
    /// An operator who wants the model on the disk; the number of the answer.
    Operator(u64),
    /// An operator who wants the model loaded.
    Load(ModelLoad),
}

/// Operators' commands in progress, by what they wait for. Those that wait for a download are stored with the download.
#[derive(Debug, Default)]
pub(super) struct Operators {
    /// Waits for the policy to choose a hive.
    pub(super) choosing: BTreeMap<Ticket, Choosing>,
    /// Models being verified, with the numbers of the answers.
    verifying: BTreeMap<OnHive, Vec<u64>>,
    /// Models being removed, with the numbers of the answers.
    removing: BTreeMap<OnHive, Vec<u64>>,
}

impl Operators {
    /// True if the model is being removed from the hive.
    pub(super) fn is_removing(&self, hive: &HiveId, model: &ModelRef) -> bool {
        self.removing.keys().any(|(from, removed)| from == hive && removed == model)
    }
}

/// Answers an operator.
pub(super) fn answer(n: u64, result: Result<CommandOutput>, out: &mut Out) {
    out.push(Effect::Answer { n, result });
}

impl Engine {
    /// Operators' commands in progress, without those that only wait for a record.
    pub(super) fn commands(&self) -> usize {
        let files = [&self.operators.verifying, &self.operators.removing];
        let files = files.into_iter().flat_map(BTreeMap::values).map(Vec::len);
        self.operators.choosing.len() + self.downloads.operators() + files.sum::<usize>()
    }

    /// Refuses one more command while too many are in progress.
    pub(super) fn check_commands(&self) -> Result<()> {
        if self.commands() < MOST_COMMANDS {
            return Ok(());
        }
        let message = format!(
            "{MOST_COMMANDS} commands of operators are under way, which is the most; try again when some have ended"
        );
        Err(Error::new(ErrorKind::SystemAtCapacity, message).with_retry_after(RETRY_AFTER))
    }

    /// Refuses a start while the queen shuts down.
    pub(super) fn check_starts(&self) -> Result<()> {
        if !self.is_draining() {
            return Ok(());
        }
        let message = "the queen is shutting down and starts no workers";
        Err(Error::new(ErrorKind::ShuttingDown, message))
    }

    /// Refuses a command about a hive that does not exist.
    pub(super) fn check_hive(&self, hive: &HiveId) -> Result<()> {
        match self.view.hive(hive) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::NotFound, format!("hive {hive} does not exist"))),
        }
    }

    /// Refuses a model that no engine of the hive can read.
    pub(super) fn check_readable(&self, hive: &HiveId, model: &ModelRef) -> Result<()> {
        self.view.hive(hive).map_or(Ok(()), |view| self.view.check_readable_on(view, model))
    }

    /// Refuses to use files that are being removed.
    pub(super) fn check_not_removing(&self, hive: &HiveId, model: &ModelRef) -> Result<()> {
        if !self.operators.is_removing(hive, model) {
            return Ok(());
        }
        let message =
            format!("model {model} is being removed from hive {hive}; try again when that is done");
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// Fetches a model to the disk of a hive. A model that is there is checked too: files of it may be missing.
    pub(super) fn provision(
        &mut self,
        now: Now,
        n: u64,
        hive: HiveId,
        model: ModelRef,
        out: &mut Out,
    ) {
        match self.check_hive(&hive).and_then(|()| self.check_readable(&hive, &model)) {
            Ok(()) => self.download(now, hive, model, Waiter::Operator(n), out),
            Err(error) => answer(n, Err(error), out),
        }
    }

    /// Verifies a model. Operators who want the same model verified at once share one verification.
    pub(super) fn verify(&mut self, n: u64, hive: HiveId, model: ModelRef, out: &mut Out) {
        if let Err(error) = self.check_hive(&hive) {
            return answer(n, Err(error), out);
        }
        let key = (hive, model);
        if let Some(waiting) = self.operators.verifying.get_mut(&key) {
            return waiting.push(n);
        }
        let (hive, model) = key.clone();
        self.operators.verifying.insert(key, vec![n]);
        out.push(Effect::Verify { hive, model });
    }

    pub(super) fn verified(
        &mut self,
        hive: HiveId,
        model: ModelRef,
        result: Result<Vec<Damage>>,
        out: &mut Out,
    ) {
        for n in self.operators.verifying.remove(&(hive, model)).unwrap_or_default() {
            answer(n, result.clone().map(CommandOutput::Damage), out);
        }
    }

    /// Removes a model that nothing uses or fetches on that hive. Until it is removed, nothing can fetch it there.
    pub(super) fn remove_model(&mut self, n: u64, hive: HiveId, model: ModelRef, out: &mut Out) {
        if let Err(error) = self.check_unused(&hive, &model) {
            return answer(n, Err(error), out);
        }
        let key = (hive, model);
        if let Some(waiting) = self.operators.removing.get_mut(&key) {
            return waiting.push(n);
        }
        let (hive, model) = key.clone();
        self.operators.removing.insert(key, vec![n]);
        out.push(Effect::RemoveModel { hive, model });
    }

    /// Refuses to remove files that are in use or being fetched.
    fn check_unused(&self, hive: &HiveId, model: &ModelRef) -> Result<()> {
        self.check_hive(hive)?;
        if let Some(worker) = self.view.on_hive(hive).find(|worker| worker.info.model == *model) {
            let id = worker.info.id;
            let message = match worker.state {
                WorkerState::Loading => {
                    format!("worker {id} is loading model {model}; stop it first")
                }
                WorkerState::Draining => {
                    format!(
                        "worker {id} with model {model} is being stopped; try again when it is gone"
                    )
                }
                WorkerState::Ready | WorkerState::Failed => {
                    format!("worker {id} has model {model} loaded; stop it first")
                }
            };
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if self.downloads.is_under_way(hive, model) {
            let message = format!(
                "model {model} is being fetched to hive {hive}; try again when that is done"
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(())
    }

    pub(super) fn model_removed(
        &mut self,
        hive: HiveId,
        model: ModelRef,
        result: Result<()>,
        out: &mut Out,
    ) {
        let Some(waiting) = self.operators.removing.remove(&(hive.clone(), model.clone())) else {
            return;
        };
        match &result {
            Ok(()) => {
                self.view.edit_hive(&hive, |view| {
                    if view.models.contains_key(&model) {
                        Arc::make_mut(&mut view.models).remove(&model);
                    }
                });
                self.forget_models(&hive, out);
            }
            // What the hive has now is unknown.
            Err(_) => out.push(Effect::ReportHive { hive }),
        }
        for n in waiting {
            answer(n, result.clone().map(|()| CommandOutput::Done), out);
        }
        // Jobs that wanted a start there have waited.
        self.wake_model(&model);
    }
}
