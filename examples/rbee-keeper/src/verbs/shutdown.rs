//! `rbee shutdown`: shuts the queen down, and waits until it has ended.

use std::time::Duration;

use clap::Args;
use rbee_transport_http::wire::{
    self, ProgressBody,
    queen::{Health, ShutdownOrder},
};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::Bars,
};

/// The interval at which the queen is checked.
const LOOK: Duration = Duration::from_millis(100);
/// The timeout of each check.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Shutdown {
    /// Leave the hives and their workers running, for the next queen on the same data directory
    #[arg(long)]
    keep_hives: bool,

    /// Do not wait for jobs that have not ended; the next queen continues them
    #[arg(long)]
    now: bool,

    /// Wait at most this long until it has ended
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

impl Shutdown {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let order = ShutdownOrder { keep_hives: self.keep_hives, now: self.now };
        let told: Health = match keeper.client.post(wire::SHUTDOWN, &order).await {
            Ok(told) => told,
            // Nothing is to be started here.
            Err(failure) if failure.can_start_a_queen() => {
                return Err(Failure::new(Exit::Unreachable, failure.code(), failure.message())
                    .with_hint(
                        "there is nothing to shut down; --host or RBEE_HOST names another queen",
                    ));
            }
            Err(failure) if matches!(failure.code(), "UNSUPPORTED" | "NOT_FOUND") => {
                return Err(failure.with_hint("end its process instead; `rbee status` shows it"));
            }
            Err(failure) => return Err(failure),
        };
        let pid = told.details.map(|details| details.pid);
        let ended = super::interruptible(until_it_has_ended(keeper, pid));
        match tokio::time::timeout(Duration::from_secs(self.timeout), ended).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(failure.with_hint("the queen goes on shutting down")),
            Err(_) => {
                let address = keeper.client.address();
                let message =
                    format!("the queen at {address} has not ended within {} s", self.timeout);
                return Err(Failure::new(Exit::Failed, "SHUTDOWN_TIMEOUT", message).with_hint(
                    "it goes on shutting down; `rbee shutdown --now` does not wait for its jobs",
                ));
            }
        }
        let process = pid.map(|pid| format!("(process {pid})")).unwrap_or_default();
        let what = format!("the queen at {}", keeper.client.address());
        keeper.screen.done("shut down", &what, &process)?;
        Ok(Exit::Ok)
    }
}

/// Waits until nothing answers as this queen any more, and until its process has ended, if that is on this machine.
async fn until_it_has_ended(keeper: &Keeper, pid: Option<u32>) -> Result<(), Failure> {
    let mut bars: Option<Bars> = None;
    let mut show = |label: &str| {
        let shown = bars.take().filter(|bars| bars.has(label));
        let mut shown = shown.unwrap_or_else(|| Bars::new(&keeper.screen));
        shown.show(label, ProgressBody::default());
        bars = Some(shown);
    };
    loop {
        match keeper.client.health(ANSWER_TIMEOUT).await {
            // Another queen may have been started there at once.
            Ok(Health { details: Some(details), .. }) if Some(details.pid) != pid => break,
            Ok(health) => show(&match health.details.map(|details| details.jobs_running) {
                Some(1) => "waiting for 1 job to end".into(),
                Some(jobs) if jobs > 1 && keeper.screen.draws() => {
                    format!("waiting for {jobs} jobs to end")
                }
                Some(jobs) if jobs > 1 => "waiting for jobs to end".into(),
                _ => "waiting for the queen to end".to_owned(),
            }),
            // The answer of a proxy before it, or of another program.
            Err(failure)
                if failure.can_start_a_queen() || failure.code() == "UNEXPECTED_ANSWER" =>
            {
                break;
            }
            // It is busy, or has just closed the connection.
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
    let Some(pid) = pid.filter(|_| keeper.client.address().is_loopback()) else { return Ok(()) };
    while runs_here(pid) {
        show(&format!("waiting for process {pid} to end"));
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// True if the queen's program runs on this machine with this process id. The address of a tunnel or a container is on
/// this machine too, and the process with this id is then another program.
#[cfg(target_os = "linux")]
fn runs_here(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // `4591 (queen-rbee) S`: a zombie has ended.
    let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "))
    else {
        return false;
    };
    name == super::serve::PROGRAM && !rest.starts_with('Z')
}

/// The same, as `ps` reports it.
#[cfg(all(unix, not(target_os = "linux")))]
fn runs_here(pid: u32) -> bool {
    let ps =
        std::process::Command::new("ps").args(["-o", "comm=", "-p", &pid.to_string()]).output();
    ps.is_ok_and(|ps| String::from_utf8_lossy(&ps.stdout).trim().ends_with(super::serve::PROGRAM))
}

/// The end of a process is not checked here.
#[cfg(not(unix))]
fn runs_here(_: u32) -> bool {
    false
}
