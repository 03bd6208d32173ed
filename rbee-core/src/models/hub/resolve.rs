//! Resolution of a reference to a commit and its files.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    Hub, HubError,
    http::encode,
    info::{Check, HubFile, Info},
    parts,
};
use crate::{
    error::Result,
    model_info::files::MAX_CONFIG_BYTES,
    model_ref::ModelRef,
    models::{
        disk,
        files::blocking,
        hub_cache::{is_commit, snapshot_files},
        select::{self, Listed},
    },
};

/// The configuration of a model.
const CONFIG: &str = "config.json";

/// A reference to one commit, and its files.
#[derive(Clone, Debug)]
pub struct Resolved {
    model: ModelRef,
    revision: String,
    commit: String,
    files: Vec<HubFile>,
}

impl Resolved {
    /// The reference with its commit, and with its file if the repository has several that each contain a model.
    pub fn model(&self) -> &ModelRef {
        &self.model
    }

    /// The requested revision: a branch, a tag or the commit itself.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The commit.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The paths of the files that a worker needs, with their sizes in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|file| (file.path.as_str(), file.bytes))
    }

    /// The total size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    pub(in crate::models) fn wanted(&self) -> &[HubFile] {
        &self.files
    }
}

/// Sets the flag when it is dropped, which stops the work.
struct Abandon(std::sync::Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Hub {
    /// Resolves the commit of the reference, and the files of it that a worker needs: the safetensors with their index,
    /// tokenizer and configuration, or one GGUF: the one that `::file=` names, else the only one, else the one
    /// quantized as `Q4_K_M`. Files that can run code when they are loaded are never included. In offline mode the
    /// answer comes from the cache.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`](crate::ErrorKind::ModelNotFound) if the hub does not have it,
    /// [`ErrorKind::Unauthorized`](crate::ErrorKind::Unauthorized) and
    /// [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied) if it is gated (the message says what to
    /// do), [`ErrorKind::ModelIncompatible`](crate::ErrorKind::ModelIncompatible) if it has no file of a supported
    /// kind, [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) if it has several such files, or if the
    /// reference is not a hub reference, and [`ErrorKind::HubUnreachable`](crate::ErrorKind::HubUnreachable).
    pub async fn resolve(&self, model: &ModelRef) -> Result<Resolved> {
        let abandoned = std::sync::Arc::new(AtomicBool::new(false));
        let _abandon = Abandon(abandoned.clone());
        let (hub, model) = (self.clone(), model.clone());
        blocking(move || hub.resolve_here(&model, &abandoned)).await
    }

    /// The same on this thread.
    fn resolve_here(&self, model: &ModelRef, abandoned: &AtomicBool) -> Result<Resolved> {
        let (org, repo, revision, file) = parts(model)?;
        let offline = self.is_offline();
        let info = match offline {
            true => self.cached(model)?,
            false => self.info(org, repo, revision, abandoned)?,
        };
        let listed: Vec<_> = info
            .files
            .iter()
            .map(|file| Listed { path: file.path.clone(), bytes: file.bytes })
            .collect();
        let picked = select::pick(&listed, file, model)?;
        let commit = info.commit;
        let one = picked.one.map(|one| format!("::file={one}")).unwrap_or_default();
        let pinned = format!("hf:{org}/{repo}@{commit}{one}").parse()?;
        let mut files = info.files;
        files.retain(|file| picked.files.contains(&file.path));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Resolved { model: pinned, revision: revision.to_owned(), commit, files })
    }

    /// The text of the `config.json` of a reference that names a commit; `None` if it has none. If `anonymous`, the hub
    /// is asked without a token, and the cache is not used, because its files may have been downloaded with one.
    pub(crate) async fn config(
        &self,
        model: &ModelRef,
        anonymous: bool,
    ) -> Result<Option<Vec<u8>>> {
        let hub = match anonymous {
            true if self.is_offline() => return Ok(None),
            true => self.shared.settings.clone().token(None).build()?,
            false => self.clone(),
        };
        let abandoned = std::sync::Arc::new(AtomicBool::new(false));
        let _abandon = Abandon(abandoned.clone());
        let model = model.clone();
        blocking(move || hub.config_here(&model, &abandoned)).await
    }

    fn config_here(&self, model: &ModelRef, abandoned: &AtomicBool) -> Result<Option<Vec<u8>>> {
        let (org, repo, commit, _) = parts(model)?;
        if self.is_offline() {
            let Some(cache) = self.shared.cache.as_deref() else { return Ok(None) };
            let snapshots = cache.join(format!("models--{org}--{repo}")).join("snapshots");
            let read = disk::read_small(&snapshots.join(commit).join(CONFIG), MAX_CONFIG_BYTES);
            return Ok(read?);
        }
        let url = self.repository(org, repo, commit).url(CONFIG);
        let what = format!("the file {CONFIG:?} of {model}");
        let shared = &self.shared;
        let attempt = || {
            let mut response = shared.get(&url, 0, &what)?;
            match response.status().as_u16() {
                200 => shared.body(&mut response, MAX_CONFIG_BYTES, abandoned, &what).map(Some),
                404 => Ok(None),
                _ => Err(shared.refused(&response, &what, &self.page(org, repo))),
            }
        };
        shared.persist(abandoned, || 0, attempt)
    }

    /// Returns an error if the hub does not deliver the files to this caller. A description of the repository proves
    /// nothing: everybody gets it, also for a gated repository. Requests one byte of the largest file.
    pub(super) async fn check_access(&self, resolved: &Resolved) -> Result<()> {
        let abandoned = std::sync::Arc::new(AtomicBool::new(false));
        let _abandon = Abandon(abandoned.clone());
        let (hub, resolved) = (self.clone(), resolved.clone());
        blocking(move || hub.check_access_here(&resolved, &abandoned)).await
    }

    fn check_access_here(&self, resolved: &Resolved, abandoned: &AtomicBool) -> Result<()> {
        let Some(file) = resolved.files.iter().max_by_key(|file| file.bytes) else {
            return Err(HubError::Missing { what: format!("file of {}", resolved.model) }.into());
        };
        let (org, repo, ..) = parts(&resolved.model)?;
        let url = self.repository(org, repo, &resolved.commit).url(&encode(&file.path));
        let what = format!("the file {:?} of {}", file.path, resolved.model);
        let (shared, page) = (&self.shared, self.page(org, repo));
        let attempt = || {
            let response = shared.get_range(&url, Some("bytes=0-0"), &what)?;
            match response.status().as_u16() {
                200 | 206 => Ok(()),
                _ => Err(shared.refused(&response, &what, &page)),
            }
        };
        shared.persist(abandoned, || 0, attempt)
    }

    /// Resolves from the cache, without a request to the hub.
    fn cached(&self, model: &ModelRef) -> Result<Info> {
        let offline = || HubError::Offline { model: model.clone() };
        let (org, repo, revision, _) = parts(model)?;
        let cache = self.shared.cache.as_deref().ok_or_else(offline)?;
        let repository = cache.join(format!("models--{org}--{repo}"));
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => commit_of(&repository, revision).ok_or_else(offline)?,
        };
        let root = repository.join("snapshots").join(&commit);
        let file = |Listed { path, bytes }| {
            let blob = fs::read_link(root.join(&path)).ok();
            let named = blob.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            let check = match named.and_then(Check::parse) {
                Some(check) => check,
                None => Check::Sha256(disk::hash(&root.join(&path), |_| {})?),
            };
            Ok(HubFile { path, bytes, check })
        };
        let files: Vec<_> = snapshot_files(&root).into_iter().map(file).collect::<Result<_>>()?;
        match files.is_empty() {
            true => Err(offline().into()),
            false => Ok(Info { commit, files }),
        }
    }

    /// True if the hub's default branch is at this commit. False if unknown: the hub is asked once.
    pub(in crate::models) fn is_head(&self, resolved: &Resolved) -> bool {
        let Ok((org, repo, ..)) = parts(&resolved.model) else { return false };
        let head = self.ask_info(org, repo, "main", &AtomicBool::new(false));
        head.is_ok_and(|head| head.commit == resolved.commit)
    }
}

/// The last known commit of a branch or tag in the cache.
fn commit_of(repository: &Path, revision: &str) -> Option<String> {
    let read = disk::read_small(&repository.join("refs").join(revision), 256).ok().flatten()?;
    let commit = String::from_utf8(read).ok()?.trim().to_owned();
    is_commit(&commit).then_some(commit)
}
