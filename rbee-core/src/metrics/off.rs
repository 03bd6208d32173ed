//! The metrics of a queen, which are off in this build. The feature `metrics` turns them on.

use std::time::Duration;

use crate::{engine::Note, error::Error, event::Outcome, model_ref::ModelRef, priority::Priority};

pub(crate) fn ended(_: &Outcome) {}

pub(crate) fn refused(_: &Error) {}

pub(crate) fn started(_: Priority, _: Duration) {}

pub(crate) fn scheduled(_: Duration) {}

pub(crate) fn first_token(_: &ModelRef, _: Duration) {}

pub(crate) fn computed(_: &ModelRef, _: u32, _: u32) {}

pub(crate) fn spawned(_: bool, _: Duration) {}

pub(crate) fn noted(_: &Note) {}
