//! `rbee jobs why`: explains where a job went; also shows single decisions.

use rbee_core::JobId;
use rbee_transport_http::wire::{
    policy::{Choice, DecisionView, JOB_WHY},
    queen::Listing,
};

use crate::{
    Keeper,
    failure::Failure,
    screen::{Column, Facts, Table, human},
};

pub(super) async fn why(keeper: &Keeper, job: JobId) -> Result<(), Failure> {
    let path = JOB_WHY.replace("{id}", &job.to_string());
    let found: Listing<DecisionView> = keeper.client.get(&path, &()).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&found);
    }
    for (index, one) in found.data.iter().enumerate() {
        if index > 0 {
            keeper.screen.out("\n")?;
        }
        decision(keeper, one)?;
    }
    Ok(())
}

/// Shows one decision: the result, the steps, and the verdict on every candidate.
pub(super) fn decision(keeper: &Keeper, one: &DecisionView) -> Result<(), Failure> {
    let mut facts = Facts::default();
    facts.add("job", one.job.as_deref().unwrap_or_default());
    facts.add("model", &one.model);
    let at = one.at_ms.map(|at| format!("{} UTC ({})", human::moment(at), human::ago(at)));
    facts.add("asked", &at.unwrap_or_default());
    let version = one.version.map(|version| format!(", version {version}")).unwrap_or_default();
    let built_in = if one.fallback { ", in place of the one in force" } else { "" };
    facts.add("decided by", &format!("{}{version}{built_in}", one.policy));
    let stale =
        if one.stale { "; not carried out, because the fleet or the job had changed" } else { "" };
    facts.add("decision", &format!("{}{stale}", sentence(&one.decision)));
    keeper.screen.facts(&facts)?;
    for (index, step) in one.steps.iter().enumerate() {
        keeper.screen.out(&format!("{:>3}. {step}\n", index + 1))?;
    }
    if one.candidates.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([
        Column::new("CANDIDATE").middle(),
        Column::new("VERDICT").state().keep(90),
        Column::new("WHY").keep(80),
    ]);
    for candidate in &one.candidates {
        table.row([
            format!("{} {}", candidate.kind, candidate.id),
            candidate.verdict.clone(),
            candidate.why.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    keeper.screen.table(&table)
}

fn sentence(choice: &Choice) -> String {
    match choice {
        Choice::Assign { worker: Some(worker) } => format!("run on worker {worker}"),
        Choice::Assign { worker: None } => "run on a worker".into(),
        Choice::Spawn { hive, devices, evict } => {
            let mut said = format!("start a worker on hive {hive}");
            let list = |items: Vec<String>| items.join(", ");
            if !devices.is_empty() {
                let devices = devices.iter().map(ToString::to_string).collect();
                said += &format!(", device {}", list(devices));
            }
            if !evict.is_empty() {
                let evict = evict.iter().map(ToString::to_string).collect();
                said += &format!(", after stopping {}", list(evict));
            }
            said
        }
        Choice::Start => "start a worker".into(),
        Choice::Wait => "wait until something changes".into(),
        Choice::Reject { error } => format!("reject: {} ({})", error.message, error.code),
        Choice::Admit { rank } => format!("admit, with rank {rank}"),
        Choice::Refuse { error } => format!("refuse: {} ({})", error.message, error.code),
        Choice::Fault { error } => format!("none, the policy failed: {}", error.message),
        Choice::Pending => "not yet made".into(),
    }
}
