//! Workers in scripts.

use std::sync::Arc;

use rhai::ImmutableString;

use super::{
    collection::{Collection, Examples, Item},
    context::DecisionContext,
    error::Res,
    labels,
};
use crate::{
    cluster::{ClusterView, HiveView, WorkerState, WorkerView},
    id::HiveId,
    model_ref::ModelRef,
    scheduler::{Candidate, capability::Capability, least_loaded::obstacle},
};

pub(super) mod helpers;
mod properties;
mod selection;

/// A worker in a script.
#[derive(Clone, Debug)]
pub(super) struct Worker(pub(super) Arc<WorkerView>);

pub(super) type Workers = Collection<Worker>;

/// The workers that a collection starts from.
#[derive(Clone, Debug, Default)]
pub(super) enum Base {
    #[default]
    All,
    /// The workers that have or are loading the model.
    Model(ModelRef),
    /// The workers of the model with a free slot, the least loaded first.
    Available(ModelRef),
    Hive(HiveId),
}

/// A filter without a closure.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    Idle,
    Capacity,
    /// The job can run there, now or later.
    Usable,
    Online,
    Ready,
    Can(Capability),
    Evictable,
    Model(ModelRef),
    Hive(ImmutableString),
    Label(ImmutableString, ImmutableString),
}

impl Item for Worker {
    type Base = Base;
    type Filter = Filter;
    const MANY: &'static str = "workers";
    const ONE: &'static str = "worker";
    const EXAMPLES: &'static Examples = &Examples {
        filter: "workers.filter(|w| w.free_slots >= 2).count()",
        find: "workers.find(|w| w.backend == \"candle\").id",
        without: "workers.without(workers.first()).count()",
        min_by: "workers.min_by(|w| w.running).hive",
        max_by: "workers.max_by(|w| w.vram_free).hive",
        sort_by: "workers.sort_by(|w| w.load).first().hive",
        any: "workers.any(|w| w.pinned)",
        all: "workers.all(|w| w.faults < 3)",
        count: "workers.count()",
        is_empty: "workers.with_model(\"nobody-has-it\").is_empty()",
        first: "workers.first().hive",
        take: "workers.take(2).count()",
        skip: "workers.skip(2).count()",
        map: "workers.map(|w| w.free_slots)",
        sum: "workers.sum(|w| w.running)",
        random: "workers.random().hive",
    };

    fn all<'a>(base: &'a Base, cluster: &'a ClusterView) -> Box<dyn Iterator<Item = Self> + 'a> {
        let one = |view: &Arc<WorkerView>| Self(view.clone());
        match base {
            Base::All => Box::new(cluster.workers().map(one)),
            Base::Model(model) => Box::new(cluster.with_model(model).map(one)),
            Base::Available(model) => Box::new(cluster.available(model).map(one)),
            Base::Hive(hive) => Box::new(cluster.on_hive(hive).map(one)),
        }
    }

    fn keep(&self, filter: &Filter, context: &DecisionContext) -> Res<bool> {
        let view = &*self.0;
        Ok(match filter {
            Filter::Idle => view.leased == 0 && context.is_usable(view),
            Filter::Capacity => context.is_usable(view),
            Filter::Usable => {
                let obstacle = obstacle(&context.ask, &context.cluster, view);
                obstacle.is_none_or(|obstacle| obstacle.is_passing())
            }
            Filter::Online => {
                view.reachable
                    && context.cluster.hive(&view.info.hive).is_none_or(|hive| hive.online)
            }
            Filter::Ready => view.state == WorkerState::Ready,
            Filter::Can(capability) => capability.is_of(&view.info),
            Filter::Evictable => view.is_evictable(),
            Filter::Model(model) => view.info.model == *model,
            Filter::Hive(hive) => view.info.hive.as_str() == hive.as_str(),
            Filter::Label(key, value) => {
                let hive = context.cluster.hive(&view.info.hive);
                hive.is_some_and(|hive| {
                    hive.labels.get(key.as_str()).is_some_and(|has| has == value.as_str())
                })
            }
        })
    }

    fn is_last(&self, base: &Base, filter: &Filter) -> bool {
        // The index lists the idle ones first.
        matches!((base, filter), (Base::Available(_), Filter::Idle)) && self.0.leased > 0
    }

    fn candidate(&self) -> Candidate {
        Candidate::Worker(self.0.info.id)
    }
}

impl Worker {
    fn hive<'a>(&self, context: &'a DecisionContext) -> Option<&'a HiveView> {
        context.cluster.hive(&self.0.info.hive).map(|hive| &**hive)
    }

    /// Memory that is free on the devices that it runs on, in bytes.
    pub(super) fn device_memory_free(&self, context: &DecisionContext) -> u64 {
        let Some(hive) = self.hive(context) else { return 0 };
        let devices = hive.devices.iter().filter(|device| self.0.runs_on(device.index));
        devices.map(|device| hive.free_bytes(device)).fold(0, u64::saturating_add)
    }

    pub(super) fn label(&self, context: &DecisionContext, key: &str) -> Option<ImmutableString> {
        labels::label(self.hive(context)?, key)
    }
}
