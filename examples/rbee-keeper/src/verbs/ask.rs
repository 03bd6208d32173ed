//! Sends a question to a model and shows the answer as it arrives.

use std::time::Duration;

use rbee_transport_http::wire::{
    ProgressBody,
    queen::{self, JobView},
};
use serde_json::value::RawValue;

use crate::{
    Keeper,
    answer::{Answer, Part, Question},
    failure::{Exit, Failure},
    screen::Bars,
};

/// How long an answer may be silent before a terminal shows the reason, and how often that is updated.
const CURIOSITY: Duration = Duration::from_millis(400);

/// The end of a question that did not fail.
pub(super) enum Asked {
    /// The whole answer, which was shown.
    Answer(String),
    /// The model has no chat template, so it cannot answer messages. Nothing was shown.
    NoChatTemplate(Failure),
}

/// Sends the question, shows the answer and returns it. Ctrl-C cancels the job and returns [`Failure::interrupted`].
pub(super) async fn ask(
    keeper: &Keeper,
    question: &Question<'_>,
    verbose: bool,
) -> Result<Asked, Failure> {
    let mut shown = Shown { keeper, text: String::new(), is_empty: true, bars: None };
    let asked =
        super::interruptible(shown.until_accepted(Answer::ask(&keeper.client, question))).await;
    let mut answer = match asked {
        Ok(answer) => answer,
        Err(failure) if failure.has_no_chat_template() => {
            return Ok(Asked::NoChatTemplate(failure));
        }
        Err(failure) => return Err(keeper.with_names(failure, question.model()).await),
    };
    let ended = shown.until_the_end(&mut answer).await;
    shown.end_of_line()?;
    if let Err(failure) = ended {
        if failure.has_no_chat_template() && shown.is_empty {
            return Ok(Asked::NoChatTemplate(failure));
        }
        if failure.exit() == Exit::Interrupted || failure.is_silent() {
            answer.cancel().await;
        }
        return Err(failure);
    }
    if verbose {
        keeper.screen.note(&measured(&answer));
    }
    Ok(Asked::Answer(shown.text))
}

/// The state of the screen during an answer.
struct Shown<'a> {
    keeper: &'a Keeper,
    text: String,
    /// True until something of the answer was shown, if only an object without text.
    is_empty: bool,
    bars: Option<Bars>,
}

impl Shown<'_> {
    /// Waits until the job is accepted. The queen delays the head of its answer for a moment, so that an error has its
    /// proper status.
    async fn until_accepted(
        &mut self,
        asked: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let mut asked = std::pin::pin!(asked);
        let draws = self.keeper.screen.draws();
        loop {
            tokio::select! {
                answer = &mut asked => return answer,
                () = tokio::time::sleep(CURIOSITY), if draws && self.bars.is_none() => {
                    self.wait_for("waiting", ProgressBody::default());
                }
            }
        }
    }

    async fn until_the_end(&mut self, answer: &mut Answer) -> Result<(), Failure> {
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let part = tokio::select! {
                part = answer.next() => part?,
                Ok(()) = &mut interrupted => return Err(Failure::interrupted()),
                () = tokio::time::sleep(CURIOSITY), if self.is_curious(answer) => {
                    self.look(answer).await;
                    continue;
                }
            };
            match part {
                Part::End => return Ok(()),
                Part::Text(text, whole) => self.take(&text, &whole)?,
            }
        }
    }

    fn take(&mut self, text: &str, whole: &RawValue) -> Result<(), Failure> {
        let screen = &self.keeper.screen;
        self.is_empty = false;
        if screen.is_json() {
            screen.object(whole)?;
        } else if !text.is_empty() {
            self.bars = None;
            screen.chunk(text)?;
        }
        self.text.push_str(text);
        Ok(())
    }

    fn is_curious(&self, answer: &Answer) -> bool {
        self.text.is_empty() && answer.job.is_some() && self.keeper.screen.draws()
    }

    /// Shows what the job waits for.
    async fn look(&mut self, answer: &Answer) {
        let Some(job) = &answer.job else { return };
        let path = queen::JOB.replace("{id}", job);
        let found: Result<JobView, _> = self.keeper.client.get_within(&path, CURIOSITY * 5).await;
        let Ok(job) = found else { return };
        let (label, progress) = match (job.loading, job.position) {
            (Some(loading), _) => {
                // A tenant does not see the hive.
                let place = loading.hive.map(|hive| format!(" on {hive}")).unwrap_or_default();
                (format!("{}{place}", loading.state), loading.progress)
            }
            (None, Some(0)) => ("next in the queue".to_owned(), ProgressBody::default()),
            (None, Some(before)) => {
                (format!("{before} before it in the queue"), ProgressBody::default())
            }
            (None, None) => ("thinking".to_owned(), ProgressBody::default()),
        };
        self.wait_for(&label, progress);
    }

    fn wait_for(&mut self, label: &str, progress: ProgressBody) {
        // A new label gets a new bar, so that there are never two bars.
        let bars = self.bars.take().filter(|bars| bars.has(label));
        let mut bars = bars.unwrap_or_else(|| Bars::new(&self.keeper.screen));
        bars.show(label, progress);
        self.bars = Some(bars);
    }

    fn end_of_line(&mut self) -> Result<(), Failure> {
        self.bars = None;
        let screen = &self.keeper.screen;
        if screen.is_json() || self.text.is_empty() || self.text.ends_with('\n') {
            return Ok(());
        }
        screen.out("\n")
    }
}

/// A line with the timings.
fn measured(answer: &Answer) -> String {
    let mut parts = Vec::new();
    if let Some(first) = answer.to_first() {
        parts.push(format!("first token after {:.0} ms", first.as_secs_f64() * 1e3));
    }
    if let Some(usage) = answer.usage {
        parts.push(format!("prompt {} tokens{}", usage.prompt_tokens, usage.cached()));
        parts.push(format!("answer {} tokens", usage.completion_tokens));
    }
    if let Some(speed) = answer.speed() {
        parts.push(format!("{speed:.0} tokens/s"));
    }
    if answer.finish.as_deref() == Some("length") {
        parts.push("cut at the maximum length".into());
    }
    if let Some(job) = &answer.job {
        parts.push(format!("job {job}"));
    }
    parts.join(", ")
}
