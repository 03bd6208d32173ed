//! The metrics of a queen, which are off in this build. The feature `metrics` turns them on.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    engine::Note, error::Error, event::Outcome, id::TenantId, job::Job, model_ref::ModelRef,
};

pub(crate) fn name_models(_: &BTreeMap<String, ModelRef>) {}

pub(crate) fn ended(_: Option<&TenantId>, _: &Outcome) {}

pub(crate) fn refused(_: Option<&TenantId>, _: &Error) {}

pub(crate) fn started(_: &Job, _: Duration) {}

pub(crate) fn scheduled(_: Duration) {}

pub(crate) fn first_token(_: &ModelRef, _: Duration) {}

pub(crate) fn computed(_: &Job, _: u32, _: u32) {}

pub(crate) fn spawned(_: bool, _: Duration) {}

pub(crate) fn noted(_: &Note) {}
