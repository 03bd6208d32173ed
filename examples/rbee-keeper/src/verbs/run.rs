//! `rbee run`: one question, one answer.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use clap::Args;

use super::{ask, chat};
use crate::{
    Keeper,
    answer::{Message, Sampling},
    failure::{Exit, Failure},
    model_name::ModelArg,
};

/// The maximum size of a prompt from standard input, in bytes.
const MOST_BYTES: u64 = 32 << 20;
/// The delay before a note says that the command waits for standard input.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The model: a name, hf:org/repo[@revision][::file=path], or a path like ./model.gguf
    model: ModelArg,

    /// The prompt. Piped input is added to it
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
        messages.push(Message::new("user", prompt));
        let asked = ask::ask(keeper, &model, &messages, &self.sampling, self.verbose).await;
        asked.map(|_| Exit::Ok)
    }

    /// The typed and the piped prompt, or `None` if both are missing.
    async fn prompt(&self, keeper: &Keeper) -> Result<Option<String>, Failure> {
        let typed = self.prompt.join(" ");
        if keeper.screen.is_typed_into() {
            return Ok(Some(typed).filter(|typed| !typed.trim().is_empty()));
        }
        let piped = super::interruptible(piped_in(keeper)).await?;
        let both = match (typed.is_empty(), piped.trim().is_empty()) {
            (false, false) => format!("{typed}\n\n{piped}"),
            (false, true) => typed,
            (true, _) => piped,
        };
        if both.trim().is_empty() {
            return Err(Failure::usage(
                "there is no prompt: none is on the command line, and standard input is empty",
            ));
        }
        Ok(Some(both))
    }
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
