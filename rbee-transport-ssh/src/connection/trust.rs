//! Whether the key of a server is the right one: [`Trust`].

use std::{sync::Arc, time::SystemTime};

use russh::{
    Preferred,
    keys::{Algorithm, EcdsaCurve, HashAlg, PublicKeyOrCertificate, ssh_key::public::KeyData},
};
use tokio::task;

use crate::{
    config::HostConfig,
    error::{ChangedHostKey, SshError, UnknownHostKey},
    fingerprint::Fingerprint,
    known_hosts::{self, KnownHosts, LookupName, Verdict},
};

/// The most lines of known_hosts that an error lists.
const MOST_UNUSABLE: usize = 5;

/// The types of host keys, the best first. RSA with SHA-1 is not among them.
const HOST_KEYS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// The host keys that are accepted from one machine.
pub(super) struct Trust {
    config: Arc<HostConfig>,
    name: LookupName,
    known: KnownHosts,
    accept_new: bool,
}

impl Trust {
    /// Reads the files with host keys.
    pub(super) async fn read(config: &Arc<HostConfig>, accept_new: bool) -> Result<Self, SshError> {
        let name =
            LookupName::new(&config.host_name, config.port, config.host_key_alias.as_deref());
        let files: Vec<_> =
            config.user_known_hosts.iter().chain(&config.global_known_hosts).cloned().collect();
        let revoked = config.revoked_host_keys.clone();
        let known = blocking(move || KnownHosts::read(&files, revoked.as_deref())).await?;
        for line in known.unusable() {
            tracing::debug!(%line, "a line with a host key was left out");
        }
        Ok(Self { config: config.clone(), name, known, accept_new })
    }

    /// The algorithms to ask for: those of recorded keys first, so that the server shows one of them if it has one.
    pub(super) fn preferred(&self) -> Preferred {
        let recorded = self.known.algorithms(&self.name);
        let is_recorded = |algorithm: &Algorithm| {
            recorded.iter().any(|other| match algorithm {
                Algorithm::Rsa { .. } => matches!(other, Algorithm::Rsa { .. }),
                algorithm => other == algorithm,
            })
        };
        let (mut first, others): (Vec<_>, Vec<_>) =
            HOST_KEYS.into_iter().partition(|algorithm| is_recorded(algorithm));
        first.extend(others);
        let certificates = match self.known.has_authority(&self.name) {
            true => HOST_KEYS.to_vec(),
            false => Vec::new(),
        };
        Preferred {
            key: first.into(),
            host_key_certificates: certificates.into(),
            ..Preferred::DEFAULT
        }
    }

    /// Accepts a host key or refuses it.
    pub(super) async fn check(
        &self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<Fingerprint, SshError> {
        let (verdict, key) = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                (self.known.check(&self.name, key.key_data()), key.key_data().clone())
            }
            PublicKeyOrCertificate::Certificate(certificate) => {
                let now = SystemTime::now();
                let verdict = self.known.check_certificate(&self.name, certificate, now);
                (verdict, certificate.public_key().clone())
            }
        };
        let (host, target) = (self.name.as_str().to_owned(), self.config.target.clone());
        let fingerprint = Fingerprint::of(&key);
        match verdict {
            Verdict::Known(_) | Verdict::Certified(_) => Ok(fingerprint),
            Verdict::Unknown { others } if others.is_empty() && self.accept_new => {
                self.record(key).await?;
                Ok(fingerprint)
            }
            Verdict::Unknown { others } => {
                let unusable = self.known.unusable().iter().take(MOST_UNUSABLE);
                Err(SshError::HostKeyUnknown(Box::new(UnknownHostKey {
                    target,
                    host,
                    fingerprint,
                    others,
                    files: self.known.files().to_vec(),
                    unusable: unusable.map(ToString::to_string).collect(),
                })))
            }
            Verdict::Changed { recorded } => {
                Err(SshError::HostKeyChanged(Box::new(ChangedHostKey {
                    target,
                    host,
                    fingerprint,
                    recorded,
                })))
            }
            Verdict::Revoked(place) => Err(SshError::HostKeyRevoked { host, fingerprint, place }),
            Verdict::InvalidCertificate(place, reason) => {
                Err(SshError::HostCertificate { host, place, reason })
            }
        }
    }

    async fn record(&self, key: KeyData) -> Result<(), SshError> {
        let Some(path) = self.config.user_known_hosts.first().cloned() else {
            return Err(SshError::HostKeyRecord {
                host: self.name.as_str().into(),
                path: "UserKnownHostsFile".into(),
                reason: "it is \"none\"; name a file in ssh_config".into(),
            });
        };
        let (name, is_hashed) = (self.name.clone(), self.config.hash_known_hosts);
        blocking(move || known_hosts::record(&path, &name, &key, is_hashed)).await
    }
}

/// Runs something that reads or writes files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SshError> + Send + 'static,
) -> Result<T, SshError> {
    task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        let what = "the files with host keys".into();
        Err(SshError::System { what, cause: std::io::Error::other(cause) })
    })
}
