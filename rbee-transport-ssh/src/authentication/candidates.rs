//! Which keys are tried, and in which order: [`candidates`].

use russh::keys::{Certificate, agent::AgentIdentity};

use super::{agent::Agent, key_file::KeyFile};

/// A key to try.
pub(super) enum Candidate {
    /// The agent's identity, with a certificate from a file.
    Agent {
        position: usize,
        certificate: Option<Certificate>,
    },
    File {
        index: usize,
        certificate: Option<Certificate>,
    },
}

/// All keys in the order in which they are tried.
pub(super) fn candidates(
    files: &[KeyFile],
    agent: Option<&Agent>,
    identities_only: bool,
) -> Vec<Candidate> {
    let position = |file: &KeyFile| agent?.position(file.public.as_ref()?);
    // A certificate is tried before its key.
    let each = |file: &KeyFile| {
        let certificates = file.certificates.iter().cloned().map(Some);
        certificates.chain([None]).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    let mut named = Vec::new();
    for file in files {
        if let Some(position) = position(file) {
            named.push(position);
            found.extend(
                each(file)
                    .into_iter()
                    .map(|certificate| Candidate::Agent { position, certificate }),
            );
        }
    }
    let count = agent.map_or(0, |agent| agent.identities.len());
    let is_named_certificate =
        |position: usize| match agent.and_then(|agent| agent.identities.get(position)) {
            Some(AgentIdentity::Certificate { certificate, .. }) => files.iter().any(|file| {
                file.public.as_ref().is_some_and(|key| key.key_data() == certificate.public_key())
            }),
            _ => false,
        };
    let others = (0..count).filter(|position| {
        !named.contains(position) && (!identities_only || is_named_certificate(*position))
    });
    found.extend(others.map(|position| Candidate::Agent { position, certificate: None }));
    for (index, file) in files.iter().enumerate() {
        if position(file).is_none() {
            found.extend(
                each(file).into_iter().map(|certificate| Candidate::File { index, certificate }),
            );
        }
    }
    found
}
