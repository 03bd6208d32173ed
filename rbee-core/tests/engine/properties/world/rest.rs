//! Answers everything correctly until the engine comes to rest.

use super::*;

impl World {
    /// Answers everything correctly and lets time pass until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        self.come_to_rest();
        let members: Vec<_> = self.members();
        // Twice: if one hive claimed another's workers, the second report corrects it.
        for _ in 0..2 {
            members.iter().for_each(|hive| self.report_truth(hive));
            self.come_to_rest();
        }
        for (job, watched) in &self.jobs {
            assert_eq!(watched.accepts, watched.submissions, "job {job} was not answered");
            assert!(watched.finished || !watched.accepted, "accepted job {job} never ended");
            assert!(!self.engine.has_job(*job));
        }
        assert!(self.commands.is_empty(), "commands were not answered");
        for hive in members {
            let seen: BTreeSet<_> =
                self.engine.view().on_hive(&hive).map(|view| view.info.id).collect();
            let real: BTreeSet<_> = self.machines[&hive].workers.keys().copied().collect();
            assert_eq!(seen, real, "the view of {hive} is not what runs there");
        }
    }

    pub(super) fn members(&self) -> Vec<HiveId> {
        let members = self.machines.iter().filter(|(_, machine)| machine.member);
        members.map(|(hive, _)| hive.clone()).collect()
    }

    pub(super) fn come_to_rest(&mut self) {
        for _ in 0..STEPS {
            if self.answer_one() {
                continue;
            }
            if self.engine.is_quiet() {
                return;
            }
            let at = self.engine.next_wake();
            self.now = at
                .unwrap_or_else(|| panic!("not quiet, and no alarm: {:?}", self.engine.counters()));
            self.feed(Input::Tick);
        }
        panic!("not quiet in time: {:?}", self.engine.counters());
    }

    pub(super) fn answer_one(&mut self) -> bool {
        if !self.records.is_empty() {
            self.answer_record(0, 9, false);
        } else if !self.questions.is_empty() {
            self.answer_question(0, 9, 0, false);
        } else if let Some((lease, run)) = self.runs.first_key_value() {
            let (lease, aborted) = (*lease, run.aborted);
            let result = if aborted { AttemptResult::Aborted } else { done() };
            self.tell_end(lease, result, 0, true);
        } else if !self.spawns.is_empty() {
            self.answer_spawn(0, 9, false);
        } else if let Some(worker) = self.stops.first().copied() {
            self.stop(worker);
        } else if let Some(worker) = self.connects.pop() {
            let there = self.machines.values().any(|machine| machine.workers.contains_key(&worker));
            let result = if there { Ok(()) } else { Err(lost()) };
            self.feed(Input::Connected { worker, result });
        } else if let Some(worker) = self.probes.pop() {
            let result = Ok(WorkerHealth::default());
            self.feed(Input::Probed { worker, result });
        } else if !self.provisions.is_empty() {
            self.apply(&Op::Provisioned { which: 0, how: 2 });
        } else if !self.choices.is_empty() {
            self.answer_choice(0, 9, 0, false);
        } else if !self.verifications.is_empty() {
            self.answer_verification(0, true);
        } else if !self.removals.is_empty() {
            self.answer_removal(0, true);
        } else if let Some(hive) = self.reports_due.pop_first() {
            if self.machines.get(&hive).is_some_and(|machine| machine.member) {
                self.report_truth(&hive);
            }
        } else {
            return false;
        }
        true
    }
}
