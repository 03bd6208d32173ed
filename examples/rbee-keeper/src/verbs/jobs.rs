//! `rbee jobs`: the jobs and their results.

use clap::{Subcommand, ValueEnum};
use http::Method;
use rbee_core::{JobId, Priority};
use rbee_transport_http::wire::queen::{self, JobList, JobQuery, JobRequest, JobView};

use super::events;
use crate::{
    Keeper,
    answer::Sampling,
    failure::{Exit, Failure},
    model_name::ModelArg,
    names,
    screen::{Column, Facts, Table, human},
};

/// The maximum number of jobs on one page.
const MOST: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List jobs, the newest first
    #[command(visible_alias = "list")]
    Ls {
        /// Only those in these states
        #[arg(long, value_enum, value_delimiter = ',')]
        state: Vec<State>,

        /// At most this many
        #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,

        /// Older jobs: the job named at the end of the last page
        #[arg(long, value_name = "JOB")]
        before: Option<JobId>,
    },
    /// Show a job and its answer
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Explain where a job went: each decision about it, with its reasons
    Why {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Cancel jobs
    #[command(visible_alias = "rm")]
    Cancel {
        /// Their ids, or the beginnings of them
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Submit a job without waiting for it, and print its id
    Submit {
        /// The model: a name, hf:org/repo[@revision][::file=path], or a path like ./model.gguf
        model: ModelArg,

        /// The prompt
        #[arg(required = true)]
        prompt: Vec<String>,

        /// Run it with the priority batch, when there is free capacity
        #[arg(long)]
        batch: bool,

        /// Instructions for the model
        #[arg(long, value_name = "TEXT")]
        system: Option<String>,

        #[command(flatten)]
        sampling: Sampling,
    },
    /// Follow the events of a job to its end, and reconnect if the connection breaks
    Events(events::Events),
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    Queued,
    Running,
    Complete,
    Failed,
    Cancelled,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Jobs {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        match self {
            Self::Ls { state, limit, before } => {
                ls(keeper, state, (*limit).into(), *before).await?
            }
            Self::Show { id } => show(keeper, id).await?,
            Self::Why { id } => super::why::why(keeper, find(keeper, id).await?).await?,
            Self::Cancel { ids } => cancel(keeper, ids).await?,
            Self::Submit { model, prompt, batch, system, sampling } => {
                let priority = if *batch { Priority::Batch } else { Priority::Interactive };
                let mut messages = Vec::new();
                messages.extend(
                    system
                        .as_ref()
                        .map(|text| serde_json::json!({"role": "system", "content": text})),
                );
                messages.push(serde_json::json!({"role": "user", "content": prompt.join(" ")}));
                let model = keeper.model(model)?;
                submit(keeper, &model, messages, priority, sampling).await?;
            }
            Self::Events(verb) => return verb.run(keeper).await,
        }
        Ok(Exit::Ok)
    }
}

async fn ls(
    keeper: &Keeper,
    states: &[State],
    limit: usize,
    before: Option<JobId>,
) -> Result<(), Failure> {
    let state = states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(",");
    let query = JobQuery {
        state: Some(state).filter(|state| !state.is_empty()),
        limit: Some(limit),
        before,
    };
    let found: JobList = keeper.client.get(queen::JOBS, &query).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&found);
    }
    let named = names::of_models(keeper).await?;
    let terminal = keeper.screen.is_terminal();
    let mut table = Table::new([
        Column::new("JOB").whole(),
        Column::new("MODEL").middle().keep(70),
        Column::new("STATE").state().keep(90),
        Column::new("PRIORITY").keep(20),
        Column::new("TRIES").right().keep(10),
        Column::new("TOKENS").right().keep(40),
        Column::new("AGE").right().keep(60),
        Column::new("TOOK").right().keep(50),
    ]);
    for job in &found.data {
        table.row([
            names::short(&job.id, terminal),
            named.get(&job.model).unwrap_or(&job.model).clone(),
            state_of(job),
            job.priority.clone(),
            job.attempts.to_string(),
            job.tokens.to_string(),
            human::ago(job.submitted_at_ms),
            took(job).map_or_else(|| "-".into(), human::span),
        ]);
    }
    keeper.screen.table(&table)?;
    if let Some(next) = found.next {
        keeper.screen.note(&format!("there are older ones: --before {next}"));
    }
    Ok(())
}

/// The state, and the position in the queue.
fn state_of(job: &JobView) -> String {
    match job.position {
        Some(before) if job.state == "queued" => format!("queued #{}", before + 1),
        _ => job.state.clone(),
    }
}

/// The running time, in milliseconds.
fn took(job: &JobView) -> Option<u64> {
    let end = job.completed_at_ms.unwrap_or_else(human::now_ms);
    job.started_at_ms.map(|start| end.saturating_sub(start))
}

async fn show(keeper: &Keeper, id: &str) -> Result<(), Failure> {
    let id = find(keeper, id).await?;
    let job: JobView = keeper.client.get(&path_of(id), &()).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&job);
    }
    let moment = |at: Option<u64>| {
        at.map_or_else(String::new, |at| format!("{} UTC ({})", human::moment(at), human::ago(at)))
    };
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut facts = Facts::default();
    facts.add("job", &job.id.to_string());
    facts.add("model", &job.model);
    facts.state("state", &job.state);
    facts.add("priority", &job.priority);
    facts.add("in the queue", &text(job.position.map(|before| format!("{before} before it"))));
    facts.add(
        "waits for",
        &text(job.loading.as_ref().map(|load| match &load.hive {
            Some(hive) => format!("{} on {hive}", load.state),
            None => load.state.clone(),
        })),
    );
    facts.add("tenant", job.tenant.as_deref().unwrap_or_default());
    facts.add("worker", &text(job.worker.map(|worker| worker.to_string())));
    facts.add("submitted", &moment(Some(job.submitted_at_ms)));
    facts.add("started", &moment(job.started_at_ms));
    facts.add("ended", &moment(job.completed_at_ms));
    facts.add("took", &text(took(&job).map(human::span)));
    facts.add("tries", &job.attempts.to_string());
    facts.add("tokens", &job.tokens.to_string());
    facts.add("correlation id", &job.correlation_id);
    facts.add("error", &text(job.error.map(|error| format!("{} ({})", error.message, error.code))));
    facts.text("answer", job.text.as_deref().unwrap_or_default());
    keeper.screen.facts(&facts)
}

async fn cancel(keeper: &Keeper, ids: &[String]) -> Result<(), Failure> {
    // All ids are resolved first, so that a wrong one cancels nothing.
    let mut found = Vec::new();
    for id in ids {
        found.push(find(keeper, id).await?);
    }
    for id in found {
        let told = keeper.client.order(Method::DELETE, &path_of(id), &()).await?;
        let job: JobView = told.json().await?;
        let what = format!("job {id}");
        match job.state.as_str() {
            "cancelled" => keeper.screen.done("cancelled", &what, "")?,
            "complete" | "failed" => {
                keeper.screen.warn(&format!("{what} has ended already: {}", job.state))
            }
            _ => keeper.screen.done("cancelling", &what, "")?,
        }
    }
    Ok(())
}

async fn submit(
    keeper: &Keeper,
    model: &str,
    messages: Vec<serde_json::Value>,
    priority: Priority,
    sampling: &Sampling,
) -> Result<(), Failure> {
    let sampled = serde_json::to_value(sampling).ok();
    let mut request = match sampled {
        Some(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    request.insert("model".into(), model.into());
    request.insert("messages".into(), messages.into());
    let body = JobRequest { priority, timeout_ms: None, deadline_ms: None, request };
    let job: JobView = match keeper.client.post(queen::JOBS, &body).await {
        Ok(job) => job,
        Err(failure) => return Err(keeper.with_names(failure, model).await),
    };
    if keeper.screen.is_json() {
        return keeper.screen.document(&job);
    }
    keeper.screen.out(&format!("{}\n", job.id))?;
    keeper.screen.note("`rbee jobs events ID` follows it");
    Ok(())
}

/// The job with this id, or the only one of the last thousand jobs whose id begins with it.
pub(super) async fn find(keeper: &Keeper, id: &str) -> Result<JobId, Failure> {
    if let Ok(id) = id.parse() {
        return Ok(id);
    }
    if !names::looks_like_id(id) {
        return Err(Failure::usage(format!(
            "{id:?} is no job id; allowed are ids such as 67e55044-10b1-426f-9247-bb680e5fe0c8, \
             or their first 4 characters or more"
        )));
    }
    let query = JobQuery { limit: Some(MOST), ..JobQuery::default() };
    let found: JobList = keeper.client.get(queen::JOBS, &query).await?;
    names::by_beginning("job", id, found.data.into_iter().map(|job| job.id))
}

pub(super) fn path_of(id: JobId) -> String {
    queen::JOB.replace("{id}", &id.to_string())
}
