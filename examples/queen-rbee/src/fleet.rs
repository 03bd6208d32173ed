//! Other machines: those of the configuration, and those added over the API, which are found again at the next start.
//! On some, `rbee-hive` was started separately; on others the queen starts it by SSH.

mod saved;
#[cfg_attr(not(feature = "ssh"), path = "fleet/no_ssh.rs")]
mod ssh;
mod ssh_entry;
mod visited;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{join_all, try_join_all};
use rbee_core::{Error, ErrorKind, HiveBackend, HiveId, Result, async_trait, hive::ModelHost};
use rbee_transport_http::{
    Secret, SharedToken, TokenFile,
    client::HttpHive,
    server::{AddProgress, HiveConnector, HiveMachines},
    wire::queen::{AddHive, HiveCheck, HiveDoctor, LogLine, RemoveHive, RemovedHive},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, HiveEntry, HiveUrl,
    hive_access::HiveAccess,
    hive_probe,
    hive_tls::HiveTls,
    home::{create_private, unusable},
};

pub(crate) use ssh::check_target;

use saved::SavedHive;
use ssh::SshHives;
use ssh_entry::SshEntry;
use visited::Visited;

/// Connects to hives, and saves those that were added over the API.
#[derive(Debug)]
pub(crate) struct Fleet {
    directory: PathBuf,
    /// The directory in which hives of this user on this machine keep their tokens.
    local: Option<PathBuf>,
    /// Names that cannot be used: this machine's, and those of the configuration.
    reserved: BTreeSet<HiveId>,
    /// Names of machines that are being added.
    adding: Mutex<BTreeSet<HiveId>>,
    /// The tokens of the configuration's hives.
    tokens: BTreeMap<HiveId, TokenFile>,
    /// The trusted certificates of the configuration's hives that name a file of them.
    ca_certs: BTreeMap<HiveId, HiveTls>,
    visited: Mutex<BTreeMap<HiveId, Arc<Visited>>>,
    ssh: SshHives,
    draining: CancellationToken,
}

/// Reserves a name while its machine is being added.
struct Claim<'a> {
    fleet: &'a Fleet,
    id: HiveId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.fleet.adding).remove(&self.id);
    }
}

/// Only whole values are ever put into what is locked here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// A fleet that saves hives in this directory, and finds the tokens of hives on this machine in `local`. Once
    /// `draining` is cancelled, stopping a hive that was started separately means stopping its workers.
    pub(crate) fn new(
        directory: PathBuf,
        local: Option<PathBuf>,
        config: &Config,
        draining: CancellationToken,
    ) -> Result<Self> {
        create_private(&directory).map_err(|cause| unusable(&directory, cause))?;
        let mut reserved: BTreeSet<_> = config.hives.iter().map(|hive| hive.id.clone()).collect();
        reserved.insert(HiveId::local());
        let (mut tokens, mut ca_certs) = (BTreeMap::new(), BTreeMap::new());
        for hive in config.hives.iter() {
            if let Some(path) = &hive.token_file {
                tokens.insert(hive.id.clone(), TokenFile::open(path)?);
            }
            if let Some(path) = &hive.ca_cert {
                ca_certs.insert(hive.id.clone(), HiveTls::open(path)?);
            }
        }
        let (adding, visited) = (Mutex::default(), Mutex::default());
        let ssh = SshHives::new(config);
        Ok(Self { directory, local, reserved, adding, tokens, ca_certs, visited, ssh, draining })
    }

    /// The files with the tokens of the configuration's hives, which can be read again.
    pub(crate) fn token_files(&self) -> impl Iterator<Item = (&HiveId, &TokenFile)> {
        self.tokens.iter()
    }

    /// The files with the trusted certificates of the configuration's hives, which can be read again.
    pub(crate) fn ca_certs(&self) -> impl Iterator<Item = (&HiveId, &HiveTls)> {
        self.ca_certs.iter()
    }

    /// The hives of the configuration, and the saved ones.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the saved hives cannot be listed. A saved hive that cannot be read is ignored with a
    /// log line: the other hives are useful without it.
    pub(crate) async fn all(&self, config: &Config) -> Result<Vec<Arc<dyn HiveBackend>>> {
        // Those by SSH read its configuration, which takes a moment: side by side.
        let configured = config.hives.iter().map(|entry| self.open_configured(entry));
        let mut all = try_join_all(configured).await?;
        let saved = saved::read_all(&self.directory)?.into_iter().map(async |(path, saved)| {
            match saved {
                Ok(saved) if self.reserved.contains(&saved.id) => {
                    tracing::warn!(hive = %saved.id, "the configuration overrides a hive that was added over the API");
                    return None;
                }
                Ok(saved) => self.open(saved).await,
                Err(error) => Err(error),
            }
            .inspect_err(|error| {
                tracing::warn!(file = %path.display(), %error, "the file of an added hive cannot be read");
            })
            .ok()
        });
        all.extend(join_all(saved).await.into_iter().flatten());
        Ok(all)
    }

    /// A hive of the configuration.
    async fn open_configured(&self, entry: &HiveEntry) -> Result<Arc<dyn HiveBackend>> {
        if let Some(entry) = SshEntry::of_config(entry) {
            return self.ssh.open(entry).await;
        }
        let Some(url) = &entry.url else {
            let message = format!("hives: {} has no url, and no ssh", entry.id);
            return Err(Error::new(ErrorKind::Config, message));
        };
        let token = self.tokens.get(&entry.id).map(|file| file.token().clone());
        let access = self.access(url, token, self.ca_certs.get(&entry.id).cloned());
        let access = access.map_err(|error| error.context(format_args!("hives: {}", entry.id)))?;
        let hive = HttpHive::new(entry.id.clone(), access.as_given());
        Ok(self.visit(hive, access, entry.labels.clone()))
    }

    /// A saved hive.
    async fn open(&self, saved: SavedHive) -> Result<Arc<dyn HiveBackend>> {
        if let Some(entry) = SshEntry::of_saved(&saved) {
            return self.ssh.open(entry).await;
        }
        let url: HiveUrl = saved.url.unwrap_or_default().parse()?;
        let tls = saved.ca_cert.as_deref().map(HiveTls::only).transpose()?;
        let access = self.access(&url, saved.token.map(SharedToken::from), tls)?;
        let hive = HttpHive::new(saved.id, access.as_given());
        Ok(self.visit(hive, access, saved.labels))
    }

    fn access(
        &self,
        url: &HiveUrl,
        token: Option<SharedToken>,
        tls: Option<HiveTls>,
    ) -> Result<HiveAccess> {
        HiveAccess::new(url.clone(), token, self.local.clone(), tls)
    }

    fn visit(
        &self,
        hive: HttpHive,
        access: HiveAccess,
        labels: BTreeMap<String, String>,
    ) -> Arc<Visited> {
        let visited = Arc::new(Visited::new(hive, access, labels, self.draining.clone()));
        lock(&self.visited).insert(visited.info().id.clone(), visited.clone());
        visited
    }

    fn visited(&self, hive: &HiveId) -> Option<Arc<Visited>> {
        lock(&self.visited).get(hive).cloned()
    }

    fn file(&self, id: &HiveId) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// Reserves the name of a hive that is being added.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another hive has it, with the field that gave the name.
    fn claim(&self, id: &HiveId, param: &'static str) -> Result<Claim<'_>> {
        let is_free = !self.reserved.contains(id) && !self.file(id).exists();
        if is_free && lock(&self.adding).insert(id.clone()) {
            return Ok(Claim { fleet: self, id: id.clone() });
        }
        let message = format!(
            "there is a hive {id} already; remove it first, or give the new one another name"
        );
        Err(Error::new(ErrorKind::Conflict, message).with_param(param))
    }

    async fn connect_url(&self, url: &str, request: AddHive) -> Result<Arc<dyn HiveBackend>> {
        let url: HiveUrl = url.parse()?;
        let tls = request.ca_cert.as_deref().map(HiveTls::only).transpose()?;
        let access = self.access(&url, request.token.clone().map(SharedToken::from), tls)?;
        let hive = match HttpHive::connect(access.endpoint().await?).await {
            Ok(hive) => hive,
            Err(error) => return Err(access.explain(hive_probe::explain(&access, error).await)),
        };
        let id = hive.info().id.clone();
        let _claim = self.claim(&id, "url")?;
        let saved = SavedHive {
            id: id.clone(),
            url: Some(url.to_string()),
            // A token that was found is looked up again later.
            token: request.token,
            ca_cert: request.ca_cert,
            ssh: None,
            directory: None,
            arguments: Vec::new(),
            labels: request.labels.clone(),
        };
        saved.write(&self.file(&id))?;
        Ok(self.visit(hive, access, request.labels))
    }

    async fn connect_ssh(
        &self,
        target: &str,
        request: &AddHive,
        progress: AddProgress,
    ) -> Result<Arc<dyn HiveBackend>> {
        let entry = SshEntry::of_request(request, target, &ssh::host_of(target)?)?;
        let id = entry.id.clone();
        let _claim = self.claim(&id, "id")?;
        let saved = entry.to_saved();
        let connected = self.ssh.connect(entry, request, progress).await?;
        saved.write(&self.file(&id))?;
        Ok(self.ssh.keep(connected))
    }
}

#[async_trait]
impl HiveConnector for Fleet {
    async fn connect(
        &self,
        mut request: AddHive,
        progress: AddProgress,
    ) -> Result<Arc<dyn HiveBackend>> {
        request.check()?;
        match (request.url.take(), request.ssh.take()) {
            (Some(url), _) => self.connect_url(&url, request).await,
            (None, target) => {
                self.connect_ssh(&target.unwrap_or_default(), &request, progress).await
            }
        }
    }

    async fn try_out(&self, request: AddHive, progress: AddProgress) -> Result<HiveDoctor> {
        request.check()?;
        let target = request.ssh.as_deref().unwrap_or_default();
        let entry = SshEntry::of_request(&request, target, &ssh::host_of(target)?)?;
        let _claim = self.claim(&entry.id, "id")?;
        self.ssh.try_out(entry, &request, progress).await
    }

    async fn forget(&self, hive: &HiveId) -> Result<()> {
        self.ssh.forget(hive);
        lock(&self.visited).remove(hive);
        match fs::remove_file(self.file(hive)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                let message = format!("the file of hive {hive} cannot be removed: {cause}");
                Err(Error::new(ErrorKind::Storage, message).with_source(cause))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl HiveMachines for Fleet {
    fn unlock(&self, hive: &HiveId, passphrase: Secret) -> Result<()> {
        self.ssh.unlock(hive, passphrase).ok_or_else(|| {
            let message = format!("hive {hive} is not reached by SSH, so it needs no passphrase");
            Error::for_client(ErrorKind::InvalidRequest, message).with_param("passphrase")
        })
    }

    fn url(&self, hive: &HiveId) -> Option<String> {
        self.visited(hive).map(|visited| visited.url())
    }

    fn explain(&self, hive: &HiveId, error: Error) -> Error {
        self.ssh.explain(hive, error)
    }

    async fn uninstall(&self, hive: &HiveId, order: RemoveHive) -> Result<Option<RemovedHive>> {
        self.ssh.uninstall(hive, order).await
    }

    fn left_behind(&self, hive: &HiveId) -> Option<String> {
        self.ssh.left_behind(hive)
    }

    async fn examine(&self, hive: &HiveId) -> Vec<HiveCheck> {
        match self.visited(hive) {
            Some(visited) => visited.examine().await,
            None => self.ssh.examine(hive).await,
        }
    }

    async fn logs(&self, hive: &HiveId, lines: usize) -> Result<Vec<LogLine>> {
        if let Some(visited) = self.visited(hive) {
            return visited.logs(lines).await;
        }
        if let Some(lines) = self.ssh.logs(hive, lines).await {
            return lines;
        }
        let message = format!(
            "hive {hive} runs inside the queen, or is its child, so its lines are in the queen's log (`rbee logs`)"
        );
        Err(Error::new(ErrorKind::Unsupported, message))
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

    #[tokio::test]
    async fn what_is_remembered_and_damaged_does_not_keep_the_queen_from_starting() {
        let directory = tempfile::tempdir().unwrap();
        let fleet = fleet(directory.path());
        let secret = "s".repeat(50);
        let put = |name: &str, text: &str| fs::write(fleet.directory.join(name), text).unwrap();
        put("attic.json", &format!(r#"{{"id":"attic","url":"http://attic","token":"{secret}"}}"#));
        put("bad.json", &format!(r#"{{"id":"bad","url":7,"token":"{secret}"}}"#));
        put("local.json", r#"{"id":"local","url":"http://x"}"#);
        put("note.txt", "not ours");
        let all = fleet.all(&Config::default()).await.unwrap();
        let names: Vec<_> = all.iter().map(|hive| hive.info().id.as_str()).collect();
        assert_eq!(names, ["attic"]);
        assert_eq!(all[0].info().address, HiveAddress::Http);
        let error = SavedHive::read(&fleet.file(&"bad".parse().unwrap())).unwrap_err();
        assert!(!format!("{error:?}").contains(&secret), "{error:?}");
    }

    #[tokio::test]
    async fn a_machine_that_does_not_answer_is_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let fleet = fleet(directory.path());
        let connect = |url: &str| fleet.connect(AddHive::by_url(url), AddProgress::ignore());
        let error = connect("http://127.0.0.1:1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HiveUnreachable);
        let error = connect("ftp://x").await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("url")));
        assert!(saved::read_all(&fleet.directory).unwrap().is_empty());
        fleet.forget(&"never-there".parse().unwrap()).await.unwrap();
    }
}
