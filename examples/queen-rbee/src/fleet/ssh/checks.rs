//! The steps of a connection and the facts of a machine as checks: [`Steps`].

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use rbee_core::Result;
use rbee_transport_http::{
    server::AddProgress,
    wire::queen::{HiveCheck, Verdict},
};
use rbee_transport_ssh::{
    SshEvent, SshProgress, SshStep,
    deploy::{self, DeployStep, Finding},
};

use super::progress::{millis, of_ssh};

/// Collects the steps of a connection.
pub(super) struct Steps {
    passed: Mutex<Passed>,
    /// Who else is informed.
    progress: Option<AddProgress>,
}

#[derive(Default)]
struct Passed {
    checks: Vec<HiveCheck>,
    /// The step that has not ended.
    running: Option<String>,
}

impl Steps {
    pub(super) fn new(progress: Option<AddProgress>) -> Self {
        Self { passed: Mutex::default(), progress }
    }

    /// The checks: the steps, then the findings, or the step that failed.
    pub(super) fn checks(&self, end: Result<Vec<Finding>>) -> Vec<HiveCheck> {
        let passed = mem::take(&mut *self.passed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut checks = passed.checks;
        match end {
            Ok(findings) => checks.extend(findings.into_iter().map(of_finding)),
            Err(error) => {
                let step = passed.running.unwrap_or_else(|| "connection".to_owned());
                checks.push(HiveCheck::new(step, Verdict::Failed, error.message()));
            }
        }
        checks
    }
}

impl SshProgress for Steps {
    fn event(&self, event: SshEvent) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            SshEvent::Started { host, step } => passed.running = Some(name(host, *step)),
            SshEvent::Finished { host, step, duration, detail } => {
                passed.running = None;
                // The findings have the programs too.
                if *step != SshStep::Deploy(DeployStep::Programs) {
                    passed.checks.push(HiveCheck {
                        duration_ms: Some(millis(*duration)),
                        ..HiveCheck::new(name(host, *step), Verdict::Ok, detail.clone())
                    });
                }
            }
            _ => {}
        }
        drop(passed);
        if let (Some(progress), Some(event)) = (&self.progress, of_ssh(event)) {
            progress.event(event);
        }
    }
}

/// `host key of jump.lan`: jump hosts have steps of their own.
fn name(host: &str, step: SshStep) -> String {
    let name = step.name().replace('_', " ");
    match step {
        SshStep::Connect(_) => format!("{name} of {host}"),
        _ => name,
    }
}

fn of_finding(finding: Finding) -> HiveCheck {
    let verdict = match finding.verdict {
        deploy::Verdict::Ok => Verdict::Ok,
        deploy::Verdict::Warning => Verdict::Warning,
        deploy::Verdict::Error => Verdict::Failed,
    };
    HiveCheck { fix: finding.fix, ..HiveCheck::new(finding.what, verdict, finding.value) }
}
