//! The metrics of this process and of its build, as text: under the names that all Prometheus clients use.
//!
//! They come from `/proc`, so other systems than Linux have only those of the build.

use std::fmt::{Display, Write as _};

/// Appends the metrics in Prometheus' text format.
pub(super) fn append(text: &mut String) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let build = format!(
        "{{version=\"{}\",os=\"{}\",arch=\"{}\",profile=\"{profile}\"}}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    );
    family(
        text,
        "rbee_build_info",
        &build,
        "gauge",
        "1, with the version of the program and its target.",
        1,
    );
    #[cfg(target_os = "linux")]
    linux::append(text);
}

fn family(
    text: &mut String,
    name: &str,
    labels: &str,
    kind: &str,
    help: &str,
    value: impl Display,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs, io};

    use super::family;

    /// The unit of times in `/proc`, which the kernel defines as 1/100 s on every architecture that Rust runs on.
    const TICKS: f64 = 100.0;

    pub(super) fn append(text: &mut String) {
        if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
            let help = "Processor time of the process, of users and system, in seconds.";
            family(text, "process_cpu_seconds_total", "", "counter", help, stat.ticks / TICKS);
            let help = "Threads of the process.";
            family(text, "process_threads", "", "gauge", help, stat.threads);
            let help = "Virtual memory of the process.";
            family(text, "process_virtual_memory_bytes", "", "gauge", help, stat.virtual_bytes);
            if let Some(booted) = read("/proc/stat").as_deref().and_then(boot_time) {
                let help = "Start of the process, in seconds of the Unix epoch.";
                let start = booted + stat.started / TICKS;
                family(text, "process_start_time_seconds", "", "gauge", help, start);
            }
        }
        if let Some(bytes) = read("/proc/self/status").as_deref().and_then(resident) {
            let help = "Resident memory of the process.";
            family(text, "process_resident_memory_bytes", "", "gauge", help, bytes);
        }
        if let Ok(open) = open_files() {
            family(text, "process_open_fds", "", "gauge", "Open file descriptors.", open);
        }
        if let Some(most) = super::super::descriptors::limit() {
            let help = "The limit on open file descriptors.";
            family(text, "process_max_fds", "", "gauge", help, most);
        }
    }

    fn read(path: &str) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    /// The fields of `/proc/self/stat` that are shown.
    #[derive(Debug, PartialEq)]
    struct Stat {
        ticks: f64,
        threads: u64,
        started: f64,
        virtual_bytes: u64,
    }

    impl Stat {
        fn parse(text: &str) -> Option<Self> {
            // The name of the program is in parentheses, and may contain spaces and parentheses. The field after it is
            // the third.
            let (_, rest) = text.rsplit_once(')')?;
            let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
            let field = |number: usize| fields.get(number - 3).copied();
            let ticks = |number: usize| field(number)?.parse::<f64>().ok();
            Some(Self {
                ticks: ticks(14)? + ticks(15)?,
                threads: field(20)?.parse().ok()?,
                started: ticks(22)?,
                virtual_bytes: field(23)?.parse().ok()?,
            })
        }
    }

    /// When the system was started, in seconds of the Unix epoch.
    fn boot_time(text: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    }

    /// The resident memory, in bytes.
    fn resident(text: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    fn open_files() -> io::Result<usize> {
        // One of them is the descriptor that reads the directory.
        Ok(fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_fields_of_a_process_with_a_strange_name_are_found() {
            let text =
                "7 (a b) c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 12 0 3000 4096000 25 1 1";
            let stat =
                Stat { ticks: 200.0, threads: 12, started: 3000.0, virtual_bytes: 4_096_000 };
            assert_eq!(Stat::parse(text), Some(stat));
            assert_eq!(Stat::parse("7 (a) S 1"), None);
            assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
            assert_eq!(resident("VmSize:\t 9 kB\nVmRSS:\t     12 kB\n"), Some(12 * 1024));
        }
    }
}
