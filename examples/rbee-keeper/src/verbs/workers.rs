//! `rbee ps`: the loaded models.

use clap::Args;
use rbee_core::hive::DeviceKind;
use rbee_transport_http::wire::queen::{self, HiveView, Listing, WorkerView};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    names,
    screen::{Column, Table, human},
};

#[derive(Debug, Args)]
pub(crate) struct Ps {}

impl Ps {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let workers: Listing<WorkerView> = keeper.client.get(queen::WORKERS, &()).await?;
        if keeper.screen.is_json() {
            keeper.screen.document(&workers)?;
            return Ok(Exit::Ok);
        }
        let (hives, named) = tokio::try_join!(
            keeper.client.get::<Listing<HiveView>>(queen::HIVES, &()),
            names::of_models(keeper),
        )?;
        let terminal = keeper.screen.is_terminal();
        let mut table = Table::new([
            Column::new("NAME").middle(),
            Column::new("WORKER").whole().keep(70),
            Column::new("HIVE").keep(60),
            Column::new("SIZE").right().keep(40),
            Column::new("PROCESSOR").keep(30),
            Column::new("SLOTS").right().keep(50),
            Column::new("STATE").state().keep(90),
            Column::new("IDLE").right().keep(20),
        ]);
        for worker in workers.data {
            let busy = worker.slots.saturating_sub(worker.slots_available);
            let is_used = worker.state == "busy" || worker.state == "loading";
            let memory = Some(worker.memory_bytes).filter(|bytes| *bytes > 0);
            table.row([
                named.get(&worker.model).unwrap_or(&worker.model).clone(),
                names::short(&worker.id, terminal),
                worker.hive.to_string(),
                super::catalog::size_of(memory),
                processor(&worker, &hives.data),
                if worker.state == "loading" {
                    "-".into()
                } else {
                    format!("{busy}/{}", worker.slots)
                },
                state_of(&worker),
                if is_used { "-".into() } else { human::span(worker.idle_ms) },
            ]);
        }
        keeper.screen.table(&table)?;
        Ok(Exit::Ok)
    }
}

/// The state, and the progress of a load.
fn state_of(worker: &WorkerView) -> String {
    let percent = worker.progress.and_then(|progress| {
        let total = progress.total.filter(|total| *total > 0)?;
        Some(progress.done.min(total) * 100 / total)
    });
    match percent {
        Some(percent) if worker.state == "loading" => format!("loading {percent}%"),
        _ if !worker.reachable => "offline".into(),
        _ if worker.suspected && matches!(&*worker.state, "idle" | "busy") => "suspected".into(),
        _ if worker.pinned => format!("{}, pinned", worker.state),
        _ => worker.state.clone(),
    }
}

/// The devices that it uses: `cpu`, `cuda 1`, `cuda 1, 2`.
fn processor(worker: &WorkerView, hives: &[HiveView]) -> String {
    let devices = hives.iter().find(|hive| hive.id == worker.hive).map(|hive| &hive.devices);
    let kind_of = |index: u32| {
        devices?.iter().find(|device| device.index == index).map(|device| kind(device.kind))
    };
    let kinds: Vec<_> = worker.devices.iter().map(|index| kind_of(*index)).collect();
    match kinds.first() {
        None => worker.backend.clone(),
        Some(Some("cpu")) => "cpu".into(),
        Some(first) => {
            let name = first.unwrap_or("device");
            format!("{name} {}", super::catalog::list_of(worker.devices.iter()))
        }
    }
}

pub(super) const fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Cuda => "cuda",
        DeviceKind::Metal => "metal",
    }
}
