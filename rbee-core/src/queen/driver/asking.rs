//! Passes the engine's questions to the policy and its answers back. The engine decides whether an answer is usable.

use super::{super::decision_history, *};
use crate::{engine::Decider, metrics, scheduler::Ask};

impl Driver {
    pub(super) fn consult(
        &mut self,
        ticket: Ticket,
        question: Question,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        match question {
            Question::Admit => self.consult_admission(ticket, ask, effects),
            Question::Place(decider) => self.consult_placement(ticket, decider, ask, effects),
        }
    }

    /// Asks whether this job may join the queue.
    fn consult_admission(&mut self, ticket: Ticket, ask: Ask, effects: &mut Vec<Effect>) {
        self.record_question(ticket);
        let question = || AdmissionQuestion {
            ask: ask.clone(),
            scheduler: self.policy.scheduler().clone(),
            version: self.policy.version(),
        };
        let (inbox, asked) = (self.context.inbox.clone(), question());
        let then = move |advice| {
            let admission = Some(Box::new(asked));
            inbox.send(Message::Advised { ticket, advice, admission });
        };
        let view = self.engine.view();
        if let Some(advice) = self.policy.ask(Question::Admit, &ask, view, then) {
            let asked = question();
            drop(ask);
            self.admission_advised(ticket, asked, advice, effects);
        }
    }

    /// Asks where this job goes.
    fn consult_placement(
        &mut self,
        ticket: Ticket,
        decider: Decider,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        let began = Instant::now();
        let question = Question::Place(decider);
        if self.context.decisions.are_kept() {
            let (scheduler, version, fallback) = match decider {
                Decider::Policy => (self.policy.scheduler().clone(), self.policy.version(), false),
                Decider::BuiltIn => {
                    (Arc::new(self.policy.built_in().clone()) as Arc<dyn Scheduler>, None, true)
                }
            };
            let kept = HistoryEntry {
                at: ask.now.wall,
                ask: ask.clone(),
                view: self.engine.view().clone(),
                scheduler,
                version,
                fallback,
                question: decision_history::Question::Place(None),
                is_stale: false,
            };
            self.context.decisions.asked(ticket, kept);
        }
        let advice = match decider {
            Decider::BuiltIn => question.put_to(self.policy.built_in(), &ask, self.engine.view()),
            Decider::Policy => {
                self.record_question(ticket);
                let inbox = self.context.inbox.clone();
                let then = move |advice| {
                    metrics::scheduled(began.elapsed());
                    inbox.send(Message::Advised { ticket, advice, admission: None });
                };
                match self.policy.ask(question, &ask, self.engine.view(), then) {
                    Some(advice) => {
                        if advice != Advice::NoTime {
                            metrics::scheduled(began.elapsed());
                        }
                        advice
                    }
                    None => return,
                }
            }
        };
        drop(ask);
        self.placement_advised(ticket, advice, effects);
    }

    /// The policy has answered, or never will.
    pub(super) fn advised(
        &mut self,
        ticket: Ticket,
        advice: Advice,
        admission: Option<Box<AdmissionQuestion>>,
        effects: &mut Vec<Effect>,
    ) {
        match admission {
            Some(asked) => self.admission_advised(ticket, *asked, advice, effects),
            None => self.placement_advised(ticket, advice, effects),
        }
    }

    fn placement_advised(&mut self, ticket: Ticket, advice: Advice, effects: &mut Vec<Effect>) {
        self.context.decisions.answered(ticket, &advice);
        self.tell_engine(Input::Advised { ticket, advice }, effects);
    }

    fn admission_advised(
        &mut self,
        ticket: Ticket,
        asked: AdmissionQuestion,
        advice: Advice,
        effects: &mut Vec<Effect>,
    ) {
        self.withdraw_closed(asked.ask.job.id, effects);
        self.keep_admission(asked, &advice);
        self.tell_engine(Input::Advised { ticket, advice }, effects);
    }

    /// Reports to the engine which submissions of this job nobody waits for any more.
    fn withdraw_closed(&mut self, job: JobId, effects: &mut Vec<Effect>) {
        let waiting = self.submitters.range((job, 0)..=(job, u64::MAX));
        let closed = waiting.filter(|(_, submitter)| submitter.reply.is_closed());
        let closed: Vec<_> = closed.map(|(key, _)| *key).collect();
        for (job, n) in closed {
            self.submitters.remove(&(job, n));
            self.tell_engine(Input::Withdraw { n, job }, effects);
        }
    }

    /// Keeps the answer of a policy that admits jobs in the history of decisions.
    fn keep_admission(&self, asked: AdmissionQuestion, advice: &Advice) {
        let answer = match advice {
            Advice::Admission(admission) if *admission != Admission::default() => {
                Ok(admission.clone())
            }
            Advice::Failed(error) => Err(error.clone()),
            Advice::Admission(_) | Advice::Placement(_) | Advice::NoTime => return,
        };
        if !self.context.decisions.are_kept() {
            return;
        }
        let AdmissionQuestion { ask, scheduler, version } = asked;
        self.context.decisions.admitted(HistoryEntry {
            at: self.now().wall,
            ask,
            view: self.engine.view().clone(),
            scheduler,
            version,
            fallback: false,
            question: decision_history::Question::Admit(answer),
            is_stale: false,
        });
    }
}
