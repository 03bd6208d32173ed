//! `rbee run`: one question and its answer, or one text and its continuation.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use clap::Args;

use super::{
    ask::{self, Asked},
    chat,
};
use crate::{
    Keeper,
    answer::{Message, Question, Sampling},
    failure::{Exit, Failure},
    model_name::ModelArg,
};

/// The maximum size of a prompt from standard input, in bytes.
const MOST_BYTES: u64 = 32 << 20;
/// The delay before a note says that the command waits for standard input.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest continuation of a text by default, in tokens. A model without a chat template rarely ends a text.
const CONTINUATION: u32 = 256;

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The model: a name, hf:org/repo[@revision][::file=path], or a path like ./model.gguf
    model: ModelArg,

    /// The prompt; a model without a chat template continues it. Piped input is added to it
    prompt: Vec<String>,

    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    #[command(flatten)]
    sampling: Sampling,

    /// Print the timings afterwards
    #[arg(long, short)]
    verbose: bool,
}

impl Run {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let model = keeper.model(&self.model)?;
        let Some(prompt) = self.prompt(keeper).await? else {
            return chat::talk(keeper, &model, self.system.clone(), &self.sampling, self.verbose)
                .await;
        };
        let mut messages = Vec::new();
        messages.extend(self.system.clone().map(|system| Message::new("system", system)));
        messages.push(Message::new("user", prompt.text));
        let question = Question::chat(&model, &messages, &self.sampling);
        // Only the worker knows if it has a chat template: an engine may have one for a model whose files have none.
        match ask::ask(keeper, &question, self.verbose).await? {
            Asked::Answer(_) => Ok(Exit::Ok),
            Asked::NoChatTemplate(refusal) if self.system.is_some() => Err(refusal
                .with_message("the model has no chat template, so it takes no instructions")
                .with_param(None)
                .with_hint("without --system, it continues the prompt")),
            Asked::NoChatTemplate(_) => {
                let text = messages.pop().map(|message| message.content).unwrap_or_default();
                let text = if prompt.ends_with_input { without_line_end(&text) } else { &text };
                self.continue_text(keeper, &model, text).await
            }
        }
    }

    /// Lets the model continue a text.
    async fn continue_text(
        &self,
        keeper: &Keeper,
        model: &str,
        text: &str,
    ) -> Result<Exit, Failure> {
        let most = self.sampling.max_tokens.unwrap_or(CONTINUATION);
        if self.verbose || keeper.screen.draws() {
            keeper.screen.note(&format!(
                "the model has no chat template; it continues the text by at most {most} tokens"
            ));
        }
        let sampling = Sampling { max_tokens: Some(most), ..self.sampling.clone() };
        let question = Question::continuation(model, text, &sampling);
        match ask::ask(keeper, &question, self.verbose).await? {
            Asked::Answer(_) => Ok(Exit::Ok),
            Asked::NoChatTemplate(refusal) => Err(refusal),
        }
    }

    /// The typed and the piped prompt, or `None` if both are missing.
    async fn prompt(&self, keeper: &Keeper) -> Result<Option<Prompt>, Failure> {
        let typed = self.prompt.join(" ");
        if keeper.screen.is_typed_into() {
            let typed = Some(typed).filter(|typed| !typed.trim().is_empty());
            return Ok(typed.map(|text| Prompt { text, ends_with_input: false }));
        }
        let piped = super::interruptible(piped_in(keeper)).await?;
        let (text, ends_with_input) = match (typed.is_empty(), piped.trim().is_empty()) {
            (false, false) => (format!("{typed}\n\n{piped}"), true),
            (false, true) => (typed, false),
            (true, _) => (piped, true),
        };
        if text.trim().is_empty() {
            return Err(Failure::usage(
                "there is no prompt: none is on the command line, and standard input is empty",
            ));
        }
        Ok(Some(Prompt { text, ends_with_input }))
    }
}

struct Prompt {
    text: String,
    /// True if its end comes from standard input.
    ends_with_input: bool,
}

/// The text without the end of its last line, which programs write after every text. A model would begin its
/// continuation with a new line.
fn without_line_end(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix('\r').filter(|_| line.len() < text.len()).unwrap_or(line)
}

/// All of standard input. If the caller left it open, a note says what the command waits for.
async fn piped_in(keeper: &Keeper) -> Result<String, Failure> {
    let mut read = tokio::task::spawn_blocking(read_input);
    let read = match tokio::time::timeout(TIMEOUT, &mut read).await {
        Ok(read) => read,
        Err(_) => {
            keeper
                .screen
                .note("waiting for the end of standard input; use </dev/null if there is none");
            read.await
        }
    };
    read.unwrap_or_else(|cause| Err(Failure::usage(cause.to_string())))
}

fn read_input() -> Result<String, Failure> {
    let wrong = |why: String| Failure::usage(format!("standard input cannot be the prompt: {why}"));
    let mut bytes = Vec::new();
    let stdin = io::stdin().lock();
    stdin.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|cause| wrong(cause.to_string()))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(wrong(format!("it has more than {MOST_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|cause| wrong(cause.to_string()))
}
