//! `rbee pull`: downloads a model to the disks.

use clap::Args;
use rbee_core::HiveId;
use rbee_transport_http::wire::{
    ErrorInfo,
    queen::{self, PullProgress, Pulled, pull_event},
};
use serde_json::value::RawValue;

use crate::{
    Keeper,
    failure::{Exit, Failure},
    model_name::ModelArg,
    screen::{Bars, human},
};

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// The model: hf:org/repo[@revision][::file=path], a path like ./model.gguf, or a name
    model: ModelArg,

    /// Only to this hive; to every hive that is online by default
    #[arg(long)]
    hive: Option<HiveId>,

    /// Read existing files again, and download damaged ones again
    #[arg(long)]
    verify: bool,
}

impl Pull {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let model = keeper.model(&self.model)?;
        match super::interruptible(self.pull(keeper, &model)).await {
            Err(failure) if failure.exit() == Exit::Interrupted => {
                Err(failure.with_hint("the same command continues from here"))
            }
            Err(failure) => Err(keeper.with_names(failure, &model).await),
            done => done,
        }
    }

    async fn pull(&self, keeper: &Keeper, model: &str) -> Result<Exit, Failure> {
        let screen = &keeper.screen;
        let (model, hive) = (model.to_owned(), self.hive.clone());
        let body = queen::Pull { model, hive, verify: self.verify };
        let mut events = keeper.client.post_for_events(queen::CATALOG_PULL, &body).await?;
        let mut bars = Bars::new(screen);
        while let Some(event) = events.next().await? {
            if screen.is_json() {
                screen.event(None, &event.name, &events.read::<Box<RawValue>>(&event)?)?;
            }
            match &*event.name {
                pull_event::PROGRESS if !screen.is_json() => {
                    let at: PullProgress = events.read(&event)?;
                    bars.show(&format!("pulling onto {}", at.hive), at.progress);
                }
                pull_event::DONE => {
                    bars.clear();
                    if !screen.is_json() {
                        let pulled: Pulled = events.read(&event)?;
                        let hives = super::catalog::list_of(pulled.hives.iter());
                        let how = format!("({}) onto {hives}", human::bytes(pulled.bytes));
                        screen.done("pulled", &pulled.model, &how)?;
                        if !pulled.repaired.is_empty() {
                            let files = super::catalog::list_of(pulled.repaired.iter());
                            screen.done("repaired", &files, "")?;
                        }
                    }
                    return Ok(Exit::Ok);
                }
                pull_event::ERROR => {
                    let error: ErrorInfo = events.read(&event)?;
                    return Err(Failure::answered(&error.code, None, error.message)
                        .with_param(error.details.param)
                        .with_retry_after(error.details.retry_after_ms)
                        .with_correlation_id(error.correlation_id));
                }
                _ => {}
            }
        }
        Err(events.cut())
    }
}
