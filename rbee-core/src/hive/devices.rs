//! The devices of this machine that models can be loaded on.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, System};
use tokio::time::timeout;

use crate::{
    cluster::counted_on,
    device::{Device, DeviceKind},
};

#[cfg(feature = "nvml")]
mod nvidia;
mod usage;

use usage::Usage;

/// How long a reading stays valid.
const FRESH: Duration = Duration::from_millis(200);
/// How long a reading may take; a faulty driver hangs.
const LIMIT: Duration = Duration::from_secs(2);

/// The devices of this machine and their memory.
///
/// - Index 0 is the processor with the main memory: what the operating system reports as available, but not more than a
///   container's control group allows.
/// - With the feature `nvml`, index *n* + 1 is the NVIDIA GPU with the driver's number *n*, in the order of the PCI
///   bus. That is CUDA's ordinal *n* if `CUDA_DEVICE_ORDER` is `PCI_BUS_ID` and `CUDA_VISIBLE_DEVICES` is not set; by
///   CUDA's own default the fastest GPU comes first, so set the former on a machine with different GPUs. A GPU that
///   does not report its memory is left out, and the others keep their numbers. A machine without a driver has no GPUs,
///   which is not an error.
/// - Apple GPUs are not reported yet; models there can be loaded into the processor's memory, which the GPUs share.
///
/// A reading takes well under a millisecond on a separate thread, and stays valid for 200 ms. Clones share it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let devices = rbee_core::hive::Devices::new().read().await;
/// assert_eq!(devices[0].index, 0);
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Devices(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: Mutex<Last>,
    /// The memory use of processes at the last reading.
    usage: Mutex<Option<(Instant, Arc<Usage>)>>,
    /// Held by the only thread that queries the system; the first one creates it.
    probe: Arc<tokio::sync::Mutex<Option<Probe>>>,
}

/// The state that is known without a query.
#[derive(Debug, Default)]
enum Last {
    #[default]
    Nothing,
    Read(Instant, Vec<Device>),
    Fixed(Vec<Device>),
}

impl Inner {
    fn last(&self) -> MutexGuard<'_, Last> {
        // Every change is one assignment.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Devices {
    /// The devices of this machine; they are detected at the first reading.
    pub fn new() -> Self {
        Self::default()
    }

    /// Always these devices, independent of the machine.
    pub fn fixed(devices: Vec<Device>) -> Self {
        let this = Self::default();
        this.fix(devices);
        this
    }

    pub(super) fn fix(&self, devices: Vec<Device>) {
        *self.0.last() = Last::Fixed(devices);
    }

    /// The devices with their current memory. If the system does not answer within seconds: the last known state, or no
    /// devices.
    pub async fn read(&self) -> Vec<Device> {
        if let Some(devices) = self.known(Some(FRESH)) {
            return devices;
        }
        let probe = self.0.probe.clone();
        let read = async {
            let mut probe = probe.lock_owned().await;
            if let Some(devices) = self.known(Some(FRESH)) {
                // Another caller has read them in the meantime.
                return Some(devices);
            }
            let read = move || probe.get_or_insert_with(Probe::new).read();
            // It fails if the runtime is shut down or the probe panicked; in both cases there is no reading.
            tokio::task::spawn_blocking(read).await.ok()
        };
        match timeout(LIMIT, read).await {
            Ok(Some(devices)) => {
                let mut last = self.0.last();
                if !matches!(*last, Last::Fixed(_)) {
                    *last = Last::Read(Instant::now(), devices.clone());
                }
                devices
            }
            Ok(None) | Err(_) => {
                tracing::warn!("the devices could not be read within {LIMIT:?}");
                self.known(None).unwrap_or_default()
            }
        }
    }

    /// The memory that a process and its descendants take on these devices, in bytes: on the processor their resident
    /// memory, on an NVIDIA GPU (feature `nvml`) the value of the driver. `None` if unknown; inside a container, for
    /// example, the driver may use other process ids.
    pub async fn taken_by(&self, process: u32, devices: &[u32]) -> Option<u64> {
        self.usage().await?.of(process, counted_on(devices))
    }

    async fn usage(&self) -> Option<Arc<Usage>> {
        let fresh = || {
            let usage = self.0.usage.lock().unwrap_or_else(PoisonError::into_inner);
            usage.as_ref().filter(|(at, _)| at.elapsed() <= FRESH).map(|(_, usage)| usage.clone())
        };
        if let Some(usage) = fresh() {
            return Some(usage);
        }
        let probe = self.0.probe.clone();
        let read = async {
            let mut probe = probe.lock_owned().await;
            if let Some(usage) = fresh() {
                return Some(usage);
            }
            let read = move || Arc::new(probe.get_or_insert_with(Probe::new).usage());
            let usage = tokio::task::spawn_blocking(read).await.ok()?;
            let mut last = self.0.usage.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((Instant::now(), usage.clone()));
            Some(usage)
        };
        timeout(LIMIT, read).await.ok()?
    }

    /// The last reading, if it is not older than this.
    fn known(&self, within: Option<Duration>) -> Option<Vec<Device>> {
        match &*self.0.last() {
            Last::Nothing => None,
            Last::Read(at, _) if within.is_some_and(|within| at.elapsed() > within) => None,
            Last::Read(_, devices) | Last::Fixed(devices) => Some(devices.clone()),
        }
    }
}

/// Queries the system. Blocks.
#[derive(Debug)]
struct Probe {
    system: Option<System>,
    processor: String,
    #[cfg(feature = "nvml")]
    gpus: nvidia::Gpus,
}

impl Probe {
    fn new() -> Self {
        let mut system = System::new()
            .inspect_err(|error| tracing::warn!(%error, "the main memory cannot be read"))
            .ok();
        let mut processor = String::new();
        if let Some(system) = &mut system {
            system.refresh_cpu_list(CpuRefreshKind::nothing());
            if let Some(cpu) = system.cpus().first() {
                processor = cpu.brand().trim().to_owned();
            }
        }
        if processor.is_empty() {
            processor = std::env::consts::ARCH.to_owned();
        }
        Self {
            system,
            processor,
            #[cfg(feature = "nvml")]
            gpus: nvidia::Gpus::find(None),
        }
    }

    fn usage(&mut self) -> Usage {
        let usage = self.system.as_mut().map(Usage::read).unwrap_or_default();
        #[cfg(feature = "nvml")]
        let usage = Usage { gpus: self.gpus.usage(), ..usage };
        usage
    }

    fn read(&mut self) -> Vec<Device> {
        let ram = self.system.as_mut().map(Ram::read);
        let Ram { total, available } = ram.unwrap_or(Ram { total: 0, available: 0 });
        let processor = Device {
            index: 0,
            kind: DeviceKind::Cpu,
            name: self.processor.clone(),
            memory_total: total,
            memory_free: available,
        };
        let devices = std::iter::once(processor);
        #[cfg(feature = "nvml")]
        let devices = devices.chain(self.gpus.read());
        devices.collect()
    }
}

/// Main memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ram {
    pub(crate) total: u64,
    /// What can be used without taking it from another process. Cached files count as available.
    pub(crate) available: u64,
}

impl Ram {
    /// The memory of the machine, or of the control group that this process is in.
    fn read(system: &mut System) -> Self {
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let (mut total, mut available) = (system.total_memory(), system.available_memory());
        if let Some(group) = system.cgroup_limits() {
            (total, available) = within(total, available, group.total_memory, group.rss);
        }
        Self { total, available }
    }
}

/// The memory that this process can use; `None` if the system does not say.
#[cfg(feature = "candle")]
pub(crate) fn ram() -> Option<Ram> {
    let ram = Ram::read(&mut System::new().ok()?);
    (ram.total > 0).then_some(ram)
}

/// Total and available memory of a machine inside a control group that may use `limit` bytes and holds `held`.
///
/// Does not use the group's own count of free memory: that counts cached files as used, and a machine that has just
/// read a model from its disk would seem full.
fn within(total: u64, available: u64, limit: u64, held: u64) -> (u64, u64) {
    if limit == 0 || limit >= total {
        return (total, available);
    }
    (limit, available.min(limit.saturating_sub(held)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_processor_is_device_0_and_its_memory_is_plausible() {
        let devices = Devices::new().read().await;
        let cpu = &devices[0];
        assert_eq!((cpu.index, cpu.kind), (0, DeviceKind::Cpu));
        assert!(!cpu.name.is_empty());
        assert!(cpu.memory_free > 1 << 20 && cpu.memory_free <= cpu.memory_total, "{cpu:?}");
    }

    #[tokio::test]
    async fn a_reading_is_used_again_while_it_is_fresh() {
        let devices = Devices::new();
        let first = devices.read().await;
        assert!(devices.0.probe.lock().await.is_some(), "the system was asked");
        *devices.0.probe.lock().await = None;
        assert_eq!(devices.clone().read().await, first);
        assert!(devices.0.probe.lock().await.is_none(), "nobody asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_system_that_hangs_costs_a_bounded_wait_and_gives_the_last_reading() {
        let devices = Devices::new();
        let _hangs = devices.0.probe.clone().lock_owned().await;
        assert_eq!(devices.read().await, []);
        let long_ago = Instant::now().checked_sub(2 * FRESH).unwrap();
        let gpu = Device {
            index: 1,
            kind: DeviceKind::Cuda,
            name: "gpu".into(),
            memory_total: 2,
            memory_free: 1,
        };
        *devices.0.last() = Last::Read(long_ago, vec![gpu.clone()]);
        assert_eq!(devices.read().await, [gpu]);
    }

    #[tokio::test]
    async fn fixed_devices_are_never_read() {
        let devices = Devices::fixed(Vec::new());
        assert_eq!(devices.read().await, []);
        assert!(devices.0.probe.lock().await.is_none());
    }

    #[test]
    fn a_control_group_lowers_what_there_is_and_never_raises_it() {
        assert_eq!(within(100, 60, 0, 5), (100, 60), "no group");
        assert_eq!(within(100, 60, 1000, 5), (100, 60), "no limit");
        assert_eq!(within(100, 60, 40, 10), (40, 30));
        assert_eq!(within(100, 20, 40, 10), (40, 20), "the machine itself is short");
        assert_eq!(within(100, 60, 40, 50), (40, 0));
    }
}
