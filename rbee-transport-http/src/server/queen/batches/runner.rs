//! The runner of one batch, from its input file to its output files.
//!
//! It ends when the batch has ended or when the server stops. In the second case the batch stays as it is, its jobs go on
//! or wait in the store of the queen, and the next server takes the batch up.

mod ending;
mod preparing;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use rbee_core::{Error, JobId, Result};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Batches, Shared,
    disk::{self, blocking},
    file_store::ResultRoom,
    input::Line,
    line::{Finished, LineContext, Submission},
    records::now_ms,
    results::ResultFile,
};
use crate::{
    server::queen::caller::Caller,
    wire::batches::{BatchStatus, RequestCounts},
};

/// Errors, which are short, are written as long as the disk has any room: so that a batch can end, they use the space that
/// results and uploads leave free.
const RESERVED: u64 = 0;
/// How long a line whose events broke off waits until it is submitted again.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest time between two looks at the clock: it may be set.
const CLOCK: Duration = Duration::from_secs(60);

/// Starts the batches that wait, as far as the limits allow.
pub(super) fn start_waiting(shared: &Shared, batches: &Arc<Batches>) {
    if shared.stop.is_cancelled() {
        return;
    }
    for (id, cancel) in batches.batches.take_startable() {
        let (shared, batches) = (shared.clone(), batches.clone());
        tokio::spawn(async move {
            let ended = run(&shared, &batches, &id, cancel).await;
            // A batch that stopped because the server or its queen stops is not started again.
            if ended {
                batches.batches.stopped(&id);
                start_waiting(&shared, &batches);
            }
        });
    }
}

/// Runs a batch. Returns false if it has not ended.
async fn run(shared: &Shared, batches: &Arc<Batches>, id: &str, cancel: CancellationToken) -> bool {
    loop {
        let Ok(record) = batches.batches.get(&Caller::Operator, id) else { return true };
        let (expires_at_ms, was_cancelled) = (record.expires_at_ms, cancel.is_cancelled());
        let stopped = async {
            match Run::prepare(shared, batches, record, cancel.clone()).await? {
                Some(run) => run.run().await,
                None => Ok(Stopped::Ended),
            }
        };
        let error = match stopped.await {
            Ok(Stopped::Unfinished) => return false,
            Ok(Stopped::Ended) => return true,
            Err(error) => error,
        };
        tracing::warn!(
            batch = id,
            error = error.for_log(),
            "a batch is interrupted; it goes on soon"
        );
        let pause = error.retry_after().unwrap_or_default().max(disk::RETRY_AFTER);
        let pause = match expires_at_ms.saturating_sub(now_ms()) {
            0 => pause,
            left => pause.min(Duration::from_millis(left)),
        };
        tokio::select! {
            () = shared.stop.cancelled() => return false,
            () = cancel.cancelled(), if !was_cancelled => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// The batch has ended.
    Ended,
    /// The server stops, or the queen takes no more jobs.
    Unfinished,
}

/// Whether the queen accepts more jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepts {
    More,
    NoMore,
}

/// The end of the work on the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Complete,
    Cancelled,
    Expired,
    Gone,
}

type LineAnswer = BoxFuture<'static, (Line, Option<Finished>)>;

/// A batch whose input file is valid.
struct Run {
    batches: Arc<Batches>,
    context: Arc<LineContext>,
    cancel: CancellationToken,
    /// The lines that have neither a result nor jobs.
    waiting: VecDeque<Line>,
    /// The lines that have jobs, with what waits for their answers.
    answers: FuturesUnordered<LineAnswer>,
    /// The jobs of each of those, by the number of the line.
    jobs: HashMap<u32, (Line, Vec<JobId>)>,
    /// The line that is being submitted.
    submitting: Option<(Line, BoxFuture<'static, Result<Submission>>)>,
    /// A line that waits for room, by its number, and the number of its jobs.
    needed: Option<(u32, usize)>,
    /// No line is submitted until then.
    pause: Option<Instant>,
    output: ResultFile,
    errors: ResultFile,
    /// The room that the two files take.
    room: ResultRoom,
    /// Why no more lines are executed: the results have used up the room of the tenant.
    full: Option<Error>,
    counts: RequestCounts,
    /// True if a previous run may have submitted lines that have no result.
    is_taken_up: bool,
    /// The batch was cancelled or has expired.
    is_ending: bool,
}

impl Run {
    /// Works on the batch until it has ended, the server stops, or the queen takes no more jobs.
    async fn run(mut self: Box<Self>) -> Result<Stopped> {
        let outcome = match self.context.record.status {
            BatchStatus::Finalizing => Outcome::Complete,
            BatchStatus::Cancelling => Outcome::Cancelled,
            _ => self.work().await?,
        };
        match outcome {
            Outcome::Gone => Ok(Stopped::Unfinished),
            outcome => self.end(outcome).await,
        }
    }

    /// Submits the lines and writes their results.
    async fn work(&mut self) -> Result<Outcome> {
        let (cancel, stop) = (self.cancel.clone(), self.context.shared.stop.clone());
        loop {
            if self.waiting.is_empty() && self.submitting.is_none() && self.answers.is_empty() {
                return Ok(Outcome::Complete);
            }
            let left = self.context.record.expires_at_ms.saturating_sub(now_ms());
            if left == 0 {
                return Ok(Outcome::Expired);
            }
            self.submit_next();
            let clock = Duration::from_millis(left).min(CLOCK);
            let submitted = OptionFuture::from(self.submitting.as_mut().map(|(_, it)| it));
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Outcome::Gone),
                () = cancel.cancelled() => return Ok(Outcome::Cancelled),
                Some(submitted) = submitted => {
                    let Some((line, _)) = self.submitting.take() else { continue };
                    if self.submitted(line, submitted?).await? == Accepts::NoMore {
                        return Ok(Outcome::Gone);
                    }
                }
                Some((line, finished)) = self.answers.next(), if !self.answers.is_empty() => {
                    self.answered(line, finished).await?;
                }
                () = pause(self.pause) => self.pause = None,
                () = tokio::time::sleep(clock) => {}
            }
        }
    }

    /// Begins to submit the next line, if one more is allowed.
    fn submit_next(&mut self) {
        if self.submitting.is_some() || self.pause.is_some() {
            return;
        }
        let Some(line) = self.waiting.front().copied() else { return };
        if let Some(error) = self.full.clone() {
            let refused = self.context.clone().refuse(line, error);
            self.waiting.pop_front();
            self.submitting = Some((line, refused.map_ok(Submission::Ended).boxed()));
            return;
        }
        let room = match self.jobs.values().map(|(_, jobs)| jobs.len()).sum() {
            // Else a line with more jobs than that would wait forever.
            0 => usize::MAX,
            in_flight => self.most().saturating_sub(in_flight),
        };
        let needed = self.needed.filter(|(number, _)| *number == line.number);
        if room < needed.map_or(1, |(_, jobs)| jobs) {
            return;
        }
        self.waiting.pop_front();
        self.submitting = Some((line, self.context.clone().submit(line, room).boxed()));
    }

    /// The most jobs of this batch at once; a line has several if it asks for several answers. All batches together leave
    /// three quarters of the queue to other requests, and those of a tenant leave it half of its concurrent jobs.
    fn most(&self) -> usize {
        let (queen, tenant) = (&self.context.shared.queen, &self.context.record.tenant);
        let (own, all) = self.batches.batches.active(tenant);
        let limits = tenant.as_ref().map(|tenant| queen.tenants().limits_of(tenant));
        let jobs = limits.and_then(|limits| limits.concurrent_jobs);
        let of_tenant = jobs.map_or(usize::MAX, |jobs| jobs as usize / 2 / own.max(1));
        let of_queue = queen.settings().queue_capacity / 4 / all.max(1);
        self.batches.limits.lines_in_flight.min(of_tenant).min(of_queue).max(1)
    }

    async fn submitted(&mut self, line: Line, submitted: Submission) -> Result<Accepts> {
        match submitted {
            Submission::Accepted(accepted) => {
                self.jobs.insert(line.number, (line, accepted.jobs().collect()));
                let context = self.context.clone();
                self.answers
                    .push(async move { (accepted.line, context.answer(accepted).await) }.boxed());
            }
            Submission::Ended(finished) => self.write(line, finished).await?,
            Submission::NoRoom(jobs) => {
                self.waiting.push_front(line);
                self.needed = Some((line.number, jobs));
            }
            Submission::Later(after) => {
                self.waiting.push_front(line);
                self.pause = Some(Instant::now() + after);
            }
            Submission::Gone => {
                self.waiting.push_front(line);
                return Ok(Accepts::NoMore);
            }
        }
        Ok(Accepts::More)
    }

    async fn answered(&mut self, line: Line, finished: Option<Finished>) -> Result<()> {
        self.jobs.remove(&line.number);
        match finished {
            Some(finished) => {
                // There may be room for another line now.
                self.pause = None;
                self.write(line, finished).await
            }
            None => {
                self.waiting.push_front(line);
                self.pause = Some(Instant::now() + AGAIN);
                Ok(())
            }
        }
    }

    /// Appends a result to its file, and counts it. If that fails the run ends with the error, and the next run gets the
    /// same result again. An answer for which the tenant has no room is replaced by that error.
    async fn write(&mut self, line: Line, mut finished: Finished) -> Result<()> {
        let bytes = finished.text.len() as u64;
        if !finished.is_success {
            self.room.count(bytes);
        } else if let Err(error) = self.room.take(bytes) {
            finished = self.context.clone().refuse(line, error.clone()).await?;
            self.room.count(finished.text.len() as u64);
            self.full = Some(error);
        }
        if finished.is_success {
            let free = self.batches.limits.free_bytes;
            match append(&mut self.output, finished.text, free).await {
                Ok(()) => {
                    self.counts.completed += 1;
                    self.batches.batches.count(&self.context.record.id, self.counts);
                    return Ok(());
                }
                // The batch must end, also if its results cannot wait for room on the disk.
                Err(error) if self.is_ending => {
                    finished = self.context.clone().refuse(line, error).await?;
                    self.room.count(finished.text.len() as u64);
                }
                Err(error) => return Err(error),
            }
        }
        append(&mut self.errors, finished.text, RESERVED).await?;
        self.counts.failed += 1;
        self.batches.batches.count(&self.context.record.id, self.counts);
        Ok(())
    }
}

/// Appends lines to a file, if its disk then has this much free space.
///
/// # Errors
/// [`ErrorKind::Storage`](rbee_core::ErrorKind::Storage); then none was appended.
async fn append(file: &mut ResultFile, lines: Vec<u8>, free: u64) -> Result<()> {
    let mut handle = file.clone();
    let handle = blocking(move || {
        let least = free.saturating_add(lines.len() as u64);
        let appended = disk::check_free(handle.path(), least).and_then(|()| handle.append(&lines));
        appended.map_err(|cause| disk::failed(handle.path(), cause))?;
        Ok(handle)
    });
    *file = handle.await?;
    Ok(())
}

async fn pause(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
