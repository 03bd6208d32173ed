//! The weights: safetensors files, checked against the configuration before anything is built from them.
//!
//! A file is read tensor by tensor into separate memory. Mapping it would save the copy, but if another process
//! shortens a mapped file, this process is killed by a signal, and this process belongs to an application.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use candle_core::{DType, Device, DeviceLocation, Tensor};

use super::files::{FileFault, LoadFault, Loaded, shown};
use crate::model_info::safetensors::{TensorEntry, WeightFiles};

/// The bytes that are read between two checks whether the load was cancelled.
const CHUNK_BYTES: usize = 4 << 20;

/// The checked contents of a model's weight files.
#[derive(Debug)]
pub(super) struct Checkpoint(WeightFiles);

/// A tensor of a model: its name and its shape.
pub(super) type Part = (String, Vec<usize>);

impl Checkpoint {
    /// Reads the headers of the named file, or of the files in the directory.
    pub(super) fn open(dir: &Path, file: Option<&Path>) -> Loaded<Self> {
        Ok(Self(WeightFiles::open(dir, file)?))
    }

    /// True if there is a tensor with this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.tensors.contains_key(name)
    }

    /// Compares the tensors in the files with those that a model of this `family` must have by its configuration.
    ///
    /// An additional tensor could change the results, so `idle` must know that it has no effect.
    pub(super) fn check(
        &self,
        family: &str,
        parts: &[Part],
        idle: impl Fn(&str) -> bool,
    ) -> Loaded<()> {
        let WeightFiles { shards, tensors } = &self.0;
        let defect = |entry: Option<&TensorEntry>, what: String| {
            Err(LoadFault::defect(&shards[entry.map_or(0, |entry| entry.shard)].0, what))
        };
        let mut expected = HashSet::new();
        for (name, shape) in parts {
            let Some(entry) = tensors.get(name) else {
                let what = format!("tensor {name} is missing; its shape must be {shape:?}");
                return defect(None, what);
            };
            if entry.shape != *shape {
                let what = format!(
                    "tensor {name} has shape {:?}; by config.json it must be {shape:?}",
                    entry.shape
                );
                return defect(Some(entry), what);
            }
            if dtype(entry).is_none() {
                let what = format!(
                    "tensor {name}: dtype is {}; allowed are F32, F16 and BF16",
                    entry.dtype
                );
                return defect(Some(entry), what);
            }
            expected.insert(name);
        }
        match tensors.iter().find(|(name, _)| !expected.contains(name) && !idle(name)) {
            Some((name, entry)) => {
                let what = format!(
                    "tensor {} is not part of a {family} model of this config.json; allowed are those that are",
                    shown(name)
                );
                defect(Some(entry), what)
            }
            None => Ok(()),
        }
    }

    /// Reads these parts, which were checked. `progress` gets the bytes done and in total, and returns true if the load
    /// must continue.
    pub(super) fn read(
        &mut self,
        parts: &[Part],
        wanted_dtype: DType,
        device: &Device,
        mut progress: impl FnMut(u64, u64) -> bool,
    ) -> Loaded<HashMap<String, Tensor>> {
        let WeightFiles { shards, tensors } = &mut self.0;
        let mut wanted: Vec<(&String, &TensorEntry, DType)> = parts
            .iter()
            .filter_map(|(name, _)| {
                let entry = tensors.get(name)?;
                Some((name, entry, dtype(entry)?))
            })
            .collect();
        // In their order on the disk.
        wanted.sort_by_key(|(_, entry, _)| (entry.shard, entry.offset));
        let total = wanted.iter().map(|(_, entry, _)| entry.bytes).sum();
        let mut done = 0;
        let mut loaded = HashMap::with_capacity(wanted.len());
        for (name, entry, stored) in wanted {
            let (path, file) = &mut shards[entry.shard];
            let unreadable = |source: io::Error| FileFault::unreadable(path, source);
            file.seek(SeekFrom::Start(entry.offset)).map_err(unreadable)?;
            // The header was checked against the size of the file, so this is never more than that.
            let mut raw = vec![0; entry.bytes as usize];
            for chunk in raw.chunks_mut(CHUNK_BYTES) {
                file.read_exact(chunk).map_err(unreadable)?;
                done += chunk.len() as u64;
                if !progress(done, total) {
                    return Err(LoadFault::GivenUp);
                }
            }
            let tensor = Tensor::from_raw_buffer(&raw, stored, &entry.shape, &Device::Cpu)
                .and_then(|tensor| tensor.to_device(device)?.to_dtype(wanted_dtype))
                .map_err(|source| LoadFault::DeviceMemory { device: name_of(device), source })?;
            loaded.insert(name.clone(), tensor);
        }
        Ok(loaded)
    }
}

/// The device in a message.
fn name_of(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "the CPU".into(),
        DeviceLocation::Cuda { gpu_id } => format!("CUDA device {gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("Metal device {gpu_id}"),
    }
}

/// The type of a tensor, if models can be computed with it.
fn dtype(entry: &TensorEntry) -> Option<DType> {
    match &*entry.dtype {
        "F32" => Some(DType::F32),
        "F16" => Some(DType::F16),
        "BF16" => Some(DType::BF16),
        _ => None,
    }
}
