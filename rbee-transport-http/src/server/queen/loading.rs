//! Models on their way, as clients are told of them.

use rbee_core::{Load, ModelRef, Queen};

use crate::wire::queen::Loading;

/// The load of this model that is furthest ahead: one in memory before one from the network.
pub(super) fn of(queen: &Queen, model: &ModelRef) -> Option<Loading> {
    let loads = queen.loads().into_iter().filter(|load| load.model.is_of(model));
    loads.max_by_key(|load| (load.worker.is_some(), percent(load))).map(|load| describe(&load))
}

fn describe(load: &Load) -> Loading {
    let state = if load.worker.is_some() { "loading" } else { "downloading" };
    Loading { state: state.into(), hive: load.hive.clone(), progress: load.progress.into() }
}

fn percent(load: &Load) -> Option<u64> {
    let total = load.progress.total.filter(|total| *total > 0)?;
    Some(
        u64::try_from(u128::from(load.progress.done) * 100 / u128::from(total))
            .unwrap_or(100)
            .min(100),
    )
}

/// The same in a line: `loading bee-tiny on hive local, 40 %`.
pub(super) fn line(queen: &Queen, model: &ModelRef) -> Option<String> {
    let loading = of(queen, model)?;
    let named = queen.aliases().iter().find(|(_, aliased)| model.is_of(aliased));
    let name = named.map_or(model.as_str(), |(alias, _)| alias);
    let (done, total) = (loading.progress.done, loading.progress.total.filter(|total| *total > 0));
    let share = total.map(|total| u128::from(done.min(total)) * 100 / u128::from(total));
    let share = share.map(|share| format!(", {share} %")).unwrap_or_default();
    Some(format!("{} {name} on hive {}{share}", loading.state, loading.hive))
}
