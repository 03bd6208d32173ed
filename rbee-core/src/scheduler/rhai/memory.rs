//! Memory: what is free, and what a model needs.

use rhai::{Dynamic, INT};

use super::{
    book::{Book, Helper},
    collection::{or_unit, whole},
    hives::Hive,
    job::Model,
    session::{Res, Session, with},
};
use crate::{DeviceKind, ModelRef};

/// Bytes that must be free on a GPU before a worker of the model is started.
fn required(session: &Session, model: &ModelRef) -> Res<INT> {
    let known = session.known(model)?;
    let sizing = session.builtin.sizing();
    let memory = sizing.worker_memory(&session.cluster, model, known.as_ref(), DeviceKind::Cuda);
    Ok(whole(memory.required))
}

fn size(session: &Session, model: &ModelRef) -> Res<Dynamic> {
    let known = session.known(model)?;
    Ok(or_unit(known.map(|model| whole(model.bytes))))
}

fn exists(session: &Session, model: &ModelRef) -> Res<bool> {
    let loaded = session.cluster.with_model(model).next().is_some();
    Ok(loaded || session.known(model)?.is_some())
}

pub(super) fn register(book: &mut Book) {
    book.chapter(
        "Memory and models",
        "Sizes are in bytes; `gib(24)` makes bytes of GiB. A model is given as `job.model` or as text.",
    );
    let f = |name, signature, doc, example| Helper { on: "", name, signature, doc, example };
    book.function(
        f("gpu_vram_free", "gpu_vram_free(hive) -> int", "Bytes free on all GPUs of the hive together; what is promised to workers that are being started is not free.", "gpu_vram_free(hives.get(\"attic\"))"),
        |hive: Hive| whole(hive.0.gpu_memory_free()),
    );
    book.function(
        f(
            "gpu_vram_total",
            "gpu_vram_total(hive) -> int",
            "Bytes of all GPUs of the hive together.",
            "gpu_vram_total(hives.get(\"attic\"))",
        ),
        |hive: Hive| whole(hive.0.gpu_memory_total()),
    );
    book.function(
        f(
            "model_size_bytes",
            "model_size_bytes(model) -> int or ()",
            "The size of the model's files, where a hive has them.",
            "model_size_bytes(job.model)",
        ),
        |model: Model| with(|session| size(session, &model.0)),
    );
    book.overload("model_size_bytes", |model: &str| {
        let model = Model::parse(model)?;
        with(|session| size(session, &model.0))
    });
    book.function(
        f("model_vram_required", "model_vram_required(model) -> int", "Bytes that must be free on a GPU before a worker of the model is started: its weights, its context and head room, or more where workers were seen to take more. 0 where nothing is known of it.", "model_vram_required(job.model) > model_size_bytes(job.model)"),
        |model: Model| with(|session| required(session, &model.0)),
    );
    book.overload("model_vram_required", |model: &str| {
        let model = Model::parse(model)?;
        with(|session| required(session, &model.0))
    });
    book.function(
        f(
            "model_exists",
            "model_exists(model) -> bool",
            "Is the model loaded somewhere, or on the disk of a hive?",
            "model_exists(\"nobody-has-it\")",
        ),
        |model: Model| with(|session| exists(session, &model.0)),
    );
    book.overload("model_exists", |model: &str| {
        let model = Model::parse(model)?;
        with(|session| exists(session, &model.0))
    });
    book.function(f("gib", "gib(n) -> int", "So many GiB, in bytes.", "gib(24)"), |count: INT| {
        count.saturating_mul(1 << 30)
    });
    book.overload("gib", |count: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
        let bytes = (count * f64::from(1 << 30)) as INT;
        bytes
    });
}
