//! Questions to the policy: which jobs may join the queue, and where those that wait go.

use super::{
    super::{
        decisions::{Kept, Question},
        log::JobLog,
        policy::{Asked, Function, Term},
    },
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
        let term = self.policy.term();
        let then = move |answer| {
            if let Some((job, log, reply)) = take(&later) {
                mailbox.post(Message::Admitted { job, log, reply, term, answer });
            }
        };
        match self.policy.admit(ask, self.engine.view(), then) {
            Asked::Later => {}
            Asked::BuiltIn(_) => {
                if let Some((job, log, reply)) = take(&waiting) {
                    self.enter(job, log, reply, effects);
                }
            }
            Asked::Policy(answer) => {
                if let Some((job, log, reply)) = take(&waiting) {
                    self.admitted(job, log, reply, term, Some(answer), effects);
                }
            }
        }
    }

    /// The policy has said whether the job may join the queue; where it has said nothing, it may.
    pub(super) fn admitted(
        &mut self,
        job: Arc<crate::Job>,
        log: Arc<JobLog>,
        reply: oneshot::Sender<Result<Submitted>>,
        term: Term,
        answer: Option<Result<Admission>>,
        effects: &mut Vec<Effect>,
    ) {
        match &answer {
            None => self.policy.passed_over(term),
            Some(Ok(_)) => self.policy.did_well(term, Function::Admit),
            Some(Err(error)) => {
                let note = Note::PolicyFault(error.clone().context("asked whether to admit a job"));
                self.carry_out(Effect::Note(note), effects);
                self.policy_failed(term, Function::Admit, error);
            }
        }
        if let Some(answer) = &answer {
            self.keep_admission(&job, term, answer);
        }
        if reply.is_closed() {
            return;
        }
        if self.engine.has_job(job.id) {
            let answer = self.engine.check_repeat(&job).map(|()| Submitted::Before);
            let _ = reply.send(answer);
            return;
        }
        let job = match answer {
            Some(Ok(Admission::Accept { rank })) if rank != 0 => {
                let mut job = job;
                Arc::make_mut(&mut job).rank = rank;
                job
            }
            Some(Ok(Admission::Refuse(error))) => {
                tracing::info!(job = %job.id, %error, "the policy refused the job");
                metrics::refused(&error);
                let _ = reply.send(Err(error));
                return;
            }
            _ => job,
        };
        self.enter(job, log, reply, effects);
    }

    /// Keeps what a policy with an opinion said of a job.
    fn keep_admission(&self, job: &Arc<crate::Job>, term: Term, answer: &Result<Admission>) {
        let says_nothing = *answer == Ok(Admission::default()) || term != self.policy.term();
        if says_nothing || !self.shell.decisions.are_kept() {
            return;
        }
        let now = self.now();
        self.shell.decisions.admitted(Kept {
            at: now.wall,
            ask: Ask::first(job.clone(), now, 0),
            view: self.engine.view().clone(),
            scheduler: self.policy.scheduler().clone(),
            version: self.policy.version(),
            fallback: false,
            question: Question::Admit(answer.clone()),
            is_stale: false,
        });
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
        let (mailbox, term, again) = (self.shell.mailbox.clone(), self.policy.term(), ask.clone());
        let then = move |answer| {
            metrics::scheduled(asked.elapsed());
            mailbox.post(match answer {
                Some(answer) => Message::Placed { ticket, term, answer },
                None => Message::PassedOver { ticket, term, ask: again },
            });
        };
        let fallback = fallback || self.policy.is_suspended();
        if self.shell.decisions.are_kept() {
            let question = Kept {
                at: ask.now.wall,
                ask: ask.clone(),
                view: self.engine.view().clone(),
                scheduler: if fallback { self.built_in() } else { self.policy.scheduler().clone() },
                version: self.policy.version().filter(|_| !fallback),
                fallback,
                question: Question::Place(None),
                is_stale: false,
            };
            self.shell.decisions.asked(ticket, question);
        }
        match self.policy.place(ask, fallback, self.engine.view(), then) {
            Asked::Policy(answer) => {
                metrics::scheduled(asked.elapsed());
                self.placed(ticket, term, answer, effects);
            }
            Asked::BuiltIn(answer) => {
                if !fallback {
                    self.shell.decisions.fell_back(ticket, || self.built_in());
                }
                self.answer(ticket, answer, effects);
            }
            Asked::Later => {}
        }
    }

    fn built_in(&self) -> Arc<dyn Scheduler> {
        Arc::new(self.policy.fallback().clone())
    }

    /// The policy had no time for the question: the built-in one decides.
    pub(super) fn passed_over(
        &mut self,
        ticket: Ticket,
        term: Term,
        ask: &Ask,
        effects: &mut Vec<Effect>,
    ) {
        self.policy.passed_over(term);
        self.shell.decisions.fell_back(ticket, || self.built_in());
        let answer = self.policy.fallback().place(ask, self.engine.view());
        self.answer(ticket, answer, effects);
    }

    /// The policy has answered. It did well where its answer could be used.
    pub(super) fn placed(
        &mut self,
        ticket: Ticket,
        term: Term,
        answer: Result<Placement>,
        effects: &mut Vec<Effect>,
    ) {
        match self.answer(ticket, answer, effects) {
            Use::Made => self.policy.did_well(term, Function::Place),
            Use::None => {}
            Use::Fault(error) => self.policy_failed(term, Function::Place, &error),
        }
    }

    /// Gives the engine its answer, and says what use it was.
    fn answer(
        &mut self,
        ticket: Ticket,
        answer: Result<Placement>,
        effects: &mut Vec<Effect>,
    ) -> Use {
        self.shell.decisions.answered(ticket, &answer);
        let (before, is_answer) = (effects.len(), answer.is_ok());
        self.engine.on(self.now(), Input::Placed { ticket, answer }, effects);
        let useless = effects[before..].iter().find_map(|effect| match effect {
            Effect::Note(Note::StaleAnswer(_)) => Some(Use::None),
            Effect::Note(Note::PolicyFault(error)) => Some(Use::Fault(error.clone())),
            _ => None,
        });
        if is_answer && useless.is_some() {
            self.shell.decisions.came_to_nothing(ticket);
        }
        useless.unwrap_or(Use::Made)
    }

    fn policy_failed(&mut self, term: Term, function: Function, error: &Error) {
        if self.policy.failed(term, function, error) {
            tracing::error!(
                policy = self.policy.scheduler().info().name, %error,
                "the policy failed too often in a row; the built-in one decides until it is changed"
            );
        }
    }
}

/// What use an answer was.
enum Use {
    /// It was heeded.
    Made,
    /// It did not fit the state any more.
    None,
    /// It was none, or never fitted.
    Fault(Error),
}
