//! Adopts the workers that a previous hive started.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use rbee_core::{
    HiveBackend, InProcessHive,
    hive::{Devices, Progress},
};

use super::{
    Config,
    measured::Measured,
    table::{Process, Record, Table},
};
use crate::{
    client,
    process::Running,
    wire::{
        self,
        worker::{Health, Phase},
    },
};

/// How long a worker may take to respond.
const ANSWER: Duration = Duration::from_secs(5);

/// Adopts every recorded worker that is alive. One that does not respond is killed, and the records of those that are
/// gone are removed.
pub(super) async fn adopt(
    config: &Config,
    machine: &Devices,
    table: &Arc<Table>,
    books: &Arc<InProcessHive>,
) {
    let names = config.state_dir.names("json");
    join_all(names.iter().map(|name| one(config, machine, table, books, name))).await;
    for name in config.state_dir.names("log") {
        let lives = name.parse().is_ok_and(|id| table.get(id).is_some());
        if !lives {
            config.state_dir.log(&name).remove();
        }
    }
}

async fn one(
    config: &Config,
    machine: &Devices,
    table: &Arc<Table>,
    books: &Arc<InProcessHive>,
    name: &str,
) {
    let record = config.state_dir.read::<Record>(name);
    let Some(record) = record.filter(|record| record.id.to_string() == name) else {
        return config.state_dir.remove(name);
    };
    let id = record.id;
    if table.get(id).is_some() {
        return;
    }
    let Some(running) = Running::found(record.process.clone()) else {
        record.clean();
        return config.state_dir.remove(name);
    };
    let is_alike = match (&record.tls, &config.tls) {
        (Some(has), Some(now)) => (&has.certificates, &has.key) == (&now.certificates, &now.key),
        (has, now) => has.is_none() && now.is_none(),
    };
    if !is_alike {
        let why = "it has not the TLS that the hive has now";
        tracing::warn!(worker = %id, why, "a worker that a previous hive started is killed");
        running.end(Duration::ZERO).await;
        record.clean();
        return config.state_dir.remove(name);
    }
    let mut process = Process {
        endpoint: record.endpoint(),
        record,
        running,
        log: config.state_dir.log(name),
        links: Vec::new(),
    };
    let health = process.endpoint.get::<Health>(wire::HEALTH, ANSWER).await;
    match health {
        Ok(Health { worker, phase: Phase::Ready, info: Some(info), links, .. })
            if worker == id && info.id == id && info.hive == config.id =>
        {
            let worker = client::worker(process.endpoint.clone(), Arc::new(info), &links);
            process.links = links;
            let number = process.record.process.number();
            let worker = Measured::new(worker, number, machine.clone());
            if table.insert(process).is_ok() {
                books.adopt(Arc::new(worker));
                tracing::info!(worker = %id, "found a worker again");
            }
        }
        Ok(Health { worker, phase: Phase::Loading, .. }) if worker == id => {
            let (spec, books) = (process.record.spec.clone(), books.clone());
            if table.insert(process).is_ok() {
                tracing::info!(worker = %id, "found a worker again that still loads its model");
                tokio::spawn(async move {
                    if let Err(error) = books.spawn(id, &spec, Progress::ignore()).await {
                        tracing::warn!(worker = %id, %error, "a worker that was found again is unusable");
                    }
                });
            }
        }
        answer => {
            let why = match answer {
                Ok(health) => format!("it responds as {} and is {}", health.worker, health.phase),
                Err(error) => error.to_string(),
            };
            tracing::warn!(worker = %id, why, "a worker that is alive but does not respond is killed");
            process.running.end(Duration::ZERO).await;
            process.record.clean();
            config.state_dir.remove(name);
        }
    }
}
