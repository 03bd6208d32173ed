//! Tests in a process of their own: a fault ends that process only.

use std::{
    io::Read,
    process::{Command, Stdio},
    sync::mpsc::channel,
    time::{Duration, Instant},
};

/// The variable that names the case for the process to run.
const CASE: &str = "RBEE_TEST_CASE";
/// Memory limit of a process, in KiB.
const MOST_KIB: u64 = 2 * 1024 * 1024;
/// Time limit of a process, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a case took on this thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Processor time.
    pub(crate) time: Duration,
    /// Peak memory of the process, less what it had before; 0 if the system does not report it.
    pub(crate) kib: u64,
}

pub(crate) fn measured<T>(run: impl FnOnce() -> T) -> (T, Cost) {
    let (wall, cpu) = (Instant::now(), on_processor());
    let before = status("VmRSS:");
    // Resets the peak.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let result = run();
    let time = match (cpu, on_processor()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => wall.elapsed(),
    };
    let kib = match (before, status("VmHWM:")) {
        (Some(before), Some(most)) => most.saturating_sub(before),
        _ => 0,
    };
    (result, Cost { time, kib })
}

/// Processor time of this thread.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Runs the test of this name once more for each case, in a process with limited memory and time. What `run` prints for
/// a case is only for readers of the test's output.
pub(crate) fn each(
    test: &str,
    cases: impl Iterator<Item = &'static str>,
    run: impl Fn(&str) -> String,
) {
    if let Ok(case) = std::env::var(CASE) {
        println!("{case}: {}", run(&case));
        std::process::exit(0);
    }
    let program = std::env::current_exe().unwrap();
    for case in cases {
        let mut command = if cfg!(unix) {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("ulimit -v {MOST_KIB}; exec \"$0\" \"$@\"")).arg(&program);
            shell
        } else {
            Command::new(&program)
        };
        command.args(["--exact", test, "--nocapture"]).env(CASE, case);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (ended, end) = channel();
        let both = std::thread::spawn(move || {
            let (mut said, mut complained) = (String::new(), String::new());
            let _ = out.read_to_string(&mut said);
            let _ = err.read_to_string(&mut complained);
            let _ = ended.send(());
            said + complained.as_str()
        });
        let in_time = end.recv_timeout(TIMEOUT).is_ok();
        if !in_time {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        let said = both.join().unwrap();
        assert!(in_time, "{case}: it did not end: {said}");
        assert!(status.success(), "{case}: {status}: {said}");
        let answer = said.split_once(&format!("{case}: "));
        let (_, answer) = answer.unwrap_or_else(|| panic!("{case}: it did not run: {said}"));
        println!("{case}: {}", answer.lines().next().unwrap_or_default());
    }
}
