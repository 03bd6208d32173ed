//! [`SshEntry`]: a machine that is reached by SSH, wherever its description comes from.

use std::collections::BTreeMap;

use rbee_core::{Error, ErrorKind, HiveId, Result};
use rbee_transport_http::wire::queen::AddHive;

use super::saved::SavedHive;
use crate::HiveEntry;

/// The longest name of a hive.
const MOST_NAME: usize = 64;

/// A machine that is reached by SSH, and the hive there.
#[derive(Clone, Debug)]
pub(super) struct SshEntry {
    pub(super) id: HiveId,
    pub(super) target: String,
    pub(super) directory: Option<String>,
    pub(super) arguments: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

impl SshEntry {
    /// One of the configuration, if it is reached by SSH.
    pub(super) fn of_config(entry: &HiveEntry) -> Option<Self> {
        Some(Self {
            id: entry.id.clone(),
            target: entry.ssh.clone()?,
            directory: entry.directory.clone(),
            arguments: entry.arguments.clone(),
            labels: entry.labels.clone(),
        })
    }

    /// A saved one, if it is reached by SSH.
    pub(super) fn of_saved(saved: &SavedHive) -> Option<Self> {
        Some(Self {
            id: saved.id.clone(),
            target: saved.ssh.clone()?,
            directory: saved.directory.clone(),
            arguments: saved.arguments.clone(),
            labels: saved.labels.clone(),
        })
    }

    /// The one of a request that names this machine.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the name of the machine is no name of a hive, and none was given.
    pub(super) fn of_request(request: &AddHive, target: &str, host: &str) -> Result<Self> {
        let id = match &request.id {
            Some(id) => id.clone(),
            None => default_id(host)?,
        };
        Ok(Self {
            id,
            target: target.to_owned(),
            directory: request.directory.clone(),
            arguments: request.arguments.clone(),
            labels: request.labels.clone(),
        })
    }

    pub(super) fn to_saved(&self) -> SavedHive {
        SavedHive {
            id: self.id.clone(),
            url: None,
            token: None,
            ca_cert: None,
            ssh: Some(self.target.clone()),
            directory: self.directory.clone(),
            arguments: self.arguments.clone(),
            labels: self.labels.clone(),
        }
    }
}

/// The name of a machine as that of its hive. What a name of a hive must not have becomes a hyphen.
fn default_id(host: &str) -> Result<HiveId> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = host.chars().map(|c| if allowed(c) { c } else { '-' });
    let name: String = name.take(MOST_NAME).collect();
    let name = name.trim_matches(['-', '.']);
    HiveId::new(name).map_err(|_| {
        let message = format!(
            "{host:?} gives no name for the hive; give one as id (--name), 1 to {MOST_NAME} characters of a-z A-Z 0-9 . \
             _ -"
        );
        Error::for_client(ErrorKind::InvalidRequest, message).with_param("id")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hive_has_the_name_of_its_machine_as_far_as_it_can() {
        for (host, id) in [
            ("gpu-box", "gpu-box"),
            ("gpu.lan", "gpu.lan"),
            ("2001:db8::7", "2001-db8--7"),
            ("::1", "1"),
            ("b\u{fc}ro", "b-ro"),
        ] {
            assert_eq!(default_id(host).unwrap().as_str(), id, "{host}");
        }
        let error = default_id("\u{fc}").unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("id")));
    }
}
