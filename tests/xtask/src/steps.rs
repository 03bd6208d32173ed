//! Steps that run one after the other, each with a header and its duration, until one fails.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The failure, in one or two sentences.
pub(crate) type Failure = String;

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A cargo command for this workspace, whatever the current directory.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).stdin(Stdio::null());
    cargo
}

/// One step that must succeed.
pub(crate) struct Step {
    name: String,
    work: Work,
}

enum Work {
    Cargo { arguments: Vec<String>, environment: Vec<(&'static str, String)> },
    Check(Box<dyn Fn() -> Result<(), Failure>>),
}

impl Step {
    /// A step that runs cargo with these arguments.
    pub(crate) fn cargo(name: &str, arguments: &[&str]) -> Self {
        Self {
            name: name.into(),
            work: Work::Cargo {
                arguments: arguments.iter().map(ToString::to_string).collect(),
                environment: Vec::new(),
            },
        }
    }

    /// A step that runs a function.
    pub(crate) fn check(name: &str, check: impl Fn() -> Result<(), Failure> + 'static) -> Self {
        Self { name: name.into(), work: Work::Check(Box::new(check)) }
    }

    /// Adds arguments for cargo.
    pub(crate) fn arguments(&mut self, more: &[impl ToString]) {
        if let Work::Cargo { arguments, .. } = &mut self.work {
            arguments.extend(more.iter().map(ToString::to_string));
        }
    }

    /// Sets an environment variable for cargo.
    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Work::Cargo { environment, .. } = &mut self.work {
            environment.push((name, value.into()));
        }
        self
    }

    /// Runs the step.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let (arguments, environment) = match &self.work {
            Work::Check(check) => return check(),
            Work::Cargo { arguments, environment } => (arguments, environment),
        };
        let mut line = String::new();
        for (name, value) in environment {
            line += &format!("{name}={value:?} ");
        }
        line += &format!("cargo {}", arguments.join(" "));
        println!("$ {line}");
        let status = cargo()
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .status()
            .map_err(|cause| format!("cargo could not be started: {cause}"))?;
        if status.success() { Ok(()) } else { Err(format!("{status}; to see it again: {line}")) }
    }
}

/// Runs the steps in order and stops at the first that fails.
pub(crate) fn run(steps: &[Step]) -> Result<(), Failure> {
    let begin = Instant::now();
    let count = steps.len();
    for (index, step) in steps.iter().enumerate() {
        let number = index + 1;
        println!("\n=== {number}/{count} {} ===", step.name);
        let start = Instant::now();
        step.run().map_err(|why| format!("step {number}/{count} ({}) failed: {why}", step.name))?;
        println!("=== {} passed in {} ===", step.name, shown(start.elapsed()));
    }
    if count > 1 {
        println!("\nall {count} steps passed in {}", shown(begin.elapsed()));
    }
    Ok(())
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}
