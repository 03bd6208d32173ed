//! `rbee unload`: unloads models, and waits until their memory is free.

use std::time::Duration;

use clap::Args;
use futures_util::future::try_join_all;
use http::Method;
use rbee_core::WorkerId;
use rbee_transport_http::wire::{
    ProgressBody,
    queen::{self, JobList, JobQuery, Listing, WorkerView},
};

use super::load::{Which, described};
use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::Bars,
};

/// The interval at which the workers are checked.
const LOOK: Duration = Duration::from_millis(200);
/// The maximum number of running jobs that are counted.
const MOST_JOBS: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct Unload {
    #[command(flatten)]
    which: Which,

    /// Wait until the runs have ended and the memory is free again; this is the default
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,

    /// Return at once; the model is unloaded as soon as its runs have ended
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,

    /// Wait at most this long
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

impl Unload {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let workers = self.which.find(keeper).await?;
        let orders = workers.iter().map(|worker| async {
            let path = queen::WORKER.replace("{id}", &worker.id.to_string());
            match keeper.client.order(Method::DELETE, &path, &()).await {
                // It has ended in the meantime.
                Err(failure) if failure.exit() == Exit::NotFound => Ok(()),
                told => told.map(drop),
            }
        });
        try_join_all(orders).await?;
        let waits = self.wait || !self.no_wait;
        if waits {
            self.until_gone(keeper, &workers).await?;
        }
        let did = if waits { "unloaded" } else { "unloading" };
        if keeper.screen.is_json() {
            let ids: Vec<_> = workers.iter().map(|worker| worker.id).collect();
            keeper.screen.document(&serde_json::json!({ "done": did, "workers": ids }))?;
            return Ok(Exit::Ok);
        }
        for worker in workers {
            let how = match worker.state.as_str() {
                "busy" if !waits => "as soon as its runs have ended",
                _ => "",
            };
            keeper.screen.done(did, &described(&worker), how)?;
        }
        Ok(Exit::Ok)
    }

    /// Waits until the queen has none of these workers any more: then their processes have ended, and their memory is
    /// free.
    async fn until_gone(&self, keeper: &Keeper, workers: &[WorkerView]) -> Result<(), Failure> {
        let mut shown = Shown { keeper, bars: None };
        let gone = super::interruptible(async {
            loop {
                let known: Listing<WorkerView> = keeper.client.get(queen::WORKERS, &()).await?;
                let is_left =
                    |worker: &&WorkerView| known.data.iter().any(|known| known.id == worker.id);
                let left: Vec<_> = workers.iter().filter(is_left).collect();
                let Some(first) = left.first() else { return Ok(()) };
                shown.wait_for(first, left.len()).await;
                tokio::time::sleep(LOOK).await;
            }
        });
        let gone = tokio::time::timeout(Duration::from_secs(self.timeout), gone).await;
        let goes_on = "it is unloaded as soon as its runs have ended; `rbee ps` and `rbee jobs ls \
                       --state running` show the progress";
        match gone {
            Ok(Err(failure)) if failure.exit() == Exit::Interrupted => {
                Err(failure.with_hint(goes_on))
            }
            Ok(gone) => gone,
            Err(_) => {
                let what = &self.which.what;
                let message = format!("{what} was not unloaded within {} s", self.timeout);
                Err(Failure::new(Exit::Failed, "UNLOAD_TIMEOUT", message).with_hint(goes_on))
            }
        }
    }
}

/// What is shown during the wait.
struct Shown<'a> {
    keeper: &'a Keeper,
    bars: Option<Bars>,
}

impl Shown<'_> {
    /// Shows what one of the workers that are left waits for.
    async fn wait_for(&mut self, worker: &WorkerView, left: usize) {
        let mut label = format!("unloading {}", described(worker));
        // Elsewhere than in a terminal, each label is a line of its own.
        if self.keeper.screen.draws() {
            label = match self.runs_of(worker.id).await {
                0 => format!("unloading {} on hive {}", worker.model, worker.hive),
                1 => format!("unloading {}: 1 run is left", worker.model),
                runs => format!("unloading {}: {runs} runs are left", worker.model),
            };
            if left > 1 {
                label += &format!(", and {} more", left - 1);
            }
        } else if worker.state == "busy" {
            label += ", as soon as its runs have ended";
        }
        let bars = self.bars.take().filter(|bars| bars.has(&label));
        let mut bars = bars.unwrap_or_else(|| Bars::new(&self.keeper.screen));
        bars.show(&label, ProgressBody::default());
        self.bars = Some(bars);
    }

    /// The number of jobs that run on the worker; 0 if it is unknown.
    async fn runs_of(&self, worker: WorkerId) -> usize {
        let query = JobQuery {
            state: Some("running".into()),
            limit: Some(MOST_JOBS),
            ..JobQuery::default()
        };
        let found: Result<JobList, _> = self.keeper.client.get(queen::JOBS, &query).await;
        found.map_or(0, |jobs| jobs.data.iter().filter(|job| job.worker == Some(worker)).count())
    }
}
