//! The facts of a machine, each with a verdict and what to do: [`findings`].

use std::fmt;

use super::{
    error::DeployError,
    facts::{Libc, MachineFacts},
    place::{self, Place},
    programs::ProgramSet,
    size::Size,
    upload::bytes_to_send,
};

/// Memory below which a machine can hold only the smallest models, in bytes.
const LITTLE_MEMORY: u64 = 2 << 30;
/// The longest path of the directory of rbee, in bytes: a Unix socket's path has at most 107, and that of the hive is
/// `hives/NAME/…` below it.
const MOST_ROOT_PATH: usize = 60;

/// How good a fact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing is to be done.
    Ok,
    /// It works, and could work better or longer.
    Warning,
    /// No hive can run there.
    Error,
}

/// A fact about a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The thing in a few words: `disk space`.
    pub what: &'static str,
    /// What it is: `38 GiB free in /home/ann/.local/share/rbee`.
    pub value: String,
    /// How good that is.
    pub verdict: Verdict,
    /// What to do; `None` if nothing is to be done.
    pub fix: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, value: impl Into<String>) -> Self {
        Self { what, value: value.into(), verdict: Verdict::Ok, fix: None }
    }

    fn warning(what: &'static str, value: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, value: value.into(), verdict: Verdict::Warning, fix: Some(fix.into()) }
    }

    fn error(what: &'static str, value: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, value: value.into(), verdict: Verdict::Error, fix: Some(fix.into()) }
    }
}

/// `warning: GPU: … (fix)`
impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Error => "error",
        };
        write!(formatter, "{verdict}: {}: {}", self.what, self.value)?;
        self.fix.iter().try_for_each(|fix| write!(formatter, "; {fix}"))
    }
}

/// Judges the facts about a machine, and the programs that were chosen for it.
pub fn findings(facts: &MachineFacts, programs: Result<&ProgramSet, &DeployError>) -> Vec<Finding> {
    let mut findings = vec![system(facts), libc(facts, programs.ok()), programs_of(programs)];
    findings.extend(memory(facts));
    findings.extend(directory(facts, programs.ok()));
    findings.push(gpu(facts, programs.ok()));
    findings.extend(logout(facts));
    findings
}

fn system(facts: &MachineFacts) -> Finding {
    let value = format!("{} {} on {}", facts.os, facts.kernel, facts.architecture);
    match facts.os.as_str() {
        "Linux" => Finding::ok("system", value),
        _ => Finding::error("system", value, "hives run on Linux; choose another machine"),
    }
}

fn libc(facts: &MachineFacts, programs: Option<&ProgramSet>) -> Finding {
    const WHAT: &str = "C library";
    let is_static =
        programs.is_some_and(|programs| programs.files.iter().all(|file| file.elf.is_static()));
    match &facts.libc {
        Some(libc @ Libc::Glibc(_)) => Finding::ok(WHAT, libc.to_string()),
        Some(libc @ Libc::Musl(_)) if is_static => Finding::ok(WHAT, libc.to_string()),
        Some(libc @ Libc::Musl(_)) => Finding::warning(
            WHAT,
            libc.to_string(),
            "only static programs run there (target feature crt-static)",
        ),
        None if is_static => Finding::ok(WHAT, "unknown, and not needed"),
        None => Finding::warning(
            WHAT,
            "unknown, because neither getconf nor ldd tells it",
            "use static programs (target feature crt-static), which need none",
        ),
    }
}

fn programs_of(programs: Result<&ProgramSet, &DeployError>) -> Finding {
    const WHAT: &str = "programs";
    match programs {
        Ok(set) => Finding::ok(
            WHAT,
            format!(
                "version {} in {} ({})",
                set.version,
                set.directory.display(),
                Size(set.size())
            ),
        ),
        Err(error) => {
            Finding::error(WHAT, error.to_string(), "put programs there, or name their directory")
        }
    }
}

fn memory(facts: &MachineFacts) -> Option<Finding> {
    let memory = facts.memory?;
    let mut value = format!("{}", Size(memory));
    if let Some(available) = facts.available_memory {
        value += &format!(", {} available", Size(available));
    }
    Some(match memory < LITTLE_MEMORY {
        true => Finding::warning("memory", value, "only the smallest models fit; add memory"),
        false => Finding::ok("memory", value),
    })
}

/// The directory that is used, and those that were refused before it.
fn directory(facts: &MachineFacts, programs: Option<&ProgramSet>) -> Vec<Finding> {
    const WHAT: &str = "directory";
    let needed = |place: &Place| programs.map_or(1, |programs| bytes_to_send(place, programs));
    let place = match place::choose(&facts.places, needed) {
        Ok(place) => place,
        Err(error) => {
            let fix = "make room, or name a directory in which programs may run";
            return vec![Finding::error(WHAT, error.to_string(), fix)];
        }
    };
    let mut value = place.path.clone();
    if let Some(free) = place.free_bytes {
        value += &format!(", {} free", Size(free));
    }
    let preferred = facts.places.first().filter(|first| first.path != place.path);
    let refused =
        preferred.and_then(|first: &Place| Some((first, first.can_take(needed(first)).err()?)));
    let mut findings = Vec::new();
    findings.push(if place.kind.is_in_memory() {
        let fix = "it is lost when the machine restarts; name a directory on a disk that allows programs to run";
        Finding::warning(WHAT, value, fix)
    } else if let Some((first, reason)) = refused {
        let fix = format!("{} would be used, but {reason}", first.path);
        Finding::warning(WHAT, value, fix)
    } else {
        Finding::ok(WHAT, value)
    });
    if place.path.len() > MOST_ROOT_PATH {
        findings.push(Finding::warning(
            "path",
            format!("{} has {} bytes", place.path, place.path.len()),
            format!(
                "sockets have short paths; name a directory with at most {MOST_ROOT_PATH} bytes"
            ),
        ));
    }
    findings
}

fn gpu(facts: &MachineFacts, programs: Option<&ProgramSet>) -> Finding {
    const WHAT: &str = "GPU";
    if let Some(device) = facts.closed_gpu_devices.first() {
        let user = facts.user.as_deref().unwrap_or("the user");
        let fix = format!("add {user} to the group that owns it (often `video` or `render`)");
        return Finding::warning(WHAT, format!("{user} may not use {device}"), fix);
    }
    if let Some(gpu) = facts.gpus.first() {
        let mut value = gpu.name.clone();
        if facts.gpus.len() > 1 {
            value = format!("{} × {value}", facts.gpus.len());
        }
        if let Some(memory) = gpu.memory {
            value += &format!(", {}", Size(memory));
        }
        value += &format!(", driver {}", gpu.driver);
        let Some(set) = programs.filter(|set| !set.needs_cuda()) else {
            return Finding::ok(WHAT, value);
        };
        let cuda = set
            .refused
            .iter()
            .find(|(_, reason)| reason.contains("libcu") || reason.contains("libnvrtc"));
        let fix = match cuda {
            Some((path, reason)) => format!("{} cannot be used: {reason}", path.display()),
            None => format!(
                "the programs compute on the processor only; put programs with CUDA into {}",
                set.directory.join(format!("{}-cuda", facts.architecture)).display()
            ),
        };
        return Finding::warning(WHAT, value, fix);
    }
    if let Some(error) = &facts.gpu_error {
        let fix = "repair the driver; `nvidia-smi` must list the GPUs";
        return Finding::warning(WHAT, format!("nvidia-smi printed: {error}"), fix);
    }
    match facts.gpu_devices.first() {
        Some(device) if device.contains("nvidia") => {
            let fix = "install nvidia-smi, which comes with the driver";
            Finding::warning(WHAT, format!("{device} is there, and nvidia-smi lists no GPU"), fix)
        }
        Some(device) => Finding::ok(WHAT, format!("{device} is there")),
        None => Finding::ok(WHAT, "none, so models run on the processor"),
    }
}

fn logout(facts: &MachineFacts) -> Option<Finding> {
    const WHAT: &str = "logout";
    let user = facts.user.as_deref().unwrap_or("USER");
    match (facts.kill_user_processes?, facts.lingering) {
        (false, _) => Some(Finding::ok(WHAT, "processes continue after it")),
        (true, Some(true)) => Some(Finding::ok(WHAT, "processes continue after it (lingering)")),
        (true, _) => Some(Finding::warning(
            WHAT,
            "systemd ends all processes of the user at it (KillUserProcesses=yes)",
            format!("let the hive continue with `loginctl enable-linger {user}` on the machine"),
        )),
    }
}
