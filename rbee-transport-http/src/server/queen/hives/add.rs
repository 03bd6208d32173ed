//! Additions of hives, and their progress.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    extract::{Request, State},
    response::IntoResponse,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use rbee_core::{
    CorrelationId, Error, ErrorKind, HiveBackend, Queen, Result, registry::HiveStatus,
};
use tokio::{sync::mpsc, time::Instant};

use super::{REPORT_PAUSE, REPORT_TIMEOUT, check_passphrase, view};
use crate::{
    server::{
        queen::{
            Shared,
            caller::Caller,
            connector::{AddEvent, AddProgress, HiveConnector},
            middleware::{HandlerResult, RequestId},
            work_stream::{WorkStream, frame},
        },
        reach::Confidential,
        response,
    },
    wire::{
        ErrorBody,
        queen::{AddHive, HIVES, HiveDoctor, HiveView, add_event},
        sse::{self, ServerSentEvent},
    },
};

/// The shortest interval between two events of an upload, in milliseconds.
const PROGRESS_MS: u64 = 100;
/// How many events may be unsent; more are ignored.
const UNSENT: usize = 256;
/// How many of these are for steps alone.
const STEPS: usize = 128;

/// Add a hive: one whose `rbee-hive` runs already (`url`), or a machine on which the queen starts it (`ssh`). A client
/// that accepts `text/event-stream` gets a stream: `step` and `sent` events, then `done` with the hive, `checked` after
/// a dry run, or `error`. If the client disconnects before the end, the hive is not added.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = HIVES,
        tag = "hives",
        request_body = AddHive,
        responses(
            (
                status = 200,
                description = "The progress; or the findings of a dry run.",
                content((HiveDoctor = "application/json"), (ServerSentEvent = "text/event-stream"))
            ),
            (status = 201, description = "The hive was added to the fleet.", body = HiveView),
            (status = "default", description = "It was not added.", body = ErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn add(
    State(shared): State<Shared>,
    RequestId(mark): RequestId,
    request: Request,
) -> HandlerResult {
    let confidential = Confidential::of_request(&request);
    let wants_events = accepts_events(request.headers());
    let order: AddHive = shared.read_json(request).await?;
    order.check()?;
    check_passphrase(order.passphrase.as_ref(), confidential)?;
    let Some(connector) = shared.connector.clone() else {
        let message = "this queen was built without a way to add machines over the API";
        return Err(Error::new(ErrorKind::Unsupported, message).into());
    };
    let addition = Addition { queen: shared.queen.clone(), connector };
    if wants_events {
        let (tell, told) = mpsc::channel(UNSENT);
        return Ok(WorkStream::new(told, addition.followed(order, tell, mark)).into_response());
    }
    Ok(match addition.run(order, AddProgress::ignore()).await? {
        Outcome::Added(view) => response::json(StatusCode::CREATED, &view),
        Outcome::Checked(doctor) => response::json(StatusCode::OK, &doctor),
    })
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let types = accepted.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    types.filter_map(|kind| kind.split(';').next()).any(|kind| kind.trim() == sse::CONTENT_TYPE)
}

enum Outcome {
    Added(Box<HiveView>),
    Checked(HiveDoctor),
}

struct Addition {
    queen: Queen,
    connector: Arc<dyn HiveConnector>,
}

impl Addition {
    /// Runs it and returns the last event.
    async fn followed(
        self,
        order: AddHive,
        tell: mpsc::Sender<Bytes>,
        mark: CorrelationId,
    ) -> Bytes {
        match self.run(order, progress(tell)).await {
            Ok(Outcome::Added(view)) => frame(add_event::DONE, &view),
            Ok(Outcome::Checked(doctor)) => frame(add_event::CHECKED, &doctor),
            Err(error) => {
                let error = ErrorBody::new(&Caller::Operator.error(&error), Some(&mark)).error;
                frame(add_event::ERROR, &error)
            }
        }
    }

    async fn run(self, order: AddHive, progress: AddProgress) -> Result<Outcome> {
        if order.dry_run {
            let checked = self.connector.try_out(order, progress).await;
            return checked.map(Outcome::Checked).map_err(of_the_hive);
        }
        let hive = self.connector.connect(order, progress).await.map_err(of_the_hive)?;
        let id = hive.info().id.clone();
        // In a task of its own: a client that disconnects now must not leave half of it.
        let joining = tokio::spawn(join(self.queen.clone(), self.connector.clone(), hive));
        joining.await.unwrap_or_else(|cause| {
            let message = "the addition of the hive was interrupted";
            Err(Error::new(ErrorKind::Internal, message).with_source(cause))
        })?;
        let connector = Some(&*self.connector);
        let reported = async {
            loop {
                let view = view(&self.queen, &id, connector).await?;
                if view.status == HiveStatus::Online.as_str() {
                    return Ok(view);
                }
                tokio::time::sleep(REPORT_PAUSE).await;
            }
        };
        match tokio::time::timeout(REPORT_TIMEOUT, reported).await {
            Ok(view) => view,
            // It is in the fleet anyway, and shows why it is not usable.
            Err(_) => view(&self.queen, &id, connector).await,
        }
        .map(|view| Outcome::Added(Box::new(view)))
    }
}

/// Adds a hive to the fleet; if that fails, it is not connected to at the next start either.
async fn join(
    queen: Queen,
    connector: Arc<dyn HiveConnector>,
    hive: Arc<dyn HiveBackend>,
) -> Result<()> {
    let id = hive.info().id.clone();
    let added = queen.fleet().add(hive).await;
    if let Err(error) = &added
        // Then the fleet has another hive of that name, which is to stay.
        && error.kind() != ErrorKind::Conflict
    {
        connector.forget(&id).await?;
    }
    added
}

/// Sends each step, and uploads at intervals.
fn progress(tell: mpsc::Sender<Bytes>) -> AddProgress {
    let (began, next) = (Instant::now(), AtomicU64::new(0));
    AddProgress::new(move |event| {
        // A client that does not read loses events.
        let _ = match event {
            AddEvent::Step(step) => tell.try_send(frame(add_event::STEP, &step)),
            AddEvent::Sent(sent) => {
                let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let is_due = now >= next.load(Ordering::Relaxed) || sent.done == sent.total;
                if !is_due || tell.capacity() <= STEPS {
                    return;
                }
                next.store(now.saturating_add(PROGRESS_MS), Ordering::Relaxed);
                tell.try_send(frame(add_event::SENT, &sent))
            }
        };
    })
}

/// The error of a hive that is being added. A refused token is the one in the request, and not the caller's own.
fn of_the_hive(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unauthorized => {
            let message = error.message().to_owned();
            Error::new(ErrorKind::InvalidRequest, message).with_param("token").with_source(error)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_sent_to_those_who_accept_one() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, value.parse().unwrap());
            accepts_events(&headers)
        };
        assert!(
            accepts("text/event-stream") && accepts("application/json, text/event-stream;q=0.9")
        );
        assert!(!accepts("*/*") && !accepts("application/json"));
        assert!(!accepts_events(&HeaderMap::new()));
    }
}
