//! Carries out the engine's effects.

use super::super::model_locator::Readers;
use super::*;
use crate::metrics;
use crate::registry::Change;

impl Driver {
    pub(super) fn carry_out(&mut self, effect: Effect, effects: &mut Vec<Effect>) {
        match effect {
            Effect::Record { n, changes } => {
                let kept = match changes[..] {
                    [Change::JobEnded { job, keep_output: true, .. }] => Some(job),
                    _ => None,
                };
                match kept.and_then(|job| Some((job, self.context.logs.get(job)?))) {
                    Some((job, log)) => {
                        self.context.writer.write_with_answer(n, changes, job, &log)
                    }
                    None => self.context.writer.write(n, changes),
                }
            }
            Effect::Admitted { n, job } => {
                if let Some(submitter) = self.submitters.get(&(job, n)) {
                    self.context.logs.insert(job, submitter.log.clone());
                }
            }
            Effect::Accept { n, job, answer } => {
                let submitter = self.submitters.remove(&(job, n));
                if let Err(error) = &answer {
                    let tenant = submitter.as_ref().and_then(|submitter| submitter.log.tenant());
                    metrics::refused(tenant.as_ref(), error);
                }
                if let Some(submitter) = submitter {
                    let _ = submitter.reply.send(answer);
                }
            }
            Effect::ChooseHive { ticket, ask, request } => self.choose_hive(ticket, ask, &request),
            Effect::Consult { ticket, question, ask } => {
                self.consult(ticket, question, ask, effects);
            }
            Effect::Unheeded { ticket } => self.context.decisions.came_to_nothing(ticket),
            Effect::PolicyHealth(health) => self.policy.active().set_health(*health),
            Effect::Start { lease, job, worker, attempt, queue_wait } => {
                let Some((worker, log)) =
                    self.workers.get(&worker).zip(self.context.logs.get(job.id))
                else {
                    return self.no_such_worker(lease, worker);
                };
                let numerics = &worker.info().numerics;
                let peers = self.engine.view().with_model(&job.model);
                let peers = peers.filter(|peer| peer.info.numerics == *numerics);
                let peers = peers.map(|peer| peer.info.id);
                let (rhythm, usual_gap) = self.rhythms.of(worker.info().id, peers);
                if attempt == 1 {
                    metrics::started(&job, queue_wait);
                }
                let attempt = Attempt {
                    lease,
                    started: Started {
                        worker: Some(worker.info().id),
                        queue_wait,
                        format: worker.info().capabilities.answer_of(&job.task),
                    },
                    job,
                    attempt,
                    worker: worker.clone(),
                    log,
                    settings: self.context.settings.clone(),
                    writer: self.context.writer.clone(),
                    rhythm,
                    usual_gap,
                };
                self.attempts.insert(lease, attempt.spawn(self.context.inbox.clone()));
            }
            Effect::Abort { lease } => {
                self.attempts.remove(&lease);
            }
            Effect::Finish { job, outcome } => {
                let log = self.context.logs.get(job);
                let tenant = log.as_ref().and_then(|log| log.tenant());
                metrics::ended(tenant.as_ref(), &outcome);
                if let Some(log) = log {
                    log.close(&outcome);
                    self.context.logs.ended(job);
                }
            }
            Effect::Provision { hive, model } => match self.hive_tasks(&hive) {
                Some(hive_tasks) => {
                    let view = self.engine.view();
                    let engines = view.hive(&hive).and_then(|hive| hive.engines.clone());
                    let readers = Readers { engines, kind: view.kind_of(&model) };
                    hive_tasks.provision(self.holders(&model), model, readers);
                }
                None => {
                    let result = Err(no_such_hive(&hive));
                    self.context.inbox.input(Input::Provisioned { hive, model, result });
                }
            },
            Effect::Verify { hive, model } => match self.hive_tasks(&hive) {
                Some(hive_tasks) => hive_tasks.verify(model),
                None => {
                    let result = Err(no_such_hive(&hive));
                    self.context.inbox.input(Input::Verified { hive, model, result });
                }
            },
            Effect::RemoveModel { hive, model } => match self.hive_tasks(&hive) {
                Some(hive_tasks) => hive_tasks.remove_model(model),
                None => {
                    let result = Err(no_such_hive(&hive));
                    self.context.inbox.input(Input::ModelRemoved { hive, model, result });
                }
            },
            Effect::Spawn { worker, hive, spec } => match self.hive_tasks(&hive) {
                Some(hive_tasks) => hive_tasks.spawn(worker, spec),
                None => {
                    let result = Err(no_such_hive(&hive));
                    self.context.inbox.input(Input::Spawned { worker, result });
                }
            },
            Effect::Stop { worker, hive } => match self.hive_tasks(&hive) {
                Some(hive_tasks) => hive_tasks.stop(worker),
                None => self.context.inbox.input(Input::Stopped { worker }),
            },
            Effect::Connect { worker, hive } => match self.hive_tasks(&hive) {
                Some(hive_tasks) => hive_tasks.connect(worker),
                None => {
                    let result = Err(no_such_hive(&hive));
                    self.context.inbox.input(Input::Connected { worker, result });
                }
            },
            Effect::Probe { worker, within } => match self.workers.get(&worker).cloned() {
                Some(handle) => {
                    hive_tasks::probe(worker, handle, within, self.context.inbox.clone());
                }
                None => {
                    let result = Err(no_handle(worker));
                    self.context.inbox.input(Input::Probed { worker, result });
                }
            },
            Effect::ReportHive { hive } => {
                if let Some(hive) = self.hives.get(&hive) {
                    hive.report_soon.notify_one();
                }
            }
            Effect::Forget { worker } => {
                self.workers.remove(&worker);
                self.rhythms.forget(worker);
            }
            Effect::Answer { n, result } => {
                if let Some(operator) = self.operators.remove(&n) {
                    let _ = operator.send(result);
                }
            }
            Effect::Note(note) => {
                metrics::noted(&note);
                self.log_note(&note);
            }
            Effect::Drained => {
                self.is_drained = true;
                for drained in self.drained.drain(..) {
                    let _ = drained.send(());
                }
            }
        }
    }

    fn log_note(&self, note: &Note) {
        match note {
            Note::PolicySuspended(error) => tracing::error!(
                policy = self.policy.scheduler().info().name, %error,
                "the policy failed too often in a row; the built-in one decides until it is replaced"
            ),
            _ => log_note(note),
        }
    }

    /// The engine knows a worker without a handle: the worker counts as gone.
    fn no_such_worker(&self, lease: LeaseId, worker: WorkerId) {
        let result = AttemptResult::Failed(no_handle(worker));
        let end = AttemptEnd { result, produced: 0, resumable: true };
        self.context.inbox.input(Input::AttemptEnded { lease, end });
    }
}

fn no_handle(worker: WorkerId) -> Error {
    let message = format!("there is no handle on worker {worker}");
    Error::new(ErrorKind::WorkerUnreachable, message)
}

fn no_such_hive(hive: &HiveId) -> Error {
    Error::new(ErrorKind::HiveUnreachable, format!("hive {hive} no longer belongs to the fleet"))
}

fn log_note(note: &Note) {
    match note {
        Note::PolicySuspended(_) => {}
        Note::RefusedByPolicy(job, error) => {
            tracing::info!(%job, error = error.for_log(), "the policy refused the job");
        }
        Note::StaleAnswer(_) | Note::SpawnSuppressed(_) => {
            tracing::debug!(?note, "the scheduler's answer was not used")
        }
        Note::Evicted(worker, model) => tracing::info!(%worker, %model, "evicted to make room"),
        Note::ScaledUp(worker, hive, model) => {
            tracing::info!(%worker, %hive, %model, "jobs queue up; starting one more worker");
        }
        Note::ScaledBack(worker, model) => {
            tracing::info!(%worker, %model, "the other workers suffice; stopping this one");
        }
        Note::Expired(worker, model) => tracing::info!(%worker, %model, "stopped after idling"),
        Note::Retried(job, worker, error) => {
            tracing::info!(%job, %worker, error = error.for_log(), "the attempt failed; the job is tried again");
        }
        Note::BusyAnswer(worker) => tracing::debug!(%worker, "answered that it was busy"),
        Note::PolicyFault(error) => {
            tracing::warn!(%error, "the scheduler failed; the built-in one decides");
        }
        Note::HiveOnline(hive) => tracing::info!(%hive, "the hive answers"),
        Note::HiveOffline(hive, error) => {
            tracing::warn!(%hive, %error, "the hive does not answer");
        }
        Note::Provisioning(hive, model) => {
            tracing::info!(%hive, %model, "fetching the model");
        }
        Note::Spawning(worker, hive, model) => {
            tracing::info!(%worker, %hive, %model, "starting a worker");
        }
        Note::WorkerReady(worker, hive, model) => {
            tracing::info!(%worker, %hive, %model, "the worker is ready");
        }
        Note::WorkerGone(worker, hive, model, error) => {
            tracing::info!(%worker, %hive, %model, %error, "the worker is gone");
        }
        Note::SpawnFailed(hive, model, error) => {
            tracing::warn!(%hive, %model, %error, "a worker could not be started");
        }
        Note::WorkerSuspected(worker, error) => {
            tracing::warn!(%worker, error = error.for_log(), "may have died or hang; it gets no jobs until it is known to be healthy");
        }
        Note::WorkerTrusted(worker) => {
            tracing::info!(%worker, "is healthy; it gets jobs again");
        }
        Note::WorkerFailed(worker) => {
            tracing::warn!(%worker, "failed too often; it gets no jobs until a probe succeeds");
        }
        Note::Unrecorded(job, error) => {
            let error = error.as_ref().map(Error::for_log);
            tracing::error!(%job, error, "the job has ended, and that is not recorded");
        }
        Note::StoreFailed(error) => {
            tracing::error!(%error, "the store cannot be written; no job is accepted until it can");
        }
        Note::StoreBack(after) => {
            tracing::info!(?after, "the store is written again; jobs are accepted");
        }
    }
}
