//! The loads in progress, as clients see them.

use rbee_core::{ModelRef, Queen, queen::LoadProgress};

use super::caller::Caller;
use crate::wire::queen::Loading;

/// The most advanced load of this model: one into memory before one from the network. Only callers that may see
/// machines get its machine.
pub(super) fn of(queen: &Queen, model: &ModelRef, caller: &Caller) -> Option<Loading> {
    let loads = queen.models().loading().into_iter().filter(|load| load.model.is_of(model));
    let ahead = loads.max_by_key(|load| (load.worker.is_some(), percent(load)))?;
    Some(describe(&ahead, caller))
}

fn describe(load: &LoadProgress, caller: &Caller) -> Loading {
    let state = if load.worker.is_some() { "loading" } else { "downloading" };
    let hive = caller.hive(load.hive.clone());
    Loading { state: state.into(), hive, progress: load.progress.into() }
}

fn percent(load: &LoadProgress) -> Option<u64> {
    let total = load.progress.total.filter(|total| *total > 0)?;
    Some(
        u64::try_from(u128::from(load.progress.done) * 100 / u128::from(total))
            .unwrap_or(100)
            .min(100),
    )
}

/// The same as one line: `loading bee-tiny on hive local, 40 %`.
pub(super) fn line(queen: &Queen, model: &ModelRef, caller: &Caller) -> Option<String> {
    let loading = of(queen, model, caller)?;
    let name = caller.model(queen, model);
    let (done, total) = (loading.progress.done, loading.progress.total.filter(|total| *total > 0));
    let share = total.map(|total| u128::from(done.min(total)) * 100 / u128::from(total));
    let share = share.map(|share| format!(", {share} %")).unwrap_or_default();
    let hive = loading.hive.map(|hive| format!(" on hive {hive}")).unwrap_or_default();
    Some(format!("{} {name}{hive}{share}", loading.state))
}
