//! Machines that are reached by SSH: [`SshHives`].

mod checks;
mod key_passphrase;
mod progress;
mod refusal;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use rbee_core::{Error, ErrorKind, HiveBackend, HiveId, Result};
use rbee_transport_http::{
    Secret,
    server::{AddProgress, HumanDuration},
    wire::queen::{
        AddHive, HiveCheck, HiveDoctor, KeptPath, LogLine, RemoveHive, RemovedHive, RemovedPath,
    },
};
use rbee_transport_ssh::{
    ConfigOptions, ConnectOptions, HostConfig, SshHive, SshProgress, SshTarget, deploy::Programs,
};

use super::{lock, ssh_entry::SshEntry};
use crate::Config;

use key_passphrase::KeyPassphrase;
use progress::AdditionProgress;

/// Checks that this names a machine.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with what is wrong.
pub(crate) fn check_target(target: &str) -> Result<()> {
    parse(target).map(drop)
}

/// The name of the machine in this target.
pub(super) fn host_of(target: &str) -> Result<String> {
    Ok(parse(target)?.host().to_owned())
}

fn parse(target: &str) -> Result<SshTarget> {
    target.parse::<SshTarget>().map_err(|error| {
        Error::new(ErrorKind::InvalidRequest, error.to_string())
            .with_param("ssh")
            .with_source(error)
    })
}

/// The machines that are reached by SSH, and what they share.
pub(super) struct SshHives {
    programs: Arc<Programs>,
    config: ConfigOptions,
    lease: Duration,
    hives: Mutex<BTreeMap<HiveId, Known>>,
}

impl fmt::Debug for SshHives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(lock(&self.hives).iter().map(|(id, known)| (id, &known.hive)))
            .finish()
    }
}

/// A hive of the fleet.
#[derive(Clone)]
pub(super) struct Known {
    hive: Arc<SshHive>,
    entry: SshEntry,
    passphrase: Arc<KeyPassphrase>,
}

impl SshHives {
    pub(super) fn new(config: &Config) -> Self {
        let programs = Programs::new(env!("CARGO_PKG_VERSION"));
        Self {
            programs: Arc::new(match &config.programs_dir {
                Some(directory) => programs.with_path(directory),
                None => programs,
            }),
            config: config.ssh_config.as_ref().map(ConfigOptions::file).unwrap_or_default(),
            lease: *config.lease,
            hives: Mutex::default(),
        }
    }

    /// The hive of this entry, which need not be reachable.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the entry names no machine.
    pub(super) async fn open(&self, entry: SshEntry) -> Result<Arc<dyn HiveBackend>> {
        let passphrase = Arc::new(KeyPassphrase::unknown());
        let hive = self.hive(&entry, false, &passphrase, Arc::new(())).await?;
        Ok(self.keep(Known { hive: Arc::new(hive), entry, passphrase }))
    }

    /// Connects to the machine, puts the programs there, and starts the hive.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`] if it can be tried again later. [`ErrorKind::InvalidRequest`] with the field that
    /// can make it succeed: `accept_new`, `passphrase`, or `ssh`. [`ErrorKind::Config`] if the programs do not fit the
    /// machine, or do not run there.
    pub(super) async fn connect(
        &self,
        entry: SshEntry,
        request: &AddHive,
        progress: AddProgress,
    ) -> Result<Known> {
        let passphrase = Arc::new(KeyPassphrase::new(request.passphrase.clone()));
        let progress = Arc::new(AdditionProgress::new(progress));
        let hive = self.hive(&entry, request.accept_new, &passphrase, progress).await?;
        hive.connect().await.map_err(|error| refusal::explain(error, &passphrase))?;
        Ok(Known { hive: Arc::new(hive), entry, passphrase })
    }

    /// Remembers a hive of the fleet.
    pub(super) fn keep(&self, known: Known) -> Arc<dyn HiveBackend> {
        let hive = known.hive.clone();
        lock(&self.hives).insert(known.entry.id.clone(), known);
        hive
    }

    /// Connects to the machine and looks at it.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), if it cannot be looked at.
    pub(super) async fn try_out(
        &self,
        entry: SshEntry,
        request: &AddHive,
        progress: AddProgress,
    ) -> Result<HiveDoctor> {
        let passphrase = Arc::new(KeyPassphrase::new(request.passphrase.clone()));
        let steps = Arc::new(checks::Steps::new(Some(progress)));
        let hive = self.hive(&entry, request.accept_new, &passphrase, steps.clone()).await?;
        let findings =
            hive.examine().await.map_err(|error| refusal::explain(error, &passphrase))?;
        let checks = steps.checks(Ok(findings));
        Ok(HiveDoctor::new(entry.id, format!("ssh {}", entry.target), checks))
    }

    /// Takes the passphrase of the key of a hive; `None` if the hive is not reached by SSH.
    pub(super) fn unlock(&self, id: &HiveId, passphrase: Secret) -> Option<()> {
        self.known(id).map(|known| known.passphrase.set(passphrase))
    }

    /// The error of a hive, with the field of a request that can make it succeed.
    pub(super) fn explain(&self, id: &HiveId, error: Error) -> Error {
        match self.known(id) {
            Some(known) => refusal::explain(error, &known.passphrase),
            None => error,
        }
    }

    /// Makes the client of a hive.
    async fn hive(
        &self,
        entry: &SshEntry,
        accept_new: bool,
        passphrase: &Arc<KeyPassphrase>,
        progress: Arc<dyn SshProgress>,
    ) -> Result<SshHive> {
        let target = parse(&entry.target)?;
        let mut connection = ConnectOptions::default();
        connection.accept_new = accept_new;
        connection.passphrases = passphrase.clone();
        // A configuration that cannot be read is the error of the first connection.
        let resolved = HostConfig::resolve(&target, &self.config).await.ok();
        let mut hive = SshHive::new(entry.id.clone(), target)
            .with_config(self.config.clone())
            .with_connection(connection)
            .with_programs(self.programs.clone())
            .with_lease(self.lease)
            .with_arguments(entry.arguments.iter().cloned())
            .with_labels(entry.labels.clone())
            .with_progress(progress);
        if let Some(resolved) = &resolved {
            hive = hive.with_address_of(resolved);
        }
        Ok(match &entry.directory {
            Some(directory) => hive.with_directory(directory),
            None => hive,
        })
    }

    fn known(&self, id: &HiveId) -> Option<Known> {
        lock(&self.hives).get(id).cloned()
    }

    /// Removes the files of a hive that has ended from its machine; `None` if it is not reached by SSH.
    ///
    /// # Errors
    /// Those of the connection, and of the removal.
    pub(super) async fn uninstall(
        &self,
        id: &HiveId,
        order: RemoveHive,
    ) -> Result<Option<RemovedHive>> {
        let Some(known) = self.known(id) else { return Ok(None) };
        if order.keep_files {
            let path = known.hive.directory().unwrap_or_else(|| "the directory of rbee".to_owned());
            let kept = vec![KeptPath { path, reason: "the files were to be kept".to_owned() }];
            return Ok(Some(RemovedHive { removed: Vec::new(), kept }));
        }
        let removed = known.hive.uninstall(order.models).await?;
        let paths = removed.removed.into_iter().map(|(path, bytes)| RemovedPath { path, bytes });
        let kept = removed.kept.into_iter().map(|(path, reason)| KeptPath { path, reason });
        Ok(Some(RemovedHive { removed: paths.collect(), kept: kept.collect() }))
    }

    pub(super) fn left_behind(&self, id: &HiveId) -> Option<String> {
        let known = self.known(id)?;
        let directory = known.hive.directory();
        let place = directory
            .unwrap_or_else(|| "the directory of rbee, by default ~/.local/share/rbee".into());
        Some(format!(
            "on {}, its files are still in {place}, and a hive that runs there ends by itself after {} without a queen; \
             `rbee hive add` and `rbee hive rm` remove both when the machine can be reached again",
            known.entry.target,
            HumanDuration::from(self.lease)
        ))
    }

    /// Checks the way to a hive and its machine, by a connection of its own.
    pub(super) async fn examine(&self, id: &HiveId) -> Vec<HiveCheck> {
        let Some(known) = self.known(id) else { return Vec::new() };
        let steps = Arc::new(checks::Steps::new(None));
        match self.hive(&known.entry, false, &known.passphrase, steps.clone()).await {
            Ok(hive) => {
                let found = hive.examine().await;
                steps.checks(found.map_err(|error| refusal::explain(error, &known.passphrase)))
            }
            Err(error) => steps.checks(Err(error)),
        }
    }

    /// The last lines of a hive's log; `None` if it is not reached by SSH.
    pub(super) async fn logs(&self, id: &HiveId, lines: usize) -> Option<Result<Vec<LogLine>>> {
        let known = self.known(id)?;
        Some(known.hive.logs(lines).await)
    }

    pub(super) fn forget(&self, id: &HiveId) {
        lock(&self.hives).remove(id);
    }
}
