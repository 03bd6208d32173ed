//! The last turn: the queen shuts down, or has lost its rows to another queen.

use std::time::Duration;

use super::{super::inbox, *};

/// How long the store may take to confirm the writes of the last turn.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The `retry_after` of an interrupted job, if the queen is only restarted.
const RESTART: Duration = Duration::from_secs(1);

/// The order to take the last turn.
pub(super) struct Last {
    pub(super) reply: oneshot::Sender<Vec<Arc<dyn HiveBackend>>>,
    pub(super) why: Error,
}

impl Driver {
    /// Takes the last turn. The engine is frozen first, so that dropped attempts and handles do not look like ends of
    /// jobs. The records of this turn, and those on their way to the store before, are reported as they were written;
    /// only after that do all other callers get their answer.
    pub(super) async fn freeze(mut self: Box<Self>, rest: Rest) {
        let Some(Last { reply, why }) = self.last.take() else { return };
        let mut effects = std::mem::take(&mut self.effects);
        self.turn(Input::Freeze, &mut effects);
        self.attempts.clear();
        self.hives.values().for_each(|hive| hive.watch.cancel());
        let until = Instant::now() + TIMEOUT;
        while self.engine.awaits_records() {
            match tokio::time::timeout_at(until, rest.next()).await {
                Ok(message) => self.hear(message, &mut effects),
                Err(_) => {
                    tracing::warn!("the store did not take the last changes within {TIMEOUT:?}");
                    break;
                }
            }
        }
        for ((job, _), submitter) in std::mem::take(&mut self.submitters) {
            let answer = match self.engine.has_job(job) {
                true => interrupted(job, &why, false),
                // The policy has not decided about it yet, so nothing of it is recorded.
                false => inbox::gone(),
            };
            let _ = submitter.reply.send(Err(answer));
        }
        for (job, log) in self.context.logs.live() {
            log.interrupt(interrupted(job, &why, self.engine.leaves(job)));
        }
        let hives = std::mem::take(&mut self.hives);
        let _ = reply.send(hives.into_values().map(|hive| hive.backend).collect());
    }

    /// Handles only answers of the store. Other senders learn from the drop of their message that nobody answers.
    fn hear(&mut self, message: Message, effects: &mut Vec<Effect>) {
        if let Message::Input(input @ Input::Recorded { .. }) = message {
            self.turn(input, effects);
        }
    }
}

/// The error for those who wait for a job that has not ended. `goes_on` is true if the job is in the store and the next
/// owner of the store runs it to its end; otherwise the store did not confirm what it has written.
pub(in crate::queen) fn interrupted(job: JobId, why: &Error, goes_on: bool) -> Error {
    let next = if goes_on {
        "it goes on when the queen is back: follow its events after the last one that was read, or repeat the request under \
         its idempotency key"
    } else {
        "its last record is unknown, so it may go on when the queen is back: look at its record then"
    };
    Error::new(
        ErrorKind::Interrupted,
        format!("job {job} was interrupted before its end: {why}; {next}"),
    )
    .with_retry_after(RESTART)
    .with_source(why.clone())
}
