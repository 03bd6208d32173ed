//! Models: known ones, on disks, in memory.

mod pull;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use axum::{extract::State, response::IntoResponse};
use http::StatusCode;
use rbee_core::{
    ClusterView, Error, ErrorKind, HiveId, ModelRef, Queen, Result,
    cluster::{HiveView, WorkerState},
    models::{ModelOnDisk, ModelSource},
    queen::ModelDescription,
};

use super::{
    Inner, Shared,
    caller::Caller,
    local_user::{Locality, NotLocal},
    middleware::{HandlerResult, Params},
};
use crate::{
    server::response,
    wire::{
        ErrorBody,
        queen::{CatalogEntry, Listing, ModelDetails, ModelQuery},
    },
};

#[cfg(feature = "openapi")]
pub(super) use pull::__path_pull;
pub(super) use pull::{UNSENT, Wanted, fetch, pull, throttled};

/// How long the description of a known model may take, which may ask a hub.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the description of a model may take that the queen does not list.
const UNLISTED_TIMEOUT: Duration = Duration::from_secs(15);

/// List the models that the queen knows: those with an alias, on a disk, or in memory.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = crate::wire::queen::CATALOG,
        tag = "catalog",
        responses(
            (status = 200, description = "The models.", body = Listing<CatalogEntry>),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn list(State(shared): State<Shared>) -> HandlerResult {
    let data = entries(&shared.queen).await?;
    Ok(response::json(StatusCode::OK, &Listing { data }))
}

/// Get a model.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = crate::wire::queen::CATALOG_MODEL,
        tag = "catalog",
        params(ModelQuery),
        responses(
            (status = 200, description = "The model.", body = CatalogEntry),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn show(
    State(shared): State<Shared>,
    locality: Locality,
    Params(query): Params<ModelQuery>,
) -> HandlerResult {
    let mut found = find(&shared, &locality, &query.model).await?;
    if let Some(hive) = &query.hive {
        if !found.hives.contains(hive) {
            return Err(absent(&query.model, hive).into());
        }
        found.hives.retain(|id| id == hive);
    }
    Ok(response::json(StatusCode::OK, &found))
}

/// What an operator can know about a model. A hub may be asked.
///
/// # Errors
/// [`ErrorKind::ModelNotFound`] if it is unknown, and as [`Inner::check_model`].
pub(super) async fn find(shared: &Inner, locality: &Locality, query: &str) -> Result<CatalogEntry> {
    let (models, cluster) = (shared.queen.models(), shared.queen.cluster().await?);
    let model = named(&shared.queen, query, &cluster)?;
    let name = models.alias(query).map_or(query, |(alias, _)| alias);
    let mut found = entries(&shared.queen).await?;
    let known = |entry: &CatalogEntry| {
        let is_of =
            |named: &String| named.parse::<ModelRef>().is_ok_and(|named| named.is_of(&model));
        entry.name == name || is_of(&entry.model)
    };
    // The requested name first, if one model has several.
    found.sort_by_key(|entry| entry.name != name);
    let mut found = match found.into_iter().find(known) {
        Some(mut found) => {
            found.details = details(&shared.queen, &found).await?;
            if found.details.is_none() {
                // What cannot be found out about a known model is left out.
                let models = shared.queen.models();
                let described =
                    tokio::time::timeout(DESCRIBE_TIMEOUT, models.describe(&found.model)).await;
                if let Ok(Ok(described)) = described {
                    add_description(&shared.queen, &mut found, described).await?;
                }
            }
            found
        }
        None => unlisted(shared, locality, query).await?,
    };
    found.kind = found.details.as_ref().map(|details| (&details.info).into()).or(found.kind.take());
    Ok(found)
}

/// Remove a model from the disks.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        delete,
        path = crate::wire::queen::CATALOG_MODEL,
        tag = "catalog",
        params(ModelQuery),
        responses(
            (status = 204, description = "It is on no disk any more."),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn remove(
    State(shared): State<Shared>,
    Params(query): Params<ModelQuery>,
) -> HandlerResult {
    remove_from_disks(&shared, &query).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Removes a model from the disk of one hive, or of all that have it.
///
/// # Errors
/// [`ErrorKind::ModelNotFound`] if no disk has it, [`ErrorKind::Conflict`] if a worker has it loaded,
/// [`ErrorKind::HiveUnreachable`] if a hive with it is not online.
pub(super) async fn remove_from_disks(shared: &Inner, query: &ModelQuery) -> Result<()> {
    // No hub is asked: what is removed is what is here, under whichever commit.
    let cluster = shared.queen.cluster().await?;
    let model = named(&shared.queen, &query.model, &cluster)?;
    let mut held: Vec<(HiveId, ModelRef)> = cluster
        .hives()
        .flat_map(|hive| hive.models.keys().map(|held| (hive.id.clone(), held.clone())))
        .filter(|(_, held)| held.is_of(&model))
        .collect();
    if let Some(only) = &query.hive {
        if cluster.hive(only).is_none() {
            let message = format!("hive {only} does not exist");
            return Err(Error::new(ErrorKind::NotFound, message).with_param("hive"));
        }
        held.retain(|(hive, _)| hive == only);
        if held.is_empty() {
            return Err(absent(&query.model, only));
        }
    }
    if held.is_empty() {
        return Err(shared.queen.models().unknown(&query.model, None, Some(&cluster)));
    }
    // All or none, as far as that can be known in advance.
    let in_use = held.iter().find_map(|(hive, model)| {
        cluster
            .on_hive(hive)
            .find(|worker| worker.info.model == *model)
            .map(|worker| (hive, worker))
    });
    if let Some((hive, worker)) = in_use {
        let message = format!(
            "worker {} on hive {hive} has model {} loaded; stop it first",
            worker.info.id, worker.info.model
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let is_away = |hive: &HiveId| cluster.hive(hive).is_none_or(|view| !view.online);
    if let Some((hive, _)) = held.iter().find(|(hive, _)| is_away(hive)) {
        let message = format!("hive {hive} has the model, and is not online");
        return Err(Error::new(ErrorKind::HiveUnreachable, message));
    }
    for (hive, model) in held {
        shared.queen.models().remove(hive, model).await?;
    }
    Ok(())
}

/// The reference of the model for a hive; may ask a hub.
pub(super) async fn locate(queen: &Queen, name: &str) -> Result<ModelRef> {
    queen.models().locate(name).await.map_err(|error| error.with_param("model"))
}

/// The description in the model's files, if a hive has them.
async fn details(queen: &Queen, entry: &CatalogEntry) -> Result<Option<ModelDetails>> {
    let named: ModelRef = entry.model.parse()?;
    let cluster = queen.cluster().await?;
    let mut held = cluster.hives().flat_map(|hive| hive.models.values());
    let held = held.find(|held| held.model.is_of(&named) && held.info.is_some());
    match held {
        Some(held) => details_of(queen, held).await,
        None => Ok(None),
    }
}

/// The description in the files of this model.
async fn details_of(queen: &Queen, model: &ModelOnDisk) -> Result<Option<ModelDetails>> {
    let Some(info) = model.info.as_deref() else { return Ok(None) };
    let digest = model.digest.map(|digest| digest.to_string());
    let memory = queen.models().memory(model).await?;
    Ok(memory.map(|memory| ModelDetails { digest, memory, info: info.clone() }))
}

/// The model that this alias or reference stands for; asks no hub.
pub(super) fn named(queen: &Queen, name: &str, cluster: &ClusterView) -> Result<ModelRef> {
    queen.models().resolve_in(name, cluster).map_err(|error| error.with_param("model"))
}

/// Refuses the name of a model that is no alias and that nobody has: it cannot be fetched either, because it is not a
/// reference.
pub(super) async fn refuse_unknown(queen: &Queen, model: &ModelRef) -> Result<()> {
    let ModelSource::Alias(name) = model.source() else { return Ok(()) };
    let cluster = queen.cluster().await?;
    if cluster.knows_model(model) {
        return Ok(());
    }
    Err(queen.models().unknown(name, None, Some(&cluster)))
}

/// A model that the queen does not list, looked up where its reference says.
async fn unlisted(shared: &Inner, locality: &Locality, name: &str) -> Result<CatalogEntry> {
    shared.check_model(locality, name).await?;
    let models = shared.queen.models();
    let described = in_time(name, models.describe(name)).await;
    let described = described.map_err(|error| error.with_param("model"))?;
    let mut entry = CatalogEntry {
        name: name.to_owned(),
        model: described.model.to_string(),
        state: "unloaded".into(),
        bytes: None,
        hives: Vec::new(),
        workers: Vec::new(),
        kind: None,
        details: None,
    };
    add_description(&shared.queen, &mut entry, described).await?;
    Ok(entry)
}

/// Ends the description of an unlisted model when it takes too long for whoever waits for it.
async fn in_time<T>(name: &str, describing: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(UNLISTED_TIMEOUT, describing).await.unwrap_or_else(|_| {
        let message = format!(
            "what model {name} is was not found out within {UNLISTED_TIMEOUT:?}, because the hub or the disk is slow; try \
             again later"
        );
        Err(Error::new(ErrorKind::HubUnreachable, message))
    })
}

async fn add_description(
    queen: &Queen,
    entry: &mut CatalogEntry,
    described: ModelDescription,
) -> Result<()> {
    entry.bytes = entry.bytes.or(described.bytes);
    entry.kind = described.kind;
    let mut model = ModelOnDisk::new(described.model, described.bytes.unwrap_or_default());
    model.info = described.info;
    entry.details = details_of(queen, &model).await?;
    Ok(())
}

fn absent(name: &str, hive: &HiveId) -> Error {
    let shown: String = name.chars().take(120).collect();
    let message = format!("the model {shown:?} is not on the disk of hive {hive}");
    Error::new(ErrorKind::ModelNotFound, message).with_param("model")
}

/// Every name that can be requested, with its model: every alias, and every model without an alias.
pub(super) fn names(queen: &Queen, cluster: &ClusterView) -> BTreeMap<String, ModelRef> {
    let aliases = queen.models().aliases();
    let aliased: BTreeSet<&ModelRef> = aliases.values().collect();
    let loaded = cluster.workers().map(|worker| &worker.info.model);
    let stored = cluster.hives().flat_map(|hive| hive.models.keys());
    let plain =
        loaded.chain(stored).filter(|model| !aliased.iter().any(|aliased| model.is_of(aliased)));
    let plain = plain.map(|model| (model.to_string(), model.clone()));
    plain.chain(aliases.clone()).collect()
}

async fn entries(queen: &Queen) -> Result<Vec<CatalogEntry>> {
    let cluster = queen.cluster().await?;
    let loads = queen.models().loading();
    let entry = |(name, model): (String, ModelRef)| {
        let is_it = |other: &ModelRef| other.is_of(&model);
        let workers: Vec<_> =
            cluster.workers().filter(|worker| is_it(&worker.info.model)).collect();
        let is = |state| workers.iter().any(|worker| worker.state == state);
        let arriving = loads.iter().any(|load| is_it(&load.model) && load.worker.is_none());
        let state = match () {
            () if is(WorkerState::Ready) => "loaded",
            () if is(WorkerState::Loading) => "loading",
            () if arriving => "downloading",
            () if is(WorkerState::Failed) => "failed",
            () => "unloaded",
        };
        let held = |hive: &HiveView| hive.models.values().find(|held| is_it(&held.model)).cloned();
        let holders: Vec<_> =
            cluster.hives().filter_map(|hive| Some((hive.id.clone(), held(hive)?))).collect();
        // One commit, if the name stands for any.
        let model = holders.first().map_or_else(|| model.clone(), |(_, held)| held.model.clone());
        CatalogEntry {
            name,
            model: model.to_string(),
            state: state.into(),
            bytes: holders.first().map(|(_, held)| held.bytes),
            hives: holders.iter().map(|(hive, _)| hive.clone()).collect(),
            workers: workers.iter().map(|worker| worker.info.id).collect(),
            kind: None,
            details: None,
        }
    };
    Ok(names(queen, &cluster).into_iter().map(entry).collect())
}

impl Inner {
    /// Checks that an operator may name this model: a local user any file that exists, others a file only below an
    /// allowed directory, or if the queen knows it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for an invalid reference, [`ErrorKind::PermissionDenied`] for a file that is not
    /// allowed, [`ErrorKind::ModelNotFound`] for one of a local user that does not exist.
    pub(super) async fn check_model(&self, locality: &Locality, name: &str) -> Result<()> {
        self.check_model_of(&Caller::Operator, locality, name).await
    }

    /// The same for any caller: a tenant has only the models of its limits. A tenant may not name a file only because
    /// the queen knows it, because only an operator can see what the queen knows; it may if its limits name the file.
    ///
    /// This is asked once, when the request comes in. A job that was accepted runs, also after a restart with other
    /// settings.
    pub(super) async fn check_model_of(
        &self,
        caller: &Caller,
        locality: &Locality,
        name: &str,
    ) -> Result<()> {
        if let Some(tenant) = caller.tenant() {
            self.queen.tenants().may_use(tenant, name)?;
        }
        let model = self.queen.models().resolve(name).map_err(|error| error.with_param("model"))?;
        let ModelSource::File(path) = model.source() else { return Ok(()) };
        let is_told = match caller.tenant() {
            None => self.queen.cluster().await?.knows_model(&model),
            Some(tenant) => {
                let limits = self.queen.tenants().limits_of(tenant);
                limits.models.as_ref().is_some_and(|models| models.contains(name))
            }
        };
        if self.queen.models().alias(name).is_some() || is_told {
            return Ok(());
        }
        let why = match locality {
            Locality::LocalUser if self.has_unproven_operator().await? => &NotLocal::NoToken,
            Locality::LocalUser => return check_presence(path).await,
            Locality::Other(why) => why,
        };
        if is_below(path, &self.file_roots).await {
            return Ok(());
        }
        let message = format!(
            "the model {model} is a file of the queen's machine below no directory of the setting file_roots, so only a \
             local user may name it, and {why}; add its directory to file_roots (--file-roots, RBEE_FILE_ROOTS) of the \
             queen, or give the file an alias in its setting models"
        );
        let error = Error::new(ErrorKind::PermissionDenied, message);
        // No alias: this is the path that the client sent.
        let told = format!(
            "the model {model} is a file of the queen's machine that this key may not name"
        );
        Err(error.with_client_message(told).with_param("model"))
    }

    /// True if a caller without a key may be a tenant: one that leaves out its key is the operator. It stays so until the
    /// next start, because such a caller can remove the tenants.
    async fn has_unproven_operator(&self) -> Result<bool> {
        Ok(self.token.is_none() && self.note_tenants().await?)
    }

    /// Notes for good that there are tenants, and returns whether there are any or were some.
    pub(super) async fn note_tenants(&self) -> Result<bool> {
        if !self.had_tenants.load(Ordering::Relaxed)
            && !self.queen.tenants().list().await?.is_empty()
        {
            self.had_tenants.store(true, Ordering::Relaxed);
        }
        Ok(self.had_tenants.load(Ordering::Relaxed))
    }
}

/// Checks that there is something at this path. Without it a job for a mistyped path would wait for machines that are
/// away, because one of them may have the model.
async fn check_presence(path: &Path) -> Result<()> {
    let Err(cause) = tokio::fs::metadata(path).await else { return Ok(()) };
    let message = match cause.kind() {
        std::io::ErrorKind::NotFound => {
            format!("the model file {} does not exist", path.display())
        }
        _ => format!("the model file {} cannot be read: {cause}", path.display()),
    };
    Err(Error::new(ErrorKind::ModelNotFound, message).with_param("model").with_source(cause))
}

/// True if the path is below one of these directories, with all links resolved.
async fn is_below(path: &Path, roots: &[PathBuf]) -> bool {
    let mut named = false;
    let mut real_roots = Vec::with_capacity(roots.len());
    for root in roots {
        let real = tokio::fs::canonicalize(root).await.ok();
        // A reference has no `..` in it, which the setting may have, as it may lead through a link.
        named |= path.starts_with(root) || real.as_ref().is_some_and(|real| path.starts_with(real));
        real_roots.extend(real);
    }
    if !named {
        return false;
    }
    // A missing path does no harm: it is not found in the end.
    let Ok(real) = tokio::fs::canonicalize(path).await else { return true };
    real_roots.iter().any(|root| real.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_description_that_takes_too_long_is_an_error_that_says_so() {
        let never = std::future::pending::<Result<()>>();
        let began = tokio::time::Instant::now();
        let error = in_time("hf:bee/slow", never).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (ErrorKind::HubUnreachable, UNLISTED_TIMEOUT));
        for part in ["hf:bee/slow", "15s", "try again"] {
            assert!(error.message().contains(part), "{error}");
        }
        assert_eq!(in_time("hf:bee/fast", async { Ok(7) }).await.unwrap(), 7);
    }
}
