//! A compiled policy, and how its functions are called.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rhai::{Dynamic, Engine};

use super::{
    context::{DecisionContext, Notes, enter},
    decisions::{self, Decision},
    error::{NoDecision, Res, fault, thrown},
    eviction::{self, Shortfall},
    hives::Hives,
    job::JobObject,
    queue::Queue,
    script::Script,
    workers::Workers,
};
use crate::{
    cluster::ClusterView,
    error::ErrorKind,
    scheduler::{Admission, Ask, LeastLoaded, Placement},
};

/// A compiled policy, with the engine that runs it.
#[derive(Clone)]
pub(super) struct Program {
    engine: Arc<Engine>,
    script: Arc<Script>,
    /// Decides for the script's `builtin()`, and knows the memory that models take.
    pub(super) builtin: LeastLoaded,
}

impl Program {
    pub(super) fn new(engine: Arc<Engine>, script: Script) -> Self {
        Self { engine, script: Arc::new(script), builtin: LeastLoaded::default() }
    }

    /// Returns true if the script has a say in admission.
    pub(super) fn admits(&self) -> bool {
        self.script.admit.is_some() || self.script.order.is_some()
    }

    /// Calls `schedule`. If `explained`, the reasons are noted.
    pub(super) fn place(
        &self,
        ask: &Ask,
        cluster: &ClusterView,
        limit: Duration,
        explained: bool,
    ) -> (Res<Placement>, Notes) {
        let context = DecisionContext::new(ask, cluster, &self.builtin, explained);
        enter(context, Instant::now() + limit, || self.schedule(ask))
    }

    /// Calls `admit` and `order`.
    pub(super) fn admit(
        &self,
        ask: &Ask,
        cluster: &ClusterView,
        limit: Duration,
    ) -> Res<Admission> {
        let mut context = DecisionContext::new(ask, cluster, &self.builtin, false);
        context.is_admitting = true;
        enter(context, Instant::now() + limit, || self.admission(ask)).0
    }

    /// Calls every function that the queen may call, without a decision.
    pub(super) fn call_all(
        &self,
        ask: &Ask,
        cluster: &ClusterView,
        shortfall: &Shortfall<'_>,
        limit: Duration,
    ) -> Res<()> {
        let context = DecisionContext::new(ask, cluster, &self.builtin, false);
        let call = || {
            self.schedule(ask)?;
            self.admission(ask)?;
            eviction::evict(&self.engine, &self.script, shortfall)?;
            Ok(())
        };
        enter(context, Instant::now() + limit, call).0
    }

    fn schedule(&self, ask: &Ask) -> Res<Placement> {
        let job = Dynamic::from(JobObject::new(ask));
        let (workers, hives) = (Workers::default().into_dynamic(), Hives::default().into_dynamic());
        let answer = self.script.schedule.call(&self.engine, [job, workers, hives])?;
        match self.decision(answer, "schedule")? {
            Decision::Place(placement) => Ok(placement),
            Decision::Spawn { hive, start } => {
                eviction::spawn(&self.engine, &self.script, hive, &start)
            }
            Decision::Accept { .. } => Err(fault(
                "schedule returned accept(); it decides with run_on, spawn_on, wait, reject or builtin",
            )),
        }
    }

    fn admission(&self, ask: &Ask) -> Res<Admission> {
        let job = Dynamic::from(JobObject::new(ask));
        let rank = if let Some(admit) = &self.script.admit {
            let answer = admit.call(&self.engine, [job.clone(), Dynamic::from(Queue)])?;
            match answer.as_bool() {
                Ok(true) => 0,
                Ok(false) => {
                    let error =
                        decisions::rejection("the policy refuses the job", ErrorKind::Rejected);
                    return Ok(Admission::Refuse(error));
                }
                Err(_) if answer.is_unit() => 0,
                Err(_) => match self.decision(answer, "admit")? {
                    Decision::Accept { rank } => rank,
                    Decision::Place(Placement::Reject(error)) => {
                        return Ok(Admission::Refuse(error));
                    }
                    _ => return Err(fault("admit decides with accept, reject, true or false")),
                },
            }
        } else {
            0
        };
        let Some(order) = &self.script.order else { return Ok(Admission::Accept { rank }) };
        let answer = order.call(&self.engine, [job])?;
        let ordered = answer.as_int().map_err(|kind| {
            fault(format!("order returns a whole number, the lower the sooner, not {kind}"))
        })?;
        Ok(Admission::Accept { rank: rank.saturating_add(ordered) })
    }

    fn decision(&self, answer: Dynamic, function: &str) -> Res<Decision> {
        if answer.is_unit() {
            return Err(thrown(NoDecision));
        }
        let kind = self.engine.map_type_name(answer.type_name()).to_owned();
        answer.try_cast().ok_or_else(|| {
            fault(format!("{function} returned a value of type {kind}, which is not a decision"))
        })
    }
}
