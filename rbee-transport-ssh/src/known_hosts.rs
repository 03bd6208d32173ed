//! The keys of machines that a person has accepted: [`KnownHosts`].

mod certificate;
mod line;
mod names;
mod record;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use russh::keys::{Algorithm, Certificate, PublicKey, ssh_key::public::KeyData};

use crate::{
    error::{HostKeyPlace, SshError},
    fingerprint::Fingerprint,
};

use line::{HostKeyLine, Marker};
use names::Names;

/// The most bytes of one file.
const MOST_BYTES: u64 = 16 << 20;
/// The port without which a name is recorded.
const STANDARD_PORT: u16 = 22;
/// The beginning of a revocation list in OpenSSH's binary format.
const BINARY_REVOCATIONS: &[u8] = b"SSHKRL\n\0";

/// The contents of the files with host keys: `known_hosts` of the person and of the system.
///
/// Read are plain and hashed names, `[host]:port`, patterns with `*`, `?` and `!`, `@revoked` and `@cert-authority`. A
/// line that cannot be used is left out and reported ([`unusable`](Self::unusable)); the others stay valid.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownHosts {
    lines: Vec<HostKeyLine>,
    unusable: Vec<UnusableLine>,
    files: Vec<PathBuf>,
}

/// A line that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnusableLine {
    /// The line.
    pub(crate) place: HostKeyPlace,
    /// Why it cannot be used.
    pub(crate) reason: String,
}

impl fmt::Display for UnusableLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.reason)
    }
}

/// The names under which the key of a machine is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LookupName {
    /// `gpu.lan`, or `[gpu.lan]:2222` with another port.
    recorded: String,
    /// The name without the port, if there is one. OpenSSH accepts a key under this name too.
    without_port: Option<String>,
}

impl LookupName {
    pub(crate) fn new(host_name: &str, port: u16, alias: Option<&str>) -> Self {
        // An alias stands for one key, so it has no port.
        let (name, port) = match alias {
            Some(alias) => (alias, STANDARD_PORT),
            None => (host_name, port),
        };
        let name = name.to_ascii_lowercase();
        match port {
            STANDARD_PORT => Self { recorded: name, without_port: None },
            port => Self { recorded: format!("[{name}]:{port}"), without_port: Some(name) },
        }
    }

    /// The name as it is recorded.
    pub(crate) fn as_str(&self) -> &str {
        &self.recorded
    }

    /// The name that a certificate must have.
    fn principal(&self) -> &str {
        self.without_port.as_deref().unwrap_or(&self.recorded)
    }

    fn is_in(&self, names: &Names) -> bool {
        names.include(&self.recorded)
    }

    fn is_in_without_port(&self, names: &Names) -> bool {
        self.without_port.as_deref().is_some_and(|name| names.include(name))
    }
}

/// What the files say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This line has it.
    Known(HostKeyPlace),
    /// This line trusts the authority of its certificate.
    Certified(HostKeyPlace),
    /// No line has a key of this type; these have other types.
    Unknown { others: Vec<(Fingerprint, HostKeyPlace)> },
    /// These lines have other keys of this type.
    Changed { recorded: Vec<(Fingerprint, HostKeyPlace)> },
    /// This line revokes it, or the authority of its certificate.
    Revoked(HostKeyPlace),
    /// This line trusts its authority, and the certificate is not valid.
    InvalidCertificate(HostKeyPlace, String),
}

impl KnownHosts {
    /// Reads files. Those that are missing have no keys.
    ///
    /// `revoked` is a file with revoked keys, as in `RevokedHostKeys`: one public key in each line.
    ///
    /// # Errors
    /// [`SshError::HostKeyFile`] if a file exists and cannot be read. `revoked` must exist.
    pub(crate) fn read(files: &[PathBuf], revoked: Option<&Path>) -> Result<Self, SshError> {
        let failed =
            |path: &Path, reason: String| SshError::HostKeyFile { path: path.into(), reason };
        let mut known = Self { files: files.to_vec(), ..Self::default() };
        for path in files {
            match contents(path) {
                Ok(text) => known.add(path, &text),
                Err(cause) if is_missing(&cause) => {}
                Err(cause) => return Err(failed(path, cause.to_string())),
            }
        }
        if let Some(path) = revoked {
            let text = contents(path).map_err(|cause| failed(path, cause.to_string()))?;
            if text.starts_with(BINARY_REVOCATIONS) {
                let reason = "it is a binary revocation list, which is not supported; write the public keys into it, \
                              one in each line";
                return Err(failed(path, reason.into()));
            }
            known.add_revoked(path, &text).map_err(|reason| failed(path, reason))?;
        }
        Ok(known)
    }

    /// The lines that were left out.
    pub(crate) fn unusable(&self) -> &[UnusableLine] {
        &self.unusable
    }

    /// The files that were read.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn add(&mut self, path: &Path, text: &[u8]) {
        let file: Arc<Path> = path.into();
        for (index, text) in text.split(|byte| *byte == b'\n').enumerate() {
            let place = HostKeyPlace { file: file.clone(), line: index + 1 };
            match line::read(text, place.clone()) {
                Ok(line) => self.lines.extend(line),
                Err(reason) => self.unusable.push(UnusableLine { place, reason }),
            }
        }
    }

    /// Adds a list of public keys that no host may have. A line that cannot be read is an error: it may revoke a key.
    fn add_revoked(&mut self, path: &Path, text: &[u8]) -> Result<(), String> {
        let file: Arc<Path> = path.into();
        for (index, text) in text.split(|byte| *byte == b'\n').enumerate() {
            let text = String::from_utf8_lossy(text);
            let mut rest = text.trim();
            if rest.is_empty() || rest.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let key = line::key(&mut rest).map_err(|reason| format!("line {line}: {reason}"))?;
            let place = HostKeyPlace { file: file.clone(), line };
            let names = Names::Patterns(vec!["*".into()]);
            self.lines.push(HostKeyLine { place, marker: Marker::Revoked, names, key });
        }
        Ok(())
    }

    /// What the files say about the key of this host.
    pub(crate) fn check(&self, name: &LookupName, key: &KeyData) -> Verdict {
        if let Some(place) = self.revoked(name, key) {
            return Verdict::Revoked(place);
        }
        let recorded = || self.marked(Marker::HostKey).filter(|line| name.is_in(&line.names));
        let fingerprints = |lines: Vec<&HostKeyLine>| {
            lines.into_iter().map(|line| (Fingerprint::of(&line.key), line.place.clone())).collect()
        };
        if let Some(line) = recorded().find(|line| line.key == *key) {
            return Verdict::Known(line.place.clone());
        }
        let (same_type, others): (Vec<_>, Vec<_>) =
            recorded().partition(|line| line.key.algorithm() == key.algorithm());
        if !same_type.is_empty() {
            return Verdict::Changed { recorded: fingerprints(same_type) };
        }
        let mut without_port =
            self.marked(Marker::HostKey).filter(|line| name.is_in_without_port(&line.names));
        match without_port.find(|line| line.key == *key) {
            Some(line) => Verdict::Known(line.place.clone()),
            None => Verdict::Unknown { others: fingerprints(others) },
        }
    }

    /// What the files say about the certificate of this host, or about its key if no line trusts its authority.
    pub(crate) fn check_certificate(
        &self,
        name: &LookupName,
        certificate: &Certificate,
        now: SystemTime,
    ) -> Verdict {
        let authority = certificate.signature_key();
        for key in [certificate.public_key(), authority] {
            if let Some(place) = self.revoked(name, key) {
                return Verdict::Revoked(place);
            }
        }
        match self.authorities(name).find(|line| line.key == *authority) {
            None => self.check(name, certificate.public_key()),
            Some(line) => match certificate::check(certificate, name.principal(), now) {
                Ok(()) => Verdict::Certified(line.place.clone()),
                Err(reason) => Verdict::InvalidCertificate(line.place.clone(), reason),
            },
        }
    }

    /// Returns true if a line trusts an authority for this host.
    pub(crate) fn has_authority(&self, name: &LookupName) -> bool {
        self.authorities(name).next().is_some()
    }

    /// The types of keys that are recorded for this host.
    pub(crate) fn algorithms(&self, name: &LookupName) -> Vec<Algorithm> {
        let recorded = |names: &Names| name.is_in(names) || name.is_in_without_port(names);
        let lines = self.marked(Marker::HostKey).filter(|line| recorded(&line.names));
        lines.map(|line| line.key.algorithm()).collect()
    }

    fn marked(&self, marker: Marker) -> impl Iterator<Item = &HostKeyLine> {
        self.lines.iter().filter(move |line| line.marker == marker)
    }

    fn authorities(&self, name: &LookupName) -> impl Iterator<Item = &HostKeyLine> {
        let fits = move |line: &&HostKeyLine| {
            name.is_in(&line.names) || name.is_in_without_port(&line.names)
        };
        self.marked(Marker::CertificateAuthority).filter(fits)
    }

    /// The line that revokes a key for this host, with or without its port.
    fn revoked(&self, name: &LookupName, key: &KeyData) -> Option<HostKeyPlace> {
        let mut lines = self.marked(Marker::Revoked).filter(|line| line.key == *key);
        let fits = |names: &Names| name.is_in(names) || name.is_in_without_port(names);
        lines.find(|line| fits(&line.names)).map(|line| line.place.clone())
    }
}

/// Records the key of a host in a file that may not exist yet.
///
/// # Errors
/// [`SshError::HostKeyRecord`].
pub(crate) fn record(
    path: &Path,
    name: &LookupName,
    key: &KeyData,
    is_hashed: bool,
) -> Result<(), SshError> {
    let failed = |reason: String| SshError::HostKeyRecord {
        host: name.as_str().into(),
        path: path.into(),
        reason,
    };
    let names = match is_hashed {
        true => names::hashed(name.as_str()).map_err(|cause| failed(cause.to_string()))?,
        false => name.as_str().into(),
    };
    let encoded = PublicKey::from(key.clone())
        .to_openssh()
        .map_err(|cause| failed(format!("the key cannot be written: {cause}")))?;
    let is_recorded = |contents: &[u8]| {
        let mut current = KnownHosts::default();
        current.add(path, contents);
        match current.check(name, key) {
            Verdict::Known(_) => Ok(true),
            Verdict::Changed { .. } | Verdict::Revoked(_) => {
                Err("another program has recorded something else for this host; connect again"
                    .into())
            }
            _ => Ok(false),
        }
    };
    record::append(path, &format!("{names} {encoded}"), is_recorded).map_err(failed)
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut text)?;
    match text.len() as u64 > MOST_BYTES {
        true => Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes"))),
        false => Ok(text),
    }
}

fn is_missing(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
