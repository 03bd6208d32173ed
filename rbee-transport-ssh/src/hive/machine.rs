//! What is done on the machine of a hive by a connection of its own: looking at it, ending the hive, removing it.

use std::time::Duration;

use rbee_core::Result;

use super::SshHive;
use crate::{
    connection::Connection,
    deploy::{self, DeployError, Finding, MachineFacts, Place, RemoveOptions, Removed},
};

/// How long a hive that is about to end may take before its files are removed.
const END_GRACE: Duration = Duration::from_secs(10);

impl SshHive {
    /// Connects to the machine and looks at it. Changes nothing there.
    ///
    /// # Errors
    /// [`ErrorKind::HiveUnreachable`](rbee_core::ErrorKind::HiveUnreachable) if it can be tried again later, [`ErrorKind::Config`](rbee_core::ErrorKind::Config) otherwise. The source is an
    /// [`SshError`](crate::SshError) or a [`DeployError`].
    pub async fn look(&self) -> Result<MachineFacts> {
        self.on_machine(async |connection| {
            deploy::probe(connection, self.directory.as_deref(), &self.reporter()).await
        })
        .await
    }

    /// Connects to the machine, looks at it, and chooses the programs that fit it. Changes nothing there.
    ///
    /// # Errors
    /// As [`look`](Self::look). Programs that are missing are a finding, and no error.
    pub async fn examine(&self) -> Result<Vec<Finding>> {
        self.on_machine(async |connection| {
            let reporter = self.reporter();
            let facts = deploy::probe(connection, self.directory.as_deref(), &reporter).await?;
            let programs = deploy::choose(&self.programs, &facts, &reporter).await;
            Ok(deploy::findings(&facts, programs.as_ref()))
        })
        .await
    }

    /// Removes from the machine what was put there, after [`shutdown`](rbee_core::HiveBackend::shutdown). Its models are
    /// kept, unless `models` is set. A hive that still runs is ended, and one that has ended is not started.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub async fn uninstall(&self, models: bool) -> Result<Removed> {
        let _one = self.changing.lock().await;
        let mut options = RemoveOptions::new(self.info.id.as_str());
        options.models = models;
        let removed = self
            .on_machine(async |connection| match self.root(connection).await? {
                Some(root) => {
                    // It may be about to end, and what runs cannot be removed.
                    deploy::stop(connection, &root, &options.hive, END_GRACE).await?;
                    deploy::remove(connection, &root, &options, &self.reporter()).await
                }
                None => Ok(Removed::default()),
            })
            .await?;
        self.link.forget();
        Ok(removed)
    }

    /// Does something with a connection of its own.
    async fn on_machine<T>(
        &self,
        act: impl AsyncFnOnce(&Connection) -> Result<T, DeployError>,
    ) -> Result<T> {
        let connection = self.connection().await.map_err(|error| self.refused(error))?;
        let done = act(&connection).await;
        connection.close().await;
        done.map_err(|error| self.failed(error))
    }

    /// The directory in which the hive has its state; `None` if there is none on the machine.
    async fn root(&self, connection: &Connection) -> Result<Option<String>, DeployError> {
        if let Some(installed) = self.link.installed() {
            return Ok(Some(installed.root));
        }
        let facts = deploy::probe(connection, self.directory.as_deref(), &self.reporter()).await?;
        let is_there =
            |place: &&Place| place.hives.iter().any(|hive| *hive == *self.info.id.as_str());
        Ok(facts.places.iter().find(is_there).map(|place| place.path.clone()))
    }

    /// Ends the hive if it runs, by a connection of its own. It is not started for that.
    pub(super) async fn end(&self, grace: Duration) -> Result<()> {
        self.on_machine(async |connection| {
            if let Some(root) = self.root(connection).await? {
                deploy::stop(connection, &root, self.info.id.as_str(), grace).await?;
            }
            Ok(())
        })
        .await
    }
}
