//! The end of a run: jobs are cancelled, and the result files become files of the tenant.

use std::time::Duration;

use rbee_core::{JobState, Result, registry::JobFilter};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Outcome, RESERVED, Run, Stopped, append};
use crate::{
    server::queen::batches::{
        disk::{self, blocking},
        records::{BatchRecord, FileRecord, later, now_ms},
    },
    wire::batches::{BatchStatus, FilePurpose},
};

/// How long a submission may take once the batch is cancelled.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long jobs may take to end once they are cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);
/// The jobs that are listed at once, and the most such lists.
const PAGE: usize = 1_000;
const MOST_PAGES: usize = 1_000;
/// How many bytes of results are written at once.
const WRITE_BYTES: usize = 64 << 10;

impl Run {
    /// Ends the batch.
    pub(super) async fn end(mut self: Box<Self>, outcome: Outcome) -> Result<Stopped> {
        if outcome != Outcome::Complete {
            self.is_ending = true;
            let stop = self.context.shared.stop.clone();
            match stop.run_until_cancelled(self.cancel_jobs()).await {
                Some(cancelled) => cancelled?,
                None => return Ok(Stopped::Unfinished),
            }
        }
        if outcome == Outcome::Expired {
            self.write_expired().await?;
        }
        if outcome == Outcome::Complete {
            let finalize = |record: &mut BatchRecord| {
                // It may have been cancelled after its last result.
                if record.status == BatchStatus::InProgress {
                    record.enter(BatchStatus::Finalizing);
                }
                Ok(())
            };
            self.batches.batches.update(&self.context.record.id, finalize).await?;
        }
        self.keep_results().await?;
        let (counts, has_output, has_errors) =
            (self.counts, self.output.bytes() > 0, self.errors.bytes() > 0);
        let finish = |record: &mut BatchRecord| {
            record.enter(match (outcome, record.status) {
                (Outcome::Expired, _) => BatchStatus::Expired,
                (Outcome::Cancelled, _) | (_, BatchStatus::Cancelling) => BatchStatus::Cancelled,
                _ => BatchStatus::Completed,
            });
            (record.counts, record.has_output, record.has_errors) =
                (counts, has_output, has_errors);
            Ok(())
        };
        let (batches, record) = (&self.batches, &self.context.record);
        // Whoever sees that the batch has ended can delete its input file.
        let (files, input) = (batches.files.clone(), record.input.clone());
        let free = move || files.end_reading(&input);
        batches.batches.update_then(&record.id, finish, free).await?;
        Ok(Stopped::Ended)
    }

    /// Cancels all jobs, and writes the results of those that have ended. The other lines wait again.
    async fn cancel_jobs(&mut self) -> Result<()> {
        if let Some((line, submitting)) = self.submitting.take() {
            match timeout(SUBMIT_TIMEOUT, submitting).await {
                Ok(submitted) => drop(self.submitted(line, submitted?).await?),
                Err(_) => self.waiting.push_front(line),
            }
        }
        let queen = &self.context.shared.queen;
        self.jobs.values().flat_map(|(_, jobs)| jobs).for_each(|job| queen.cancel(*job));
        if self.is_taken_up {
            self.cancel_leftovers().await?;
        }
        let until = Instant::now() + CANCEL_TIMEOUT;
        while !self.answers.is_empty() {
            let Ok(answered) =
                timeout_at(until, futures_util::StreamExt::next(&mut self.answers)).await
            else {
                break;
            };
            let Some((line, finished)) = answered else { break };
            self.jobs.remove(&line.number);
            match finished {
                Some(finished) if !finished.is_cancelled => self.write(line, finished).await?,
                _ => self.waiting.push_front(line),
            }
        }
        self.waiting.extend(self.jobs.drain().map(|(_, (line, _))| line));
        self.waiting.make_contiguous().sort_unstable_by_key(|line| line.number);
        Ok(())
    }

    /// Cancels the jobs of a previous run that this one has not submitted again.
    async fn cancel_leftovers(&mut self) -> Result<()> {
        let (record, queen) = (&self.context.record, &self.context.shared.queen);
        let keys = format!("{}/", record.id);
        let mut filter = JobFilter {
            tenant: record.tenant.clone(),
            states: JobState::ALL.into_iter().filter(|state| state.is_live()).collect(),
            limit: PAGE,
            ..JobFilter::default()
        };
        for _ in 0..MOST_PAGES {
            let jobs = queen.jobs(&filter).await?;
            let own = jobs.iter().filter(|job| {
                let key = job.idempotency.as_ref().map(|idempotency| &*idempotency.key);
                job.tenant == record.tenant && key.is_some_and(|key| key.starts_with(&keys))
            });
            own.for_each(|job| queen.cancel(job.id));
            match jobs.last() {
                Some(last) if jobs.len() == PAGE => filter.before = Some(last.order),
                _ => break,
            }
        }
        Ok(())
    }

    /// Writes an error for each line without a result.
    async fn write_expired(&mut self) -> Result<()> {
        let (mut text, mut count) = (Vec::new(), 0);
        let (path, free) = (self.output.path().to_owned(), self.batches.limits.free_bytes);
        let is_full = blocking(move || Ok(disk::check_free(&path, free).is_err())).await?;
        while let Some(line) = self.waiting.pop_front() {
            text.extend(self.context.expired(line, is_full).await?);
            count += 1;
            if text.len() >= WRITE_BYTES || self.waiting.is_empty() {
                self.room.count(text.len() as u64);
                append(&mut self.errors, std::mem::take(&mut text), RESERVED).await?;
                self.counts.failed += std::mem::take(&mut count);
            }
        }
        Ok(())
    }

    /// Makes the result files files of the tenant.
    async fn keep_results(&mut self) -> Result<()> {
        let files = [self.output.clone(), self.errors.clone()];
        blocking(move || {
            files.iter().try_for_each(|file| {
                file.finish().map_err(|cause| disk::failed(file.path(), cause))
            })
        })
        .await?;
        let (record, now) = (&self.context.record, now_ms());
        let kept = [
            (&record.output, self.output.bytes(), "output"),
            (&record.error_output, self.errors.bytes(), "error"),
        ];
        for (id, bytes, name) in kept.into_iter().filter(|(_, bytes, _)| *bytes > 0) {
            let file = FileRecord {
                id: id.clone(),
                tenant: record.tenant.clone(),
                filename: format!("{}_{name}.jsonl", record.id),
                purpose: FilePurpose::BatchOutput,
                bytes,
                created_at_ms: now,
                expires_at_ms: later(now, record.output_kept),
            };
            self.batches.files.add(file).await?;
            self.room.release(bytes);
        }
        Ok(())
    }
}
