//! The helpers of workers, with their documentation.

use rhai::{Dynamic, FLOAT, ImmutableString};

use super::{Base, Filter, Worker, Workers, properties, selection};
use crate::{
    id::HiveId,
    model_ref::ModelRef,
    scheduler::{
        capability::Capability,
        rhai::{
            collection::{Item, helpers::register as register_collection, or_unit},
            context::{DecisionContext, with},
            error::{Res, fault},
            job::Model,
            registry::{Helper, HelperRegistry},
        },
    },
};

/// The workers that can take a job now, by the index if possible.
fn with_free_slot(
    set: &Workers,
    context: &DecisionContext,
    filter: Filter,
    name: &str,
) -> Res<Workers> {
    let narrow = set.narrowed(context, filter, || format!("{name}()"))?;
    Ok(match set.base() {
        Some(Base::Model(model)) => narrow.rebased(Base::Available(model.clone())),
        _ => narrow,
    })
}

fn with_model(set: &Workers, context: &DecisionContext, model: &ModelRef) -> Res<Workers> {
    if matches!(set.base(), Some(Base::All)) {
        let free = |filter: &Filter| matches!(filter, Filter::Idle | Filter::Capacity);
        let has_slot = set.filters().iter().any(free);
        let base = if has_slot { Base::Available } else { Base::Model };
        let narrow = set.rebased(base(model.clone()));
        set.explain(context, &narrow, || format!("with_model({model})"))?;
        return Ok(narrow);
    }
    set.narrowed(context, Filter::Model(model.clone()), || format!("with_model({model})"))
}

/// The workers of a hive, by the index if there is no filter yet.
pub(in crate::scheduler::rhai) fn on_hive(
    set: &Workers,
    context: &DecisionContext,
    hive: &str,
) -> Res<Workers> {
    let name = || format!("on_hive({hive:?})");
    if matches!(set.base(), Some(Base::All))
        && let Ok(id) = HiveId::new(hive)
    {
        let narrow = set.rebased(Base::Hive(id));
        set.explain(context, &narrow, name)?;
        return Ok(narrow);
    }
    set.narrowed(context, Filter::Hive(hive.into()), name)
}

fn narrow(set: &Workers, filter: Filter, name: &str) -> Res<Workers> {
    with(|context| set.narrowed(context, filter, || name.into()))
}

pub(in crate::scheduler::rhai) fn register(registry: &mut HelperRegistry) {
    registry.section(
        "Collections: workers and hives",
        "`schedule` gets all workers and all hives. Nothing is copied: each helper adds to the description of what is \
         wanted, and the indexes of the cluster are used when one is chosen. All of these exist on `workers` and on \
         `hives`. A `for` loop can iterate over both.",
    );
    register_collection::<Worker>(registry);
    registry.section(
        "Workers",
        "Filters, and ways to choose one worker. A choice from an empty collection is `()`.",
    );
    selections(registry);
    choices(registry);
    registry.section("One worker", "The properties of a worker.");
    properties::register(registry);
}

const fn on(
    name: &'static str,
    signature: &'static str,
    doc: &'static str,
    example: &'static str,
) -> Helper {
    Helper { on: "workers", name, signature, doc, example }
}

fn selections(registry: &mut HelperRegistry) {
    registry.function(
        on(
            "with_model",
            "with_model(model) -> workers",
            "Those that have or are loading this model. A text is read as a model reference.",
            "workers.with_model(job.model).count()",
        ),
        |set: &mut Workers, model: Model| with(|context| with_model(set, context, &model.0)),
    );
    registry.overload("with_model", |set: &mut Workers, model: &str| {
        let model = Model::parse(model)?;
        with(|context| with_model(set, context, &model.0))
    });
    registry.function(
        on("with_capacity", "with_capacity() -> workers", "Those that could take this job now: ready, reachable, with a free slot, able to do the task, and with the numerics that a stream needs to be continued. One on which the job has failed is left out if another is free.", "workers.with_model(job.model).with_capacity().count()"),
        |set: &mut Workers| with(|context| with_free_slot(set, context, Filter::Capacity, "with_capacity")),
    );
    registry.function(
        on(
            "idle",
            "idle() -> workers",
            "Those of `with_capacity()` that are idle.",
            "workers.with_model(job.model).idle().count()",
        ),
        |set: &mut Workers| with(|context| with_free_slot(set, context, Filter::Idle, "idle")),
    );
    registry.function(
        on("usable", "usable() -> workers", "Those that this job can run on, now or later: free, busy, or loading. Not those that have failed, are being stopped, are unreachable, or cannot do such a job.", "workers.with_model(job.model).usable().count()"),
        |set: &mut Workers| narrow(set, Filter::Usable, "usable()"),
    );
    registry.function(
        on(
            "online",
            "online() -> workers",
            "Those that are reachable.",
            "workers.online().count()",
        ),
        |set: &mut Workers| narrow(set, Filter::Online, "online()"),
    );
    registry.function(
        on(
            "ready",
            "ready() -> workers",
            "Those that are not loading, not being stopped, and have not failed; they may be busy.",
            "workers.ready().count()",
        ),
        |set: &mut Workers| narrow(set, Filter::Ready, "ready()"),
    );
    registry.function(
        on(
            "with_gpu",
            "with_gpu() -> workers",
            "Those that run on a GPU.",
            "workers.with_gpu().count()",
        ),
        |set: &mut Workers| narrow(set, Filter::Can(Capability::Gpu), "with_gpu()"),
    );
    registry.function(
        on("with_capability", "with_capability(name) -> workers", "Those that have this capability: `generate` (text), `embed` (vectors), `rerank` (scores of documents), `resume` (continue a stream that another worker began), or `gpu` (run on a GPU).", "workers.with_capability(\"embed\").count()"),
        |set: &mut Workers, name: &str| {
            let capability = Capability::named(name).ok_or_else(|| {
                let names = Capability::NAMES.join(", ");
                fault(format!("with_capability: there is no {name:?}; allowed are {names}"))
            })?;
            narrow(set, Filter::Can(capability), &format!("with_capability({name:?})"))
        },
    );
    registry.function(
        on(
            "evictable",
            "evictable() -> workers",
            "Those that may be stopped to free memory: idle and not pinned.",
            "workers.evictable().count()",
        ),
        |set: &mut Workers| narrow(set, Filter::Evictable, "evictable()"),
    );
    registry.function(
        on(
            "on_hive",
            "on_hive(name or hive) -> workers",
            "Those of this hive.",
            "workers.on_hive(\"attic\").count()",
        ),
        |set: &mut Workers, hive: &str| with(|context| on_hive(set, context, hive)),
    );
    registry.function(
        on(
            "with_label",
            "with_label(key, value) -> workers",
            "Those whose hive has this label.",
            "workers.with_label(\"power\", \"awake\").count()",
        ),
        |set: &mut Workers, key: ImmutableString, value: ImmutableString| {
            let name = format!("with_label({key:?}, {value:?})");
            narrow(set, Filter::Label(key, value), &name)
        },
    );
    registry.function(
        on(
            "in_region",
            "in_region(name) -> workers",
            "Those whose hive has this value in its label `region`.",
            "workers.in_region(\"eu\").count()",
        ),
        |set: &mut Workers, region: ImmutableString| {
            let name = format!("in_region({region:?})");
            narrow(set, Filter::Label("region".into(), region), &name)
        },
    );
}

/// Registers a choice: one worker, or `()` if there is none.
fn choice(
    registry: &mut HelperRegistry,
    helper: Helper,
    choose: impl Fn(&Workers, &DecisionContext) -> Res<Option<Worker>> + Send + Sync + 'static,
) {
    let name = helper.name;
    registry.function(helper, move |set: &mut Workers| chosen(set, name, &choose));
}

fn chosen(
    set: &Workers,
    name: &str,
    choose: impl Fn(&Workers, &DecisionContext) -> Res<Option<Worker>>,
) -> Res<Dynamic> {
    with(|context| {
        let worker = choose(set, context)?;
        context.step(|| match &worker {
            Some(worker) => format!("workers.{name}: {}", selection::described(worker)),
            None => format!("workers.{name}: none to choose from"),
        });
        Ok(or_unit(worker))
    })
}

fn choices(registry: &mut HelperRegistry) {
    choice(
        registry,
        on(
            "least_loaded",
            "least_loaded() -> worker or ()",
            "The one with the smallest share of its slots in use; of equals the one used longest ago.",
            "workers.with_model(job.model).with_capacity().least_loaded().hive",
        ),
        selection::least_loaded,
    );
    choice(
        registry,
        on(
            "most_loaded",
            "most_loaded() -> worker or ()",
            "The one with the greatest share of its slots in use, of those with a free slot: fills one machine after the other.",
            "workers.with_model(job.model).with_capacity().most_loaded().running",
        ),
        selection::most_loaded,
    );
    choice(
        registry,
        on(
            "most_vram_free",
            "most_vram_free() -> worker or ()",
            "The one whose devices have the most free memory.",
            "workers.with_model(job.model).with_capacity().most_vram_free().hive",
        ),
        selection::most_vram_free,
    );
    choice(
        registry,
        on(
            "round_robin",
            "round_robin() -> worker or ()",
            "The one used longest ago, so that all take turns.",
            "workers.with_model(job.model).with_capacity().round_robin().hive",
        ),
        selection::round_robin,
    );
    choice(
        registry,
        on(
            "power_of_two",
            "power_of_two() -> worker or ()",
            "The less loaded of two random ones.",
            "workers.with_model(job.model).with_capacity().power_of_two().hive",
        ),
        selection::power_of_two,
    );
    choice(
        registry,
        on(
            "prefix_affinity",
            "prefix_affinity() -> worker or ()",
            "The one that has computed the longest prefix of the prompt, if its load is at most a quarter above the average; else one that is chosen by the conversation, so that its next turn gets the same one. `prefix_affinity(1.5)` allows a load of half above the average.",
            "workers.with_model(job.model).with_capacity().prefix_affinity().hive",
        ),
        |set, context| selection::prefix_affinity(set, context, selection::BOUND),
    );
    registry.overload("prefix_affinity", |set: &mut Workers, bound: FLOAT| {
        if !(1.0..=100.0).contains(&bound) {
            return Err(fault(format!("prefix_affinity takes 1.0 to 100.0, not {bound}")));
        }
        chosen(set, "prefix_affinity", |set, context| {
            selection::prefix_affinity(set, context, bound)
        })
    });
    registry.function(
        on("sticky", "sticky(text) -> worker or ()", "One that is chosen by the text: the same text always gets the same one. When one goes away, only its texts move.", "workers.with_model(job.model).with_capacity().sticky(\"alice\").hive"),
        |set: &mut Workers, key: &str| chosen(set, "sticky", |set, context| selection::sticky(set, context, key.as_bytes())),
    );
    registry.function(
        on(
            "get",
            "get(id) -> worker or ()",
            "The worker with this id.",
            "workers.get(workers.first().id).hive",
        ),
        |set: &mut Workers, id: &str| -> Res<Dynamic> {
            with(|context| {
                let Ok(id) = id.parse() else { return Ok(Dynamic::UNIT) };
                let Some(view) = context.cluster.worker(id) else { return Ok(Dynamic::UNIT) };
                let worker = Worker(view.clone());
                for filter in set.filters() {
                    if !worker.keep(filter, context)? {
                        return Ok(Dynamic::UNIT);
                    }
                }
                Ok(Dynamic::from(worker))
            })
        },
    );
}
