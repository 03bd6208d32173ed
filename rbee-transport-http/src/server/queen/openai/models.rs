//! The models that can be asked for.

use std::collections::BTreeSet;

use axum::extract::State;
use http::StatusCode;
use rbee_core::{Error, ErrorKind};

use super::super::{
    Inner, Shared,
    gate::{Answer, Name},
};
use crate::{
    server::reply,
    wire::openai::{Model, ModelList},
};

pub(in crate::server::queen) async fn models(State(shared): State<Shared>) -> Answer {
    let names = names(&shared).await?;
    let data = names.into_iter().map(|name| describe(&shared, name)).collect();
    Ok(reply::json(StatusCode::OK, &ModelList { object: "list".into(), data }))
}

pub(in crate::server::queen) async fn model(
    State(shared): State<Shared>,
    Name(id): Name,
) -> Answer {
    if !names(&shared).await?.contains(&id) {
        let shown: String = id.chars().take(120).collect();
        let message = format!("the model {shown:?} is not known here");
        return Err(Error::new(ErrorKind::ModelNotFound, message).with_param("model").into());
    }
    Ok(reply::json(StatusCode::OK, &describe(&shared, id)))
}

fn describe(shared: &Inner, id: String) -> Model {
    Model { id, object: "model".into(), created: shared.began_at, owned_by: "rbee".into() }
}

/// Every alias, and the references of the models that are loaded or on a disk.
async fn names(shared: &Inner) -> rbee_core::Result<BTreeSet<String>> {
    let cluster = shared.queen.cluster().await?;
    let loaded = cluster.workers().map(|worker| worker.info.model.to_string());
    let stored = cluster.hives().flat_map(|hive| hive.models.keys().map(ToString::to_string));
    Ok(loaded.chain(stored).collect())
}
