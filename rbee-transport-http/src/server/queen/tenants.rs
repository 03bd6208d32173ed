//! Tenants, for the operator of the queen.

use axum::{
    extract::{Path, Request, State},
    response::IntoResponse,
};
use http::StatusCode;
use rbee_core::{
    Error, ErrorKind, Result, TenantId, models::ModelSource, queen::TenantSummary,
    tenant::TenantLimits,
};

use super::{
    Shared,
    local_user::Locality,
    middleware::{HandlerResult, Name},
};
use crate::{
    server::response,
    wire::{
        ErrorBody,
        queen::Listing,
        tenants::{
            IssuedKey, KeyView, NewKey, TENANT, TENANT_KEY, TENANT_KEYS, TENANTS, TenantView,
        },
    },
};

/// List the tenants.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = TENANTS,
        tag = "tenants",
        responses(
            (status = 200, description = "The tenants.", body = Listing<TenantView>),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn list(State(shared): State<Shared>) -> HandlerResult {
    let data = shared.queen.tenants().list().await?.into_iter().map(describe).collect();
    Ok(response::json(StatusCode::OK, &Listing::<TenantView> { data }))
}

/// Get a tenant.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = TENANT,
        tag = "tenants",
        params(("id" = String, Path, description = "The name of the tenant.")),
        responses(
            (status = 200, description = "The tenant.", body = TenantView),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn show(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    let found = view(&shared, &known(&name)?).await?;
    Ok(response::json(StatusCode::OK, &found))
}

/// Add a tenant, or set the limits of one. A limit that is left out does not apply.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        put,
        path = TENANT,
        tag = "tenants",
        params(("id" = String, Path, description = "The name of the tenant.")),
        request_body(content = Object, description = "Its limits."),
        responses(
            (status = 200, description = "The tenant.", body = TenantView),
            (status = "default", description = "Nothing was changed.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn put(
    State(shared): State<Shared>,
    Name(name): Name,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    let tenant = TenantId::new(&name).map_err(|error| {
        Error::new(ErrorKind::InvalidRequest, error.to_string()).with_param("id")
    })?;
    let limits: TenantLimits = shared.read_json(request).await?;
    // The tenant may use the files in its limits, so only those may put one there who may name it themselves.
    let before = shared.queen.tenants().limits_of(&tenant).models.unwrap_or_default();
    for model in limits.models.iter().flatten().filter(|model| !before.contains(*model)) {
        let parsed = shared.queen.models().resolve(model);
        if parsed.is_ok_and(|model| matches!(model.source(), ModelSource::File(_))) {
            match shared.check_model(&locality, model).await {
                // It may be put there later.
                Err(error) if error.kind() == ErrorKind::ModelNotFound => {}
                checked => checked.map_err(|error| error.with_param("models"))?,
            }
        }
    }
    let _held = shared.hold_tenants().await;
    shared.clear_for(&tenant).await?;
    shared.queen.tenants().put(tenant.clone(), limits).await?;
    Ok(response::json(StatusCode::OK, &view(&shared, &tenant).await?))
}

/// Remove a tenant, its keys, and its files and batches. A tenant with jobs or batches that have not ended stays.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = TENANT,
        tag = "tenants",
        params(("id" = String, Path, description = "The name of the tenant.")),
        responses(
            (status = 204, description = "The tenant was removed."),
            (status = "default", description = "The error; the tenant was not removed.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn remove(State(shared): State<Shared>, Name(name): Name) -> HandlerResult {
    shared.note_tenants().await?;
    let tenant = known(&name)?;
    let _held = shared.hold_tenants().await;
    shared.check_batches_ended(&tenant)?;
    shared.queen.tenants().remove(&tenant).await?;
    if let Err(error) = shared.remove_files_of(&tenant).await {
        // It is removed before a tenant of this name is added again.
        tracing::warn!(%tenant, error = error.for_log(), "the files of a removed tenant cannot be removed yet");
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Issue a key to a tenant. The key is shown only once.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = TENANT_KEYS,
        tag = "tenants",
        params(("id" = String, Path, description = "The name of the tenant.")),
        request_body = NewKey,
        responses(
            (status = 201, description = "The key.", body = IssuedKey),
            (status = "default", description = "No key was issued.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn issue(
    State(shared): State<Shared>,
    Name(name): Name,
    request: Request,
) -> HandlerResult {
    let tenant = known(&name)?;
    let wanted: NewKey = shared.read_json(request).await?;
    let key = shared.queen.tenants().issue_key(&tenant, &wanted.label).await?;
    let issued = IssuedKey { tenant, key: key.reveal().to_owned(), hash: key.hash().to_owned() };
    Ok(response::json(StatusCode::CREATED, &issued))
}

/// Revoke a key. Requests that were accepted with it continue.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = TENANT_KEY,
        tag = "tenants",
        params(
            ("id" = String, Path, description = "The name of the tenant."),
            ("hash" = String, Path, description = "The beginning of the key's hash, long enough to be unique."),
        ),
        responses(
            (status = 204, description = "The key is revoked."),
            (status = "default", description = "The key was not revoked.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn revoke(
    State(shared): State<Shared>,
    Path((name, hash)): Path<(String, String)>,
) -> HandlerResult {
    shared.queen.tenants().revoke_key(&known(&name)?, &hash).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Parses the name of a tenant; an invalid name does not exist.
fn known(name: &str) -> Result<TenantId> {
    TenantId::new(name).map_err(|_| missing(name))
}

fn missing(name: &str) -> Error {
    let shown: String = name.chars().take(60).collect();
    Error::new(ErrorKind::NotFound, format!("tenant {shown:?} does not exist"))
}

async fn view(shared: &Shared, tenant: &TenantId) -> Result<TenantView> {
    shared.queen.tenants().get(tenant).await.map(describe)
}

fn describe(tenant: TenantSummary) -> TenantView {
    let keys = tenant.keys.into_iter().map(|key| KeyView {
        hash: key.hash,
        label: key.label,
        created_at_ms: key.created_at.as_millis(),
    });
    TenantView {
        keys: keys.collect(),
        id: tenant.id,
        limits: tenant.limits,
        used_today: tenant.used_today,
        live_jobs: tenant.live_jobs,
    }
}
