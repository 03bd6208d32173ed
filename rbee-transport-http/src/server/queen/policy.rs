//! The policy: read, checked, changed, rolled back; and the explanations of its decisions.

use axum::extract::{Request, State};
use http::StatusCode;
use rbee_core::{
    Error, ErrorKind, Job, Placement, Queen, Result,
    queen::{Decision, PolicyStatus},
    registry::PolicyOrigin,
    scheduler::{Admission, Candidate, Explanation, PolicyLanguage, PolicySource, Verdict},
};

use super::{
    Shared,
    caller::Caller,
    jobs::job_id,
    middleware::{HandlerResult, Name, Params},
};
use crate::{
    server::response,
    wire::{
        ErrorBody, ErrorInfo,
        policy::{
            CandidateView, Choice, DecisionView, JOB_WHY, POLICY, POLICY_CHECK, POLICY_ROLLBACK,
            POLICY_SCHEMA, POLICY_VERSION, POLICY_VERSIONS, PolicyCheck, PolicyDryRun, PolicyFault,
            PolicyQuery, PolicyRollback, PolicyText, PolicyVersion, PolicyView,
        },
        queen::Listing,
    },
};

/// Get the policy in force.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = POLICY,
        tag = "policy",
        params(PolicyQuery),
        responses(
            (status = 200, description = "The policy.", body = PolicyView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn show(
    State(shared): State<Shared>,
    Params(query): Params<PolicyQuery>,
) -> HandlerResult {
    let status = shared.queen.policy().status();
    let wanted = query.as_language.zip(status.source.clone());
    let mut view = describe(status);
    if let Some((wanted, source)) = wanted {
        let text = source.in_language(wanted).map_err(|error| error.with_param("as"))?;
        (view.source, view.language) = (Some(text.to_string()), Some(wanted));
    }
    Ok(response::json(StatusCode::OK, &view))
}

/// Put another policy in force. It is checked and tried first; if there is any problem, the old one stays.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        put,
        path = POLICY,
        tag = "policy",
        request_body = PolicyText,
        responses(
            (status = 200, description = "It is in force.", body = PolicyView),
            (status = "default", description = "The error; the old policy stays in force.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn set(State(shared): State<Shared>, request: Request) -> HandlerResult {
    let text: PolicyText = shared.read_json(request).await?;
    let status = shared
        .queen
        .policy()
        .set(source(text.language, text.source), PolicyOrigin::Operator)
        .await?;
    Ok(response::json(StatusCode::OK, &describe(status)))
}

/// Reset the policy to the application's own, or the built-in one.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = POLICY,
        tag = "policy",
        responses(
            (status = 200, description = "It is in force.", body = PolicyView),
            (status = "default", description = "Nothing was changed.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn reset(State(shared): State<Shared>) -> HandlerResult {
    let status = shared.queen.policy().reset().await?;
    Ok(response::json(StatusCode::OK, &describe(status)))
}

/// Try a policy without changing anything.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = POLICY_CHECK,
        tag = "policy",
        request_body = PolicyCheck,
        responses(
            (status = 200, description = "What it would decide.", body = PolicyDryRun),
            (status = "default", description = "The error in the policy.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn check(State(shared): State<Shared>, request: Request) -> HandlerResult {
    let check: PolicyCheck = shared.read_json(request).await?;
    let (fleet, job) = (check.fleet.as_deref(), check.job.as_deref());
    let source = source(check.language, check.source);
    let dry_run = shared.queen.policy().check_described(source, fleet, job).await?;
    let name = dry_run.name.clone();
    let decisions = dry_run.decisions.into_iter();
    let decisions = decisions.map(|one| {
        let job = one.is_recent.then(|| one.job.id.to_string());
        let choice = choice(&one.explanation.placement, &Caller::Operator);
        view(&one.job, job, &name, choice, one.explanation)
    });
    let dry_run = PolicyDryRun {
        decisions: decisions.collect(),
        name: dry_run.name,
        description: dry_run.description,
    };
    Ok(response::json(StatusCode::OK, &dry_run))
}

/// Get the JSON schema of rules in YAML, with which an editor completes and checks them.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = POLICY_SCHEMA,
        tag = "policy",
        responses(
            (status = 200, description = "The schema (draft 2020-12).", body = serde_json::Value),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn schema() -> HandlerResult {
    let schema = PolicyLanguage::Yaml.schema().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "this queen was built without policies in YAML")
    })?;
    Ok(response::json(StatusCode::OK, &schema))
}

/// List the versions of the policy, the newest last.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = POLICY_VERSIONS,
        tag = "policy",
        responses(
            (status = 200, description = "The versions.", body = Listing<PolicyVersion>),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn versions(State(shared): State<Shared>) -> HandlerResult {
    let in_force = shared.queen.policy().status().version;
    let recorded = shared.queen.policy().versions().await?;
    let data = recorded.into_iter().map(|one| version_view(one, in_force, false)).collect();
    Ok(response::json(StatusCode::OK, &Listing::<PolicyVersion> { data }))
}

/// Get a version of the policy.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = POLICY_VERSION,
        tag = "policy",
        params(("id" = u64, Path, description = "Its number."), PolicyQuery),
        responses(
            (status = 200, description = "The version.", body = PolicyVersion),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn version(
    State(shared): State<Shared>,
    Name(name): Name,
    Params(query): Params<PolicyQuery>,
) -> HandlerResult {
    let Ok(number) = name.parse() else {
        let shown: String = name.chars().take(60).collect();
        let message = format!("there is no version {shown:?} of the policy; a version is a number");
        return Err(Error::new(ErrorKind::NotFound, message).into());
    };
    let found = shared.queen.policy().version(number).await?;
    let source = found.source.clone();
    let mut view = version_view(found, shared.queen.policy().status().version, true);
    if let (Some(wanted), Some(_)) = (query.as_language, &view.source) {
        let text = source.in_language(wanted).map_err(|error| error.with_param("as"))?;
        (view.source, view.language) = (Some(text.to_string()), wanted);
    }
    Ok(response::json(StatusCode::OK, &view))
}

/// Put a previous version back in force, as a new one.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = POLICY_ROLLBACK,
        tag = "policy",
        request_body = PolicyRollback,
        responses(
            (status = 200, description = "It is in force.", body = PolicyView),
            (status = "default", description = "Nothing was changed.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn roll_back(State(shared): State<Shared>, request: Request) -> HandlerResult {
    let order: PolicyRollback = shared.read_json(request).await?;
    let status = shared.queen.policy().roll_back(order.version).await?;
    Ok(response::json(StatusCode::OK, &describe(status)))
}

/// Explain the decisions about a job, with their reasons. Kept for the most recent jobs.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = JOB_WHY,
        tag = "policy",
        params(("id" = String, Path, description = "The id of the job.")),
        responses(
            (status = 200, description = "The decisions, in their order.", body = Listing<DecisionView>),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn why(
    State(shared): State<Shared>,
    caller: Caller,
    Name(name): Name,
) -> HandlerResult {
    let job = job_id(&name)?;
    shared.check_owner(&caller, job).await?;
    let decisions = shared.queen.policy().why(job).await?;
    let views = decisions.into_iter().map(|decision| decision_view(decision, &caller));
    let data = match caller {
        Caller::Operator => views.collect(),
        Caller::Tenant(_) => {
            views.map(|view| without_machines(&shared.queen, &caller, view)).collect()
        }
    };
    Ok(response::json(StatusCode::OK, &Listing::<DecisionView> { data }))
}

/// The decision as a tenant sees it: the result for its job, without the machines and what else is on them.
fn without_machines(queen: &Queen, caller: &Caller, mut view: DecisionView) -> DecisionView {
    if let Ok(model) = queen.models().resolve(&view.model) {
        view.model = caller.model(queen, &model).into_owned();
    }
    view.steps.clear();
    view.candidates.clear();
    match &mut view.decision {
        spawn @ Choice::Spawn { .. } => *spawn = Choice::Start,
        Choice::Assign { worker } => *worker = caller.worker(worker.take()),
        // The details of a failed policy are for its operator.
        Choice::Fault { error } => error.message = "the policy failed".into(),
        _ => {}
    }
    view
}

fn source(language: PolicyLanguage, text: String) -> PolicySource {
    PolicySource { language, text: text.into() }
}

fn describe(status: PolicyStatus) -> PolicyView {
    PolicyView {
        name: status.name,
        description: status.description,
        version: status.version,
        language: status.source.as_ref().map(|source| source.language),
        source: status.source.map(|source| source.text.to_string()),
        hash: status.hash,
        fixed: status.is_fixed,
        faults: status.health.faults,
        last_fault: status.health.last_fault.map(|(at, error)| PolicyFault {
            at_ms: at.as_millis(),
            message: error.message().to_owned(),
        }),
        passed_over: status.health.passed_over,
        suspended: status.health.is_suspended,
    }
}

fn version_view(
    record: rbee_core::registry::PolicyRecord,
    in_force: Option<u64>,
    with_text: bool,
) -> PolicyVersion {
    PolicyVersion {
        version: record.version,
        at_ms: record.at.as_millis(),
        hash: record.hash,
        origin: record.origin,
        language: record.source.language,
        in_force: in_force == Some(record.version),
        source: (with_text && record.origin != PolicyOrigin::Reset)
            .then(|| record.source.text.to_string()),
    }
}

fn info(error: &Error, caller: &Caller) -> ErrorInfo {
    ErrorBody::new(&caller.error(error), None).error
}

fn choice(placement: &Result<Placement>, caller: &Caller) -> Choice {
    match placement {
        Ok(Placement::Assign(worker)) => Choice::Assign { worker: Some(*worker) },
        Ok(Placement::Spawn { hive, spec, evict }) => Choice::Spawn {
            hive: hive.clone(),
            devices: spec.devices.clone(),
            evict: evict.clone(),
        },
        Ok(Placement::Wait) => Choice::Wait,
        Ok(Placement::Reject(error)) => Choice::Reject { error: info(error, caller) },
        Err(error) => Choice::Fault { error: info(error, caller) },
    }
}

fn view(
    job: &Job,
    named: Option<String>,
    policy: &str,
    decision: Choice,
    explanation: Explanation,
) -> DecisionView {
    let candidates = explanation.candidates.into_iter().map(|(candidate, verdict)| {
        let (kind, id) = match candidate {
            Candidate::Worker(id) => ("worker", id.to_string()),
            Candidate::Hive(id) => ("hive", id.to_string()),
        };
        let (verdict, why) = match verdict {
            Verdict::Chosen => ("chosen", None),
            Verdict::Eligible => ("eligible", None),
            Verdict::Refused(why) => ("refused", Some(why)),
        };
        CandidateView { kind: kind.into(), id, verdict: verdict.into(), why }
    });
    DecisionView {
        at_ms: None,
        job: named,
        model: job.model.to_string(),
        attempts: 0,
        policy: policy.to_owned(),
        version: None,
        fallback: false,
        decision,
        stale: false,
        steps: explanation.steps,
        candidates: candidates.collect(),
    }
}

fn decision_view(decision: Decision, caller: &Caller) -> DecisionView {
    let choice = match (&decision.admission, &decision.answer) {
        (Some(admission), _) => admitted(admission, caller),
        (None, Some(answer)) => choice(answer, caller),
        (None, None) => Choice::Pending,
    };
    let job = Some(decision.job.id.to_string());
    DecisionView {
        at_ms: Some(decision.at.as_millis()),
        attempts: decision.attempts,
        version: decision.version,
        fallback: decision.fallback,
        stale: decision.is_stale,
        ..view(&decision.job, job, &decision.policy, choice, decision.explanation)
    }
}

fn admitted(admission: &Result<Admission>, caller: &Caller) -> Choice {
    match admission {
        Ok(Admission::Accept { rank }) => Choice::Admit { rank: *rank },
        Ok(Admission::Refuse(error)) => Choice::Refuse { error: info(error, caller) },
        Err(error) => Choice::Fault { error: info(error, caller) },
    }
}
