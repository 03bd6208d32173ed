//! Hives in scripts.

use std::{cmp::Reverse, sync::Arc};

use rhai::{Dynamic, INT, ImmutableString};

use super::{
    collection::{Collection, Examples, Item, or_unit, whole},
    context::{DecisionContext, with},
    error::{Res, fault},
    job::Model,
    labels,
    registry::{Helper, HelperRegistry},
    workers::{self, Workers},
};
use crate::{
    cluster::{ClusterView, HiveView},
    id::HiveId,
    model_ref::ModelRef,
    scheduler::{Candidate, spawn::OnHive},
};

/// A hive in a script.
#[derive(Clone, Debug)]
pub(super) struct Hive(pub(super) Arc<HiveView>);

pub(super) type Hives = Collection<Hive>;

/// A filter without a closure.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    Online,
    /// A worker of the job's model can be started there.
    Available,
    Model(ModelRef),
    Gpus(INT),
    Label(ImmutableString, ImmutableString),
}

impl Item for Hive {
    type Base = ();
    type Filter = Filter;
    const MANY: &'static str = "hives";
    const ONE: &'static str = "hive";
    const EXAMPLES: &'static Examples = &Examples {
        filter: "hives.filter(|h| h.gpus > 1).count()",
        find: "hives.find(|h| h.label(\"power\") == \"awake\").id",
        without: "hives.without(hives.first()).count()",
        min_by: "hives.min_by(|h| h.worker_count).id",
        max_by: "hives.max_by(|h| h.vram_free).id",
        sort_by: "hives.sort_by(|h| h.vram_free).first().id",
        any: "hives.any(|h| h.draining)",
        all: "hives.all(|h| h.online)",
        count: "hives.count()",
        is_empty: "hives.in_region(\"mars\").is_empty()",
        first: "hives.first().id",
        take: "hives.take(1).count()",
        skip: "hives.skip(1).count()",
        map: "hives.map(|h| h.gpus)",
        sum: "hives.sum(|h| h.gpus)",
        random: "hives.random().id",
    };

    fn all<'a>((): &'a (), cluster: &'a ClusterView) -> Box<dyn Iterator<Item = Self> + 'a> {
        Box::new(cluster.hives().map(|view| Self(view.clone())))
    }

    fn keep(&self, filter: &Filter, context: &DecisionContext) -> Res<bool> {
        Ok(match filter {
            Filter::Online => self.0.online,
            Filter::Available => on_hive(context, self)?.has_place(),
            Filter::Model(model) => self.0.models.contains_key(model),
            Filter::Gpus(least) => self.gpus() >= *least,
            Filter::Label(key, value) => {
                self.0.labels.get(key.as_str()).is_some_and(|has| has == value.as_str())
            }
        })
    }

    fn is_last(&self, (): &(), _: &Filter) -> bool {
        false
    }

    fn candidate(&self) -> Candidate {
        Candidate::Hive(self.0.id.clone())
    }
}

impl Hive {
    fn gpus(&self) -> INT {
        whole(self.0.gpus().count())
    }
}

/// The question about this hive alone.
pub(super) fn on_hive<'a>(context: &'a DecisionContext, hive: &'a Hive) -> Res<OnHive<'a>> {
    Ok(OnHive {
        sizing: context.builtin.sizing(),
        ask: &context.ask,
        cluster: &context.cluster,
        known: context.known_of_job()?,
        hive: &hive.0,
    })
}

fn narrow(set: &Hives, filter: Filter, name: &str) -> Res<Hives> {
    with(|context| set.narrowed(context, filter, || name.into()))
}

fn get(set: &Hives, context: &DecisionContext, name: &str) -> Res<Dynamic> {
    let Ok(id) = HiveId::new(name) else { return Ok(Dynamic::UNIT) };
    let Some(view) = context.cluster.hive(&id) else { return Ok(Dynamic::UNIT) };
    let hive = Hive(view.clone());
    for filter in set.filters() {
        if !hive.keep(filter, context)? {
            return Ok(Dynamic::UNIT);
        }
    }
    Ok(Dynamic::from(hive))
}

/// Registers a choice: the hive with the least key, or `()` if there is none.
fn choice<K: PartialOrd>(
    registry: &mut HelperRegistry,
    helper: Helper,
    key: impl Fn(&Hive, &DecisionContext) -> K + Send + Sync + 'static,
) {
    let name = helper.name;
    registry.function(helper, move |set: &mut Hives| -> Res<Dynamic> {
        with(|context| {
            let hive = set.least(context, |hive| Ok(key(hive, context)))?;
            context.step(|| match &hive {
                Some(hive) => format!("hives.{name}: hive {}", hive.0.id),
                None => format!("hives.{name}: none to choose from"),
            });
            Ok(or_unit(hive))
        })
    });
}

pub(super) fn register(registry: &mut HelperRegistry) {
    registry.section(
        "Hives",
        "Filters, and ways to choose one hive. A choice from an empty collection is `()`.",
    );
    super::collection::helpers::register::<Hive>(registry);
    selections(registry);
    registry.overload("on_hive", |set: &mut Workers, hive: Hive| {
        with(|context| workers::helpers::on_hive(set, context, hive.0.id.as_str()))
    });
    registry.section("One hive", "The properties of a hive.");
    properties(registry);
}

fn selections(registry: &mut HelperRegistry) {
    let on = |name, signature, doc, example| Helper { on: "hives", name, signature, doc, example };
    registry.function(
        on("online", "online() -> hives", "Those that are online.", "hives.online().count()"),
        |set: &mut Hives| narrow(set, Filter::Online, "online()"),
    );
    registry.function(
        on("available", "available() -> hives", "Those on which a worker of the job's model can be started now: online, not draining, with an engine that can read the model (as far as is known), with enough memory that is free or that idle workers would free, and without having refused the model.", "hives.available().count()"),
        |set: &mut Hives| narrow(set, Filter::Available, "available()"),
    );
    registry.function(
        on(
            "with_model",
            "with_model(model) -> hives",
            "Those that have the model on their disk, so that nothing is downloaded.",
            "hives.with_model(job.model).count()",
        ),
        |set: &mut Hives, model: Model| {
            narrow(set, Filter::Model(model.0.clone()), &format!("with_model({})", model.0))
        },
    );
    registry.overload("with_model", |set: &mut Hives, model: &str| {
        let model = Model::parse(model)?;
        narrow(set, Filter::Model(model.0.clone()), &format!("with_model({})", model.0))
    });
    registry.function(
        on("with_gpu", "with_gpu() -> hives", "Those that have a GPU.", "hives.with_gpu().count()"),
        |set: &mut Hives| narrow(set, Filter::Gpus(1), "with_gpu()"),
    );
    registry.function(
        on(
            "with_gpus",
            "with_gpus(n) -> hives",
            "Those that have at least n GPUs.",
            "hives.with_gpus(2).count()",
        ),
        |set: &mut Hives, least: INT| {
            narrow(set, Filter::Gpus(least), &format!("with_gpus({least})"))
        },
    );
    registry.function(
        on(
            "with_label",
            "with_label(key, value) -> hives",
            "Those that have this label.",
            "hives.with_label(\"power\", \"awake\").count()",
        ),
        |set: &mut Hives, key: ImmutableString, value: ImmutableString| {
            let name = format!("with_label({key:?}, {value:?})");
            narrow(set, Filter::Label(key, value), &name)
        },
    );
    registry.function(
        on(
            "in_region",
            "in_region(name) -> hives",
            "Those whose label `region` has this value.",
            "hives.in_region(\"eu\").count()",
        ),
        |set: &mut Hives, region: ImmutableString| {
            let name = format!("in_region({region:?})");
            narrow(set, Filter::Label("region".into(), region), &name)
        },
    );
    registry.function(
        on(
            "get",
            "get(name) -> hive or ()",
            "The hive of this name.",
            "hives.get(\"attic\").region",
        ),
        |set: &mut Hives, name: &str| with(|context| get(set, context, name)),
    );
    choice(
        registry,
        on(
            "most_vram_free",
            "most_vram_free() -> hive or ()",
            "The one with the most free memory on its GPUs together.",
            "hives.most_vram_free().id",
        ),
        |hive, _| Reverse(hive.0.gpu_memory_free()),
    );
    choice(
        registry,
        on(
            "fewest_workers",
            "fewest_workers() -> hive or ()",
            "The one with the fewest workers.",
            "hives.online().fewest_workers().id",
        ),
        |hive, context| context.cluster.count_on_hive(&hive.0.id),
    );
    choice(
        registry,
        on(
            "cheapest",
            "cheapest() -> hive or ()",
            "The one with the smallest number in its label `cost`; those without a number come last.",
            "hives.online().cheapest().id",
        ),
        |hive, _| labels::cost(&hive.0).unwrap_or(f64::INFINITY),
    );
}

fn properties(registry: &mut HelperRegistry) {
    type H = Hive;
    let of = |name, signature, doc, example| Helper { on: "hive", name, signature, doc, example };
    registry.property(of("id", "id -> text", "Its id.", "hives.first().id"), |h: &H| {
        ImmutableString::from(h.0.id.as_str())
    });
    registry.property(
        of("online", "online -> bool", "True if it is online.", "hives.first().online"),
        |h: &H| h.0.online,
    );
    registry.property(
        of(
            "draining",
            "draining -> bool",
            "True if it gets no new workers.",
            "hives.first().draining",
        ),
        |h: &H| h.0.draining,
    );
    registry.property(
        of("region", "region -> text or ()", "Its label `region`.", "hives.first().region"),
        |h: &H| or_unit(labels::label(&h.0, "region")),
    );
    registry.property(
        of(
            "cost",
            "cost -> float or ()",
            "Its label `cost`; `()` if it is not a number.",
            "hives.first().cost",
        ),
        |h: &H| or_unit(labels::cost(&h.0)),
    );
    registry.property(
        of("gpus", "gpus -> int", "The number of its GPUs.", "hives.first().gpus"),
        Hive::gpus,
    );
    registry.property(
        of(
            "vram_free",
            "vram_free -> int",
            "Bytes free on all its GPUs together.",
            "hives.first().vram_free",
        ),
        |h: &H| whole(h.0.gpu_memory_free()),
    );
    registry.property(
        of(
            "vram_total",
            "vram_total -> int",
            "Bytes of all its GPUs together.",
            "hives.first().vram_total",
        ),
        |h: &H| whole(h.0.gpu_memory_total()),
    );
    registry.property(
        of(
            "largest_free",
            "largest_free -> int",
            "Bytes free on the GPU that has the most free.",
            "hives.first().largest_free",
        ),
        |h: &H| whole(h.0.gpus().map(|gpu| h.0.free_bytes(gpu)).max().unwrap_or(0)),
    );
    registry.property(
        of(
            "largest_total",
            "largest_total -> int",
            "Bytes of its largest GPU, free or not.",
            "hives.first().largest_total",
        ),
        |h: &H| whole(h.0.gpus().map(|gpu| gpu.memory_total).max().unwrap_or(0)),
    );
    registry.property(
        of(
            "gpu_indices",
            "gpu_indices -> array",
            "The indexes of its GPUs, for `spawn_on(hive, indices)`.",
            "hives.first().gpu_indices",
        ),
        |h: &H| -> rhai::Array { h.0.gpus().map(|gpu| Dynamic::from(whole(gpu.index))).collect() },
    );
    registry.computed(
        of(
            "memory_left",
            "memory_left -> int or ()",
            "Bytes that are left of its memory budget; `()` if it has none.",
            "hives.first().memory_left",
        ),
        |h: &H, context| Ok(or_unit(context.cluster.memory_left(&h.0).map(whole))),
    );
    registry.computed(
        of(
            "worker_count",
            "worker_count -> int",
            "The number of its workers.",
            "hives.first().worker_count",
        ),
        |h: &H, context| Ok(whole(context.cluster.count_on_hive(&h.0.id))),
    );
    registry.property(
        of(
            "workers",
            "workers -> workers",
            "Its workers.",
            "hives.first().workers.evictable().count()",
        ),
        |h: &H| Workers::of(workers::Base::Hive(h.0.id.clone())),
    );
    registry.function(
        of(
            "label",
            "label(key) -> text or ()",
            "The label of this key.",
            "hives.first().label(\"power\")",
        ),
        |h: &mut H, key: &str| or_unit(labels::label(&h.0, key)),
    );
    registry.function(
        of(
            "has_model",
            "has_model(model) -> bool",
            "True if the model is on its disk.",
            "hives.first().has_model(job.model)",
        ),
        |h: &mut H, model: Model| h.0.models.contains_key(&model.0),
    );
    registry.overload("has_model", |h: &mut H, model: &str| -> Res<bool> {
        Ok(h.0.models.contains_key(&Model::parse(model)?.0))
    });
    registry.function(
        of(
            "free_on",
            "free_on(index) -> int",
            "Bytes free on the device with this index.",
            "hives.first().free_on(1)",
        ),
        |h: &mut H, index: INT| -> Res<INT> {
            let device = h.0.devices.iter().find(|device| INT::from(device.index) == index);
            let device =
                device.ok_or_else(|| fault(format!("hive {} has no device {index}", h.0.id)))?;
            Ok(whole(h.0.free_bytes(device)))
        },
    );
    registry.engine().register_fn("to_string", |h: &mut H| h.0.id.to_string());
    registry.engine().register_fn("==", |one: H, two: H| one.0.id == two.0.id);
    registry.engine().register_fn("!=", |one: H, two: H| one.0.id != two.0.id);
}
