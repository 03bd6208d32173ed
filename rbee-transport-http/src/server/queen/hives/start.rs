//! Starts of hives.

use axum::extract::{Request, State};
use http::StatusCode;
use rbee_core::{
    Error, ErrorKind, HiveId, Queen, Result, queen::HiveSummary, registry::HiveStatus,
};

use super::{REPORT_PAUSE, REPORT_TIMEOUT, check_passphrase, describe, exists, hive_id};
use crate::{
    server::{
        queen::{
            Shared,
            middleware::{HandlerResult, Name},
        },
        reach::Confidential,
        response,
    },
    wire::{
        ErrorBody,
        queen::{HIVE_START, HiveView, StartHive},
    },
};

/// Start a hive that was stopped, or let one that was drained take workers again. Waits some seconds for its first
/// report. A hive that was added by its address cannot be started from here: the error says so if it does not answer.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = HIVE_START,
        tag = "hives",
        params(("id" = String, Path, description = "The name of the hive.")),
        request_body(content = StartHive, description = "May be left out."),
        responses(
            (status = 202, description = "The hive is online, or still starting.", body = HiveView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn start(
    State(shared): State<Shared>,
    Name(name): Name,
    request: Request,
) -> HandlerResult {
    let id = hive_id(&name)?;
    let confidential = Confidential::of_request(&request);
    let body = shared.read_body(request).await?;
    let order: StartHive = match body.bytes() {
        [] => StartHive::default(),
        bytes => response::parse(bytes)?,
    };
    check_passphrase(order.passphrase.as_ref(), confidential)?;
    let explain = |error: Error| match &shared.connector {
        Some(connector) => connector.explain(&id, error),
        None => error,
    };
    if let (Some(passphrase), Some(connector)) = (order.passphrase, &shared.connector) {
        exists(&shared.queen, &id).await?;
        connector.unlock(&id, passphrase)?;
    }
    shared.queen.fleet().start(id.clone()).await?;
    let hive = settled(&shared.queen, &id).await?;
    let is_online = hive.status == HiveStatus::Online;
    let view = describe(hive.clone(), &shared.queen.cluster().await?, shared.connector());
    match hive.error {
        _ if is_online => {}
        Some(error) if error.kind() != ErrorKind::HiveUnreachable => {
            return Err(explain(error).context(format_args!("hive {id} was not started")).into());
        }
        why if !view.can_start => return Err(not_startable(&view, hive.port, why).into()),
        Some(error) => {
            return Err(explain(error).context(format_args!("hive {id} was not started")).into());
        }
        None => {}
    }
    Ok(response::json(StatusCode::ACCEPTED, &view))
}

/// The hive, once it answers or the reason why it does not is known; as it is after a while otherwise.
async fn settled(queen: &Queen, id: &HiveId) -> Result<HiveSummary> {
    let settles = async {
        loop {
            let hive = exists(queen, id).await?;
            if hive.status == HiveStatus::Online || hive.error.is_some() {
                return Ok(hive);
            }
            tokio::time::sleep(REPORT_PAUSE).await;
        }
    };
    match tokio::time::timeout(REPORT_TIMEOUT, settles).await {
        Ok(hive) => hive,
        Err(_) => exists(queen, id).await,
    }
}

/// The error for a hive that has to be started on its own machine.
fn not_startable(hive: &HiveView, port: u16, why: Option<Error>) -> Error {
    let HiveView { id, address, .. } = hive;
    let why = match &why {
        Some(error) => error.message(),
        None => "it has not answered yet",
    };
    let host = host_flag(address);
    let tls = match address.starts_with("https://") {
        true => " --tls-cert FILE --tls-key FILE",
        false => "",
    };
    let message = format!(
        "hive {id} does not answer at {address}, and the queen cannot start it, because it only knows its address: \
         {why}. Start rbee-hive on that machine, with the flags that it had before (`rbee-hive --id {id}{host} --port \
         {port}{tls}`); the queen uses it as soon as it answers"
    );
    Error::new(ErrorKind::HiveUnreachable, message)
}

/// The flag with which a hive listens where this address finds it; empty for a loopback address, where it listens
/// anyway. A name says nothing about the address to listen on, so it is left to the reader.
fn host_flag(address: &str) -> String {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_loopback() => String::new(),
        Ok(ip) => format!(" --host {ip}"),
        Err(_) if host.eq_ignore_ascii_case("localhost") => String::new(),
        Err(_) => " --host ADDRESS".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_starts_a_hive_listens_where_the_queen_looks_for_it() {
        for (address, flag) in [
            ("http://10.99.1.2:18835", " --host 10.99.1.2"),
            ("http://[fd00::7]:7835", " --host fd00::7"),
            ("http://127.0.0.1:7835", ""),
            ("http://[::1]:7835", ""),
            ("http://localhost:7835", ""),
            ("http://attic:7835", " --host ADDRESS"),
        ] {
            assert_eq!(host_flag(address), flag, "{address}");
        }
    }
}
