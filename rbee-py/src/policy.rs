//! The scheduling policy of a queen: [`PolicyCore`].

use pyo3::prelude::*;
use rbee_core::{
    Queen, Request,
    queen::PolicyStatus,
    registry::PolicyOrigin,
    scheduler::{Explanation, Placement, PolicySource},
    sim::ReplayReport,
};
use serde_json::{Value, json};

use crate::{
    error::to_python,
    pending::{Pending, seconds},
    queen::plain,
};

/// The scheduling policy of a queen.
#[pyclass(frozen, module = "rbee._rbee")]
pub(crate) struct PolicyCore {
    pub(crate) queen: Queen,
}

fn source(py: Python<'_>, text: &str, language: &str) -> PyResult<PolicySource> {
    PolicySource::named(&format!("policy.{language}"), text).map_err(|error| to_python(py, &error))
}

#[pymethods]
impl PolicyCore {
    fn status(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        plain(py, &status(&self.queen.policy().status()))
    }

    fn set(&self, py: Python<'_>, text: &str, language: &str) -> PyResult<Pending> {
        let (queen, source) = (self.queen.clone(), source(py, text, language)?);
        let work =
            async move { Ok(status(&queen.policy().set(source, PolicyOrigin::Operator).await?)) };
        Ok(Pending::making(work, |py, status| plain(py, &status)))
    }

    fn reset(&self) -> Pending {
        let queen = self.queen.clone();
        let work = async move { Ok(status(&queen.policy().reset().await?)) };
        Pending::making(work, |py, status| plain(py, &status))
    }

    fn roll_back(&self, version: u64) -> Pending {
        let queen = self.queen.clone();
        let work = async move { Ok(status(&queen.policy().roll_back(version).await?)) };
        Pending::making(work, |py, status| plain(py, &status))
    }

    fn check(&self, py: Python<'_>, text: &str, language: &str) -> PyResult<Pending> {
        let (queen, source) = (self.queen.clone(), source(py, text, language)?);
        let work = async move {
            let run = queen.policy().check(source).await?;
            let decisions = run.decisions.iter().map(|decision| {
                let mut shown = explanation(&decision.explanation);
                shown["job"] = json!(decision.job.id.to_string());
                shown["model"] = json!(decision.job.model.as_str());
                shown["recent"] = json!(decision.is_recent);
                shown
            });
            Ok(json!({
                "name": run.name,
                "description": run.description,
                "decisions": decisions.collect::<Vec<_>>(),
            }))
        };
        Ok(Pending::making(work, |py, run| plain(py, &run)))
    }

    fn replay(&self, py: Python<'_>, text: &str, language: &str, since: f64) -> PyResult<Pending> {
        let (queen, since) = (self.queen.clone(), seconds(since)?);
        let source = source(py, text, language)?;
        let work = async move {
            let replay = queen.policy().replay(source, since).await?;
            Ok(json!({
                "from_time": replay.from.as_millis() as f64 / 1_000.0,
                "is_cut": replay.is_cut,
                "ignored": replay.ignored(),
                "current": report(&replay.current),
                "candidate": report(&replay.candidate),
            }))
        };
        Ok(Pending::making(work, |py, replay| plain(py, &replay)))
    }

    fn explain(&self, model: &str) -> Pending {
        let (queen, request) = (self.queen.clone(), Request::completion(model, ""));
        let work = async move { Ok(explanation(&queen.policy().explain(request).await?)) };
        Pending::making(work, |py, shown| plain(py, &shown))
    }
}

fn status(status: &PolicyStatus) -> Value {
    json!({
        "name": status.name,
        "description": status.description,
        "version": status.version,
        "text": status.source.as_ref().map(|source| &*source.text),
        "language": status.source.as_ref().map(|source| source.language.as_str()),
        "is_fixed": status.is_fixed,
    })
}

fn explanation(explanation: &Explanation) -> Value {
    let placement = match &explanation.placement {
        Ok(Placement::Assign(worker)) => format!("run on worker {worker}"),
        Ok(Placement::Spawn { hive, .. }) => format!("start a worker on hive {hive}"),
        Ok(Placement::Wait) => "wait".into(),
        Ok(Placement::Reject(error)) => format!("reject: {error}"),
        Err(error) => format!("error: {error}"),
    };
    let candidates = explanation.candidates.iter();
    json!({
        "decision": placement,
        "steps": explanation.steps,
        "candidates": candidates
            .map(|(candidate, verdict)| (candidate.to_string(), verdict.to_string()))
            .collect::<Vec<_>>(),
    })
}

fn report(report: &ReplayReport) -> Value {
    json!({
        "jobs": report.jobs,
        "completed": report.completed,
        "rejected": report.rejected,
        "failed": report.failed,
        "spawns": report.spawns,
        "evictions": report.evictions,
        "downloads": report.downloads,
        "policy_faults": report.policy_faults,
    })
}
