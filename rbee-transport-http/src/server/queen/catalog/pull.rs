//! Pulls of models to disks, and their progress.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    extract::{Request, State},
    response::IntoResponse,
};
use bytes::Bytes;
use rbee_core::{
    Error, ErrorKind, HiveId, ModelRef, Queen, Result,
    hive::{Progress, ProgressUpdate},
};
use tokio::{sync::mpsc, time::Instant};

use super::{super::Shared, locate, refuse_unknown};
use crate::{
    server::queen::{
        Inner,
        caller::Caller,
        local_user::Locality,
        middleware::{HandlerResult, RequestId},
        work_stream::{WorkStream, frame},
    },
    wire::{
        ErrorBody,
        queen::{CATALOG_PULL, Pull, PullProgress, Pulled, pull_event},
        sse::ServerSentEvent,
    },
};

/// The shortest interval between two progress events of a hive, in milliseconds.
const PROGRESS_MS: u64 = 100;
/// How many progress events may be unsent; more are ignored.
pub(in crate::server::queen) const UNSENT: usize = 16;

/// Put a model on a hive's disk: a stream of `progress` events, then `done` or `error`. Disconnecting ends the pull;
/// pulling the model again continues with what has arrived.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = CATALOG_PULL,
        tag = "catalog",
        request_body = Pull,
        responses(
            (status = 200, description = "The progress.", content_type = "text/event-stream", body = ServerSentEvent),
            (status = "default", description = "The pull did not begin.", body = ErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn pull(
    State(shared): State<Shared>,
    RequestId(mark): RequestId,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    let order: Pull = shared.read_json(request).await?;
    let wanted = Wanted::of(&shared, &locality, order).await?;
    let (tell, told) = mpsc::channel(UNSENT);
    let queen = shared.queen.clone();
    let work = async move {
        match fetch(&queen, &wanted, |hive| progress(hive.clone(), tell.clone())).await {
            Ok(pulled) => frame(pull_event::DONE, &pulled),
            Err(error) => frame(
                pull_event::ERROR,
                &ErrorBody::new(&Caller::Operator.error(&error), Some(&mark)).error,
            ),
        }
    };
    Ok(WorkStream::new(told, work).into_response())
}

/// The wanted hive, or every hive that is online and can read the model, as far as is known.
async fn hives(queen: &Queen, model: &ModelRef, wanted: Option<HiveId>) -> Result<Vec<HiveId>> {
    let cluster = queen.cluster().await?;
    match wanted {
        Some(hive) => match cluster.hive(&hive) {
            None => Err(Error::new(ErrorKind::NotFound, format!("hive {hive} does not exist"))),
            Some(view) if !view.online => {
                let message = format!("hive {hive} is not online");
                Err(Error::new(ErrorKind::HiveUnreachable, message))
            }
            Some(view) => cluster.check_readable_on(view, model).map(|()| vec![hive]),
        },
        None => {
            let online: Vec<_> = cluster.hives().filter(|hive| hive.online).collect();
            if online.is_empty() {
                return Err(Error::new(ErrorKind::HiveUnreachable, "no hive is online"));
            }
            cluster.check_readable(model)?;
            let able = online.into_iter().filter(|hive| cluster.unreadable(hive, model).is_none());
            Ok(able.map(|hive| hive.id.clone()).collect())
        }
    }
}

/// The model to fetch, and the hives to fetch it to.
pub(in crate::server::queen) struct Wanted {
    model: ModelRef,
    hives: Vec<HiveId>,
    verify: bool,
}

impl Wanted {
    /// Checks an order, and finds out what it means.
    ///
    /// # Errors
    /// If the sender may not name the model, if nobody has it, and if no hive can take it.
    pub(in crate::server::queen) async fn of(
        shared: &Inner,
        locality: &Locality,
        order: Pull,
    ) -> Result<Self> {
        shared.check_model(locality, &order.model).await?;
        let model = locate(&shared.queen, &order.model).await?;
        refuse_unknown(&shared.queen, &model).await?;
        let hives = hives(&shared.queen, &model, order.hive).await?;
        Ok(Self { model, hives, verify: order.verify })
    }

    /// The model.
    pub(in crate::server::queen) fn model(&self) -> &ModelRef {
        &self.model
    }
}

/// Fetches the model to all hives concurrently.
///
/// # Errors
/// The first error of a hive, after all have ended.
pub(in crate::server::queen) async fn fetch(
    queen: &Queen,
    Wanted { model, hives, verify }: &Wanted,
    progress: impl Fn(&HiveId) -> Progress,
) -> Result<Pulled> {
    let fetches = hives.iter().map(|hive| {
        let progress = progress(hive);
        let fetch = async move {
            let mut damaged = Vec::new();
            if *verify {
                match queen.models().verify(hive.clone(), model.clone(), progress.clone()).await {
                    Ok(damage) => damaged.extend(damage.into_iter().map(|damage| damage.file)),
                    // It is downloaded for the first time, and its checksums are compared on the way.
                    Err(error) if error.kind() == ErrorKind::ModelNotFound => {}
                    Err(error) => return Err(error),
                }
            }
            let on_disk = queen.models().provision(hive.clone(), model.clone(), progress).await?;
            Ok((on_disk, damaged))
        };
        async move { fetch.await.map_err(|error: Error| error.context(format_args!("hive {hive}"))) }
    });
    // Every one to its end: a machine that fails does not keep the others from getting the model.
    let fetched = futures_util::future::join_all(fetches).await;
    let there = fetched.into_iter().collect::<Result<Vec<_>>>()?;
    let bytes = there.iter().map(|(model, _)| model.bytes).max().unwrap_or_default();
    let mut repaired: Vec<_> = there.into_iter().flat_map(|(_, damaged)| damaged).collect();
    repaired.sort_unstable();
    repaired.dedup();
    Ok(Pulled { model: model.to_string(), bytes, hives: hives.clone(), repaired })
}

fn progress(hive: HiveId, tell: mpsc::Sender<Bytes>) -> Progress {
    throttled(move |update| {
        let progress = PullProgress { hive: hive.clone(), progress: update.into() };
        // If there is no room for it, a later one follows.
        let _ = tell.try_send(frame(pull_event::PROGRESS, &progress));
    })
}

/// Reports progress at intervals, and at the end.
pub(in crate::server::queen) fn throttled(
    tell: impl Fn(ProgressUpdate) + Send + Sync + 'static,
) -> Progress {
    let (began, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    Progress::new(move |update| {
        let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let is_whole = update.total == Some(update.done);
        if now < next.load(Ordering::Relaxed) && !is_whole {
            return;
        }
        next.store(now.saturating_add(PROGRESS_MS), Ordering::Relaxed);
        tell(update);
    })
}
