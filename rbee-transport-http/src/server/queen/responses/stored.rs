//! Stored responses: found by their ids, and continued.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rbee_core::{
    Error, ErrorKind, JobId, JobState, Outcome, Result,
    job::{Job, JobStatus},
    registry::{JobFilter, JobRecord},
    request::{Chat, Sampling},
};

use super::{
    extras::{Extras, job_of, response_id},
    input::{Conversation, Item, Items},
    object::{self, chat_of},
    output::Output,
    request::no_previous,
};
use crate::{
    server::queen::{Inner, answer_stream::options, caller::Caller},
    wire::responses::{Response, ResponseStatus},
};

/// The most responses that the references of one request may name.
const MOST_REFERRED: usize = 256;

/// A stored response.
pub(super) struct Stored {
    pub(super) record: JobRecord,
    pub(super) extras: Extras,
    job: Arc<Job>,
}

/// The error for a response that does not exist, or is not the caller's.
pub(super) fn not_found(id: &str) -> Error {
    let shown: String = id.chars().take(60).collect();
    Error::for_client(ErrorKind::NotFound, format!("Response with id '{shown}' not found."))
}

impl Inner {
    /// The stored response with this id.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, if it is not stored any more, and if it is another tenant's.
    pub(super) async fn stored_response(&self, caller: &Caller, id: &str) -> Result<Stored> {
        let job = job_of(id).ok_or_else(|| not_found(id))?;
        self.stored_job(caller, job).await?.ok_or_else(|| not_found(id))
    }

    async fn stored_job(&self, caller: &Caller, job: JobId) -> Result<Option<Stored>> {
        let filter = JobFilter { tenant: caller.tenant().cloned(), ..JobFilter::one(job) };
        let found = self.queen.jobs(&filter).await?.pop();
        Ok(found.and_then(Stored::of))
    }

    /// The conversation that a request continues: the messages of the response before, without its instructions, and
    /// its answer.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if there is no such response, or it was not completed.
    pub(super) async fn conversation_before(
        &self,
        caller: &Caller,
        previous: Option<&(String, JobId)>,
    ) -> Result<Conversation> {
        let mut before = Conversation::default();
        let Some((id, job)) = previous else { return Ok(before) };
        let found = self.stored_job(caller, *job).await?;
        let stored = found.filter(Stored::is_complete).ok_or_else(|| no_previous(id))?;
        let Some((chat, _)) = stored.chat() else { return Err(no_previous(id)) };
        let from = usize::from(stored.extras.has_instructions).min(chat.messages.len());
        before.extend(&chat.messages[from..], "previous_response_id");
        for (_, item) in stored.output(chat).to_input() {
            before.add(item, "previous_response_id")?;
        }
        Ok(before)
    }

    /// Replaces references by the items of stored responses that they name. Those of reasoning are left out.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for one that names no item.
    pub(super) async fn resolve(&self, caller: &Caller, items: Items) -> Result<Items> {
        let mut outputs: HashMap<JobId, HashMap<usize, Item>> = HashMap::new();
        let (mut lengths, mut named) = (HashMap::new(), HashSet::new());
        let mut resolved = Vec::with_capacity(items.len());
        for (place, item) in items {
            let Item::Reference(job, index) = item else {
                resolved.push((place, item));
                continue;
            };
            if !outputs.contains_key(&job) {
                if outputs.len() >= MOST_REFERRED {
                    let message = format!(
                        "{place}.id names an item of another response; allowed are items of {MOST_REFERRED} responses"
                    );
                    return Err(Error::for_client(ErrorKind::InvalidRequest, message)
                        .with_param(format!("{place}.id")));
                }
                let found = self.stored_job(caller, job).await?.filter(Stored::is_complete);
                let output = found.and_then(|stored| Some(stored.output(stored.chat()?.0)));
                let output = output.ok_or_else(|| no_item(&place))?;
                lengths.insert(job, output.len());
                outputs.insert(job, output.to_input().into_iter().collect());
            }
            if lengths.get(&job).is_none_or(|length| index >= *length) {
                return Err(no_item(&place));
            }
            // Each reference is short, and what it stands for need not be.
            if !named.insert((job, index)) {
                let message =
                    format!("{place}.id names an item for the second time; name each one once");
                return Err(Error::for_client(ErrorKind::InvalidRequest, message)
                    .with_param(format!("{place}.id")));
            }
            let item = outputs.get_mut(&job).and_then(|items| items.remove(&index));
            resolved.extend(item.map(|item| (place, item)));
        }
        Ok(resolved)
    }
}

fn no_item(place: &str) -> Error {
    let message = format!(
        "{place}.id is the id of no item of a stored response; send the item itself, or store the response (`store`)"
    );
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(format!("{place}.id"))
}

impl Stored {
    fn of(record: JobRecord) -> Option<Self> {
        let job = record.request.clone()?;
        let extras = Extras::of_text(job.metadata.as_deref()?)?;
        // What is not kept was never stored, or its answer was dropped to make room.
        let is_kept = job.stored && extras.store && chat_of(&job.task).is_some();
        let is_whole = record.status.state().is_live() || record.has_whole_output();
        (is_kept && is_whole).then_some(Self { record, extras, job })
    }

    pub(super) fn chat(&self) -> Option<(&Chat, &Sampling)> {
        chat_of(&self.job.task)
    }

    pub(super) fn id(&self) -> String {
        response_id(self.record.id)
    }

    pub(super) fn is_live(&self) -> bool {
        self.record.status.state().is_live()
    }

    fn is_complete(&self) -> bool {
        self.record.status.state() == JobState::Complete
    }

    /// The response before its answer.
    pub(super) fn begun(&self, chat: &Chat, sampling: &Sampling) -> Response {
        object::begun(self.record.id, chat, sampling, &self.extras)
    }

    /// The recorded answer.
    fn output(&self, chat: &Chat) -> Output {
        let finish = match &self.record.status {
            JobStatus::Ended(ended) => match ended.outcome {
                Outcome::Complete { finish, .. } => Some(finish),
                Outcome::Failed(_) | Outcome::Cancelled => None,
            },
            JobStatus::Live(_) => None,
        };
        let options = options(Some(&chat.callable()), self.record.format);
        let tokens = self.record.chunks.iter();
        let tokens = tokens.map(|chunk| (&*chunk.text, chunk.logprobs.as_deref()));
        Output::new(self.record.id, chat, &self.extras).of_tokens(tokens, options, finish)
    }

    /// The response as it is now, with an error as this caller may know it.
    pub(super) fn response(&self, caller: &Caller) -> Result<Response> {
        let (chat, sampling) = self.chat().ok_or_else(|| not_found(&self.id()))?;
        let mut begun = self.begun(chat, sampling);
        let JobStatus::Ended(ended) = &self.record.status else {
            if self.record.status.state() == JobState::Running {
                begun.status = ResponseStatus::InProgress;
            }
            return Ok(begun);
        };
        let output = self.output(chat);
        let mut response = match &ended.outcome {
            Outcome::Complete { finish, usage, .. } => {
                object::ended(begun, &output, *finish, *usage)
            }
            Outcome::Failed(error) => object::failed(begun, &output, &caller.error(error)),
            Outcome::Cancelled => {
                let error = Error::new(ErrorKind::Cancelled, "the response was cancelled");
                object::failed(begun, &output, &error)
            }
        };
        response.completed_at = Some(ended.completed_at.as_millis() / 1_000);
        Ok(response)
    }
}
