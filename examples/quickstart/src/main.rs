//! The first five minutes with rbee: an in-process queen with a durable queue, a model, and an answer that appears as
//! it is generated.
//!
//! The answer goes to standard output and everything else to standard error, so it can be piped.

mod args;
mod screen;

use std::{path::PathBuf, process::ExitCode};

use args::Args;
use clap::Parser;
use rbee_core::{
    CandleFactory, Error, ErrorKind, EventKind, InProcessHive, JobHandle, LeastLoaded, ModelRef,
    Queen, Request, Result, Role, SqliteRegistry,
};
use screen::Screen;

/// Turns of the conversation that are sent along: the small model has a small context.
const TURNS: usize = 6;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::new();
    match run(&args, &screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::Cancelled => {
            screen.line("cancelled");
            ExitCode::from(130)
        }
        Err(error) => {
            screen.failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args, screen: &Screen) -> Result<()> {
    let model = match &args.model {
        Some(model) => model.clone(),
        None => bundled_model()?,
    };
    let database = args.data_dir()?.join("quickstart.db");
    screen.title(&model, &database);

    let queen = Queen::builder()
        .registry(SqliteRegistry::open(&database)?)
        .hive(InProcessHive::new().with_factory(CandleFactory::default()))
        .scheduler(LeastLoaded::default().with_slots(1))
        .build()
        .await?;
    let result = talk(args, screen, &queen, &model, &database).await;
    queen.shutdown(std::time::Duration::ZERO).await?;
    result
}

async fn talk(
    args: &Args,
    screen: &Screen,
    queen: &Queen,
    model: &ModelRef,
    database: &std::path::Path,
) -> Result<()> {
    finish_restored(screen, queen).await?;
    let mut turns: Vec<(Role, String)> = Vec::new();
    let mut prompt = args.prompt.clone();
    loop {
        screen.question(&prompt);
        turns.push((Role::User, prompt));
        let mut request =
            Request::chat(model.as_str()).max_tokens(args.max_tokens).temperature(args.temperature);
        if let Some(seed) = args.seed {
            request = request.seed(seed);
        }
        for (role, text) in turns.iter().skip(turns.len().saturating_sub(TURNS)) {
            request = request.message(*role, text);
        }
        let is_cold = queen.cluster().await?.with_model(model).next().is_none();
        let job = queen.submit(request).await?;
        let id = job.id();
        let answer = stream(screen, queen, is_cold, job).await?;
        screen.summary(&answer, id, database);
        turns.push((Role::Assistant, answer.text));
        if args.once {
            return Ok(());
        }
        match screen.ask().await {
            Some(next) => prompt = next,
            None => return Ok(()),
        }
    }
}

/// Prints the answer as it comes. Ctrl-C cancels the job.
async fn stream(
    screen: &Screen,
    queen: &Queen,
    is_cold: bool,
    mut job: JobHandle,
) -> Result<screen::Measured> {
    let mut answer = screen::Measured::begin(is_cold);
    let mut loading = screen.loading();
    loop {
        let event = tokio::select! {
            event = job.next() => event,
            () = loading.tick(queen) => continue,
            interrupted = tokio::signal::ctrl_c() => {
                if interrupted.is_ok() {
                    job.cancel();
                }
                job.next().await
            }
        };
        let Some(event) = event else {
            return Err(Error::new(ErrorKind::Internal, "the events of the job broke off"));
        };
        match event.kind {
            EventKind::Started(started) => answer.queue_wait = started.queue_wait,
            EventKind::Token { text, .. } => {
                loading.done();
                answer.token(&text);
                screen.piece(&text);
            }
            EventKind::Metrics(metrics) => answer.prefill = Some(metrics.prefill),
            EventKind::Vectors(_) => {}
            EventKind::End { usage, .. } => {
                screen.end_of_answer();
                answer.end(usage);
                return Ok(answer);
            }
            EventKind::Error(error) => {
                loading.done();
                if !answer.text.is_empty() {
                    screen.end_of_answer();
                }
                return Err(error);
            }
        }
    }
}

/// Jobs that an earlier run had accepted and not ended are run to their end before anything new.
async fn finish_restored(screen: &Screen, queen: &Queen) -> Result<()> {
    for job in queen.restored() {
        let before = queen.job(*job).await?;
        screen.restored(*job, before.pieces.len());
        let mut events = queen.attach(*job, None).await?;
        let mut loading = screen.loading();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = loading.tick(queen) => continue,
            };
            match event.map(|event| event.kind) {
                Some(EventKind::Token { text, .. }) => {
                    loading.done();
                    screen.aside(&text);
                }
                Some(EventKind::Error(error)) => {
                    loading.done();
                    screen.end_of_aside();
                    screen.line(&format!("it ended with an error: {error}"));
                    break;
                }
                Some(_) => {}
                None => {
                    screen.end_of_aside();
                    break;
                }
            }
        }
        let state = queen.job(*job).await?.status.state();
        screen.line(&format!("job {job} is {state} now\n"));
    }
    Ok(())
}

/// The model that comes with rbee, in this repository.
fn bundled_model() -> Result<ModelRef> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bee-tiny"));
    let path = path.canonicalize().map_err(|cause| {
        let message = format!(
            "the bundled model is not at {}; name another with --model file:/absolute/path",
            path.display()
        );
        Error::new(ErrorKind::ModelNotFound, message).with_source(cause)
    })?;
    ModelRef::file(path)
}
