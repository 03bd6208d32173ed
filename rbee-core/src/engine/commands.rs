//! Commands of operators.

use super::{operators::answer, *};
use crate::{
    cluster::WorkerState,
    error::{ErrorKind, Result},
};

impl Engine {
    pub(super) fn command(&mut self, now: Now, n: u64, command: Command, out: &mut Out) {
        let counts = matches!(
            command,
            Command::LoadModel(_)
                | Command::Provision { .. }
                | Command::Verify { .. }
                | Command::RemoveModel { .. }
        );
        if counts && let Err(error) = self.check_commands() {
            return answer(n, Err(error), out);
        }
        let result = match command {
            Command::PutTenant(record) => {
                return self.change_tenant(n, TenantChange::Put(*record), out);
            }
            Command::RemoveTenant(tenant) => match self.tenants.live_jobs(&tenant) {
                0 => return self.change_tenant(n, TenantChange::Gone(tenant), out),
                jobs => Err(Error::new(
                    ErrorKind::Conflict,
                    format!("tenant {tenant} has {jobs} jobs that have not ended"),
                )),
            },
            Command::Load { worker, hive, spec, evict, pin } => {
                self.load(now, worker, hive, spec, pin, evict, out)
            }
            Command::LoadModel(request) => return self.load_model(now, n, request, out),
            Command::Provision { hive, model } => {
                return self.provision(now, n, hive, model, out);
            }
            Command::Verify { hive, model } => return self.verify(n, hive, model, out),
            Command::RemoveModel { hive, model } => return self.remove_model(n, hive, model, out),
            Command::DrainHive(hive, drain) => self.drain_hive(&hive, drain, out),
            Command::Unload(worker) => self.unload(worker, out),
            Command::Pin(worker, pin) => {
                return self.pin(n, worker, pin, CommandOutput::Done, out);
            }
            Command::Drain => {
                self.lifecycle = self.lifecycle.max(Lifecycle::Draining);
                Ok(())
            }
        };
        answer(n, result.map(|()| CommandOutput::Done), out);
    }

    /// The change takes effect when it is recorded.
    fn change_tenant(&mut self, operator: u64, change: TenantChange, out: &mut Out) {
        let record = match &change {
            TenantChange::Put(record) => Change::TenantPut(record.clone()),
            TenantChange::Gone(tenant) => Change::TenantGone(tenant.clone()),
        };
        let change = match change {
            TenantChange::Put(mut record) => {
                record.limits = record.limits.with_references(&self.config.aliases);
                TenantChange::Put(record)
            }
            gone => gone,
        };
        let n = self.number();
        self.storage.pending.insert(n, PendingWrite::Tenant(operator, change));
        out.push(Effect::Record { n: Some(n), changes: vec![record] });
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one command")]
    pub(super) fn load(
        &mut self,
        now: Now,
        worker: WorkerId,
        hive: HiveId,
        spec: WorkerSpec,
        pin: bool,
        evict: Vec<WorkerId>,
        out: &mut Out,
    ) -> Result<()> {
        let refuse = |kind, message: String| Err(Error::new(kind, message));
        self.check_starts()?;
        let Some(view) = self.view.hive(&hive) else {
            return refuse(ErrorKind::NotFound, format!("hive {hive} does not exist"));
        };
        if !view.online {
            return refuse(ErrorKind::HiveUnreachable, format!("hive {hive} is not online"));
        }
        if spec.slots == 0 {
            return refuse(ErrorKind::InvalidRequest, "slots is 0; allowed is at least 1".into());
        }
        self.check_readable(&hive, &spec.model)?;
        self.check_not_removing(&hive, &spec.model)?;
        if self.view.worker(worker).is_some() {
            return refuse(ErrorKind::InvalidRequest, format!("worker {worker} exists already"));
        }
        if let Some(index) =
            spec.devices.iter().find(|index| !view.devices.iter().any(|d| d.index == **index))
        {
            return refuse(ErrorKind::InvalidRequest, format!("hive {hive} has no device {index}"));
        }
        if let Some(busy) = evict.iter().find(|id| !self.is_stoppable(**id, &hive)) {
            let message = format!("worker {busy} is not an idle, unpinned worker of hive {hive}");
            return refuse(ErrorKind::Conflict, message);
        }
        if let Some(why) = self.has_no_room(&hive, &spec, &evict) {
            return refuse(ErrorKind::InsufficientVram, why);
        }
        self.start_worker(now, worker, hive, spec, pin, evict, out);
        let mark = self.set_flags(worker, |mark| mark.pinned = pin);
        out.extend(mark.map(|change| Effect::Record { n: None, changes: vec![change] }));
        Ok(())
    }

    pub(super) fn drain_hive(&mut self, hive: &HiveId, drain: bool, out: &mut Out) -> Result<()> {
        if !self.view.edit_hive(hive, |view| view.draining = drain) {
            return Err(Error::new(ErrorKind::NotFound, format!("hive {hive} does not exist")));
        }
        if !drain {
            self.wake_all();
            return Ok(());
        }
        let workers: Vec<_> = self.view.on_hive(hive).map(|worker| worker.info.id).collect();
        workers.into_iter().try_for_each(|worker| self.unload(worker, out))
    }

    pub(super) fn unload(&mut self, worker: WorkerId, out: &mut Out) -> Result<()> {
        let Some(view) = self.view.worker(worker) else {
            return Err(Error::new(ErrorKind::NotFound, format!("worker {worker} does not exist")));
        };
        let hive = view.info.hive.clone();
        match view.state {
            WorkerState::Loading if self.spawns.contains(worker) => {
                self.give_up(worker, out);
            }
            WorkerState::Draining => {}
            WorkerState::Loading | WorkerState::Ready | WorkerState::Failed => {
                let is_idle = view.leased == 0;
                self.view.edit_worker(worker, |view| view.state = WorkerState::Draining);
                if is_idle {
                    out.push(Effect::Stop { worker, hive });
                }
            }
        }
        Ok(())
    }

    /// Takes effect at once, and is answered when it is recorded. A pinned replica is no longer a replica: the operator
    /// wants it to stay.
    pub(super) fn pin(
        &mut self,
        operator: u64,
        worker: WorkerId,
        pin: bool,
        output: CommandOutput,
        out: &mut Out,
    ) {
        self.spawns.pin(worker, pin);
        if !self.view.edit_worker(worker, |view| view.pinned = pin) {
            let message = format!("worker {worker} does not exist");
            return answer(operator, Err(Error::new(ErrorKind::NotFound, message)), out);
        }
        self.autoscaler.look_again(&self.config.settings);
        if pin {
            self.autoscaler.gone(worker);
        }
        let change = self.set_flags(worker, |mark| {
            mark.pinned = pin;
            mark.replica &= !pin;
        });
        match change {
            Some(change) => {
                let n = self.number();
                self.storage.pending.insert(n, PendingWrite::Done(operator, output));
                out.push(Effect::Record { n: Some(n), changes: vec![change] });
            }
            None => answer(operator, Ok(output), out),
        }
    }
}
