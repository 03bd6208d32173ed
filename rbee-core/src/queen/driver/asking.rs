//! Questions to the policy: which jobs may join the queue, and where those that wait go.

use super::{
    super::{decisions::Kept, log::JobLog, policy::Asked},
    *,
};
use crate::{Admission, Ask, Placement, Ticket, metrics};

impl Driver {
    /// A job asks to be admitted; the policy may have an opinion.
    pub(super) fn submit(
        &mut self,
        job: Arc<crate::Job>,
        log: Arc<JobLog>,
        reply: oneshot::Sender<Result<Submitted>>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.policy.admits() {
            return self.enter(job, log, reply, effects);
        }
        let ask = Ask::first(job.clone(), self.now(), super::super::fresh_seed());
        // The policy answers here or there, so what waits for the answer goes to whichever needs it.
        let waiting = Arc::new(std::sync::Mutex::new(Some((job, log, reply))));
        let take = |waiting: &std::sync::Mutex<Option<_>>| {
            waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        };
        let (later, mailbox) = (waiting.clone(), self.shell.mailbox.clone());
        let then = move |answer| {
            if let Some((job, log, reply)) = take(&later) {
                mailbox.post(Message::Admitted { job, log, reply, answer });
            }
        };
        let asked = self.policy.admit(ask, self.engine.view(), then);
        if let Asked::Policy(answer) | Asked::BuiltIn(answer) = asked
            && let Some((job, log, reply)) = take(&waiting)
        {
            self.admitted(job, log, reply, answer, effects);
        }
    }

    /// The policy has said whether the job may join the queue.
    pub(super) fn admitted(
        &mut self,
        job: Arc<crate::Job>,
        log: Arc<JobLog>,
        reply: oneshot::Sender<Result<Submitted>>,
        answer: Result<Admission>,
        effects: &mut Vec<Effect>,
    ) {
        if reply.is_closed() {
            return;
        }
        if self.engine.has_job(job.id) {
            let answer = self.engine.check_repeat(&job).map(|()| Submitted::Before);
            let _ = reply.send(answer);
            return;
        }
        let job = match answer {
            Ok(Admission::Accept { rank: 0 }) => job,
            Ok(Admission::Accept { rank }) => {
                let mut job = job;
                Arc::make_mut(&mut job).rank = rank;
                job
            }
            Ok(Admission::Refuse(error)) => {
                metrics::refused(&error);
                let _ = reply.send(Err(error));
                return;
            }
            Err(error) => {
                let note = Note::PolicyFault(error.context("asked whether to admit a job"));
                self.carry_out(Effect::Note(note), effects);
                job
            }
        };
        self.enter(job, log, reply, effects);
    }

    fn enter(
        &mut self,
        job: Arc<crate::Job>,
        log: Arc<JobLog>,
        reply: oneshot::Sender<Result<Submitted>>,
        effects: &mut Vec<Effect>,
    ) {
        self.shell.logs.insert(job.id, log);
        self.submitters.insert(job.id, reply);
        self.turn(Input::Submit { job }, effects);
    }

    /// Where does this job go?
    pub(super) fn ask(
        &mut self,
        ticket: Ticket,
        ask: Ask,
        fallback: bool,
        effects: &mut Vec<Effect>,
    ) {
        let asked = Instant::now();
        let mailbox = self.shell.mailbox.clone();
        let then = move |answer| {
            metrics::scheduled(asked.elapsed());
            mailbox.input(Input::Placed { ticket, answer });
        };
        let fallback = fallback || self.policy.is_suspended();
        if self.shell.decisions.are_kept() {
            let built_in = || Arc::new(self.policy.fallback().clone()) as Arc<dyn Scheduler>;
            let question = Kept {
                at: ask.now.wall,
                ask: ask.clone(),
                view: self.engine.view().clone(),
                scheduler: if fallback { built_in() } else { self.policy.scheduler().clone() },
                version: self.policy.version().filter(|_| !fallback),
                fallback,
                answer: None,
            };
            self.shell.decisions.asked(ticket, question);
        }
        match self.policy.place(ask, fallback, self.engine.view(), then) {
            Asked::Policy(answer) => {
                metrics::scheduled(asked.elapsed());
                self.placed(ticket, answer, effects);
            }
            Asked::BuiltIn(answer) => {
                self.shell.decisions.answered(ticket, &answer);
                self.engine.on(self.now(), Input::Placed { ticket, answer }, effects);
            }
            Asked::Later => {}
        }
    }

    /// The policy has answered. It did well where its answer could be used.
    pub(super) fn placed(
        &mut self,
        ticket: Ticket,
        answer: Result<Placement>,
        effects: &mut Vec<Effect>,
    ) {
        self.shell.decisions.answered(ticket, &answer);
        let before = effects.len();
        self.engine.on(self.now(), Input::Placed { ticket, answer }, effects);
        let is_useless = |effect: &Effect| {
            matches!(effect, Effect::Note(Note::StaleAnswer(_) | Note::PolicyFault(_)))
        };
        if !effects[before..].iter().any(is_useless) {
            self.policy.did_well();
        }
    }

    pub(super) fn policy_failed(&mut self, error: &Error) {
        if self.policy.failed(error) {
            tracing::error!(
                policy = self.policy.scheduler().name(), %error,
                "the policy failed too often in a row; the built-in one decides until it is changed"
            );
        }
    }
}
