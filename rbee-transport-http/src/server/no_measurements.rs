//! Replaces the metrics in a build without them.

use std::time::Duration;

use rbee_core::{Error, HiveId, Usage, WorkerInfo, hive::HiveReport, worker::WorkerHealth};

pub(super) fn run_ended(_: Result<Usage, &Error>, _: Duration) {}

pub(super) fn run_cancelled(_: Duration) {}

pub(super) fn first_output(_: Duration) {}

pub(super) fn worker(_: &WorkerInfo, _: &WorkerHealth) {}

pub(super) fn spawned(_: Option<&Error>, _: Duration) {}

pub(super) fn provisioned(_: Option<&Error>) {}

pub(super) fn hive(_: &HiveId, _: &HiveReport) {}
