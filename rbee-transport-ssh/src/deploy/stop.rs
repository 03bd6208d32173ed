//! Ending a hive without its tunnel: [`stop`].

use std::time::Duration;

use super::{error::DeployError, exec::Exec, script::Script};

/// The time that the script has in addition to that of the hive.
const SLACK: Duration = Duration::from_secs(20);

/// Ends the hive of this name in the directory `root`, and its workers, if they run. A hive that has ended is not
/// started for it. What has not ended after `grace` is killed. Returns true if something ran.
///
/// # Errors
/// The errors of the connection.
pub(crate) async fn stop(
    exec: &dyn Exec,
    root: &str,
    hive: &str,
    grace: Duration,
) -> Result<bool, DeployError> {
    let script = Script {
        what: "stopping the hive",
        variables: vec![
            ("root", root.into()),
            ("hive", hive.into()),
            ("tenths", (grace.as_millis() / 100).to_string()),
        ],
        body: include_str!("stop.sh").into(),
        limit: grace + SLACK,
    };
    let answers = script.run(exec).await?;
    Ok(answers.get("processes").is_some_and(|processes| !processes.is_empty()))
}
