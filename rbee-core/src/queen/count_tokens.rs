//! Counts the tokens of a prompt.

use std::{sync::Arc, time::Duration};

use super::{Models, Queen, inbox::Message};
use crate::{
    error::{Error, ErrorKind, Result},
    job::Job,
    model_ref::ModelSource,
    request::Request,
    task::{Prompt, Task},
    within::within,
    worker::Worker,
};

/// How long a worker may take to count.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The bytes of text that count as one token if no worker can count.
const BYTES_PER_TOKEN: usize = 4;

/// The number of tokens of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCount {
    /// The number of tokens.
    pub tokens: u32,
    /// True if a worker has counted them, with the tokenizer and the chat template of the model. False for an estimate.
    pub is_exact: bool,
}

impl Models<'_> {
    /// The number of tokens of the prompt of a request, which is not submitted. A ready worker of the model counts them.
    /// If there is none, or it cannot count, the number is an estimate: one token for every four bytes of text, rounded
    /// up. No model is loaded for it.
    ///
    /// ```
    /// use rbee_core::{Queen, Request};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> rbee_core::Result<()> {
    /// # let my_worker = rbee_core::worker::EchoWorker::builder("my-model".parse()?).build();
    ///
    /// let queen = Queen::builder().worker(my_worker).build().await?;
    /// let count = queen.models().count_tokens(Request::chat("my-model").user("How many are these?")).await?;
    /// println!("{} tokens", count.tokens);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a value that is not allowed, [`ErrorKind::ModelNotFound`] for an unknown model,
    /// [`ErrorKind::Unsupported`] for a request for vectors or scores, and the error of the worker if it refuses the prompt.
    pub async fn count_tokens(self, request: Request) -> Result<TokenCount> {
        let queen = self.queen;
        let job = queen.check(request).await?;
        if !matches!(job.task, Task::Generate { .. }) {
            let message = "tokens are counted of conversations and bare text only";
            return Err(Error::for_client(ErrorKind::Unsupported, message));
        }
        let model = job.model.clone();
        let found = queen.shared.inbox.ask(|reply| Message::ReadyWorker { model, reply }).await?;
        let Some(worker) = found else {
            queen.check_known(&job).await?;
            return Ok(estimate(&job.task));
        };
        let task = Arc::new(job.task);
        match count(&*worker, task.clone()).await {
            Ok(tokens) => Ok(TokenCount { tokens, is_exact: true }),
            Err(error) if is_about_prompt(&error) => Err(error),
            Err(error) => {
                tracing::debug!(worker = %worker.info().id, %error, "the tokens of a prompt are estimated");
                Ok(estimate(&task))
            }
        }
    }
}

impl Queen {
    /// Checks that a plain name is the name of a model of this cluster.
    async fn check_known(&self, job: &Job) -> Result<()> {
        let is_name = matches!(job.model.source(), ModelSource::Alias(_));
        if !is_name || self.cluster().await?.knows_model(&job.model) {
            return Ok(());
        }
        let message = format!("model {} is on no machine", job.model);
        Err(self.with_similar(job, Error::new(ErrorKind::ModelNotFound, message)).await)
    }
}

async fn count(worker: &dyn Worker, task: Arc<Task>) -> Result<u32> {
    let what = "the worker did not count the tokens of the prompt";
    within(TIMEOUT, ErrorKind::WorkerUnreachable, what, worker.count_tokens(task)).await
}

/// True if a worker refuses the prompt: it would refuse the request too.
fn is_about_prompt(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::InvalidRequest => true,
        // Without a parameter it is the worker that cannot count.
        ErrorKind::Unsupported => error.param().is_some(),
        _ => false,
    }
}

fn estimate(task: &Task) -> TokenCount {
    let texts = match task {
        Task::Generate { prompt: Prompt::Chat(chat), .. } if !chat.can_call() => {
            // Tools that must not be called are not described.
            chat.messages_bytes()
        }
        _ => task.text_bytes(),
    };
    let tokens = texts.div_ceil(BYTES_PER_TOKEN);
    TokenCount { tokens: u32::try_from(tokens).unwrap_or(u32::MAX), is_exact: false }
}
