//! The steps of a connection as events for a client.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rbee_transport_http::{
    server::{AddEvent, AddProgress},
    wire::queen::{AddSent, AddStep, StepState},
};
use rbee_transport_ssh::{SshEvent, SshProgress, SshStep};

/// Sends the steps of an addition to its client, up to the first answer of the hive.
pub(super) struct AdditionProgress(Mutex<Option<AddProgress>>);

impl AdditionProgress {
    pub(super) fn new(progress: AddProgress) -> Self {
        Self(Mutex::new(Some(progress)))
    }
}

impl SshProgress for AdditionProgress {
    fn event(&self, event: SshEvent) {
        let is_last = matches!(event, SshEvent::Finished { step: SshStep::Health, .. });
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(progress), Some(event)) = (&*progress, of_ssh(event)) {
            progress.event(event);
        }
        if is_last {
            *progress = None;
        }
    }
}

/// The event for a client; `None` if it has no such event.
pub(super) fn of_ssh(event: SshEvent) -> Option<AddEvent> {
    let step = |host, step: SshStep, state| AddStep {
        host,
        step: step.name().to_owned(),
        state,
        duration_ms: None,
        detail: None,
    };
    Some(match event {
        SshEvent::Started { host, step: name } => {
            AddEvent::Step(step(host, name, StepState::Started))
        }
        SshEvent::Finished { host, step: name, duration, detail } => AddEvent::Step(AddStep {
            duration_ms: Some(millis(duration)),
            detail: Some(detail),
            ..step(host, name, StepState::Finished)
        }),
        SshEvent::Sent { host, file, done, total } => {
            AddEvent::Sent(AddSent { host, file, done, total })
        }
        _ => return None,
    })
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
