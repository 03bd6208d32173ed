//! The description of a repository on the hub.

use std::sync::atomic::AtomicBool;

use serde::Deserialize;

use super::{Hub, HubError, http::Failure};
use crate::{
    digest::{Digest, unhex},
    error::Result,
    models::{hub_cache::is_commit, manifest::check_path},
};

/// The largest description of a repository, in bytes.
const MAX_INFO: u64 = 32 << 20;

/// A repository at one commit.
#[derive(Debug)]
pub(super) struct Info {
    pub(super) commit: String,
    pub(super) files: Vec<HubFile>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub(in crate::models) struct HubFile {
    pub(in crate::models) path: String,
    pub(in crate::models) bytes: u64,
    pub(in crate::models) check: Check,
}

/// The checksum of a file; the hub's cache names the file's blob by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::models) enum Check {
    /// Large files.
    Sha256(Digest),
    /// Small files: the Git object id.
    Git([u8; 20]),
}

impl Check {
    /// The name of the blob.
    pub(in crate::models) fn name(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.hex(),
            Self::Git(id) => crate::digest::hex(id),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 20];
        let git = unhex(text, &mut id).then_some(Self::Git(id));
        git.or_else(|| Digest::from_hex(text).map(Self::Sha256))
    }
}

#[derive(Deserialize)]
struct RepoInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// The current commit of a revision, and its files.
    pub(super) fn info(
        &self,
        org: &str,
        repo: &str,
        revision: &str,
        abandoned: &AtomicBool,
    ) -> Result<Info> {
        let attempt = || self.ask_info(org, repo, revision, abandoned);
        self.shared.persist(abandoned, || 0, attempt)
    }

    /// The same, in one attempt.
    pub(super) fn ask_info(
        &self,
        org: &str,
        repo: &str,
        revision: &str,
        abandoned: &AtomicBool,
    ) -> Result<Info, Failure> {
        let what = format!("{org}/{repo} at revision {revision}");
        let shared = &self.shared;
        let request = self.repository(org, repo, revision).info_request();
        let url = request.uri_ref().map(|url| format!("{url}?blobs=true")).unwrap_or_default();
        // Not sent by the library, which would send a token to another port of the same host.
        let mut response = shared.get(&url, 0, &what)?;
        if response.status().as_u16() != 200 {
            return Err(shared.refused(&response, &what, &self.page(org, repo)));
        }
        let body = shared.body(&mut response, MAX_INFO, abandoned, &what)?;
        let malformed = |why: String| HubError::Malformed { what: what.clone(), why };
        let info: RepoInfo = serde_json::from_slice(&body)
            .map_err(|error| Failure::Again(malformed(error.to_string()), None))?;
        checked(info).map_err(|why| Failure::from(malformed(why)))
    }

    /// The web page on which a person can read about the repository and accept its terms.
    pub(super) fn page(&self, org: &str, repo: &str) -> String {
        format!("{}/{org}/{repo}", self.shared.endpoint)
    }
}

/// Checks the description: it comes from outside and names files on this machine.
fn checked(info: RepoInfo) -> Result<Info, String> {
    if !is_commit(&info.sha) {
        return Err(format!("{:?} is not a commit", info.sha.chars().take(80).collect::<String>()));
    }
    let mut files = Vec::new();
    for Sibling { rfilename: path, size, blob_id, lfs } in info.siblings {
        // A worker does not need a file whose path is not allowed on a disk.
        if check_path(&path).is_err() {
            continue;
        }
        let name = match &lfs {
            Some(lfs) => lfs.sha256.as_deref().or(lfs.oid.as_deref()),
            None => blob_id.as_deref(),
        };
        let check =
            name.and_then(Check::parse).ok_or_else(|| format!("{path:?} has no checksum"))?;
        let bytes = lfs.and_then(|lfs| lfs.size).or(size);
        let bytes = bytes.ok_or_else(|| format!("{path:?} has no size"))?;
        files.push(HubFile { path, bytes, check });
    }
    Ok(Info { commit: info.sha, files })
}
