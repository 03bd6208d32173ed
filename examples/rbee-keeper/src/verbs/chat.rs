//! `rbee chat`: a conversation.

use clap::Args;
use rbee_transport_http::wire::{queen, query};
use rustyline::{DefaultEditor, error::ReadlineError};

use super::ask::{self, Asked};
use crate::{
    Keeper,
    answer::{Message, Question, Sampling},
    client::TIMEOUT,
    failure::{Exit, Failure},
    model_name::ModelArg,
    names,
};

const HELP: &str = "\
/system TEXT  set the instructions of the conversation; without a text, remove them
/clear        forget the conversation
/help         this
/bye          leave; so does Ctrl-D
Ctrl-C        stop the answer
\"\"\"           begin a text of several lines; the same again ends it";

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// The model; optional if there is only one
    model: Option<ModelArg>,

    /// Instructions for the whole conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    #[command(flatten)]
    sampling: Sampling,

    /// Print the timings after each answer
    #[arg(long, short)]
    verbose: bool,
}

impl Chat {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let model = match &self.model {
            Some(model) => keeper.model(model)?,
            None => only_model(keeper).await?,
        };
        talk(keeper, &model, self.system.clone(), &self.sampling, self.verbose).await
    }
}

async fn only_model(keeper: &Keeper) -> Result<String, Failure> {
    let mut names = names::known(keeper).await?.names();
    match names.len() {
        1 => Ok(names.remove(0)),
        0 => Err(Failure::usage("which model? none is known yet; `rbee pull MODEL` downloads one")),
        _ => Err(Failure::usage(format!("which model? there are {}", names.join(", ")))),
    }
}

/// Refuses a name that the queen does not know, before the user types anything. A reference may name a model that is
/// yet to be downloaded, so only the first question shows whether it can be used.
async fn check_name(keeper: &Keeper, model: &str) -> Result<(), Failure> {
    if model.starts_with("hf:") || model.starts_with("file:") {
        return Ok(());
    }
    let path = format!("{}/{}", queen::MODELS, query::encode(model));
    match keeper.client.get::<serde_json::Value>(&path, &()).await {
        Err(failure) if failure.code() == "MODEL_NOT_FOUND" => {
            Err(keeper.with_names(failure, model).await)
        }
        // What else may be wrong is said of the first question.
        _ => Ok(()),
    }
}

/// Runs the conversation until the user leaves.
pub(super) async fn talk(
    keeper: &Keeper,
    model: &str,
    system: Option<String>,
    sampling: &Sampling,
    verbose: bool,
) -> Result<Exit, Failure> {
    // Check that a queen answers before the user types anything.
    keeper.client.health(TIMEOUT).await?;
    check_name(keeper, model).await?;
    let mut talk = Talk { system, turns: Vec::new() };
    let mut input = Input::new()?;
    if keeper.screen.is_conversation() {
        keeper.screen.note(&format!("{model}; /help says what else there is"));
    }
    loop {
        let (typed, back) = input.next().await?;
        input = back;
        let prompt = match typed {
            Typed::Left => return Ok(Exit::Ok),
            Typed::Line(line) => line,
        };
        match Order::of(&prompt) {
            Order::Leave => return Ok(Exit::Ok),
            Order::Say(note) => keeper.screen.note(&note),
            Order::Nothing => {}
            Order::Clear => {
                talk.turns.clear();
                keeper.screen.note("forgotten");
            }
            Order::System(text) => {
                talk.system = text;
                let note =
                    if talk.system.is_some() { "instructions set" } else { "instructions removed" };
                keeper.screen.note(note);
            }
            Order::Ask => {
                talk.turns.push(Message::new("user", prompt));
                let messages = talk.messages();
                let question = Question::chat(model, &messages, sampling);
                match ask::ask(keeper, &question, verbose).await {
                    Ok(Asked::Answer(text)) => talk.turns.push(Message::new("assistant", text)),
                    // It would answer no other question either.
                    Ok(Asked::NoChatTemplate(refusal)) => {
                        return Err(refusal
                            .with_message(
                                "the model has no chat template, so it cannot have a conversation",
                            )
                            .with_param(None)
                            .with_hint(format!("`rbee run {model} TEXT` continues a text")));
                    }
                    Err(failure) => {
                        // The question is removed, so that user and model still take turns.
                        talk.turns.pop();
                        if failure.is_silent() || !keeper.screen.is_typed_into() {
                            return Err(failure);
                        }
                        keeper.screen.failure(&failure);
                    }
                }
            }
        }
    }
}

/// The conversation so far.
struct Talk {
    system: Option<String>,
    turns: Vec<Message>,
}

impl Talk {
    fn messages(&self) -> Vec<Message> {
        let system = self.system.iter().map(|system| Message::new("system", system));
        system.chain(self.turns.iter().cloned()).collect()
    }
}

/// The meaning of a line.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Ask,
    Leave,
    Clear,
    System(Option<String>),
    Say(String),
    Nothing,
}

impl Order {
    fn of(line: &str) -> Self {
        let line = line.trim();
        if line.is_empty() {
            return Self::Nothing;
        }
        let Some(order) = line.strip_prefix('/') else { return Self::Ask };
        let (name, rest) = order.split_once(char::is_whitespace).unwrap_or((order, ""));
        match name {
            "bye" | "exit" | "quit" => Self::Leave,
            "clear" => Self::Clear,
            "help" | "?" => Self::Say(HELP.into()),
            "system" => Self::System(Some(rest.trim().to_owned()).filter(|text| !text.is_empty())),
            _ => Self::Say(format!("/{name} is not known; /help lists the commands")),
        }
    }
}

enum Typed {
    Line(String),
    Left,
}

/// The line editor, with the usual keys and history.
struct Input {
    editor: DefaultEditor,
}

impl Input {
    fn new() -> Result<Self, Failure> {
        let editor = DefaultEditor::new().map_err(|cause| Self::broken(&cause))?;
        Ok(Self { editor })
    }

    fn broken(cause: &ReadlineError) -> Failure {
        Failure::new(Exit::Failed, "INPUT", format!("standard input cannot be read: {cause}"))
    }

    /// The next line, and the editor back. Reading uses a separate thread.
    async fn next(self) -> Result<(Typed, Self), Failure> {
        let typed = tokio::task::spawn_blocking(move || self.read()).await;
        typed.unwrap_or_else(|cause| Err(Failure::new(Exit::Failed, "INTERNAL", cause.to_string())))
    }

    fn read(mut self) -> Result<(Typed, Self), Failure> {
        let mut text = String::new();
        loop {
            let several = !text.is_empty();
            let line = match self.editor.readline(if several { "... " } else { ">>> " }) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => return Ok((Typed::Line(String::new()), self)),
                Err(ReadlineError::Eof) => return Ok((Typed::Left, self)),
                Err(cause) => return Err(Self::broken(&cause)),
            };
            text.push_str(&line);
            if is_whole(&text) {
                break;
            }
            text.push('\n');
        }
        if !text.trim().is_empty() {
            // A full history, or a line that it already has, is not an error.
            let _ = self.editor.add_history_entry(&text);
        }
        Ok((Typed::Line(unquoted(&text).to_owned()), self))
    }
}

const QUOTES: &str = "\"\"\"";

/// True if a text of several lines is complete.
fn is_whole(text: &str) -> bool {
    let Some(rest) = text.trim_start().strip_prefix(QUOTES) else { return true };
    rest.trim_end().ends_with(QUOTES)
}

fn unquoted(text: &str) -> &str {
    let inner = text.trim().strip_prefix(QUOTES).and_then(|rest| rest.strip_suffix(QUOTES));
    inner.map_or(text, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_begin_with_a_slash_and_everything_else_is_said_to_the_model() {
        assert_eq!(Order::of("/bye"), Order::Leave);
        assert_eq!(Order::of("  /clear "), Order::Clear);
        assert_eq!(Order::of("/system Be brief. "), Order::System(Some("Be brief.".into())));
        assert_eq!(Order::of("/system"), Order::System(None));
        assert_eq!(Order::of("what is 1/2?"), Order::Ask);
        assert_eq!(Order::of("  "), Order::Nothing);
        assert!(matches!(Order::of("/nonsense"), Order::Say(_)));
    }

    #[test]
    fn a_text_of_several_lines_stands_between_quotes() {
        assert!(is_whole("one line"));
        assert!(!is_whole("\"\"\"first\nsecond"));
        assert!(!is_whole("\"\"\""));
        assert!(is_whole("\"\"\"first\nsecond\n\"\"\""));
        assert_eq!(unquoted("\"\"\"first\nsecond\n\"\"\""), "first\nsecond");
    }
}
