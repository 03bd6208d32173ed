//! Processor time and CPU affinity of processes.

use std::{fs, time::Duration};

use crate::Result;

/// The kernel counts in hundredths of a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// A process id, with the processes that it has started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// The processor time of the process and its children.
    pub(crate) fn time(self) -> Result<Duration> {
        let mut time = Duration::ZERO;
        for process in self.family()? {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
            // The name in parentheses may contain spaces.
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks: u32 = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
            time += TICK * ticks;
        }
        Ok(time)
    }

    pub(crate) fn memory_kib(self) -> Result<u64> {
        let mut sum = 0;
        for process in self.family()? {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
            sum += kib.unwrap_or("0").trim().parse::<u64>()?;
        }
        Ok(sum)
    }

    fn family(self) -> Result<Vec<u32>> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0))?;
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        Ok(std::iter::once(self.0).chain(children).collect())
    }
}

/// The command that runs a program on the first processor only, if there is another one for the other processes.
pub(crate) fn alone(program: &std::ffi::OsStr) -> std::process::Command {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return std::process::Command::new(program);
    }
    let mut command = std::process::Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

/// Keeps this process off the first processor.
pub(crate) fn stay_beside() {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if all >= 2 {
        let me = std::process::id().to_string();
        let places = format!("1-{}", all - 1);
        let _ = std::process::Command::new("taskset").args(["-apc", &places, &me]).output();
    }
}
