//! The hives of the fleet.

mod add;
mod doctor;
mod remove;
mod start;

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use rbee_core::{
    ClusterView, Error, ErrorKind, HiveId, Queen, Result, hive::HiveAddress, queen::HiveSummary,
};

use super::{
    Shared,
    connector::HiveConnector,
    middleware::{HandlerResult, Name},
};
use crate::{
    secret::Secret,
    server::{reach::Confidential, response},
    wire::{
        ErrorBody,
        queen::{HIVE, HIVE_DRAIN, HIVE_STOP, HIVES, HiveView, Listing},
    },
};

#[cfg(feature = "openapi")]
pub(super) use add::__path_add;
pub(super) use add::add;
#[cfg(feature = "openapi")]
pub(super) use doctor::{__path_doctor, __path_logs};
pub(super) use doctor::{doctor, logs};
#[cfg(feature = "openapi")]
pub(super) use remove::__path_remove;
pub(super) use remove::remove;
#[cfg(feature = "openapi")]
pub(super) use start::__path_start;
pub(super) use start::start;

/// How long a stopped hive may take before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// How long the response to an addition waits for the hive's first report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval between two checks for it.
const REPORT_PAUSE: Duration = Duration::from_millis(20);

/// List the hives.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = HIVES,
        tag = "hives",
        responses(
            (status = 200, description = "The hives.", body = Listing<HiveView>),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn list(State(shared): State<Shared>) -> HandlerResult {
    let cluster = shared.queen.cluster().await?;
    let hives = shared.queen.fleet().list().await?;
    let data = hives.into_iter().map(|hive| describe(hive, &cluster, shared.connector())).collect();
    Ok(response::json(StatusCode::OK, &Listing::<HiveView> { data }))
}

/// Get a hive.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = HIVE,
        tag = "hives",
        params(("id" = String, Path, description = "The name of the hive.")),
        responses(
            (status = 200, description = "The hive.", body = HiveView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn show(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    let view = view(&shared.queen, &hive_id(&name)?, shared.connector()).await?;
    Ok(response::json(StatusCode::OK, &view))
}

/// Stop a hive with its workers; it stays in the fleet. Its jobs continue elsewhere.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = HIVE_STOP,
        tag = "hives",
        params(("id" = String, Path, description = "The name of the hive.")),
        responses(
            (status = 200, description = "It is stopped.", body = HiveView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn stop(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    let id = hive_id(&name)?;
    let stopped = shared.queen.fleet().stop(id.clone(), STOP_GRACE).await;
    stopped.map_err(|error| match error.kind() {
        ErrorKind::NotFound => error,
        _ => error.context(format_args!(
            "hive {id} gets no more work until it is started again, but it was not stopped"
        )),
    })?;
    let view = view(&shared.queen, &id, shared.connector()).await?;
    Ok(response::json(StatusCode::OK, &view))
}

/// Stop every worker of a hive as soon as its runs have ended, and start none there until the hive is started again.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = HIVE_DRAIN,
        tag = "hives",
        params(("id" = String, Path, description = "The name of the hive.")),
        responses(
            (status = 202, description = "Its workers are ending.", body = HiveView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn drain(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    let id = hive_id(&name)?;
    shared.queen.fleet().drain(id.clone()).await?;
    let view = view(&shared.queen, &id, shared.connector()).await?;
    Ok(response::json(StatusCode::ACCEPTED, &view))
}

/// Refuses a passphrase that others on the way could have read.
fn check_passphrase(
    passphrase: Option<&Secret>,
    Confidential(is_confidential): Confidential,
) -> Result<()> {
    if passphrase.is_none() || is_confidential {
        return Ok(());
    }
    let message = "a passphrase is accepted only over TLS, or from the queen's machine, because others on the way could \
                   read it; load the key into an agent (`ssh-add`) that the queen uses, or send this request from there";
    Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param("passphrase"))
}

async fn exists(queen: &Queen, id: &HiveId) -> Result<HiveSummary> {
    let found = queen.fleet().list().await?.into_iter().find(|hive| hive.id == *id);
    found.ok_or_else(|| unknown(id.as_str()))
}

async fn view(queen: &Queen, id: &HiveId, connector: Connector<'_>) -> Result<HiveView> {
    let hive = exists(queen, id).await?;
    Ok(describe(hive, &queen.cluster().await?, connector))
}

fn hive_id(name: &str) -> Result<HiveId> {
    HiveId::new(name).map_err(|_| unknown(name))
}

fn unknown(name: &str) -> Error {
    let shown: String = name.chars().take(60).collect();
    Error::new(ErrorKind::NotFound, format!("hive {shown:?} does not exist"))
}

/// What knows the URLs of hives, if there is something.
type Connector<'a> = Option<&'a dyn HiveConnector>;

/// How a hive is reached.
fn address_of(hive: &HiveSummary, connector: Connector<'_>) -> String {
    if let Some(url) = connector.and_then(|connector| connector.url(&hive.id)) {
        return url;
    }
    match &hive.address {
        HiveAddress::Local if hive.port == 0 => "in process".into(),
        HiveAddress::Local => format!("http://127.0.0.1:{}", hive.port),
        HiveAddress::Http => format!("http://{}:{}", hive.hostname, hive.port),
        HiveAddress::Network { ssh_host, ssh_port, ssh_user, .. } => {
            ssh_address(ssh_user, ssh_host, *ssh_port)
        }
    }
}

/// `ssh ada@gpu-box`, with the port if it is not that of SSH. What is not known is left out.
fn ssh_address(user: &str, host: &str, port: u16) -> String {
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    match port {
        0 | 22 => format!("ssh {user}{host}"),
        _ if host.contains(':') => format!("ssh {user}[{host}]:{port}"),
        _ => format!("ssh {user}{host}:{port}"),
    }
}

fn describe(hive: HiveSummary, cluster: &ClusterView, connector: Connector<'_>) -> HiveView {
    let address = address_of(&hive, connector);
    let view = cluster.hive(&hive.id);
    let models = view.map(|view| {
        view.models.values().map(|held| (held.model.to_string(), held.bytes)).collect()
    });
    HiveView {
        status: hive.status.as_str().into(),
        address,
        last_seen_at_ms: hive.last_seen.map(|at| at.as_millis()),
        error: hive.error.as_ref().map(|error| ErrorBody::new(error, None).error),
        devices: view.map(|view| view.devices.to_vec()).unwrap_or_default(),
        memory_budget: view.and_then(|view| view.memory_budget),
        memory_taken: cluster.memory_taken(&hive.id),
        models: models.unwrap_or_default(),
        workers: cluster.on_hive(&hive.id).count(),
        draining: view.is_some_and(|view| view.draining),
        can_start: !matches!(hive.address, HiveAddress::Http),
        labels: hive.labels,
        id: hive.id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_machine_is_what_a_person_types_for_ssh() {
        assert_eq!(ssh_address("ada", "gpu-box", 22), "ssh ada@gpu-box");
        assert_eq!(ssh_address("", "gpu-box", 0), "ssh gpu-box");
        assert_eq!(ssh_address("ada", "gpu-box", 2222), "ssh ada@gpu-box:2222");
        assert_eq!(ssh_address("ada", "::1", 2222), "ssh ada@[::1]:2222");
    }
}
