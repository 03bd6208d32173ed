//! Memory: what is free, and what a model needs.

use rhai::{Dynamic, INT};

use super::{
    book::{Book, Helper},
    collection::{or_unit, whole},
    hives::Hive,
    job::Model,
    session::{Res, Session, with},
};
use crate::{Device, DeviceKind, HiveView, ModelRef, WorkerView};

pub(super) fn is_gpu(device: &Device) -> bool {
    device.kind != DeviceKind::Cpu
}

/// Memory that is free on the GPUs of the hive, in bytes; what is promised to workers being started is not.
pub(super) fn gpu_free(hive: &HiveView) -> u64 {
    let gpus = hive.devices.iter().filter(|device| is_gpu(device));
    gpus.map(|device| hive.free_bytes(device)).fold(0, u64::saturating_add)
}

pub(super) fn gpu_total(hive: &HiveView) -> u64 {
    let gpus = hive.devices.iter().filter(|device| is_gpu(device));
    gpus.map(|device| device.memory_total).fold(0, u64::saturating_add)
}

/// Memory that is free on the devices that the worker runs on, in bytes.
pub(super) fn free_beside(session: &Session, worker: &WorkerView) -> u64 {
    let Some(hive) = session.cluster.hive(&worker.info.hive) else { return 0 };
    let devices = &worker.info.devices;
    let its = |device: &&Device| {
        devices.contains(&device.index) || (devices.is_empty() && device.index == 0)
    };
    hive.devices
        .iter()
        .filter(its)
        .map(|device| hive.free_bytes(device))
        .fold(0, u64::saturating_add)
}

/// Bytes that must be free on a GPU before a worker of the model is started.
fn required(session: &Session, model: &ModelRef) -> Res<INT> {
    let known = session.known(model)?;
    let need = session.builtin.need(&session.cluster, model, known.as_ref(), DeviceKind::Cuda);
    Ok(whole(need.required))
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
        |hive: Hive| whole(gpu_free(&hive.0)),
    );
    book.function(
        f(
            "gpu_vram_total",
            "gpu_vram_total(hive) -> int",
            "Bytes of all GPUs of the hive together.",
            "gpu_vram_total(hives.get(\"attic\"))",
        ),
        |hive: Hive| whole(gpu_total(&hive.0)),
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
