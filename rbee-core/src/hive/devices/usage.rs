//! The memory use of single processes.

use std::collections::BTreeMap;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// The most generations of processes that are followed.
const GENERATIONS: usize = 16;

/// The memory use of the processes of this machine, in bytes.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// The parent and the resident memory of each process.
    pub(super) resident: BTreeMap<u32, (Option<u32>, u64)>,
    /// Device, process and the bytes that it takes there.
    pub(super) gpus: Vec<(u32, u32, u64)>,
}

impl Usage {
    /// Reads the main memory of all processes. Blocks.
    pub(super) fn read(system: &mut System) -> Self {
        let kind = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
        let processes = system.processes().values();
        let resident = processes.map(|process| {
            let parent = process.parent().map(|parent| parent.as_u32());
            (process.pid().as_u32(), (parent, process.memory()))
        });
        Self { resident: resident.collect(), gpus: Vec::new() }
    }

    /// The memory use of this process and its descendants on these devices; `None` if unknown.
    pub(super) fn of(&self, process: u32, devices: &[u32]) -> Option<u64> {
        self.resident.get(&process)?;
        let main = devices.contains(&0).then(|| {
            let family = self.resident.iter().filter(|(pid, _)| self.descends(**pid, process));
            family.map(|(_, (_, bytes))| *bytes).fold(0, u64::saturating_add)
        });
        let its = |(device, pid, _): &&(u32, u32, u64)| {
            devices.contains(device) && self.descends(*pid, process)
        };
        let on_gpus = self.gpus.iter().filter(its).map(|(.., bytes)| *bytes);
        let on_gpus = on_gpus.reduce(u64::saturating_add);
        match (main, on_gpus) {
            (None, None) => None,
            (main, on_gpus) => Some(main.unwrap_or(0).saturating_add(on_gpus.unwrap_or(0))),
        }
    }

    /// Returns true if it is this process or one of its descendants.
    fn descends(&self, process: u32, from: u32) -> bool {
        let parent = |pid: &u32| self.resident.get(pid).and_then(|(parent, _)| *parent);
        std::iter::successors(Some(process), parent).take(GENERATIONS).any(|pid| pid == from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_what_those_take_that_it_started_and_nobody_elses() {
        let usage = Usage {
            resident: [
                (1, (None, 1)),
                (10, (Some(1), 10)),
                (11, (Some(10), 100)),
                (12, (Some(11), 1_000)),
                (20, (Some(1), 5)),
            ]
            .into(),
            gpus: vec![(1, 12, 7), (2, 12, 9), (1, 20, 50)],
        };
        assert_eq!(usage.of(10, &[0]), Some(1_110));
        assert_eq!(usage.of(10, &[1]), Some(7), "its own memory is none of the GPU's");
        assert_eq!((usage.of(10, &[1, 2]), usage.of(10, &[0, 2])), (Some(16), Some(1_119)));
        assert_eq!((usage.of(20, &[2]), usage.of(99, &[0])), (None, None));
    }

    #[test]
    fn this_process_takes_some_memory() {
        let usage = Usage::read(&mut System::new().unwrap());
        let (_, bytes) = usage.resident[&std::process::id()];
        assert!(usage.of(std::process::id(), &[0]).unwrap() >= bytes && bytes > 1 << 20);
    }
}
