//! The labels of hives in scripts.

use rhai::ImmutableString;

use crate::cluster::HiveView;

/// The label of this key; `None` if the hive has none.
pub(super) fn label(hive: &HiveView, key: &str) -> Option<ImmutableString> {
    hive.labels.get(key).map(|value| value.as_str().into())
}

/// The label `cost`; `None` if it is not a finite number.
pub(super) fn cost(hive: &HiveView) -> Option<f64> {
    let cost = hive.labels.get("cost")?.trim().parse().ok();
    cost.filter(|cost: &f64| cost.is_finite())
}
