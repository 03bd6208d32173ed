//! The queue in scripts.

use rhai::{Dynamic, INT};

use super::{
    budget::looked,
    collection::{or_unit, whole},
    context::{DecisionContext, with},
    error::Res,
    job::Model,
    registry::{Helper, HelperRegistry},
};
use crate::{model_ref::ModelRef, time::Time};

/// The queue, as `admit` gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue;

fn depth(context: &DecisionContext) -> Res<INT> {
    Ok(whole(context.cluster.waiting()))
}

fn depth_for(context: &DecisionContext, model: &ModelRef) -> INT {
    whole(context.cluster.waiting_for(model).map_or(0, |lane| lane.depth))
}

fn wait(context: &DecisionContext, since: Time) -> INT {
    whole((context.ask.now.at - since).as_millis())
}

fn oldest(context: &DecisionContext) -> Res<Dynamic> {
    let mut oldest = None::<Time>;
    for (_, lane) in context.cluster.lanes() {
        looked(1)?;
        oldest = Some(oldest.map_or(lane.oldest, |time| time.min(lane.oldest)));
    }
    Ok(or_unit(oldest.map(|since| wait(context, since))))
}

fn oldest_for(context: &DecisionContext, model: &ModelRef) -> Dynamic {
    or_unit(context.cluster.waiting_for(model).map(|lane| wait(context, lane.oldest)))
}

pub(super) fn register(registry: &mut HelperRegistry) {
    registry.section(
        "The queue",
        "The jobs that wait for a slot. `admit` gets the queue as its second value; the same are properties and methods of it.",
    );
    registry.object::<Queue>("queue");
    let f = |name, signature, doc, example| Helper { on: "", name, signature, doc, example };
    registry.function(
        f(
            "queue_depth",
            "queue_depth() -> int",
            "The number of jobs that wait, for all models together.",
            "queue_depth()",
        ),
        || with(depth),
    );
    registry.function(
        f(
            "queue_depth_for",
            "queue_depth_for(model) -> int",
            "The number of jobs that wait for this model.",
            "queue_depth_for(job.model)",
        ),
        |model: Model| with(|context| Ok(depth_for(context, &model.0))),
    );
    registry.overload("queue_depth_for", |model: &str| {
        let model = Model::parse(model)?;
        with(|context| Ok(depth_for(context, &model.0)))
    });
    registry.function(
        f("oldest_wait_ms", "oldest_wait_ms() -> int or ()", "Milliseconds that the oldest of them has been waiting; with a model, the oldest that waits for it. `()` if none waits.", "oldest_wait_ms(job.model)"),
        || with(oldest),
    );
    registry.overload("oldest_wait_ms", |model: Model| {
        with(|context| Ok(oldest_for(context, &model.0)))
    });
    let of = |name, signature, doc, example| Helper { on: "queue", name, signature, doc, example };
    registry.computed(
        of(
            "depth",
            "depth -> int",
            "The number of jobs that wait, for all models together.",
            "queue.depth",
        ),
        |_: &Queue, context| depth(context),
    );
    registry.computed(
        of(
            "oldest_wait_ms",
            "oldest_wait_ms -> int or ()",
            "Milliseconds that the oldest of them has been waiting; `()` if none waits.",
            "queue.oldest_wait_ms",
        ),
        |_: &Queue, context| oldest(context),
    );
    registry.function(
        of(
            "depth_for",
            "depth_for(model) -> int",
            "The number of jobs that wait for this model.",
            "queue.depth_for(job.model)",
        ),
        |_: &mut Queue, model: Model| with(|context| Ok(depth_for(context, &model.0))),
    );
}
