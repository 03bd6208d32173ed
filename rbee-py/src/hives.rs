//! Machines that are given from Python: [`Hive`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pyo3::{exceptions::PyTypeError, prelude::*, types::PyDict};
use rbee_core::{Error, ErrorKind, HiveBackend, HiveId, hive::ModelHost};
use rbee_transport_http::{
    Token,
    client::{Endpoint, HttpHive},
    dial::Tcp,
};
use rbee_transport_ssh::{
    ConfigOptions, ConnectOptions, Passphrase, Passphrases, SshEvent, SshHive, SshProgress,
    deploy::Programs,
};

use crate::{hive::PyHive, options::Options, progress::Calls};

/// A machine, as it was described, or an object that is one.
pub(crate) enum Hive {
    Ssh(Box<Ssh>),
    Url(Url),
    Object(PyHive),
}

pub(crate) struct Ssh {
    id: HiveId,
    target: String,
    config_file: Option<PathBuf>,
    accept_new: bool,
    passphrase: Option<String>,
    directory: Option<String>,
    arguments: Vec<String>,
    labels: BTreeMap<String, String>,
    lease: Option<Duration>,
    programs: Option<PathBuf>,
    progress: Option<Arc<Calls>>,
}

pub(crate) struct Url {
    host: String,
    port: u16,
    token: Option<Token>,
}

impl Hive {
    /// Reads the description: an object with `_options()`, which returns a dict; or takes an object that is a hive
    /// itself. `programs` is the file with all programs, or the directory that they are in.
    ///
    /// # Errors
    /// `TypeError`, or the error of rbee, with what is wrong.
    pub(crate) fn read(
        object: &Bound<'_, PyAny>,
        programs: Option<&Path>,
        event_loop: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        if !object.hasattr("_options")? {
            return PyHive::new(object, event_loop).map(Self::Object);
        }
        let options = object.call_method0("_options")?;
        let options = Options::new(options.cast_into::<PyDict>().map_err(PyErr::from)?);
        let required = |name: &str| PyTypeError::new_err(format!("a hive needs {name}"));
        if let Some(host) = options.get("host")? {
            let token = options.parsed::<Token>("token")?;
            let port = options.get("port")?.ok_or_else(|| required("port"))?;
            return Ok(Self::Url(Url { host, port, token }));
        }
        Ok(Self::Ssh(Box::new(Ssh {
            id: options.parsed("id")?.ok_or_else(|| required("id"))?,
            target: options.get("target")?.ok_or_else(|| required("target"))?,
            config_file: options.get("config_file")?,
            accept_new: options.get("accept_new")?.unwrap_or(false),
            passphrase: options.get("passphrase")?,
            directory: options.get("directory")?,
            arguments: options.get("arguments")?.unwrap_or_default(),
            labels: options.get("labels")?.unwrap_or_default(),
            lease: options.seconds("lease")?,
            programs: options.get("programs")?.or_else(|| programs.map(Path::to_owned)),
            progress: options.get("progress")?.map(|call| Arc::new(Calls::new(call))),
        })))
    }

    /// The hive, connected.
    ///
    /// # Errors
    /// Those of the connection, with what to do.
    pub(crate) async fn backend(self) -> rbee_core::Result<Arc<dyn HiveBackend>> {
        match self {
            Self::Ssh(ssh) => ssh.connect().await,
            Self::Url(url) => url.connect().await,
            Self::Object(hive) => Ok(Arc::new(hive)),
        }
    }
}

impl Ssh {
    async fn connect(self) -> rbee_core::Result<Arc<dyn HiveBackend>> {
        let target = self.target.parse().map_err(|error: rbee_transport_ssh::SshError| {
            Error::new(ErrorKind::InvalidRequest, error.to_string()).with_param("target")
        })?;
        let mut connection = ConnectOptions::default();
        connection.accept_new = self.accept_new;
        if let Some(passphrase) = self.passphrase {
            connection.passphrases = Arc::new(Known(passphrase));
        }
        let programs = Programs::new(env!("CARGO_PKG_VERSION"));
        let programs = match self.programs {
            Some(path) => programs.with_path(path),
            None => programs,
        };
        let mut hive = SshHive::new(self.id, target)
            .with_config(self.config_file.map(ConfigOptions::file).unwrap_or_default())
            .with_connection(connection)
            .with_programs(Arc::new(programs))
            .with_arguments(self.arguments)
            .with_labels(self.labels);
        if let Some(lease) = self.lease {
            hive = hive.with_lease(lease);
        }
        if let Some(directory) = self.directory {
            hive = hive.with_directory(directory);
        }
        if let Some(progress) = self.progress {
            hive = hive.with_progress(Arc::new(Steps(progress)));
        }
        hive.connect().await?;
        Ok(Arc::new(hive))
    }
}

impl Url {
    async fn connect(self) -> rbee_core::Result<Arc<dyn HiveBackend>> {
        let endpoint = Endpoint::new(Arc::new(Tcp::new(self.host)), self.port, self.token);
        let hive = HttpHive::connect(endpoint).await?;
        tracing::debug!(hive = %hive.info().id, "connected");
        Ok(Arc::new(hive))
    }
}

/// A passphrase that was given.
struct Known(String);

#[async_trait]
impl Passphrases for Known {
    async fn passphrase(&self, _key_file: &Path, attempt: u32) -> Option<Passphrase> {
        (attempt == 1).then(|| Passphrase::new(self.0.clone()))
    }
}

/// Tells a function of Python each step.
struct Steps(Arc<Calls>);

impl SshProgress for Steps {
    fn event(&self, event: SshEvent) {
        self.0.call(move |py| crate::progress::step(py, &event));
    }
}
