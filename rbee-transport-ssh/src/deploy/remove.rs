//! Removing what was put on a machine: [`remove_old_versions`] and [`remove`].

use std::time::Duration;

use super::{
    answers::Answers,
    error::DeployError,
    exec::Exec,
    progress::{DeployProgress, DeployStep, RunningStep},
    script::{COMMON, Script},
    size::Size,
};

const LIMIT: Duration = Duration::from_secs(120);
const FUNCTIONS: &str = include_str!("remove.sh");

/// Removes the versions in a directory of rbee, except `keep` (names of directories in `versions`), those that a
/// process runs, and those that were put there in the last ten minutes, because another queen may be about to start
/// them. If hives of several machines have their state there (a home directory that machines share), nothing is
/// removed, because their processes cannot be seen.
///
/// # Errors
/// The errors of the connection. A version that cannot be removed is in [`Removed::kept`].
pub async fn remove_old_versions(
    exec: &dyn Exec,
    root: &str,
    keep: &[&str],
    progress: &dyn DeployProgress,
) -> Result<Removed, DeployError> {
    let step = RunningStep::start(progress, DeployStep::CleanUp);
    let script = Script {
        what: "removing old versions",
        variables: vec![("root", root.into()), ("keep", format!("/{}/", keep.join("/")))],
        body: format!("{COMMON}{FUNCTIONS}{}", include_str!("remove_old_versions.sh")),
        limit: LIMIT,
    };
    let removed = Removed::from_answers(&script.run(exec).await?);
    step.finish(removed.summary());
    Ok(removed)
}

/// What [`remove`] removes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoveOptions {
    /// The name of the hive whose state is removed: `hives/NAME` in the directory.
    pub hive: String,
    /// Removes also its models, which are in `hives/NAME/models`.
    pub models: bool,
}

impl RemoveOptions {
    /// Removes the state of this hive, and keeps its models.
    pub fn new(hive: impl Into<String>) -> Self {
        Self { hive: hive.into(), models: false }
    }
}

/// Removes a hive from a machine: its state, the versions if no other hive has its state in the same directory, and the
/// directory if nothing is left in it. The hive must have ended.
///
/// # Errors
/// [`DeployError::InUse`] if a program in `versions` runs: nothing is removed then. [`DeployError::Setting`] if the
/// name of the hive is no name of a directory. The errors of the connection. What cannot be removed is in
/// [`Removed::kept`].
pub async fn remove(
    exec: &dyn Exec,
    root: &str,
    options: &RemoveOptions,
    progress: &dyn DeployProgress,
) -> Result<Removed, DeployError> {
    let step = RunningStep::start(progress, DeployStep::Remove);
    let RemoveOptions { hive, models } = options;
    if hive.is_empty() || hive.starts_with('.') || hive.contains(['/', '\n', '\0']) {
        let reason = "it must not be empty, begin with a period, or have a slash in it".into();
        let value = hive.clone();
        return Err(DeployError::Setting { what: "the name of the hive", value, reason });
    }
    let script = Script {
        what: "removing the hive",
        variables: vec![
            ("root", root.into()),
            ("hive", hive.clone()),
            ("models", u8::from(*models).to_string()),
        ],
        body: format!("{COMMON}{FUNCTIONS}{}", include_str!("remove_hive.sh")),
        limit: LIMIT,
    };
    let answers = script.run(exec).await?;
    if let Some(process) = answers.get("in_use") {
        let process = process.parse().unwrap_or_default();
        return Err(DeployError::InUse { path: format!("{root}/versions"), process });
    }
    let removed = Removed::from_answers(&answers);
    step.finish(removed.summary());
    Ok(removed)
}

/// What was removed, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The paths that were removed, with their sizes in bytes.
    pub removed: Vec<(String, u64)>,
    /// The paths that are still there, each with the reason.
    pub kept: Vec<(String, String)>,
}

impl Removed {
    fn from_answers(answers: &Answers) -> Self {
        let removed = answers.all("removed").filter_map(|line| {
            let (kib, path) = line.split_once(' ')?;
            Some((path.to_owned(), kib.parse().unwrap_or(0_u64).saturating_mul(1024)))
        });
        let mut kept: Vec<(String, String)> = Vec::new();
        for (key, value) in answers.pairs() {
            match key {
                "kept" => kept.extend(
                    value.split_once('=').map(|(reason, path)| (path.into(), reason.into())),
                ),
                "failed_path" => kept.push((value.into(), "it cannot be removed".into())),
                "failed_reason" => {
                    if let Some((_, reason)) = kept.last_mut() {
                        *reason = format!("it cannot be removed: {value}");
                    }
                }
                _ => {}
            }
        }
        Self { removed: removed.collect(), kept }
    }

    fn summary(&self) -> String {
        if self.removed.is_empty() && self.kept.is_empty() {
            return "nothing to remove".into();
        }
        let bytes = self.removed.iter().map(|(_, bytes)| bytes).sum();
        format!("{} removed ({}), {} kept", self.removed.len(), Size(bytes), self.kept.len())
    }
}
