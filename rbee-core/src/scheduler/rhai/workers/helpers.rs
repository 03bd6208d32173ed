//! What can be asked of workers, and what is said of it.

use rhai::{Dynamic, FLOAT, ImmutableString};

use super::{Base, Filter, Worker, Workers, properties, selection};
use crate::{
    HiveId, ModelRef,
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

/// Those of them that can take a job now, from the index where there is one.
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

/// Those of a hive, from the index where nothing else has been asked for yet.
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
        "`schedule` gets all workers and all hives. NoDecision is copied: each helper narrows the description of what is \
         wanted, and the cluster's indexes are asked when one is chosen. All of these are on `workers` and on `hives`, \
         which is also what a `for` loop goes over.",
    );
    register_collection::<Worker>(registry);
    registry.section(
        "Workers",
        "What narrows workers down, and what chooses one. A choice from none is `()`.",
    );
    selections(registry);
    choices(registry);
    registry.section("One worker", "What a worker tells of itself.");
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
            "Those that have this model, or are loading it. A text is read as a model's reference.",
            "workers.with_model(job.model).count()",
        ),
        |set: &mut Workers, model: Model| with(|context| with_model(set, context, &model.0)),
    );
    registry.overload("with_model", |set: &mut Workers, model: &str| {
        let model = Model::parse(model)?;
        with(|context| with_model(set, context, &model.0))
    });
    registry.function(
        on("with_capacity", "with_capacity() -> workers", "Those that could take this job now: ready, in reach, with a free slot, able to do the task, with the numerics that a begun stream needs. One on which the job has failed is left out where another is free.", "workers.with_model(job.model).with_capacity().count()"),
        |set: &mut Workers| with(|context| with_free_slot(set, context, Filter::Capacity, "with_capacity")),
    );
    registry.function(
        on(
            "idle",
            "idle() -> workers",
            "Those of `with_capacity()` that have nothing to do.",
            "workers.with_model(job.model).idle().count()",
        ),
        |set: &mut Workers| with(|context| with_free_slot(set, context, Filter::Idle, "idle")),
    );
    registry.function(
        on("usable", "usable() -> workers", "Those that this job can run on, now or in a while by itself: free, busy, or being loaded. Not those that have failed, are being stopped, are out of reach, or cannot do such a job.", "workers.with_model(job.model).usable().count()"),
        |set: &mut Workers| narrow(set, Filter::Usable, "usable()"),
    );
    registry.function(
        on("online", "online() -> workers", "Those in reach.", "workers.online().count()"),
        |set: &mut Workers| narrow(set, Filter::Online, "online()"),
    );
    registry.function(
        on(
            "ready",
            "ready() -> workers",
            "Those that are neither loading nor ending nor failed; they may be busy.",
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
        on("with_capability", "with_capability(name) -> workers", "Those that can do this: `generate` (text), `embed` (vectors), `resume` (go on with a stream that another worker began), or `gpu` (they run on one).", "workers.with_capability(\"embed\").count()"),
        |set: &mut Workers, name: &str| {
            let capability = Capability::named(name).ok_or_else(|| {
                let names = Capability::NAMES.join(", ");
                fault(format!("with_capability: there is no {name:?}; there are {names}"))
            })?;
            narrow(set, Filter::Can(capability), &format!("with_capability({name:?})"))
        },
    );
    registry.function(
        on("evictable", "evictable() -> workers", "Those that may be stopped to make room: nothing runs on them, and they are not pinned.", "workers.evictable().count()"),
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
            "Those whose hive has the label `region` of this name.",
            "workers.in_region(\"eu\").count()",
        ),
        |set: &mut Workers, region: ImmutableString| {
            let name = format!("in_region({region:?})");
            narrow(set, Filter::Label("region".into(), region), &name)
        },
    );
}

/// Registers a choice: one worker, or `()`.
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
            "The one with the smallest part of its slots taken; of equals the one used longest ago.",
            "workers.with_model(job.model).with_capacity().least_loaded().hive",
        ),
        selection::least_loaded,
    );
    choice(
        registry,
        on(
            "most_loaded",
            "most_loaded() -> worker or ()",
            "The one with the greatest part of its slots taken, of those that have a free one: fills machines up one after the other.",
            "workers.with_model(job.model).with_capacity().most_loaded().running",
        ),
        selection::most_loaded,
    );
    choice(
        registry,
        on(
            "most_vram_free",
            "most_vram_free() -> worker or ()",
            "The one whose device has the most memory free.",
            "workers.with_model(job.model).with_capacity().most_vram_free().hive",
        ),
        selection::most_vram_free,
    );
    choice(
        registry,
        on(
            "round_robin",
            "round_robin() -> worker or ()",
            "The one used longest ago. A policy remembers nothing, and this needs no memory of its own.",
            "workers.with_model(job.model).with_capacity().round_robin().hive",
        ),
        selection::round_robin,
    );
    choice(
        registry,
        on(
            "power_of_two",
            "power_of_two() -> worker or ()",
            "The less loaded of two taken by chance.",
            "workers.with_model(job.model).with_capacity().power_of_two().hive",
        ),
        selection::power_of_two,
    );
    choice(
        registry,
        on(
            "prefix_affinity",
            "prefix_affinity() -> worker or ()",
            "The one that has the longest beginning of the prompt computed already, as long as it has at most a quarter more to do than the average; else one chosen by the conversation, so that its next turn finds it again. `prefix_affinity(1.5)` allows half more.",
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
        on("sticky", "sticky(text) -> worker or ()", "One chosen by the text: always the same one for the same text, as long as it is there; when one goes, only what was on it moves.", "workers.with_model(job.model).with_capacity().sticky(\"alice\").hive"),
        |set: &mut Workers, key: &str| chosen(set, "sticky", |set, context| selection::sticky(set, context, key.as_bytes())),
    );
    registry.function(
        on(
            "get",
            "get(id) -> worker or ()",
            "The worker of this name.",
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
