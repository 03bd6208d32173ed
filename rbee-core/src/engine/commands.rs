//! What an operator orders.

use super::{operators::answer, *};

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
                self.draining = true;
                Ok(())
            }
        };
        answer(n, result.map(|()| CommandOutput::Done), out);
    }

    /// It holds when it is recorded.
    fn change_tenant(&mut self, operator: u64, change: TenantChange, out: &mut Out) {
        let record = match &change {
            TenantChange::Put(record) => Change::TenantPut(record.clone()),
            TenantChange::Gone(tenant) => Change::TenantGone(tenant.clone()),
        };
        let change = match change {
            TenantChange::Put(mut record) => {
                record.limits = record.limits.with_references(&self.aliases);
                TenantChange::Put(record)
            }
            gone => gone,
        };
        let n = self.number();
        self.awaited.insert(n, Awaited::Tenant(operator, change));
        out.push(Effect::Record { n: Some(n), changes: vec![record] });
    }
}
