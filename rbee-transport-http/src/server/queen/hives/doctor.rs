//! The checks and the log of one hive.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use rbee_core::{Error, ErrorKind, queen::HiveSummary, registry::HiveStatus};

use super::{address_of, exists, hive_id};
use crate::{
    server::{
        queen::{
            Shared,
            middleware::{HandlerResult, Name, Params},
        },
        response,
    },
    wire::{
        ErrorBody,
        queen::{
            HIVE_DOCTOR, HIVE_LOGS, HiveCheck, HiveDoctor, HiveLogQuery, Listing, LogLine, Verdict,
        },
    },
};

/// The time limit of the checks together.
const CHECK_TIMEOUT: Duration = Duration::from_secs(90);
/// How many lines of a log are returned, by default and at most.
const LINES: (usize, usize) = (100, 1_000);

/// Check a hive, the way to it, and its machine. Nothing is changed.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = HIVE_DOCTOR,
        tag = "hives",
        params(("id" = String, Path, description = "The name of the hive.")),
        responses(
            (status = 200, description = "The findings.", body = HiveDoctor),
            (status = "default", description = "The checks could not run.", body = ErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn doctor(
    State(shared): State<Shared>,
    Name(name): Name,
) -> HandlerResult {
    let id = hive_id(&name)?;
    let address = address_of(&exists(&shared.queen, &id).await?, shared.connector());
    let mut checks = match &shared.connector {
        Some(connector) => {
            let examined = tokio::time::timeout(CHECK_TIMEOUT, connector.examine(&id)).await;
            examined.unwrap_or_else(|_| {
                let message = format!("the checks did not end within {CHECK_TIMEOUT:?}");
                vec![HiveCheck::new("machine", Verdict::Failed, message)]
            })
        }
        None => Vec::new(),
    };
    // Its state after the checks, which took some time.
    checks.push(answers(&exists(&shared.queen, &id).await?));
    Ok(response::json(StatusCode::OK, &HiveDoctor::new(id, address, checks)))
}

/// What the queen knows of the hive.
fn answers(hive: &HiveSummary) -> HiveCheck {
    const WHAT: &str = "answers";
    if hive.status == HiveStatus::Online {
        return HiveCheck::new(WHAT, Verdict::Ok, "online");
    }
    let message = match &hive.error {
        Some(error) => error.message().to_owned(),
        None => "it has not answered yet".to_owned(),
    };
    let fix = format!("mend what failed above; `rbee hive start {}` tries again at once", hive.id);
    HiveCheck { fix: Some(fix), ..HiveCheck::new(WHAT, Verdict::Failed, message) }
}

/// Get the last lines of a hive's log, the oldest first.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = HIVE_LOGS,
        tag = "hives",
        params(("id" = String, Path, description = "The name of the hive."), HiveLogQuery),
        responses(
            (status = 200, description = "The lines.", body = Listing<LogLine>),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn logs(
    State(shared): State<Shared>,
    Name(name): Name,
    Params(query): Params<HiveLogQuery>,
) -> HandlerResult {
    let id = hive_id(&name)?;
    exists(&shared.queen, &id).await?;
    let (default, most) = LINES;
    let lines = query.lines.unwrap_or(default);
    if !(1..=most).contains(&lines) {
        let message = format!("lines is {lines}; allowed is 1 to {most}");
        let error = Error::for_client(ErrorKind::InvalidRequest, message);
        return Err(error.with_param("lines").into());
    }
    let Some(connector) = &shared.connector else {
        let message = "this queen was built without a way to read the logs of hives";
        return Err(Error::new(ErrorKind::Unsupported, message).into());
    };
    let data = connector.logs(&id, lines).await?;
    Ok(response::json(StatusCode::OK, &Listing { data }))
}
