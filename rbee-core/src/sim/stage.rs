//! What both simulators share: the engine, whoever decides, a clock that is moved by hand, and what is going to happen.

use std::{collections::BTreeMap, io::Write, time::Duration};

use super::recorded_run::{EngineSetup, RunRecorder};
use crate::{
    engine::{Advice, Decider, Effect, Engine, Input, Question},
    id::Ticket,
    scheduler::{Ask, LeastLoaded, Scheduler},
    time::{Now, Time, WallTime},
};

/// When something is going to happen: the moment, and a number, by which what was planned first happens first.
pub(super) type EventKey = (Time, u64);

/// What the clock was moved to.
pub(super) enum Moment<E> {
    Event(E),
    /// Somebody comes from outside.
    Arrival,
    /// The engine's next alarm.
    Timer,
}

pub(super) struct Stage<'a, E> {
    pub(super) engine: Engine,
    pub(super) scheduler: &'a dyn Scheduler,
    built_in: LeastLoaded,
    recorder: Option<RunRecorder<&'a mut dyn Write>>,
    pub(super) now: Time,
    /// What the wall clock shows at the beginning.
    start: WallTime,
    events: BTreeMap<EventKey, E>,
    planned: u64,
}

impl<'a, E> Stage<'a, E> {
    pub(super) fn new(
        setup: EngineSetup,
        scheduler: &'a dyn Scheduler,
        start: WallTime,
        record: Option<&'a mut dyn Write>,
    ) -> Self {
        Self {
            engine: setup.engine(),
            scheduler,
            recorder: record.map(|out| RunRecorder::new(out, &setup)),
            built_in: setup.built_in,
            now: Time::default(),
            start,
            events: BTreeMap::new(),
            planned: 0,
        }
    }

    /// Tells the engine one thing, now.
    pub(super) fn turn(&mut self, input: Input, effects: &mut Vec<Effect>) {
        let now = Now { at: self.now, wall: self.start + self.elapsed() };
        let Some(recorder) = &mut self.recorder else {
            return self.engine.on(now, input, effects);
        };
        let before = effects.len();
        recorder.input(now, &input);
        self.engine.on(now, input, effects);
        recorder.effects(&effects[before..]);
    }

    /// Has the policy, or the built-in one, answer at once.
    pub(super) fn advise(&mut self, ticket: Ticket, question: Question, ask: &Ask) -> Advice {
        let scheduler: &dyn Scheduler = match question {
            Question::Place(Decider::BuiltIn) => &self.built_in,
            Question::Place(Decider::Policy) | Question::Admit => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.asked(ticket);
                }
                self.scheduler
            }
        };
        question.put_to(scheduler, ask, self.engine.view())
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.now - Time::default()
    }

    pub(super) fn after(&mut self, delay: Duration, event: E) -> EventKey {
        self.planned += 1;
        let key = (self.now + delay, self.planned);
        self.events.insert(key, event);
        key
    }

    pub(super) fn cancel(&mut self, key: EventKey) {
        self.events.remove(&key);
    }

    /// Moves the clock to the next moment at which something happens. What was planned goes before an arrival, so that a
    /// slot that falls free at this moment is seen to be free. `None` if nothing will happen any more.
    pub(super) fn advance(&mut self, arrival: Option<Time>) -> Option<Moment<E>> {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let next = [arrival, event, self.engine.next_wake()].into_iter().flatten().min()?;
        self.now = self.now.max(next);
        if event == Some(next) {
            return self.events.pop_first().map(|(_, event)| Moment::Event(event));
        }
        Some(if arrival == Some(next) { Moment::Arrival } else { Moment::Timer })
    }
}
