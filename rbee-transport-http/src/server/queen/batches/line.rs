//! One line of a batch: read from the input file, submitted as jobs, and turned into a line of a result file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::StatusCode;
use rbee_core::{
    CorrelationId, Error, ErrorKind, JobHandle, JobId, Result, private_files::open_own,
    time::WallTime,
};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    ask::{LineAsk, PreparedLine},
    disk::{self, blocking},
    input::{self, Line},
    records::{BatchRecord, now_ms},
    results::{Response, ResultLine},
};
use crate::{
    server::queen::{Shared, caller::Caller, local_user::Locality, retry},
    wire::{OpenAiErrorBody, batches::BatchResultError},
};

/// The longest time until a refused line is submitted again: the limit may have been raised.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The time until then if the refusal does not say one.
const PAUSE: Duration = Duration::from_secs(1);

/// What all lines of a batch have in common.
pub(super) struct LineContext {
    pub(super) shared: Shared,
    pub(super) record: BatchRecord,
    /// The caller who created the batch.
    pub(super) caller: Caller,
    pub(super) locality: Locality,
    /// The path of the input file.
    pub(super) input: PathBuf,
}

/// What became of a line that was submitted.
pub(super) enum Submission {
    /// Its jobs are in the queue.
    Accepted(Box<Accepted>),
    /// It has its result.
    Ended(Finished),
    /// It has this many jobs, for which there is no room yet.
    NoRoom(usize),
    /// It can be submitted again after this time.
    Later(Duration),
    /// The queen takes no more jobs.
    Gone,
}

/// A line with jobs in the queue.
pub(super) struct Accepted {
    pub(super) line: Line,
    custom_id: String,
    ask: PreparedLine,
    handles: Vec<JobHandle>,
    mark: CorrelationId,
}

/// A line with its result.
pub(super) struct Finished {
    pub(super) is_success: bool,
    /// True if its job was cancelled.
    pub(super) is_cancelled: bool,
    /// The line of the output file or the error file.
    pub(super) text: Vec<u8>,
}

impl LineContext {
    /// Reads a line, checks it as its endpoint does, and submits it if it has at most `room` jobs. The same line always
    /// leads to the same jobs.
    ///
    /// # Errors
    /// The error of reading the file.
    pub(super) async fn submit(self: Arc<Self>, line: Line, room: usize) -> Result<Submission> {
        let text = self.read(line).await?;
        let request = input::parse(&text, self.record.endpoint).map_err(|fault| {
            // It was valid when the batch began.
            let message =
                format!("line {} of the input file has changed: {}", line.number, fault.message);
            Error::new(ErrorKind::Internal, message)
        })?;
        drop(text);
        let mark = self.mark(line);
        let refused = |error: &Error| {
            Ok(Submission::Ended(self.failed(line, &request.custom_id, error, &mark)))
        };
        let ask = match LineAsk::read(self.record.endpoint, request.body.get().as_bytes()) {
            Ok(ask) => ask,
            Err(error) => return refused(&error),
        };
        let shared = &self.shared;
        if let Err(error) = shared.check_model_of(&self.caller, &self.locality, ask.model()).await {
            return refused(&error);
        }
        if ask.jobs() > room {
            return Ok(Submission::NoRoom(ask.jobs()));
        }
        let submitted = async {
            let ask = ask.prepare(shared, &self.caller).await?;
            let handles = self.submit_jobs(line, &ask, &mark).await?;
            Ok::<_, Error>((ask, handles))
        };
        match submitted.await {
            Ok((ask, handles)) => {
                let custom_id = request.custom_id;
                let accepted = Accepted { line, custom_id, ask, handles, mark };
                Ok(Submission::Accepted(Box::new(accepted)))
            }
            // The batch expires now.
            Err(_) if self.is_expired() => Ok(Submission::Later(PAUSE)),
            Err(error) => match error.kind() {
                ErrorKind::ShuttingDown | ErrorKind::Fenced => Ok(Submission::Gone),
                ErrorKind::Storage | ErrorKind::Interrupted => {
                    Ok(Submission::Later(error.retry_after().unwrap_or(PAUSE).max(PAUSE)))
                }
                _ => match error.retry_after() {
                    Some(after) => Ok(Submission::Later(after.clamp(PAUSE, LONGEST_PAUSE))),
                    None => refused(&error),
                },
            },
        }
    }

    async fn submit_jobs(
        &self,
        line: Line,
        ask: &PreparedLine,
        mark: &CorrelationId,
    ) -> Result<Vec<JobHandle>> {
        let key = format!("{}/{}", self.record.id, line.number);
        let end = WallTime::from_millis(self.record.expires_at_ms);
        let submit = async |key| ask.submit(&self.shared, &self.caller, key, mark, end).await;
        match submit(key.clone()).await {
            // The name or a setting of the queen stands for something else now, or the answer was kept no longer. So the
            // request is another one, with a key of its own.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                submit(format!("{key}/again")).await
            }
            submitted => submitted,
        }
    }

    fn is_expired(&self) -> bool {
        self.record.expires_at_ms <= now_ms()
    }

    /// Waits for the answer of a line. `None` if its jobs go on without this run of the queen, or if the line is to be
    /// submitted again.
    pub(super) async fn answer(&self, accepted: Box<Accepted>) -> Option<Finished> {
        let Accepted { line, custom_id, ask, handles, mark } = *accepted;
        let jobs: Vec<JobId> = handles.iter().map(JobHandle::id).collect();
        match ask.answer(&self.shared, handles, self.caller.clone(), mark.clone()).await {
            Ok(body) => {
                let text = self.text(line, &custom_id, StatusCode::OK, &body, &mark);
                Some(Finished { is_success: true, is_cancelled: false, text })
            }
            // The batch expires now, and the line with it.
            Err(error) if error.kind() == ErrorKind::DeadlineExceeded && self.is_expired() => None,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ShuttingDown | ErrorKind::Fenced
                ) =>
            {
                None
            }
            Err(error) => {
                // The other answers to this line are of no use.
                for job in jobs {
                    self.shared.queen.cancel(job);
                }
                Some(self.failed(line, &custom_id, &error, &mark))
            }
        }
    }

    /// The result of a line that was not executed in time.
    ///
    /// # Errors
    /// The error of reading the input file.
    pub(super) async fn expired(&self, line: Line, is_disk_full: bool) -> Result<Vec<u8>> {
        let custom_id = self.custom_id(line).await?;
        let id = self.record.result_id(line.number);
        let error = BatchResultError {
            code: "batch_expired".into(),
            message: match is_disk_full {
                true => "the batch expired while its results waited for free space on the disk of the server",
                false => "the batch expired before this request was answered",
            }
            .into(),
        };
        let result =
            ResultLine { id: &id, custom_id: &custom_id, response: None, error: Some(error) };
        Ok(result.to_bytes())
    }

    /// The result of a line that cannot be executed, or whose answer cannot be kept, with this error.
    ///
    /// # Errors
    /// The error of reading the input file.
    pub(super) async fn refuse(self: Arc<Self>, line: Line, error: Error) -> Result<Finished> {
        let custom_id = self.custom_id(line).await?;
        Ok(self.failed(line, &custom_id, &error, &self.mark(line)))
    }

    async fn custom_id(&self, line: Line) -> Result<String> {
        let text = self.read(line).await?;
        let request = input::parse(&text, self.record.endpoint);
        Ok(request.map(|request| request.custom_id).unwrap_or_default())
    }

    /// The result of a line that failed: the response that its endpoint would have sent.
    fn failed(&self, line: Line, custom_id: &str, error: &Error, mark: &CorrelationId) -> Finished {
        let told = self.caller.error(error);
        let status = retry::status(&told);
        if status.is_server_error() {
            tracing::warn!(correlation_id = %mark, error = error.for_log(), "a line of a batch failed");
        }
        let told = retry::with_time(told);
        // A body of texts can always be written.
        let body = to_raw_value(&OpenAiErrorBody::from(&*told)).unwrap_or_default();
        let is_cancelled = error.kind() == ErrorKind::Cancelled;
        let text = self.text(line, custom_id, status, &body, mark);
        Finished { is_success: false, is_cancelled, text }
    }

    fn text(
        &self,
        line: Line,
        custom_id: &str,
        status: StatusCode,
        body: &RawValue,
        mark: &CorrelationId,
    ) -> Vec<u8> {
        let id = self.record.result_id(line.number);
        let response = Response { status_code: status.as_u16(), request_id: mark.as_str(), body };
        ResultLine { id: &id, custom_id, response: Some(response), error: None }.to_bytes()
    }

    /// The correlation id of a line.
    fn mark(&self, line: Line) -> CorrelationId {
        let name = format!("{}-{}", self.record.id, line.number);
        CorrelationId::new(name).unwrap_or_else(|_| CorrelationId::random())
    }

    async fn read(&self, line: Line) -> Result<Vec<u8>> {
        let path = self.input.clone();
        blocking(move || {
            let read = (|| {
                let mut file = open_own(&path, File::options().read(true))?;
                file.seek(SeekFrom::Start(line.offset))?;
                let mut text = Vec::with_capacity(line.bytes);
                file.take(line.bytes as u64).read_to_end(&mut text)?;
                Ok::<_, io::Error>(text)
            })();
            read.map_err(|cause| disk::failed(&path, cause))
        })
        .await
    }
}

impl Accepted {
    /// Its jobs.
    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> + '_ {
        self.handles.iter().map(JobHandle::id)
    }
}
