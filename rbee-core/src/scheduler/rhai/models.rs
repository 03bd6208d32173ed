//! Models, and the memory that they take, in scripts.

use rhai::{Dynamic, INT};

use super::{
    collection::{or_unit, whole},
    context::{DecisionContext, with},
    error::Res,
    hives::Hive,
    job::Model,
    registry::{Helper, HelperRegistry},
};
use crate::{device::DeviceKind, model_ref::ModelRef};

/// Bytes that must be free on a GPU before a worker of the model is started.
fn required(context: &DecisionContext, model: &ModelRef) -> Res<INT> {
    let known = context.known(model)?;
    let sizing = context.builtin.sizing();
    let memory = sizing.worker_memory(&context.cluster, model, known.as_ref(), DeviceKind::Cuda);
    Ok(whole(memory.required))
}

fn size(context: &DecisionContext, model: &ModelRef) -> Res<Dynamic> {
    let known = context.known(model)?;
    Ok(or_unit(known.map(|model| whole(model.bytes))))
}

fn exists(context: &DecisionContext, model: &ModelRef) -> Res<bool> {
    let loaded = context.cluster.with_model(model).next().is_some();
    Ok(loaded || context.known(model)?.is_some())
}

pub(super) fn register(registry: &mut HelperRegistry) {
    registry.section(
        "Memory and models",
        "Sizes are in bytes; `gib(24)` converts from GiB. A model is given as `job.model` or as a text.",
    );
    let f = |name, signature, doc, example| Helper { on: "", name, signature, doc, example };
    registry.function(
        f("gpu_vram_free", "gpu_vram_free(hive) -> int", "Bytes free on all GPUs of the hive together; memory that is reserved for loading workers is not free.", "gpu_vram_free(hives.get(\"attic\"))"),
        |hive: Hive| whole(hive.0.gpu_memory_free()),
    );
    registry.function(
        f(
            "gpu_vram_total",
            "gpu_vram_total(hive) -> int",
            "Bytes of all GPUs of the hive together.",
            "gpu_vram_total(hives.get(\"attic\"))",
        ),
        |hive: Hive| whole(hive.0.gpu_memory_total()),
    );
    registry.function(
        f(
            "model_size_bytes",
            "model_size_bytes(model) -> int or ()",
            "The size of the model's files; `()` if no hive has them.",
            "model_size_bytes(job.model)",
        ),
        |model: Model| with(|context| size(context, &model.0)),
    );
    registry.overload("model_size_bytes", |model: &str| {
        let model = Model::parse(model)?;
        with(|context| size(context, &model.0))
    });
    registry.function(
        f("model_vram_required", "model_vram_required(model) -> int", "Bytes that must be free on a GPU before a worker of the model is started: weights, KV cache and head room, or more if its workers took more before. 0 if nothing is known of the model.", "model_vram_required(job.model) > model_size_bytes(job.model)"),
        |model: Model| with(|context| required(context, &model.0)),
    );
    registry.overload("model_vram_required", |model: &str| {
        let model = Model::parse(model)?;
        with(|context| required(context, &model.0))
    });
    registry.function(
        f(
            "model_exists",
            "model_exists(model) -> bool",
            "True if the model is loaded, or on the disk of a hive.",
            "model_exists(\"nobody-has-it\")",
        ),
        |model: Model| with(|context| exists(context, &model.0)),
    );
    registry.overload("model_exists", |model: &str| {
        let model = Model::parse(model)?;
        with(|context| exists(context, &model.0))
    });
    registry.function(f("gib", "gib(n) -> int", "n GiB in bytes.", "gib(24)"), |count: INT| {
        count.saturating_mul(1 << 30)
    });
    registry.overload("gib", |count: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
        let bytes = (count * f64::from(1 << 30)) as INT;
        bytes
    });
}
