//! The rules between keys, and the secrets that they name.

use std::{borrow::Cow, collections::BTreeSet, fmt::Debug, time::Duration};

use rbee_core::{Error, ErrorKind, ModelRef, Result, settings::Mode};
use rbee_transport_http::{Token, server::LogStyle};

use super::{Config, Embedded};
use crate::{HiveUrl, hive_tls::HiveTls};

impl Config {
    /// The log level and format.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the level is invalid.
    pub fn log_style(&self) -> Result<LogStyle> {
        LogStyle::new(self.log_format, &*self.log_level)
    }

    /// The token that clients must send, from the variable or the file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if its file cannot be read, or holds something else.
    pub fn client_token(&self) -> Result<Option<Token>> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(file)) => Token::from_file(file).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Checks the rules between keys.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the conflict. The message begins with the key.
    pub fn check(&self) -> Result<()> {
        self.settings().validate()?;
        if self.token.is_some() && self.token_file.is_some() {
            return wrong("token and token_file are both given; keep one of them");
        }
        self.check_reach()?;
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return wrong("tls_cert is given without tls_key; TLS needs both"),
            (None, Some(_)) => return wrong("tls_key is given without tls_cert; TLS needs both"),
            _ => {}
        }
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        within("lease", *self.lease, second, day, "")?;
        within("drain_grace", *self.drain_grace, Duration::ZERO, day, "")?;
        let none = " (backups_kept: 0 makes none)";
        within("backup_interval", *self.backup_interval, second, 365 * day, none)?;
        within("backups_kept", self.backups_kept, 0, 1_000, "")?;
        within("worker_slots", self.worker_slots, 1, 1_024, "")?;
        if let Some(context) = self.worker_context {
            within("worker_context", context, 2, u32::MAX, "")?;
        }
        if *self.lease <= *self.hive_lost_after {
            return wrong(format!(
                "lease is {:?}; allowed is more than hive_lost_after, {:?}, because a hive that ends before it is \
                 given up takes its jobs along",
                *self.lease, *self.hive_lost_after
            ));
        }
        let without_processes = match self.local_hive {
            Embedded::Processes | Embedded::Daemon => None,
            Embedded::Inside => Some("inside"),
            Embedded::Off => Some("off"),
        };
        if let Some(how) = without_processes.filter(|_| !self.engines.is_empty()) {
            return wrong(format!(
                "engines are for workers that are processes on this machine, and local_hive is {how}; allowed with \
                 engines are processes and daemon. A hive on another machine gets its engines from --engines of \
                 rbee-hive"
            ));
        }
        self.log_style()?;
        let mut names = BTreeSet::new();
        for hive in self.hives.iter() {
            if !names.insert(&hive.id) {
                return wrong(format!("hives has {} twice; each needs a name of its own", hive.id));
            }
            let context = |error: Error| error.context(format_args!("hives: {}", hive.id));
            if let Some(target) = &hive.ssh {
                crate::fleet::check_target(target).map_err(|error| {
                    let message = format!("hives: {}: {}", hive.id, error.message());
                    Error::new(ErrorKind::Config, message).with_source(error)
                })?;
            }
            if let Some(file) = &hive.token_file {
                Token::from_file(file).map_err(context)?;
            }
            if hive.url.as_ref().is_some_and(HiveUrl::is_tls) {
                let opened = hive.ca_cert.as_deref().map_or_else(HiveTls::system, HiveTls::open);
                opened.map_err(context)?;
            }
        }
        for (name, model) in self.models.iter() {
            let parsed = model.parse::<ModelRef>();
            parsed.map_err(|error| error.context(format_args!("models: {name}")))?;
        }
        Ok(())
    }

    /// Checks that a token is required, unless only this machine can reach the queen.
    fn check_reach(&self) -> Result<()> {
        let has_token = self.client_token()?.is_some();
        if !has_token && !self.listen_host.is_loopback() {
            return wrong(format!(
                "listen_host is {}, which other machines can reach, and there is no token; make one with \
                 `(umask 077; openssl rand -hex 32 > queen.token)` and give it with --token-file queen.token, or \
                 listen on 127.0.0.1",
                self.listen_host
            ));
        }
        if self.mode == Mode::Home {
            return Ok(());
        }
        if !has_token {
            return wrong(
                "mode is platform, and there is no token: a tenant that sends no key would be the operator; make one \
                 with `(umask 077; openssl rand -hex 32 > queen.token)` and give it with token_file (--token-file \
                 queen.token) or the variable RBEE_TOKEN",
            );
        }
        match &self.policy {
            None => Ok(()),
            Some(policy) => wrong(format!(
                "policy is {}, and mode is platform, whose policy is built in; take one of them out",
                policy.display()
            )),
        }
    }

    /// Warnings about files with secrets that other users of this machine can read, with the key that names each.
    pub(crate) fn exposed_secrets(&self) -> Vec<String> {
        let own = [
            ("token_file", &self.token_file),
            ("hub_token_file", &self.hub_token_file),
            ("tls_key", &self.tls_key),
        ];
        let hives = self.hives.iter().map(|hive| ("hives: token_file", &hive.token_file));
        let exposed = own.into_iter().chain(hives).filter_map(|(key, path)| {
            let exposed = rbee_core::private_files::exposed(path.as_ref()?)?;
            Some(format!("{key}: {exposed}"))
        });
        exposed.collect()
    }
}

fn within<T: PartialOrd + Debug>(key: &str, value: T, least: T, most: T, more: &str) -> Result<()> {
    if value < least || value > most {
        return wrong(format!("{key} is {value:?}; allowed is {least:?} to {most:?}{more}"));
    }
    Ok(())
}

fn wrong<T>(message: impl Into<Cow<'static, str>>) -> Result<T> {
    Err(Error::new(ErrorKind::Config, message))
}
