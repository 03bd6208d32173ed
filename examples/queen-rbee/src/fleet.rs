//! Machines whose `rbee-hive` is started separately: those of the configuration, and those added over the API, which
//! are found again at the next start.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use rbee_core::{
    Error, ErrorKind, HiveBackend, HiveId, ModelRef, Result, Worker, WorkerId, WorkerSpec,
    async_trait,
    hive::{HiveEvent, HiveInfo, HiveReport, ModelHost, ModelOrigin, Progress},
    id::Epoch,
    models::{Damage, ModelFiles, ModelOnDisk},
};
use rbee_transport_http::{
    SharedToken, Token, TokenFile, client::HttpHive, server::HiveConnector, wire::queen::AddHive,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, HiveUrl,
    hive_access::HiveAccess,
    hive_probe,
    home::{create_private, unusable, write_private},
};

/// The largest file of a saved hive, in bytes.
const MOST_BYTES: u64 = 64 << 10;

/// A hive that was added over the API, as saved with its token in a file that only its user can read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    id: HiveId,
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

/// Connects to hives, and saves those that were added over the API.
#[derive(Debug)]
pub(crate) struct Fleet {
    directory: PathBuf,
    /// The directory in which hives of this user on this machine keep their tokens.
    local: Option<PathBuf>,
    /// Names that cannot be used: this machine's, and those of the configuration.
    reserved: BTreeSet<HiveId>,
    /// The tokens of the configuration's hives.
    tokens: BTreeMap<HiveId, TokenFile>,
    draining: CancellationToken,
}

impl Fleet {
    /// A fleet that saves hives in this directory, and finds the tokens of hives on this machine in `local`. Once
    /// `draining` is cancelled, stopping a hive means stopping its workers.
    pub(crate) fn new(
        directory: PathBuf,
        local: Option<PathBuf>,
        config: &Config,
        draining: CancellationToken,
    ) -> Result<Self> {
        create_private(&directory).map_err(|cause| unusable(&directory, cause))?;
        let mut reserved: BTreeSet<_> = config.hives.iter().map(|hive| hive.id.clone()).collect();
        reserved.insert(HiveId::local());
        let mut tokens = BTreeMap::new();
        for hive in config.hives.iter() {
            if let Some(path) = &hive.token_file {
                tokens.insert(hive.id.clone(), TokenFile::open(path)?);
            }
        }
        Ok(Self { directory, local, reserved, tokens, draining })
    }

    /// The files with the tokens of the configuration's hives, which can be read again.
    pub(crate) fn token_files(&self) -> impl Iterator<Item = (&HiveId, &TokenFile)> {
        self.tokens.iter()
    }

    /// The hives of the configuration, and the saved ones.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the saved hives cannot be listed. A saved hive that cannot be read is ignored with a
    /// log line: the other hives are useful without it.
    pub(crate) fn all(&self, config: &Config) -> Result<Vec<Arc<dyn HiveBackend>>> {
        let mut all: Vec<Arc<dyn HiveBackend>> = Vec::new();
        for entry in config.hives.iter() {
            let token = self.tokens.get(&entry.id).map(|file| file.token().clone());
            let access = self.access(&entry.url, token);
            let hive = HttpHive::new(entry.id.clone(), access.as_given());
            all.push(Arc::new(self.visited(hive, access, entry.labels.clone())));
        }
        for (path, remembered) in self.remembered()? {
            let found = remembered.and_then(|hive| {
                let url: HiveUrl = hive.url.parse()?;
                Ok((hive.id, url, hive.token, hive.labels))
            });
            match found {
                Ok((id, ..)) if self.reserved.contains(&id) => {
                    tracing::warn!(hive = %id, "the configuration overrides a hive that was added over the API");
                }
                Ok((id, url, token, labels)) => {
                    let access = self.access(&url, token.map(SharedToken::from));
                    let hive = HttpHive::new(id, access.as_given());
                    all.push(Arc::new(self.visited(hive, access, labels)));
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "the file of an added hive cannot be read");
                }
            }
        }
        Ok(all)
    }

    fn access(&self, url: &HiveUrl, token: Option<SharedToken>) -> HiveAccess {
        HiveAccess::new(url.clone(), token, self.local.clone())
    }

    fn visited(
        &self,
        hive: HttpHive,
        access: HiveAccess,
        labels: BTreeMap<String, String>,
    ) -> Visited {
        let mut info =
            HiveInfo::http(hive.info().id.clone(), access.url().host(), access.url().port());
        info.labels = labels;
        Visited { info, hive: Mutex::new(Arc::new(hive)), access, draining: self.draining.clone() }
    }

    fn file(&self, id: &HiveId) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn remembered(&self) -> Result<Vec<(PathBuf, Result<Remembered>)>> {
        let entries = || -> io::Result<Vec<PathBuf>> {
            let entries = fs::read_dir(&self.directory)?;
            entries.map(|entry| entry.map(|entry| entry.path())).collect()
        };
        let mut paths = entries().map_err(|cause| unusable(&self.directory, cause))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        Ok(paths.into_iter().map(|path| (path.clone(), read(&path))).collect())
    }
}

fn read(path: &std::path::Path) -> Result<Remembered> {
    if fs::metadata(path).map_err(|cause| unusable(path, cause))?.len() > MOST_BYTES {
        return Err(unusable(path, io::Error::other(format!("larger than {MOST_BYTES} bytes"))));
    }
    let bytes = fs::read(path).map_err(|cause| unusable(path, cause))?;
    // The cause may repeat what it read, including a token: only its position is shown.
    serde_json::from_slice(&bytes).map_err(|cause| {
        let (line, column) = (cause.line(), cause.column());
        let why = format!("line {line}, column {column}, is not understood");
        unusable(path, io::Error::other(why))
    })
}

#[async_trait]
impl HiveConnector for Fleet {
    async fn connect(&self, request: AddHive) -> Result<Arc<dyn HiveBackend>> {
        let url: HiveUrl = request.url.parse()?;
        let access = self.access(&url, request.token.clone().map(SharedToken::from));
        let hive = match HttpHive::connect(access.endpoint().await?).await {
            Ok(hive) => hive,
            Err(error) => return Err(access.explain(hive_probe::explain(&url, error).await)),
        };
        let id = hive.info().id.clone();
        let path = self.file(&id);
        if self.reserved.contains(&id) || path.exists() {
            let message = format!(
                "there is a hive {id} already; remove it first, or give the new one another name"
            );
            return Err(Error::new(ErrorKind::Conflict, message).with_param("url"));
        }
        let remembered = Remembered {
            id,
            url: url.to_string(),
            // A token that was found is looked up again later.
            token: request.token,
            labels: request.labels.clone(),
        };
        let written = serde_json::to_vec_pretty(&remembered)
            .map_err(io::Error::other)
            .and_then(|bytes| write_private(&path, &bytes));
        written.map_err(|cause| {
            let message = format!("the hive cannot be saved in {}: {cause}", path.display());
            Error::new(ErrorKind::Storage, message).with_source(cause)
        })?;
        Ok(Arc::new(self.visited(hive, access, request.labels)))
    }

    async fn forget(&self, hive: &HiveId) -> Result<()> {
        match fs::remove_file(self.file(hive)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                let message = format!("the file of hive {hive} cannot be removed: {cause}");
                Err(Error::new(ErrorKind::Storage, message).with_source(cause))
            }
            _ => Ok(()),
        }
    }
}

/// A hive that was started separately: when the queen shuts down, the workers that the queen started there end, and
/// the hive's daemon continues.
#[derive(Debug)]
struct Visited {
    info: HiveInfo,
    /// The latest connection.
    hive: Mutex<Arc<HttpHive>>,
    access: HiveAccess,
    draining: CancellationToken,
}

impl Visited {
    fn hive(&self) -> Arc<HttpHive> {
        // Only ever replaced as a whole.
        self.hive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ModelHost for Visited {
    fn info(&self) -> &HiveInfo {
        &self.info
    }
    async fn provision(
        &self,
        model: &ModelRef,
        from: ModelOrigin,
        progress: Progress,
    ) -> Result<ModelOnDisk> {
        self.hive().provision(model, from, progress).await
    }
    async fn files(&self, model: &ModelRef) -> Result<Arc<dyn ModelFiles>> {
        self.hive().files(model).await
    }
    async fn verify(&self, model: &ModelRef, progress: Progress) -> Result<Vec<Damage>> {
        self.hive().verify(model, progress).await
    }
    async fn remove_model(&self, model: &ModelRef) -> Result<()> {
        self.hive().remove_model(model).await
    }
}

#[async_trait]
impl HiveBackend for Visited {
    async fn watch(
        &self,
        owner: Epoch,
    ) -> Result<futures_util::stream::BoxStream<'static, HiveEvent>> {
        if self.access.may_change() {
            let hive = HttpHive::new(self.info.id.clone(), self.access.endpoint().await?);
            *self.hive.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(hive);
        }
        self.hive().watch(owner).await.map_err(|error| self.access.explain(error))
    }
    async fn report(&self) -> Result<HiveReport> {
        self.hive().report().await
    }
    async fn spawn(
        &self,
        id: WorkerId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        self.hive().spawn(id, spec, progress).await
    }
    async fn worker(&self, id: WorkerId) -> Result<Arc<dyn Worker>> {
        self.hive().worker(id).await
    }
    async fn stop(&self, id: WorkerId, grace: Duration) -> Result<()> {
        self.hive().stop(id, grace).await
    }
    async fn shutdown(&self, grace: Duration) -> Result<()> {
        if !self.draining.is_cancelled() {
            return self.hive().shutdown(grace).await;
        }
        let hive = self.hive();
        let workers = hive.report().await?.workers;
        let stops = workers.iter().map(|worker| hive.stop(worker.info.id, grace));
        join_all(stops).await.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use rbee_core::hive::HiveAddress;

    use super::*;

    fn fleet(directory: &std::path::Path) -> Fleet {
        let (config, draining) = (Config::default(), CancellationToken::new());
        Fleet::new(directory.join("hives"), None, &config, draining).unwrap()
    }

    #[test]
    fn what_is_remembered_and_damaged_does_not_keep_the_queen_from_starting() {
        let directory = tempfile::tempdir().unwrap();
        let fleet = fleet(directory.path());
        let secret = "s".repeat(50);
        let put = |name: &str, text: &str| fs::write(fleet.directory.join(name), text).unwrap();
        put("attic.json", &format!(r#"{{"id":"attic","url":"http://attic","token":"{secret}"}}"#));
        put("bad.json", &format!(r#"{{"id":"bad","url":7,"token":"{secret}"}}"#));
        put("local.json", r#"{"id":"local","url":"http://x"}"#);
        put("note.txt", "not ours");
        let all = fleet.all(&Config::default()).unwrap();
        let names: Vec<_> = all.iter().map(|hive| hive.info().id.as_str()).collect();
        assert_eq!(names, ["attic"]);
        assert_eq!(all[0].info().address, HiveAddress::Http);
        let error = read(&fleet.file(&"bad".parse().unwrap())).unwrap_err();
        assert!(!format!("{error:?}").contains(&secret), "{error:?}");
    }

    #[tokio::test]
    async fn a_machine_that_does_not_answer_is_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let fleet = fleet(directory.path());
        let add = |url: &str| AddHive { url: url.into(), token: None, labels: BTreeMap::new() };
        let error = fleet.connect(add("http://127.0.0.1:1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HiveUnreachable);
        let error = fleet.connect(add("ftp://x")).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("url")));
        assert!(fleet.remembered().unwrap().is_empty());
        fleet.forget(&"never-there".parse().unwrap()).await.unwrap();
    }
}
