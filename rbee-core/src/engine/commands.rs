//! What an operator orders.

use super::*;

impl Engine {
    pub(super) fn command(&mut self, now: Now, n: u64, command: Command, out: &mut Out) {
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
            Command::DrainHive(hive, drain) => self.drain_hive(&hive, drain, out),
            Command::Unload(worker) => self.unload(worker, out),
            Command::Pin(worker, pin) => return self.pin(n, worker, pin, out),
            Command::Drain => {
                self.draining = true;
                Ok(())
            }
        };
        out.push(Effect::Answer { n, result });
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
