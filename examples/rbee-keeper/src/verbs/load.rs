//! `rbee load` and `rbee pin`: load models into memory and keep them there.

use std::time::Duration;

use clap::Args;
use http::Method;
use rbee_core::{HiveId, WorkerId};
use rbee_transport_http::wire::{
    policy::EstimateRequest,
    queen::{self, CatalogEntry, Listing, SpawnWorker, WorkerView},
};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    model_name::ModelArg,
    names,
    screen::Bars,
};

/// The interval at which the load of a model is checked.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The model: a name, hf:org/repo[@revision][::file=path], or a path like ./model.gguf
    model: ModelArg,

    /// On this hive; the scheduler chooses by default
    #[arg(long)]
    hive: Option<HiveId>,

    /// On one of these devices of the hive, by number (see `rbee hive show`); the scheduler chooses by default
    #[arg(long, value_name = "NUMBER", value_delimiter = ',')]
    device: Vec<u32>,

    /// How many runs it does at once
    #[arg(long, value_name = "NUMBER")]
    slots: Option<u32>,

    /// Never evict it
    #[arg(long)]
    pin: bool,

    /// Show where it would fit, device by device, and start nothing
    #[arg(long)]
    estimate_only: bool,

    /// With --estimate-only: the length of the sequences, in tokens
    #[arg(long, value_name = "TOKENS", requires = "estimate_only")]
    context: Option<u32>,

    /// Wait at most this long until it is ready; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,

    /// Return at once, and leave it loading; the same as --wait 0
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

impl Load {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let model = keeper.model(&self.model)?;
        let devices = Some(self.device.clone()).filter(|devices| !devices.is_empty());
        if self.estimate_only {
            let request = EstimateRequest {
                model,
                hive: self.hive.clone(),
                devices,
                slots: self.slots,
                context: self.context,
            };
            return super::estimate::estimate(keeper, &request).await;
        }
        let spawn = SpawnWorker {
            model,
            hive: self.hive.clone(),
            devices,
            slots: self.slots,
            pin: self.pin,
        };
        let mut worker: WorkerView = match keeper.client.post(queen::WORKERS, &spawn).await {
            Ok(worker) => worker,
            Err(failure) => return Err(keeper.with_names(failure, &spawn.model).await),
        };
        if self.wait > 0 && !self.no_wait {
            let limit = Duration::from_secs(self.wait);
            let ready = super::interruptible(self.until_ready(keeper, worker));
            worker = match tokio::time::timeout(limit, ready).await {
                Ok(Err(failure)) if failure.exit() == Exit::Interrupted => {
                    return Err(
                        failure.with_hint("it continues to load; `rbee unload MODEL` ends that")
                    );
                }
                Ok(ready) => ready?,
                Err(_) => {
                    let message = format!("{} was not ready within {} s", self.model, self.wait);
                    return Err(Failure::new(Exit::Failed, "SPAWN_TIMEOUT", message)
                        .with_hint("it continues to load; `rbee ps` shows the progress"));
                }
            };
        }
        if keeper.screen.is_json() {
            keeper.screen.document(&worker)?;
        } else {
            let did = if worker.state == "loading" { "loading" } else { "loaded" };
            let how = format!("on hive {}, worker {}", worker.hive, worker.id);
            keeper.screen.done(did, &self.model.to_string(), &how)?;
        }
        Ok(Exit::Ok)
    }

    async fn until_ready(
        &self,
        keeper: &Keeper,
        mut worker: WorkerView,
    ) -> Result<WorkerView, Failure> {
        let path = queen::WORKER.replace("{id}", &worker.id.to_string());
        let mut bars = Bars::new(&keeper.screen);
        loop {
            let broken = |why: &str| {
                Failure::new(
                    Exit::Failed,
                    "LOAD_FAILED",
                    format!("{} could not be loaded: {why}", self.model),
                )
                .with_hint("`rbee logs --level warn` may show why")
            };
            match worker.state.as_str() {
                "loading" => {}
                "failed" => return Err(broken("its worker failed")),
                "draining" => return Err(broken("its worker is being stopped")),
                _ => return Ok(worker),
            }
            let label = format!("loading {}", self.model);
            bars.show(&label, worker.progress.unwrap_or_default());
            tokio::time::sleep(LOOK).await;
            worker = match keeper.client.get(&path, &()).await {
                Ok(worker) => worker,
                Err(failure) if failure.exit() == Exit::NotFound => {
                    return Err(broken("its worker is gone"));
                }
                Err(failure) => return Err(failure),
            };
        }
    }
}

/// A selection of workers.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// A model, for all its workers, or a worker's id or the beginning of it
    pub(super) what: ModelArg,

    /// Only workers of this hive
    #[arg(long)]
    hive: Option<HiveId>,
}

#[derive(Debug, Args)]
pub(crate) struct Pin {
    #[command(flatten)]
    which: Which,

    /// Allow eviction again
    #[arg(long)]
    off: bool,
}

impl Pin {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let method = if self.off { Method::DELETE } else { Method::PUT };
        let did = if self.off { "unpinned" } else { "pinned" };
        for worker in self.which.find(keeper).await? {
            let path = queen::WORKER_PIN.replace("{id}", &worker.id.to_string());
            keeper.client.order(method.clone(), &path, &()).await?;
            let what = described(&worker);
            keeper.screen.done(did, &what, "")?;
        }
        Ok(Exit::Ok)
    }
}

impl Which {
    pub(super) async fn find(&self, keeper: &Keeper) -> Result<Vec<WorkerView>, Failure> {
        let what = keeper.model(&self.what)?;
        let (workers, models) = tokio::try_join!(
            keeper.client.get::<Listing<WorkerView>>(queen::WORKERS, &()),
            keeper.client.get::<Listing<CatalogEntry>>(queen::CATALOG, &()),
        )?;
        let mut workers = workers.data;
        // The output uses the names that users know.
        for worker in &mut workers {
            let named = models.data.iter().find(|entry| entry.model == worker.model);
            worker.model = named.map_or_else(|| worker.model.clone(), |entry| entry.name.clone());
        }
        workers.retain(|worker| self.hive.as_ref().is_none_or(|hive| worker.hive == *hive));
        let entry = names::meant(&models.data, &what);
        let known =
            |worker: &WorkerView| entry.is_some_and(|entry| entry.workers.contains(&worker.id));
        // The alias `name` hides a model that is called `name:latest`.
        let is_exact =
            entry.is_none_or(|entry| entry.name == what || names::is_model(&entry.model, &what));
        let of_model = |worker: &WorkerView| {
            known(worker) || (is_exact && names::is_model(&worker.model, &what))
        };
        if workers.iter().any(of_model) {
            workers.retain(of_model);
            return Ok(workers);
        }
        if names::looks_like_id(&what) && entry.is_none() {
            let id: WorkerId =
                names::by_beginning("worker", &what, workers.iter().map(|worker| worker.id))?;
            workers.retain(|worker| worker.id == id);
            return Ok(workers);
        }
        let place = self.hive.as_ref().map_or(String::new(), |hive| format!(" on hive {hive}"));
        Err(Failure::new(
            Exit::NotFound,
            "NOT_FOUND",
            format!("no worker has {} loaded{place}", self.what),
        )
        .with_hint("`rbee ps` shows what is loaded"))
    }
}

/// A description of the worker.
pub(super) fn described(worker: &WorkerView) -> String {
    format!("{} on hive {}, worker {}", worker.model, worker.hive, worker.id)
}
