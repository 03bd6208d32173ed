//! Submits requests as jobs: one, or several together.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    JobHandle, Queen, fresh_seed,
    inbox::{self, Message, Submission},
    log::EventLog,
    model_locator::Grant,
};
use crate::{
    engine::Submitted,
    error::{Error, ErrorKind, Result},
    id::JobId,
    job::{Job, check_repeat},
    model_ref::ModelSource,
    registry::JobFilter,
    request::Request,
};

impl Queen {
    /// Checks the request and submits it. A request with an [idempotency key](Request::idempotency_key) that was used
    /// before does not run again: the handle is one on the first job, and dropping it cancels nothing. Returns when the
    /// job is recorded; its placement goes on in the meantime.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::ErrorKind::InvalidRequest) for a value that is not allowed,
    /// [`ModelNotFound`](crate::ErrorKind::ModelNotFound) for an unknown model,
    /// [`SystemAtCapacity`](crate::ErrorKind::SystemAtCapacity) with the time to retry if the queue is full,
    /// [`Storage`](crate::ErrorKind::Storage) if the job could not be recorded. In all these cases nothing was
    /// accepted.
    pub async fn submit(&self, request: Request) -> Result<JobHandle> {
        let has_seed = request.has_seed();
        let job = self.check(request).await?;
        if let Some(handle) = self.find_repeat(&job).await? {
            return Ok(handle);
        }
        let (handle, log) = self.handle(&job);
        let job = Arc::new(job);
        let asked = job.clone();
        let message = |reply| Message::Submit(Submission { job, has_seed, log, reply });
        let submitted = self.shared.inbox.ask(message).await;
        self.submitted(handle, &asked, submitted.flatten()).await
    }

    /// Submits several requests together: if they all fit the limits of the queue and of their tenants together, all
    /// are accepted, otherwise none. Each is handled like one for [`submit`](Self::submit). If a policy that admits
    /// jobs, or the store, refuses one of them later, the others are cancelled, because their handles are dropped.
    ///
    /// ```
    /// use rbee_core::{Queen, Request};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> rbee_core::Result<()> {
    /// # let my_worker = rbee_core::worker::EchoWorker::builder("my-model".parse()?).build();
    ///
    /// let queen = Queen::builder().worker(my_worker).build().await?;
    /// let drafts = (0..3).map(|seed| Request::chat("my-model").user("A line of verse").seed(seed));
    /// for draft in queen.submit_all(drafts).await? {
    ///     println!("{}", draft.answer().await?.text);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`submit`](Self::submit). If they are more than a limit can ever allow, the error has no time to retry.
    pub async fn submit_all(
        &self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<JobHandle>> {
        let checks = requests.into_iter().map(async |request| {
            let has_seed = request.has_seed();
            Ok::<_, Error>((self.check(request).await?, has_seed))
        });
        let jobs = futures_util::future::try_join_all(checks).await?;
        let (mut submissions, mut answers) = (Vec::new(), Vec::new());
        for (job, has_seed) in jobs {
            if let Some(handle) = self.find_repeat(&job).await? {
                answers.push((handle, None));
                continue;
            }
            let (handle, log) = self.handle(&job);
            let (reply, answer) = oneshot::channel();
            let job = Arc::new(job);
            submissions.push(Submission { job: job.clone(), has_seed, log, reply });
            answers.push((handle, Some((job, answer))));
        }
        self.shared.inbox.send_when_room(Message::SubmitAll(submissions)).await?;
        let mut handles = Vec::with_capacity(answers.len());
        for (handle, answer) in answers {
            handles.push(match answer {
                None => handle,
                Some((job, answer)) => {
                    let submitted = answer.await.unwrap_or_else(|_| Err(inbox::gone()));
                    self.submitted(handle, &job, submitted).await?
                }
            });
        }
        Ok(handles)
    }

    /// A handle on a job that is not submitted yet, and the log for its events.
    fn handle(&self, job: &Job) -> (JobHandle, Arc<EventLog>) {
        let log = Arc::new(EventLog::default().of_tenant(job.tenant.clone()));
        // Armed before the wait: a submission that is dropped in the middle cancels its job too.
        (JobHandle::new(job.id, log.read(None), self.clone(), !job.outlives_its_client()), log)
    }

    async fn submitted(
        &self,
        mut handle: JobHandle,
        job: &Job,
        submitted: Result<Submitted>,
    ) -> Result<JobHandle> {
        match submitted {
            Ok(Submitted::Accepted) => Ok(handle),
            Ok(Submitted::Before) => {
                handle.disarm();
                self.join(handle.id()).await
            }
            Err(error) => {
                handle.disarm();
                Err(self.with_similar(job, error).await)
            }
        }
    }

    /// The error, with similar names if it is about an unknown one.
    pub(super) async fn with_similar(&self, job: &Job, error: Error) -> Error {
        let is_name = matches!(job.model.source(), ModelSource::Alias(_));
        if error.kind() != ErrorKind::ModelNotFound || !is_name {
            return error;
        }
        match self.cluster().await {
            // A policy may refuse a known model with this kind, for a reason of its own.
            Ok(cluster) if !cluster.knows_model(&job.model) => {
                let name = job.model.as_str();
                self.models().unknown(name, job.tenant.as_ref(), Some(&cluster))
            }
            _ => error,
        }
    }

    /// The job that was recorded before under the same key.
    async fn find_repeat(&self, job: &Job) -> Result<Option<JobHandle>> {
        if job.idempotency.is_none() {
            return Ok(None);
        }
        let filter = JobFilter { with_text: false, ..JobFilter::one(job.id) };
        let Some(record) = self.shared.registry.jobs(&filter).await?.into_iter().next() else {
            return Ok(None);
        };
        check_repeat(job, record.idempotency.as_deref())?;
        self.join(job.id).await.map(Some)
    }

    /// A handle on a job that another client has submitted: dropping it cancels nothing.
    async fn join(&self, job: JobId) -> Result<JobHandle> {
        let events = self.attach(job, None).await?;
        Ok(JobHandle::new(job, events, self.clone(), false))
    }

    /// Checks the request and turns it into a job. A seed that it does not name is random; the engine replaces it when
    /// the job is submitted.
    pub(super) async fn check(&self, request: Request) -> Result<Job> {
        let name = request.model();
        // Before the hub is asked about a model that the tenant may not use.
        let grant = match request.whose() {
            Some(tenant) => self.tenants().grant(tenant, name)?,
            None => Grant::Operator,
        };
        let model = self.models().locate_as(name, grant).await.map_err(|error| {
            let error = match error.client_message() {
                Some(_) => error,
                // The client's error names the model as requested: what an alias stands for is for the operator only.
                None => {
                    let told = format!("model {name}: {}", error.kind().summary());
                    error.with_client_message(told)
                }
            };
            error.with_param("model")
        })?;
        request.into_job(model, &self.shared.settings, fresh_seed())
    }
}
