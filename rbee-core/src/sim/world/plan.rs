//! The plan of a simulation: the fleet, the jobs that arrive, and the faults.

use super::*;

impl World<'_> {
    pub(super) fn set_up_fleet(&mut self) {
        for h in 0..self.plan.hives {
            let hive: HiveId = HiveId::new(format!("hive-{h}")).expect("a valid name");
            let workers = (0..self.plan.workers_per_hive).map(|w| {
                let n = h * self.plan.workers_per_hive + w;
                let id = WorkerId::from_random_bits(1 + n as u128);
                let model = self.models[n % self.plan.models.max(1)].clone();
                let mut info = WorkerInfo::named(id, model, "simulated");
                info.hive = hive.clone();
                info.slots = self.plan.slots;
                info.capabilities.resume = true;
                (info.id, info)
            });
            let machine = Machine { rev: 1, workers: workers.collect(), reachable: true };
            self.machines.insert(hive.clone(), machine);
            let fact = HiveFact::Added(Box::new(HiveInfo::http(hive.clone(), hive.as_str(), 0)));
            self.take(Input::Hive { hive: hive.clone(), fact });
            self.take_report(&hive);
        }
    }

    pub(super) fn take_report(&mut self, hive: &HiveId) {
        let machine = &self.machines[hive];
        let report = HiveReport {
            engines: None,
            rev: machine.rev,
            devices: vec![Device {
                index: 0,
                kind: DeviceKind::Cpu,
                name: "simulated".into(),
                memory_total: 64 * GIB,
                memory_free: (64 * GIB).saturating_sub(machine.workers.len() as u64 * 10 * GIB),
            }],
            models: self
                .models
                .iter()
                .map(|model| crate::model_on_disk::ModelOnDisk::new(model.clone(), 4 * GIB))
                .collect(),
            workers: machine
                .workers
                .values()
                .map(|info| WorkerReport {
                    info: info.clone(),
                    health: WorkerHealth { vram_bytes: Some(10 * GIB), ..WorkerHealth::default() },
                })
                .collect(),
        };
        self.take(Input::Hive { hive: hive.clone(), fact: HiveFact::Report(Box::new(report)) });
    }

    pub(super) fn plan_arrivals(&mut self) {
        let settings = Settings::default();
        for n in 0..self.plan.jobs {
            let model = self.models[self.rng.below(self.models.len() as u64) as usize].clone();
            let request = Request::completion(model.to_string(), "x");
            let mut job: Job =
                request.into_job(model, &settings, n as u64).expect("a valid request");
            job.id = JobId::from_random_bits(n as u128);
            job.priority =
                if self.rng.below(4) == 0 { Priority::Batch } else { Priority::Interactive };
            if self.plan.tenants > 0 {
                let tenant = self.rng.below(self.plan.tenants as u64);
                job.tenant = Some(TenantId::new(format!("tenant-{tenant}")).expect("a valid name"));
            }
            let at = self.rng.millis(0, self.plan.arrivals.as_millis() as u64);
            if self.rng.per_mille(self.plan.faults.cancels) {
                let later = at + self.rng.millis(0, 500);
                self.after(later, Input::Cancel { job: job.id });
            }
            self.unanswered.insert(job.id);
            let submission = Submission::new(n as u64, Arc::new(job));
            self.after(at, Input::Submit(submission));
        }
    }

    pub(super) fn plan_outages(&mut self) {
        let span = self.plan.arrivals.as_millis() as u64;
        for hive in self.machines.keys().cloned().collect::<Vec<_>>() {
            if self.rng.per_mille(self.plan.faults.outages) {
                let at = self.rng.millis(0, span);
                let why = Error::new(ErrorKind::HiveUnreachable, "simulated outage");
                let fact = HiveFact::Unreachable(why);
                self.after(at, Input::Hive { hive: hive.clone(), fact });
            }
            for worker in self.machines[&hive].workers.keys().copied().collect::<Vec<_>>() {
                if self.rng.per_mille(self.plan.faults.exits) {
                    let at = self.rng.millis(0, span);
                    let why = Error::new(ErrorKind::WorkerLost, "signal 9");
                    self.after(
                        at,
                        Input::Hive {
                            hive: hive.clone(),
                            fact: HiveFact::WorkerExited { worker, why },
                        },
                    );
                }
            }
        }
    }
}
