//! The identity and the address of a hive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    hive_address::HiveAddress,
    id::HiveId,
};

/// The identity and the address of a hive: fixed for the lifetime of the hive.
///
/// Other fields may be added, so create it with [`local`](Self::local) or [`http`](Self::http); change the fields that
/// differ.
///
/// ```
/// use rbee_core::hive::HiveInfo;
///
/// let mut info = HiveInfo::http("gpu-1".parse()?, "gpu-1.example.org", 7835);
/// info.labels.insert("region".into(), "eu".into());
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HiveInfo {
    /// Its name.
    pub id: HiveId,
    /// The host name of the machine, or the name that it is reached by.
    pub hostname: String,
    /// The port of its HTTP API; 0 if it has none, or a port that changes.
    pub port: u16,
    /// Its address.
    pub address: HiveAddress,
    /// The labels set by its owner: see [`HiveView::labels`](crate::cluster::HiveView::labels).
    pub labels: BTreeMap<String, String>,
}

impl HiveInfo {
    /// A hive on the queen's machine, in its process or in another one.
    pub fn local(id: HiveId) -> Self {
        let hostname = sysinfo::System::host_name().unwrap_or_default();
        Self { id, hostname, port: 0, address: HiveAddress::Local, labels: BTreeMap::new() }
    }

    /// A hive with an HTTP API, at this host and port.
    pub fn http(id: HiveId, hostname: impl Into<String>, port: u16) -> Self {
        let hostname = hostname.into();
        Self { id, hostname, port, address: HiveAddress::Http, labels: BTreeMap::new() }
    }
}

/// Parses a label, `region=eu`, into its name and its value.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] if there is no `=`, the name is not 1 to 64 letters, digits, `.`, `_` or `-`, or the
/// value is empty or longer than 256 bytes.
pub fn parse_label(text: &str) -> Result<(String, String)> {
    let is_name = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match text.trim().split_once('=') {
        Some((name, value)) if is_name(name) && (1..=256).contains(&value.len()) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => {
            let shown: String = text.chars().take(80).collect();
            let message = format!(
                "{shown:?} is not a label; allowed is name=value, region=eu for instance, with a name of letters, \
                 digits, '.', '_' and '-'"
            );
            Err(Error::new(ErrorKind::InvalidRequest, message))
        }
    }
}
