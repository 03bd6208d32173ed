//! The common part of both simulators: the engine, the policy, a simulated clock, and the planned events.

use std::{collections::BTreeMap, io::Write, time::Duration};

use super::recorded_run::{EngineSetup, RunRecorder};
use crate::{
    engine::{Advice, Decider, Effect, Engine, Input, Question},
    id::Ticket,
    scheduler::{Ask, LeastLoaded, Scheduler},
    time::{Now, Time, WallTime},
};

/// The key of a planned event: its time, and a number, so that of equal times the one planned first happens first.
pub(super) type EventKey = (Time, u64);

/// The event that the clock was advanced to.
pub(super) enum Moment<E> {
    Event(E),
    /// The next arrival from outside.
    Arrival,
    /// The engine's next timer.
    Timer,
}

pub(super) struct Stage<'a, E> {
    pub(super) engine: Engine,
    pub(super) scheduler: &'a dyn Scheduler,
    built_in: LeastLoaded,
    recorder: Option<RunRecorder<&'a mut dyn Write>>,
    pub(super) now: Time,
    /// The time of the wall clock at the start.
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

    /// Passes an input to the engine at the current time.
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

    /// Asks the policy, or the built-in one, and returns its answer at once.
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

    /// The time since the start.
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

    /// Advances the clock to the next event. Planned events go before an arrival at the same time, so that a slot that
    /// becomes free then is seen as free. `None` if nothing more will happen.
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
