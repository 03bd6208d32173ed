//! NVIDIA GPUs, as reported by the driver's management library, which is loaded at run time.

use std::path::Path;

use nvml_wrapper::{Nvml, enums::device::UsedGpuMemory, error::NvmlError};

use crate::device::{Device, DeviceKind};

/// The GPUs of this machine.
#[derive(Debug)]
pub(super) struct Gpus {
    /// `None` if there is no driver.
    nvml: Option<Nvml>,
}

impl Gpus {
    /// Loads the library, from this path if given. Without the library or the driver there are no GPUs.
    pub(super) fn find(library: Option<&Path>) -> Self {
        let found = match library {
            Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
            None => Nvml::init(),
        };
        let nvml = found.inspect_err(|error| tracing::debug!(%error, "no NVIDIA driver here")).ok();
        Self { nvml }
    }

    pub(super) fn read(&self) -> Vec<Device> {
        let Some(nvml) = &self.nvml else {
            return Vec::new();
        };
        let count = nvml.device_count().unwrap_or_else(|error| {
            tracing::warn!(%error, "the NVIDIA driver does not count its GPUs");
            0
        });
        let gpu = |ordinal| {
            device(nvml, ordinal)
                .inspect_err(|error| {
                    tracing::debug!(%error, ordinal, "a GPU that does not report its memory is left out");
                })
                .ok()
        };
        (0..count).filter_map(gpu).collect()
    }

    /// Device, process and the bytes that it takes there, for every process that computes.
    pub(super) fn usage(&self) -> Vec<(u32, u32, u64)> {
        let Some(nvml) = &self.nvml else {
            return Vec::new();
        };
        let on = |ordinal| {
            let device = nvml.device_by_index(ordinal);
            let processes = device.and_then(|device| device.running_compute_processes());
            let processes = processes
                .inspect_err(|error| {
                    tracing::debug!(%error, ordinal, "a GPU that does not report its processes");
                })
                .unwrap_or_default();
            processes.into_iter().filter_map(move |process| match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some((ordinal + 1, process.pid, bytes)),
                UsedGpuMemory::Unavailable => None,
            })
        };
        (0..nvml.device_count().unwrap_or(0)).flat_map(on).collect()
    }
}

fn device(nvml: &Nvml, ordinal: u32) -> Result<Device, NvmlError> {
    let device = nvml.device_by_index(ordinal)?;
    let memory = device.memory_info()?;
    Ok(Device {
        index: ordinal + 1,
        kind: DeviceKind::Cuda,
        name: device.name()?,
        memory_total: memory.total,
        memory_free: memory.free,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_there_are_no_gpus() {
        let gpus = Gpus::find(Some(Path::new("/nonexistent/libnvidia-ml.so.1")));
        assert_eq!(gpus.read(), []);
    }

    #[test]
    fn a_library_that_is_not_the_drivers_gives_no_gpus() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Gpus::find(Some(file.path())).read(), []);
    }
}
