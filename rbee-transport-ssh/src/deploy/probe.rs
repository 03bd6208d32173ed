//! Looking at a machine: [`probe`].

use std::time::Duration;

use super::{
    error::DeployError,
    exec::Exec,
    facts::MachineFacts,
    progress::{DeployProgress, DeployStep, RunningStep},
    script::{COMMON, Script},
};

/// The time that the script has. Its parts that may hang have shorter limits of their own.
const LIMIT: Duration = Duration::from_secs(60);

/// Finds out what a machine is and has. It takes one session and leaves nothing on the machine.
///
/// `directory` is the directory to put programs in, absolute or beginning with `~/`. By default several are
/// considered: see [`PlaceKind`](super::PlaceKind).
///
/// # Errors
/// [`DeployError::Session`], [`DeployError::NoShell`], [`DeployError::TimedOut`] or [`DeployError::Answer`] if the
/// machine did not answer, and [`DeployError::Setting`] if the directory is not a path.
pub async fn probe(
    exec: &dyn Exec,
    directory: Option<&str>,
    progress: &dyn DeployProgress,
) -> Result<MachineFacts, DeployError> {
    let step = RunningStep::start(progress, DeployStep::Probe);
    let given = directory.map(checked).transpose()?.unwrap_or_default();
    let script = Script {
        what: "looking at the machine",
        variables: vec![("given", given)],
        body: format!("{COMMON}{}", include_str!("probe.sh")),
        limit: LIMIT,
    };
    let facts = MachineFacts::from_answers(&script.run(exec).await?)?;
    step.finish(facts.to_string());
    Ok(facts)
}

/// The path without slashes at its end.
fn checked(directory: &str) -> Result<String, DeployError> {
    let path = directory.trim_end_matches('/');
    let is_path = (path.starts_with('/') || path.starts_with("~/"))
        && !path.chars().any(char::is_control)
        && !path.split('/').any(|part| matches!(part, "." | ".."));
    if is_path {
        return Ok(path.into());
    }
    Err(DeployError::Setting {
        what: "the directory on the machine",
        value: directory.into(),
        reason: "it must begin with / or ~/, name more than that, and have no `.` or `..` in it"
            .into(),
    })
}
