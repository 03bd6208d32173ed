//! `rbee hive ls` and `rbee hive show`.

use rbee_core::HiveId;
use rbee_transport_http::wire::queen::{self, HiveView, Listing};

use super::{ONLINE, path_of, with_hint};
use crate::{
    Keeper,
    failure::Failure,
    screen::{Column, Facts, Table, human},
};

pub(super) async fn ls(keeper: &Keeper) -> Result<(), Failure> {
    let found: Listing<HiveView> = keeper.client.get(queen::HIVES, &()).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&found);
    }
    let mut table = Table::new([
        Column::new("HIVE").whole(),
        Column::new("STATUS").state().keep(90),
        Column::new("ADDRESS").middle().keep(60),
        Column::new("DEVICES").keep(50),
        Column::new("FREE").right().keep(70),
        Column::new("MODELS").right().keep(20),
        Column::new("WORKERS").right().keep(40),
        Column::new("SEEN").right().keep(30),
    ]);
    for hive in found.data {
        let free: u64 = hive.devices.iter().map(|device| device.memory_free).sum();
        table.row([
            hive.id.to_string(),
            state_of(&hive).into(),
            hive.address.clone(),
            devices_of(&hive),
            if hive.devices.is_empty() { "-".into() } else { human::bytes(free) },
            hive.models.len().to_string(),
            hive.workers.to_string(),
            hive.last_seen_at_ms.map_or_else(|| "-".into(), human::ago),
        ]);
    }
    keeper.screen.table(&table)
}

/// The machine's status. A draining machine must not look like one that takes work.
fn state_of(hive: &HiveView) -> &str {
    if hive.draining && hive.status == ONLINE { "draining" } else { &hive.status }
}

/// `cpu, 2 cuda`.
fn devices_of(hive: &HiveView) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for device in &hive.devices {
        let kind = super::super::workers::kind(device.kind);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let said = kinds.iter().map(|(kind, count)| match count {
        1 => (*kind).to_owned(),
        _ => format!("{count} {kind}"),
    });
    super::super::catalog::list_of(said)
}

pub(super) async fn show(keeper: &Keeper, hive: &HiveId) -> Result<(), Failure> {
    let path = path_of(queen::HIVE, hive);
    let hive: HiveView = keeper.client.get(&path, &()).await.map_err(with_hint)?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&hive);
    }
    let mut facts = Facts::default();
    facts.add("hive", hive.id.as_str());
    facts.state("status", state_of(&hive));
    facts.add("address", &hive.address);
    let seen =
        hive.last_seen_at_ms.map(|at| format!("{} UTC ({})", human::moment(at), human::ago(at)));
    facts.add("last seen", &seen.unwrap_or_default());
    let error = hive.error.map(|error| format!("{} ({})", error.message, error.code));
    facts.add("error", &error.unwrap_or_default());
    facts.add("workers", &hive.workers.to_string());
    let taken = human::bytes(hive.memory_taken);
    facts.add(
        "their memory",
        &match hive.memory_budget {
            Some(budget) => format!("{taken} of at most {}", human::bytes(budget)),
            None => taken,
        },
    );
    let labels = hive.labels.iter().map(|(name, value)| format!("{name}={value}"));
    facts.add("labels", &labels.collect::<Vec<_>>().join(", "));
    keeper.screen.facts(&facts)?;
    if !hive.devices.is_empty() {
        let mut table = Table::new([
            Column::new("DEVICE").right(),
            Column::new("KIND").whole().keep(80),
            Column::new("NAME").keep(40),
            Column::new("FREE").right().keep(70),
            Column::new("MEMORY").right().keep(60),
        ]);
        for device in &hive.devices {
            table.row([
                device.index.to_string(),
                super::super::workers::kind(device.kind).into(),
                device.name.clone(),
                human::bytes(device.memory_free),
                human::bytes(device.memory_total),
            ]);
        }
        keeper.screen.out("\n")?;
        keeper.screen.table(&table)?;
    }
    if !hive.models.is_empty() {
        let mut table =
            Table::new([Column::new("MODEL").middle(), Column::new("SIZE").right().keep(60)]);
        for (model, bytes) in hive.models {
            table.row([model, human::bytes(bytes)]);
        }
        keeper.screen.out("\n")?;
        keeper.screen.table(&table)?;
    }
    Ok(())
}
