//! Everything that is checked before the queen takes its data directory, its port and its database.
//!
//! The start begins with it, and `--check-config` is nothing else, so both fail alike. Nothing is created, changed,
//! locked or connected, so a running queen is not disturbed.

use std::path::Path;

use rbee_core::{Error, ErrorKind, ModelRef, Queen, Result, private_files};
use rbee_transport_http::{Program, SharedToken, TokenFile, server::TlsFiles};

use crate::{
    Config, Embedded, aliases, bundled, features,
    home::Home,
    policy_file::{Policy, PolicyFile},
    worker,
};

/// What was read on the way; the start goes on with it.
pub(crate) struct Prepared {
    /// The token that clients must send.
    pub(crate) token: Option<SharedToken>,
    /// Its file, which can be read again.
    pub(crate) token_file: Option<TokenFile>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) policy: Option<(PolicyFile, Policy)>,
    #[cfg(feature = "hub")]
    pub(crate) hub: rbee_core::models::Hub,
    /// The program of the workers that this process starts.
    pub(crate) program: Option<Program>,
    /// What an operator should know, and does not prevent the start.
    pub(crate) warnings: Vec<String>,
}

/// Checks the configuration as [`start`](crate::start) does before it takes the data directory and the port: the rules
/// between keys, the files that it names (tokens, certificates, the policy), aliases, tenants, engines, and whether the
/// directories can be used. Returns warnings about what does not prevent a start. Nothing is created or changed, so a
/// queen may run with the same configuration.
///
/// # Errors
/// As [`start`](crate::start).
pub fn check(config: &Config) -> Result<Vec<String>> {
    prepare(config).map(|prepared| prepared.warnings)
}

pub(crate) fn prepare(config: &Config) -> Result<Prepared> {
    config.check()?;
    features::check(config)?;
    let token = config.client_token()?.map(SharedToken::from);
    let token_file = match (&token, &config.token_file) {
        (Some(token), Some(path)) => Some(TokenFile::new(path, token.clone())),
        _ => None,
    };
    let mut warnings = config.exposed_secrets();
    for root in config.file_roots.iter() {
        rbee_core::models::check_file_root(root).map_err(|error| error.context("file_roots"))?;
    }
    Home::check(&config.data_dir)?;
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(certificates), Some(key)) => Some(
            TlsFiles::open(certificates, key)
                .map_err(|error| error.context("tls_cert, tls_key"))?,
        ),
        _ => None,
    };
    warnings.extend(
        tls.as_ref()
            .and_then(TlsFiles::validity_warning)
            .map(|warning| format!("tls_cert: {warning}")),
    );
    let policy = config.policy.as_deref().map(PolicyFile::open).transpose()?;
    check_names(config)?;
    check_ssh(config)?;
    #[cfg(feature = "hub")]
    let hub = config.hub()?;
    let program = check_local_hive(config)?;
    Ok(Prepared {
        token,
        token_file,
        tls,
        policy,
        #[cfg(feature = "hub")]
        hub,
        program,
        warnings,
    })
}

/// Checks the files and directories for machines that are reached by SSH.
fn check_ssh(config: &Config) -> Result<()> {
    let missing = |key: &str, path: &Path, what: &str| {
        let message = format!("{key} is {}; there is no such {what}", path.display());
        Err(Error::new(ErrorKind::Config, message))
    };
    match (&config.programs_dir, &config.ssh_config) {
        (Some(path), _) if !path.is_dir() => missing("programs_dir", path, "directory"),
        (_, Some(path)) if !path.is_file() => missing("ssh_config", path, "file"),
        _ => Ok(()),
    }
}

/// Checks the aliases, the limits that name models, and the settings.
fn check_names(config: &Config) -> Result<()> {
    // Its files are written at the start.
    let bundled = ModelRef::file(absolute(&bundled::directory(&config.data_dir))?)?;
    let mut builder = Queen::builder().settings(config.settings());
    for (name, model) in aliases::resolved(config, Some(bundled))? {
        builder = builder.alias(name, model.as_str());
    }
    builder.check(config.tenants.iter().map(|(tenant, limits)| (tenant, &limits.0)))
}

/// Checks the programs, the engines and the directories of the hive on this machine.
fn check_local_hive(config: &Config) -> Result<Option<Program>> {
    let directories = [("models_dir", &config.models_dir), ("hub_cache", &config.hub_cache)];
    match config.local_hive {
        Embedded::Off => return Ok(None),
        Embedded::Inside => {}
        Embedded::Processes => {
            for engine in config.engines.iter() {
                engine.0.validate().map_err(|error| error.context("engines"))?;
            }
        }
        Embedded::Daemon => {
            // A name without a directory is searched in PATH.
            let program = config.hive_program.as_deref();
            let named = program.filter(|program| program.components().count() > 1);
            if let Some(program) = named.filter(|program| !program.is_file()) {
                let program = program.display();
                let message = format!("hive_program is {program}; there is no such file");
                return Err(Error::new(ErrorKind::Config, message));
            }
            return Ok(None);
        }
    }
    for (key, directory) in directories {
        if let Some(directory) = directory {
            private_files::check_directory(directory).map_err(|error| error.context(key))?;
        }
    }
    match config.local_hive {
        Embedded::Processes => worker::program(config.worker_program.as_deref()).map(Some),
        _ => Ok(None),
    }
}

fn absolute(path: &Path) -> Result<std::path::PathBuf> {
    std::path::absolute(path).map_err(|cause| crate::home::unusable(path, cause))
}
