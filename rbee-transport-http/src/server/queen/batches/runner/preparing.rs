//! The beginning of a run: the input file is checked, and what a previous run has written is read.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::File,
    io::{self, BufReader},
    sync::Arc,
};

use futures_util::stream::FuturesUnordered;
use rbee_core::{Result, private_files::open_own};
use tokio_util::sync::CancellationToken;

use super::Run;
use crate::{
    server::queen::{
        Shared,
        batches::{
            Batches,
            disk::{self, blocking},
            file_store::ResultRoom,
            input::{self, Line},
            line::LineContext,
            records::BatchRecord,
            results::ResultFile,
        },
        caller::Caller,
        local_user::{Locality, NotLocal},
    },
    wire::batches::{BatchError, BatchStatus, RequestCounts},
};

impl Run {
    /// Prepares a new batch, or one that a previous run has left. `None` if its input file is not valid; then the batch
    /// has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](rbee_core::ErrorKind::Storage) if files cannot be read or written now.
    pub(super) async fn prepare(
        shared: &Shared,
        batches: &Arc<Batches>,
        record: BatchRecord,
        cancel: CancellationToken,
    ) -> Result<Option<Box<Self>>> {
        let is_taken_up = record.in_progress_at_ms.is_some();
        // A batch that was cancelled before it began has no lines to look for.
        let lines = match record.status {
            BatchStatus::Cancelling if !is_taken_up => Ok(Vec::new()),
            _ => lines(shared, batches, &record).await?,
        };
        let lines = match lines {
            Ok(lines) => lines,
            Err(faults) => {
                let fail = |record: &mut BatchRecord| {
                    record.enter(BatchStatus::Failed);
                    record.faults = faults;
                    Ok(())
                };
                let (files, input) = (batches.files.clone(), record.input);
                let free = move || files.end_reading(&input);
                batches.batches.update_then(&record.id, fail, free).await?;
                return Ok(None);
            }
        };
        let total = lines.len() as u64;
        let begin = |record: &mut BatchRecord| {
            // It may be cancelled already.
            if record.status == BatchStatus::Validating {
                record.enter(BatchStatus::InProgress);
            }
            Ok(())
        };
        let record = match record.status {
            BatchStatus::Validating => batches.batches.update(&record.id, begin).await?,
            _ => record,
        };
        let paths = [&record.output, &record.error_output].map(|id| batches.files.content(id));
        let of_batch = record.clone();
        let written = blocking(move || {
            let mut done = HashSet::new();
            let [output, errors] = paths.map(|path| {
                let found = |id: &str| of_batch.line_of(id).is_some_and(|line| done.insert(line));
                done_before(&path, found)
            });
            Ok((output?, errors?, done))
        });
        let ((output, completed), (errors, failed), done) = written.await?;
        let counts = RequestCounts { total, completed, failed };
        batches.batches.count(&record.id, counts);
        let waiting: VecDeque<Line> =
            lines.into_iter().filter(|line| !done.contains(&line.number)).collect();
        let written = output.bytes().saturating_add(errors.bytes());
        let room = ResultRoom::new(&batches.files, &record.tenant, written);
        let context = Arc::new(context(shared, batches, record));
        Ok(Some(Box::new(Self {
            batches: batches.clone(),
            context,
            cancel,
            waiting,
            answers: FuturesUnordered::new(),
            jobs: HashMap::new(),
            submitting: None,
            needed: None,
            pause: None,
            output,
            errors,
            room,
            full: None,
            counts,
            is_taken_up,
            is_ending: false,
        })))
    }
}

/// Opens a result file, and counts the results in it.
fn done_before(
    path: &std::path::Path,
    mut found: impl FnMut(&str) -> bool,
) -> Result<(ResultFile, u64)> {
    let mut count = 0;
    let opened = ResultFile::open(path.to_owned(), |id| {
        let is_new = found(id);
        count += u64::from(is_new);
        is_new
    });
    opened.map(|file| (file, count)).map_err(|cause| disk::failed(path, cause))
}

fn context(shared: &Shared, batches: &Batches, record: BatchRecord) -> LineContext {
    let caller = match &record.tenant {
        Some(tenant) => Caller::Tenant(tenant.clone()),
        None => Caller::Operator,
    };
    let locality = match (record.local_user, shared.local_users) {
        (true, true) => Locality::LocalUser,
        (true, false) => Locality::Other(NotLocal::SwitchedOff),
        (false, _) => Locality::Other(NotLocal::NotKnown),
    };
    let input = batches.files.content(&record.input);
    LineContext { shared: shared.clone(), record, caller, locality, input }
}

/// The lines of the input file, or what is wrong with it.
async fn lines(
    shared: &Shared,
    batches: &Batches,
    record: &BatchRecord,
) -> Result<Result<Vec<Line>, Vec<BatchError>>> {
    let (path, endpoint) = (batches.files.content(&record.input), record.endpoint);
    let longest = shared.bounds.limits().body_bytes;
    blocking(move || {
        let read = open_own(&path, File::options().read(true))
            .and_then(|file| input::lines(BufReader::new(file), endpoint, longest));
        match read {
            Ok(lines) => Ok(lines),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Err(vec![BatchError {
                code: "input_file_missing".into(),
                line: None,
                message: "the input file is no longer there".into(),
                param: Some("input_file_id".into()),
            }])),
            Err(cause) => Err(disk::failed(&path, cause)),
        }
    })
    .await
}
