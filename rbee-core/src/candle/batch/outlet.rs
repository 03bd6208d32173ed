//! The way from the engine to the reader of a run.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::mpsc;

use super::slots::Slot;
use crate::{error::Result, event::Output};

/// The most outputs that wait for their reader; more stall only this run.
pub(in crate::candle) const OUTPUTS: usize = 8;
/// After this time without an output, the next finished step sends a heartbeat.
pub(in crate::candle) const HEARTBEAT: Duration = Duration::from_millis(500);

/// Where the outputs of one run go. It never waits: what its reader has no capacity for is kept.
#[derive(Debug)]
pub(in crate::candle) struct Outlet {
    outputs: mpsc::Sender<Result<Output>>,
    /// Capacity for the end of the run; `None` if it was used.
    last: Option<mpsc::OwnedPermit<Result<Output>>>,
    slot: Option<Slot>,
    /// Outputs of the last step for which there was no capacity.
    kept: VecDeque<Output>,
    /// The end of the run, to be sent after all outputs.
    end: Option<Result<Output>>,
    /// The time of the last output.
    said: Duration,
}

impl Outlet {
    /// The outlet of a run, and the end where its outputs arrive.
    pub(in crate::candle) fn new(slot: Slot) -> Option<(Self, mpsc::Receiver<Result<Output>>)> {
        let (outputs, receiver) = mpsc::channel(OUTPUTS + 1);
        let last = outputs.clone().try_reserve_owned().ok()?;
        let (kept, end, said) = (VecDeque::new(), None, Duration::ZERO);
        let (last, slot) = (Some(last), Some(slot));
        Some((Self { outputs, last, slot, kept, end, said }, receiver))
    }

    /// Takes an output of a step that ended now.
    pub(in crate::candle) fn put(&mut self, output: Output, now: Duration) {
        self.said = now;
        self.kept.push_back(output);
    }

    /// Takes the end of the run.
    pub(in crate::candle) fn end(&mut self, end: Result<Output>) {
        self.end = Some(end);
    }

    /// True if the run has ended, although its reader may not know yet.
    pub(in crate::candle) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// True if the reader has no capacity for an output.
    pub(in crate::candle) fn is_full(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Reports that the run goes on, if that was not known for some time.
    pub(in crate::candle) fn heartbeat(&mut self, now: Duration) {
        if self.kept.is_empty() && now.saturating_sub(self.said) >= HEARTBEAT {
            self.said = now;
            // A reader that has not taken the last outputs yet knows that the run continues.
            let _ = self.outputs.try_send(Ok(Output::Heartbeat));
        }
    }

    /// The time since which the reader waits.
    pub(in crate::candle) fn since(&mut self, now: Duration) {
        self.said = now;
    }

    /// Sends as much as there is capacity for. Returns false if the run is over: its end was sent, or its reader is gone.
    pub(in crate::candle) fn flush(&mut self) -> bool {
        if self.outputs.is_closed() {
            return false;
        }
        while let Some(output) = self.kept.pop_front() {
            match self.outputs.try_send(Ok(output)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
                Err(mpsc::error::TrySendError::Full(output)) => {
                    output.into_iter().for_each(|output| self.kept.push_front(output));
                    return true;
                }
            }
        }
        match self.end.take() {
            Some(end) => {
                self.close(end);
                false
            }
            None => true,
        }
    }

    /// Ends the run at once, without the outputs that were kept.
    pub(in crate::candle) fn close(&mut self, end: Result<Output>) {
        // Released before the end is sent, so that a reader of the end can begin a new run.
        self.slot = None;
        if let Some(last) = self.last.take() {
            last.send(end);
        }
    }

    /// Waits until the reader has taken an output, or is gone; without kept outputs, until it is gone.
    pub(in crate::candle) async fn changed(&self) {
        if self.is_full() {
            drop(self.outputs.reserve().await);
        } else {
            self.outputs.closed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::slots::Slots, *};
    use crate::event::{Finish, Metrics, Usage};

    fn end() -> Output {
        Output::End { finish: Finish::Stop, usage: Usage::default(), stop_text: None }
    }

    #[test]
    fn the_slot_is_free_before_the_reader_sees_the_end() {
        let slots = Slots::new(1);
        let (mut outlet, _outputs) = Outlet::new(slots.take().unwrap()).unwrap();
        assert!(slots.take().is_none(), "there is only one");
        outlet.close(Ok(end()));
        assert_eq!(slots.busy(), 0);
        drop(outlet);
        assert_eq!(slots.busy(), 0, "it is released once");
    }

    #[test]
    fn outputs_that_wait_for_their_reader_keep_their_order() {
        let slots = Slots::new(1);
        let (mut outlet, mut outputs) = Outlet::new(slots.take().unwrap()).unwrap();
        for step in 1..=OUTPUTS as u32 {
            outlet.heartbeat(HEARTBEAT * step);
        }
        let metrics = Output::Metrics(Metrics { prompt_tokens: 1, ..Metrics::default() });
        let token = Output::Token { id: Some(7), text: "a".into(), logprobs: None };
        for output in [metrics.clone(), token.clone()] {
            outlet.put(output, HEARTBEAT);
        }
        outlet.end(Ok(end()));
        assert!(outlet.flush() && outlet.is_full(), "the channel is full of heartbeats");
        for _ in 0..OUTPUTS {
            assert_eq!(outputs.try_recv().unwrap().unwrap(), Output::Heartbeat);
        }
        assert!(!outlet.flush(), "all is sent");
        let rest: Vec<Output> =
            std::iter::from_fn(|| outputs.try_recv().ok()).map(Result::unwrap).collect();
        assert_eq!(rest, [metrics, token, end()]);
    }
}
