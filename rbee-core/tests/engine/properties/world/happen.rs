//! All inputs that can occur, valid or not.

use super::*;

impl World {
    pub(crate) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Submit { model, batch, tenant, deadline } => {
                let job = self.job(model, batch, tenant, deadline);
                self.submit(job);
            }
            Op::SubmitAll { models, tenant } => {
                let jobs = (0..models).map(|model| self.job(model, false, tenant, None));
                let jobs: Vec<_> = jobs.collect();
                let submissions = jobs.into_iter().map(|job| self.submission(job)).collect();
                self.feed(Input::SubmitAll(submissions));
            }
            Op::SubmitAgain { which, other } => {
                // A job with the id of one that has ended is another job: ids are not reused.
                let waits = |job: &&Arc<Job>| self.at_the_door.values().any(|id| *id == job.id);
                let known = |job: &&Arc<Job>| self.engine.has_job(job.id) || waits(job);
                let known: Vec<_> = self.submitted.iter().filter(known).cloned().collect();
                if let Some(mut job) = pick(&known, which) {
                    if other && let Some(key) = &mut Arc::make_mut(&mut job).idempotency {
                        Arc::make_mut(key).fingerprint += 1;
                    }
                    self.submit(job);
                }
            }
            Op::Withdraw(which) => {
                let waiting: Vec<_> = self.at_the_door.iter().map(|(n, job)| (*n, *job)).collect();
                if let Some((n, job)) = pick(&waiting, which) {
                    self.at_the_door.remove(&n);
                    self.jobs.get_mut(&job).unwrap().submissions -= 1;
                    self.feed(Input::Withdraw { n, job });
                }
            }
            Op::PolicyChanged { admits } => self.feed(Input::PolicyChanged { admits }),
            Op::Cancel(which) => {
                if let Some(job) = pick(&self.submitted, which) {
                    self.feed(Input::Cancel { job: job.id });
                }
            }
            Op::CancelUnknown => self.feed(Input::Cancel { job: parts::job_id(1) }),
            Op::Recorded { which, how, again } => self.answer_record(which, how, again),
            Op::Placed { which, how, pick, again } => self.answer_question(which, how, pick, again),
            Op::AttemptEnded { which, how, produced, resumable, again } => {
                self.end_run(which, how, produced, resumable, again)
            }
            Op::Silent { which, is_evident, produced } => {
                let leases: Vec<_> = self.runs.keys().copied().collect();
                if let Some(lease) = pick(&leases, which) {
                    let (began, resumable) = (which % 3 > 0, which % 4 > 0);
                    let lasted = Duration::from_secs(3);
                    let silence = Silence { lasted, began, is_evident, produced, resumable };
                    self.feed(Input::Silent { lease, silence });
                }
            }
            Op::Heard { which } => {
                let leases: Vec<_> = self.runs.keys().copied().collect();
                if let Some(lease) = pick(&leases, which) {
                    self.feed(Input::Heard { lease });
                }
            }
            Op::Spawned { which, how, again } => self.answer_spawn(which, how, again),
            Op::Stopped { which, any } => {
                let all = self.all_workers();
                let from = if any { &all } else { &self.stops };
                if let Some(worker) = pick(from, which) {
                    self.stop(worker);
                }
            }
            Op::Connected { which, ok } => {
                if let Some(worker) = take(&mut self.connects, which) {
                    let result = if ok { Ok(()) } else { Err(lost()) };
                    self.feed(Input::Connected { worker, result });
                }
            }
            Op::Probed { which, ok } => {
                if let Some(worker) = take(&mut self.probes, which) {
                    let result = if ok { Ok(WorkerHealth::default()) } else { Err(lost()) };
                    self.feed(Input::Probed { worker, result });
                }
            }
            Op::Provisioned { which, how } => {
                if how == 3 {
                    let (hive, model) = (parts::hive(0), parts::model(2));
                    return self.feed(Input::ProvisionProgress { hive, model });
                }
                if let Some((hive, model)) = take(&mut self.provisions, which) {
                    let result = match how {
                        0 => Err(Error::new(ErrorKind::HiveUnreachable, "cut")),
                        1 => Err(Error::new(ErrorKind::ModelNotFound, "none")),
                        _ => Ok(rbee_core::models::ModelOnDisk::new(model.clone(), 4 * parts::GIB)),
                    };
                    self.feed(Input::Provisioned { hive, model, result });
                }
            }
            Op::Report { hive, how, pick } => self.report(hive, how, pick),
            Op::Exited { which } => {
                let all = self.all_workers();
                if let Some(worker) = pick(&all, which) {
                    let hive = self.remove_from_machine(worker).unwrap_or(parts::hive(0));
                    self.hive(&hive, HiveFact::WorkerExited { worker, why: lost() });
                }
            }
            Op::Hive { hive, how } => self.change_hive(hive, how),
            Op::Command { how, pick, hive } => self.command(how, pick, hive),
            Op::Chosen { which, how, pick, again } => self.answer_choice(which, how, pick, again),
            Op::Verified { which, ok } => self.answer_verification(which, ok),
            Op::Removed { which, ok } => self.answer_removal(which, ok),
            Op::Restore { jobs } => self.restore(jobs),
            Op::Unknown(kind) => self.unknown(kind),
            Op::Wait { millis } => {
                self.now = self.now + Duration::from_millis(millis);
                self.feed(Input::Tick);
            }
            Op::WaitForTimer => {
                if let Some(at) = self.engine.next_wake() {
                    self.now = at;
                    self.feed(Input::Tick);
                }
            }
        }
    }

    /// A new job. Every third one has an idempotency key.
    fn job(&mut self, model: usize, batch: bool, tenant: usize, deadline: Option<u64>) -> Arc<Job> {
        let bits = self.fresh();
        let mut job = parts::job(bits, parts::model(model));
        job.priority = if batch { Priority::Batch } else { Priority::Interactive };
        job.tenant = (tenant > 0).then(|| format!("tenant-{tenant}").parse().unwrap());
        job.deadline = deadline.map(Duration::from_millis);
        job.idempotency = bits.is_multiple_of(3).then(|| {
            let key = format!("key-{bits}").into();
            Arc::new(Idempotency { key, part: 0, fingerprint: 1 })
        });
        let job = Arc::new(job);
        self.submitted.push(job.clone());
        job
    }

    pub(super) fn all_workers(&self) -> Vec<WorkerId> {
        self.engine.view().workers().map(|view| view.info.id).collect()
    }

    pub(super) fn remove_from_machine(&mut self, worker: WorkerId) -> Option<HiveId> {
        let (hive, machine) =
            self.machines.iter_mut().find(|(_, machine)| machine.workers.contains_key(&worker))?;
        machine.workers.remove(&worker);
        machine.rev += 1;
        Some(hive.clone())
    }

    pub(super) fn stop(&mut self, worker: WorkerId) {
        self.stops.retain(|id| *id != worker);
        self.remove_from_machine(worker);
        self.feed(Input::Stopped { worker });
    }

    pub(super) fn answer_record(&mut self, which: usize, how: u8, again: bool) {
        let n = if again { pick(&self.records, which) } else { take(&mut self.records, which) };
        let Some(n) = n else { return };
        let result = match how {
            0 => Err(Error::new(ErrorKind::Storage, "full")),
            1 => Err(Error::new(ErrorKind::Fenced, "another's")),
            _ => Ok(()),
        };
        self.feed(Input::Recorded { n, result });
    }

    pub(super) fn answer_question(&mut self, which: usize, how: u8, choice: usize, again: bool) {
        if self.questions.is_empty() {
            return;
        }
        let at = which % self.questions.len();
        let (ticket, question, ask) = self.questions[at].clone();
        if !again {
            self.questions.remove(at);
        }
        if question == Question::Admit {
            let advice = match how {
                0 => Advice::Admission(Admission::Accept { rank: choice as i64 - 3 }),
                1 => Advice::Admission(Admission::Refuse(Error::new(ErrorKind::Rejected, "no"))),
                2 => Advice::Failed(Error::new(ErrorKind::Internal, "broken")),
                3 => Advice::NoTime,
                4 => Advice::Placement(Placement::Wait),
                _ => Advice::Admission(Admission::default()),
            };
            return self.feed(Input::Advised { ticket, advice });
        }
        if how == 8 {
            let advice = match choice % 2 {
                0 => Advice::NoTime,
                _ => Advice::Admission(Admission::default()),
            };
            return self.feed(Input::Advised { ticket, advice });
        }
        let workers = self.all_workers();
        let hive = parts::hive(choice % 3);
        let answer = match how {
            0 => Ok(Placement::Assign(parts::worker(u128::MAX))),
            1 => Ok(pick(&workers, choice).map_or(Placement::Wait, Placement::Assign)),
            2 => Ok(Placement::Wait),
            3 => Ok(Placement::Reject(Error::new(ErrorKind::Rejected, "no"))),
            4 => Err(Error::new(ErrorKind::Internal, "broken")),
            5 => Ok(Placement::Spawn {
                hive,
                spec: parts::spec(ask.job.model.clone(), choice as u32 % 3),
                evict: workers.into_iter().skip(choice % 5).take(2).collect(),
            }),
            6 => Ok(Placement::Spawn {
                hive,
                spec: parts::spec(parts::model(choice % 3), 2),
                evict: Vec::new(),
            }),
            7 => {
                let view = self.engine.view();
                let victims = view.on_hive(&hive).filter(|worker| worker.is_evictable());
                let evict = victims.map(|worker| worker.info.id).collect();
                let spec = parts::spec(ask.job.model.clone(), 1);
                Ok(Placement::Spawn { hive, spec, evict })
            }
            _ => {
                let advice = question.put_to(&LeastLoaded::default(), &ask, self.engine.view());
                return self.feed(Input::Advised { ticket, advice });
            }
        };
        let advice = answer.map_or_else(Advice::Failed, Advice::Placement);
        self.feed(Input::Advised { ticket, advice });
    }

    pub(super) fn end_run(
        &mut self,
        which: usize,
        how: u8,
        produced: u32,
        resumable: bool,
        again: bool,
    ) {
        let leases: Vec<_> = self.runs.keys().copied().collect();
        let Some(lease) = pick(&leases, which) else {
            return;
        };
        let failed = |kind| AttemptResult::Failed(Error::new(kind, "made up"));
        let result = match how {
            0 => failed(ErrorKind::WorkerLost),
            1 => failed(ErrorKind::WorkerBusy),
            2 => failed(ErrorKind::ContextExceeded),
            3 => failed(ErrorKind::WorkerFault),
            4 => AttemptResult::Aborted,
            5 => failed(ErrorKind::WorkerUnreachable),
            _ => done(),
        };
        self.tell_end(lease, result, produced, resumable);
        if again {
            let result = failed(ErrorKind::WorkerLost);
            self.tell_end(lease, result, produced, resumable);
        }
    }

    pub(super) fn tell_end(
        &mut self,
        lease: LeaseId,
        result: AttemptResult,
        produced: u32,
        resumable: bool,
    ) {
        if let Some(run) = self.runs.remove(&lease)
            && produced > 0
            && !run.aborted
            && let Some(view) = self.engine.view().worker(run.worker)
            && let Some(watched) = self.jobs.get_mut(&run.job)
        {
            watched.must_match.get_or_insert(view.info.numerics.clone());
        }
        let end = AttemptEnd { result, produced, resumable };
        self.feed(Input::AttemptEnded { lease, end });
    }

    pub(super) fn answer_spawn(&mut self, which: usize, how: u8, again: bool) {
        let spawn = if again { pick(&self.spawns, which) } else { take(&mut self.spawns, which) };
        let Some((worker, hive, spec)) = spawn else {
            return;
        };
        let mut info = parts::info(worker, hive.clone(), spec.model, spec.slots);
        match how {
            0 => {
                let result = Err(Error::new(ErrorKind::WorkerFault, "made up"));
                return self.feed(Input::Spawned { worker, result });
            }
            1 => {
                let result = Err(Error::new(ErrorKind::InsufficientVram, "made up"));
                return self.feed(Input::Spawned { worker, result });
            }
            // The worker that answers is not the one that was started.
            2 => info.id = pick(&self.all_workers(), which).unwrap_or(parts::worker(77)),
            3 => info.model = parts::model(0),
            4 => info.hive = parts::hive(2),
            5 => info.numerics = "other".into(),
            _ => {}
        }
        if let Some(machine) = self.machines.get_mut(&hive) {
            machine.rev += 1;
            info.since = machine.rev;
            if info.id == worker && info.hive == hive {
                machine.workers.insert(worker, info.clone());
            }
        }
        let result = Ok(Arc::new(info));
        self.feed(Input::Spawned { worker, result });
    }

    pub(super) fn report(&mut self, hive: usize, how: u8, choice: usize) {
        let id = parts::hive(hive);
        let Some(machine) = self.machines.get(&id) else {
            // An unknown one.
            let report = parts::report(1, [], []);
            return self.hive(&id, HiveFact::Report(Box::new(report)));
        };
        let models = [parts::model(0), parts::model(1), parts::model(2)];
        let mut workers: Vec<_> = machine.workers.values().cloned().collect();
        let mut rev = machine.rev;
        match how {
            // One is left out, and one is invented.
            0 => _ = (!workers.is_empty()).then(|| workers.remove(choice % workers.len())),
            1 => workers.push(parts::info(
                parts::worker(choice as u128 + 500),
                id.clone(),
                parts::model(choice % 3),
                choice as u32 % 3,
            )),
            2 => rev = rev.saturating_sub(choice as u64),
            3 => workers.clear(),
            4 => workers.extend(workers.clone()),
            // A worker of another machine.
            5 => workers.extend(
                self.machines
                    .values()
                    .flat_map(|machine| machine.workers.values())
                    .nth(choice % 4)
                    .cloned(),
            ),
            _ => return self.report_truth(&id),
        }
        let report = parts::report(rev, models, workers);
        self.hive(&id, HiveFact::Report(Box::new(report)));
    }

    pub(super) fn change_hive(&mut self, hive: usize, how: u8) {
        let id = parts::hive(hive);
        match how {
            0 => {
                self.hive(&id, HiveFact::Removed);
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.member = false;
                    machine.workers.clear();
                }
            }
            1..3 => {
                self.hive(&id, HiveFact::Unreachable(Error::new(ErrorKind::HiveUnreachable, "cut")))
            }
            _ => {
                let machine = self.machines.entry(id.clone()).or_insert(Machine {
                    rev: 1,
                    workers: BTreeMap::new(),
                    member: true,
                });
                machine.member = true;
                self.hive(&id, parts::added());
            }
        }
    }

    pub(super) fn command(&mut self, how: u8, choice: usize, hive: usize) {
        let n = self.fresh() as u64;
        // An existing name, or a new one: names are not reused.
        let fresh = parts::worker(self.fresh());
        let worker = pick(&self.all_workers(), choice).unwrap_or(fresh);
        let command = match how {
            0 | 1 => Command::Load {
                worker: if how == 0 { fresh } else { worker },
                hive: parts::hive(hive),
                spec: parts::spec(parts::model(choice % 3), choice as u32 % 3),
                evict: pick(&self.all_workers(), choice / 3).into_iter().take(choice % 2).collect(),
                pin: choice.is_multiple_of(2),
            },
            2..4 => Command::Unload(worker),
            4 => Command::Unload(parts::worker(9)),
            5 if choice == 0 => Command::Drain,
            6 => Command::DrainHive(parts::hive(hive), choice.is_multiple_of(2)),
            8 | 9 => Command::LoadModel(LoadRequest {
                hive: choice.is_multiple_of(3).then(|| parts::hive(hive)),
                devices: choice.is_multiple_of(5).then(|| vec![choice as u32 % 2]),
                slots: choice.is_multiple_of(4).then_some(choice as u32 % 3),
                pin: choice.is_multiple_of(2),
                ..LoadRequest::new(parts::model(choice % 3))
            }),
            10 => Command::Provision { hive: parts::hive(hive), model: parts::model(choice % 3) },
            11 => Command::Verify { hive: parts::hive(hive), model: parts::model(choice % 3) },
            12 | 13 => {
                Command::RemoveModel { hive: parts::hive(hive), model: parts::model(choice % 3) }
            }
            _ => Command::Pin(worker, choice.is_multiple_of(2)),
        };
        self.commands.insert(n);
        self.feed(Input::Command { n, command });
    }

    pub(super) fn answer_choice(&mut self, which: usize, how: u8, choice: usize, again: bool) {
        if self.choices.is_empty() {
            return;
        }
        let at = which % self.choices.len();
        let (ticket, ask, request) = self.choices[at].clone();
        if !again {
            self.choices.remove(at);
        }
        let hive = parts::hive(choice % 3);
        let answer = match how {
            0 => Ok(Placement::Wait),
            1 => Ok(Placement::Reject(Error::new(ErrorKind::Rejected, "no"))),
            2 => Err(Error::new(ErrorKind::Internal, "broken")),
            3 => Ok(Placement::Spawn {
                hive,
                spec: parts::spec(parts::model(choice % 3), choice as u32 % 3),
                evict: self.all_workers().into_iter().skip(choice % 5).take(2).collect(),
            }),
            4 => Ok(Placement::Spawn {
                hive,
                spec: parts::spec(request.model, 1),
                evict: Vec::new(),
            }),
            _ => request
                .candidates(self.engine.view())
                .and_then(|seen| LeastLoaded::default().place(&ask, &seen)),
        };
        self.feed(Input::HiveChosen { ticket, answer });
    }

    pub(super) fn answer_verification(&mut self, which: usize, ok: bool) {
        if let Some((hive, model)) = take(&mut self.verifications, which) {
            let result = if ok { Ok(Vec::new()) } else { Err(lost()) };
            self.feed(Input::Verified { hive, model, result });
        }
    }

    pub(super) fn answer_removal(&mut self, which: usize, ok: bool) {
        if let Some((hive, model)) = take(&mut self.removals, which) {
            let result = if ok { Ok(()) } else { Err(lost()) };
            self.feed(Input::ModelRemoved { hive, model, result });
        }
    }

    pub(super) fn restore(&mut self, jobs: u8) {
        let mut snapshot = Snapshot { epoch: Epoch(1), ..Snapshot::default() };
        for n in 0..jobs {
            let bits = self.fresh();
            let job = Arc::new(parts::job(bits, parts::model(usize::from(n))));
            let running = bits.is_multiple_of(2);
            let wall = WallTime::from_millis(self.now.as_micros() / 1000);
            let live = match running {
                true => LiveJob::queued().started(parts::worker(1), wall),
                false => LiveJob::queued(),
            };
            let watched = self.jobs.entry(job.id).or_default();
            (watched.queued, watched.accepted) = (true, true);
            snapshot.jobs.push(JobRecord {
                id: job.id,
                tenant: None,
                model: job.model.clone(),
                priority: job.priority,
                status: JobStatus::Live(live),
                order: bits as u64,
                submitted_at: wall,
                attempts: bits as u32 % 6,
                restarts: bits as u32 % 22,
                correlation_id: job.correlation_id.clone(),
                idempotency: None,
                owner: Epoch(1),
                request: (!bits.is_multiple_of(5)).then_some(job),
                outline: None,
                numerics: None,
                format: rbee_core::answer::AnswerFormat::default(),
                chunks: Vec::new(),
                vectors: None,
                output_kept: false,
                taken_over: false,
                tokens_generated: 0,
            });
        }
        // Jobs that were taken over before are restored again; which of them can run again is known by then.
        let mut again = snapshot.clone();
        again.jobs.retain(|record| {
            record.request.is_some() && record.attempts <= 3 && record.restarts <= 20
        });
        for snapshot in [snapshot, again] {
            self.feed(Input::Restore { snapshot: Box::new(snapshot) });
        }
    }

    pub(super) fn unknown(&mut self, kind: u8) {
        let (worker, hive) = (parts::worker(99), parts::hive(9));
        let input = match kind {
            0 => Input::Recorded { n: u64::MAX, result: Ok(()) },
            1 => {
                let advice = Advice::Placement(Placement::Wait);
                Input::Advised { ticket: Ticket(u64::MAX), advice }
            }
            2 => {
                let end = AttemptEnd { result: done(), produced: 1, resumable: true };
                let lease = LeaseId(u64::MAX);
                Input::AttemptEnded { lease, end }
            }
            3 => Input::Stopped { worker },
            4 => Input::Connected { worker, result: Ok(()) },
            5 => Input::Probed { worker, result: Err(lost()) },
            6 => {
                let model = parts::model(7);
                let result = Ok(rbee_core::models::ModelOnDisk::new(model.clone(), 1));
                Input::Provisioned { hive, model, result }
            }
            _ => Input::Hive { hive, fact: HiveFact::Unreachable(lost()) },
        };
        self.feed(input);
    }
}
