//! The properties of a worker.

use rhai::{Dynamic, ImmutableString};

use super::{Worker, selection};
use crate::{
    cluster::WorkerState,
    scheduler::rhai::{
        collection::{Item, or_unit, whole},
        context::with,
        job::Model,
        labels,
        registry::{Helper, HelperRegistry},
    },
};

const fn of(
    name: &'static str,
    signature: &'static str,
    doc: &'static str,
    example: &'static str,
) -> Helper {
    Helper { on: "worker", name, signature, doc, example }
}

pub(super) fn register(registry: &mut HelperRegistry) {
    type W = Worker;
    let text = |text: &str| ImmutableString::from(text);
    registry.property(of("id", "id -> text", "Its id.", "workers.first().id != \"\""), |w: &W| {
        ImmutableString::from(w.0.info.id.to_string())
    });
    registry.property(
        of("hive", "hive -> text", "The name of its hive.", "workers.first().hive"),
        move |w: &W| text(w.0.info.hive.as_str()),
    );
    registry.property(
        of(
            "model",
            "model -> model",
            "Its model.",
            "workers.with_model(job.model).first().model == job.model",
        ),
        |w: &W| Model(w.0.info.model.clone()),
    );
    registry.property(
        of("backend", "backend -> text", "Its engine.", "workers.first().backend"),
        move |w: &W| text(&w.0.info.backend),
    );
    registry.property(
        of(
            "state",
            "state -> text",
            "`loading`, `ready`, `draining` or `failed`.",
            "workers.first().state",
        ),
        move |w: &W| {
            text(match w.0.state {
                WorkerState::Loading => "loading",
                WorkerState::Ready => "ready",
                WorkerState::Draining => "draining",
                WorkerState::Failed => "failed",
            })
        },
    );
    registry.property(
        of("slots", "slots -> int", "Jobs that it can run at once.", "workers.first().slots"),
        |w: &W| whole(w.0.info.slots),
    );
    registry.property(
        of("running", "running -> int", "Jobs that it is running.", "workers.first().running"),
        |w: &W| whole(w.0.leased),
    );
    registry.property(
        of(
            "free_slots",
            "free_slots -> int",
            "Jobs that it could start now.",
            "workers.first().free_slots",
        ),
        |w: &W| whole(w.0.free_slots()),
    );
    registry.property(
        of(
            "load",
            "load -> float",
            "The share of its slots that is in use: 0.0 to 1.0.",
            "workers.first().load",
        ),
        |w: &W| f64::from(w.0.leased) / f64::from(w.0.info.slots.max(1)),
    );
    registry.property(
        of(
            "memory_bytes",
            "memory_bytes -> int",
            "Memory that it takes, on all its devices together, in bytes.",
            "workers.first().memory_bytes",
        ),
        |w: &W| whole(w.0.memory_bytes),
    );
    registry.property(
        of(
            "devices",
            "devices -> array",
            "The indexes of the devices that it runs on; 0 is the CPU.",
            "workers.first().devices",
        ),
        |w: &W| -> rhai::Array {
            w.0.info.devices.iter().map(|index| Dynamic::from(whole(*index))).collect()
        },
    );
    registry.property(
        of(
            "faults",
            "faults -> int",
            "Faults since its last successful job.",
            "workers.first().faults",
        ),
        |w: &W| whole(w.0.faults),
    );
    registry.property(
        of(
            "pinned",
            "pinned -> bool",
            "True if it is never stopped to free memory.",
            "workers.first().pinned",
        ),
        |w: &W| w.0.pinned,
    );
    registry.property(
        of(
            "context_tokens",
            "context_tokens -> int or ()",
            "The longest prompt and answer together, in tokens; `()` if not known.",
            "workers.first().context_tokens",
        ),
        |w: &W| or_unit(w.0.info.capabilities.context_tokens.map(whole)),
    );
    registry.computed(
        of(
            "vram_free",
            "vram_free -> int",
            "Bytes free on the devices that it runs on.",
            "workers.first().vram_free",
        ),
        |w: &W, context| Ok(whole(w.device_memory_free(context))),
    );
    registry.computed(
        of(
            "region",
            "region -> text or ()",
            "The label `region` of its hive.",
            "workers.first().region",
        ),
        |w: &W, context| Ok(or_unit(w.label(context, "region"))),
    );
    registry.computed(
        of(
            "cost",
            "cost -> float or ()",
            "The label `cost` of its hive; `()` if it is not a number.",
            "workers.first().cost",
        ),
        |w: &W, context| Ok(or_unit(w.hive(context).and_then(labels::cost))),
    );
    registry.computed(
        of(
            "idle_ms",
            "idle_ms -> int",
            "Milliseconds since a job last started or ended on it.",
            "workers.first().idle_ms",
        ),
        |w: &W, context| Ok(whole((context.ask.now.at - w.0.last_used).as_millis())),
    );
    registry.computed(
        of(
            "ready_ms",
            "ready_ms -> int",
            "Milliseconds since it became ready.",
            "workers.first().ready_ms",
        ),
        |w: &W, context| Ok(whole((context.ask.now.at - w.0.ready_since).as_millis())),
    );
    registry.computed(
        of(
            "prefix_match",
            "prefix_match -> int",
            "The number of parts of the prompt, from its beginning, that it has computed already.",
            "workers.first().prefix_match",
        ),
        |w: &W, context| Ok(whole(selection::matched(context, w))),
    );
    registry.function(
        of(
            "label",
            "label(key) -> text or ()",
            "The label of this key of its hive.",
            "workers.first().label(\"cost\")",
        ),
        |w: &mut W, key: &str| with(|context| Ok(or_unit(w.label(context, key)))),
    );
    registry.engine().register_fn("to_string", |w: &mut W| w.candidate().to_string());
    registry.engine().register_fn("==", |one: W, two: W| one.0.info.id == two.0.info.id);
    registry.engine().register_fn("!=", |one: W, two: W| one.0.info.id != two.0.info.id);
}
