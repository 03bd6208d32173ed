//! The available models.

use std::collections::BTreeSet;

use axum::extract::State;
use http::StatusCode;
use rbee_core::{ClusterView, ModelRef, models::ModelSource};

use super::super::{
    Inner, Shared,
    caller::Caller,
    catalog,
    local_user::{Locality, NotLocal},
    middleware::{HandlerResult, Name},
    model_facts::ModelFacts,
    rfc3339::rfc3339,
};
use crate::{
    server::response,
    wire::{
        OpenAiErrorBody,
        openai::{Model, ModelList},
    },
};

/// List the available models.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = crate::wire::queen::MODELS,
        tag = "openai",
        responses(
            (status = 200, description = "The models.", body = ModelList),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn models(
    State(shared): State<Shared>,
    caller: Caller,
) -> HandlerResult {
    let cluster = shared.queen.cluster().await?;
    let names = visible(&shared, &cluster, &caller).await;
    let all = names.into_iter().map(|name| describe(&shared, &cluster, name));
    let data = futures_util::future::join_all(all).await;
    let id = |model: Option<&Model>| model.map(|model| model.id.clone());
    let (first_id, last_id) = (id(data.first()), id(data.last()));
    let list = ModelList { object: "list".into(), data, has_more: false, first_id, last_id };
    Ok(response::json(StatusCode::OK, &list))
}

/// The names of the models that the caller may request.
pub(in crate::server::queen) async fn visible(
    shared: &Inner,
    cluster: &ClusterView,
    caller: &Caller,
) -> Vec<String> {
    let mut names: BTreeSet<_> = catalog::names(&shared.queen, cluster).into_keys().collect();
    // A reference of its limits goes by the name that it has there, and not by the commit that is on a disk.
    let listed = caller.tenant().and_then(|tenant| shared.queen.tenants().limits_of(tenant).models);
    names.extend(listed.into_iter().flatten().filter(|name| {
        let model = shared.queen.models().resolve(name);
        model.is_ok_and(|model| {
            let mut aliased = shared.queen.models().aliases().values();
            knows(cluster, &model) && !aliased.any(|aliased| model.is_of(aliased))
        })
    }));
    let mut visible = Vec::with_capacity(names.len());
    for name in names {
        if may_ask(shared, caller, &name).await {
            visible.push(name);
        }
    }
    visible
}

/// The model of this name, if there is one that the caller may request.
pub(in crate::server::queen) async fn known(
    shared: &Inner,
    cluster: &ClusterView,
    caller: &Caller,
    name: &str,
) -> Option<ModelRef> {
    let models = shared.queen.models();
    let model = models.resolve_in(name, cluster).ok()?;
    let is_known = models.alias(name).is_some() || knows(cluster, &model);
    (is_known && may_ask(shared, caller, name).await).then_some(model)
}

/// Get a model. Its name may contain slashes and colons.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = "/v1/models/{id}",
        tag = "openai",
        params(("id" = String, Path, description = "The name of the model.")),
        responses(
            (status = 200, description = "The model.", body = Model),
            (status = "default", description = "The error.", body = OpenAiErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn model(
    State(shared): State<Shared>,
    caller: Caller,
    Name(id): Name,
) -> HandlerResult {
    let cluster = shared.queen.cluster().await?;
    if known(&shared, &cluster, &caller, &id).await.is_none() {
        let models = shared.queen.models();
        return Err(models.unknown(&id, caller.tenant(), Some(&cluster)).into());
    }
    Ok(response::json(StatusCode::OK, &describe(&shared, &cluster, id).await))
}

/// True if the caller may request this model. A tenant sees what it may request: names, and the references of its
/// limits. It does not see what else is on the disks, even if it may name any reference. An operator sees everything.
async fn may_ask(shared: &Inner, caller: &Caller, name: &str) -> bool {
    let Some(tenant) = caller.tenant() else { return true };
    let queen = &shared.queen;
    let is_name = queen.models().alias(name).is_some()
        || queen
            .models()
            .resolve(name)
            .is_ok_and(|model| matches!(model.source(), ModelSource::Alias(_)));
    let is_listed =
        || queen.tenants().limits_of(tenant).models.is_some_and(|models| models.contains(name));
    (is_name || is_listed())
        && shared.check_model_of(caller, &Locality::Other(NotLocal::Tenant), name).await.is_ok()
}

/// True if it is loaded somewhere, or on the disk of some hive, in any commit.
fn knows(cluster: &ClusterView, model: &ModelRef) -> bool {
    cluster.knows_model(model)
        || cluster.hives().any(|hive| hive.models.keys().any(|held| held.is_of(model)))
}

async fn describe(shared: &Inner, cluster: &ClusterView, id: String) -> Model {
    let facts = match shared.queen.models().resolve_in(&id, cluster) {
        Ok(model) => ModelFacts::read(&shared.file_facts, &shared.queen, cluster, &model).await,
        Err(_) => ModelFacts::default(),
    };
    let capabilities = facts.capabilities.into_iter().map(|name| name.as_str().into()).collect();
    Model {
        display_name: id.clone(),
        id,
        object: "model".into(),
        created: shared.began_at,
        owned_by: "rbee".into(),
        kind: "model".into(),
        created_at: rfc3339(shared.began_at),
        context_length: facts.context,
        capabilities,
    }
}
