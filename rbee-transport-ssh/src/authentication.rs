//! Proving who the user is, with keys alone.

mod agent;
mod candidates;
mod key_file;
mod signer;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use russh::{
    MethodKind, MethodSet,
    client::{AuthResult, Handle, Handler},
    keys::{Certificate, HashAlg, PublicKey, agent::AgentIdentity},
};
use tokio::{task, time::timeout};

use crate::{
    config::HostConfig,
    error::{AuthenticationAttempt, AuthenticationFailure, SshError},
    fingerprint::Fingerprint,
    passphrases::Passphrases,
};

use agent::Agent;
use candidates::{Candidate, candidates};
use key_file::{KeyFile, Secret};
use signer::{KeySigner, SignError, Source};

/// How long the server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What OpenSSH's server says at its limit, `MaxAuthTries`.
const TOO_MANY: &str = "Too many authentication failures";

/// Authenticates, and returns the key that was accepted, for display.
///
/// `ended` returns why the session has ended, if it has. The order is that of OpenSSH: keys of the agent that
/// `IdentityFile` names, the other keys of the agent, then key files that the agent does not have. A server counts each
/// key that it does not accept, and ends the session after six or so.
///
/// # Errors
/// [`SshError::Authentication`] with all attempts, and [`SshError::Timeout`].
pub(crate) async fn authenticate<H: Handler>(
    handle: &mut Handle<H>,
    config: &HostConfig,
    passphrases: &dyn Passphrases,
    ended: &(dyn Fn() -> Option<String> + Sync),
) -> Result<String, SshError> {
    let mut run = Run {
        config,
        passphrases,
        ended,
        attempts: Vec::new(),
        accepted: Vec::new(),
        rsa: None,
        is_refused: false,
    };
    // This is how a client learns what the server accepts. It is not counted.
    let asked = timeout(ANSWER_LIMIT, handle.authenticate_none(&config.user)).await;
    match asked.map_err(|_| run.silent())? {
        Ok(AuthResult::Success) => return Ok("none asked for".into()),
        Ok(AuthResult::Failure { remaining_methods, .. }) => run.learn(&remaining_methods),
        Err(_) => return Err(run.failed()),
    }
    if !run.accepts_keys() || ended().is_some() {
        return Err(run.failed());
    }
    let mut files = run.key_files().await;
    let mut agent = run.agent(handle).await;
    for candidate in candidates(&files, agent.as_ref(), config.identities_only) {
        let used = match candidate {
            Candidate::Agent { position, certificate } => {
                let Some(agent) = &mut agent else { continue };
                run.try_agent(handle, agent, position, certificate).await?
            }
            Candidate::File { index, certificate } => {
                let Some(file) = files.get_mut(index) else { continue };
                run.try_file(handle, file, certificate).await?
            }
        };
        if let Some(used) = used {
            return Ok(used);
        }
        if !run.accepts_keys() || ended().is_some() {
            break;
        }
    }
    Err(run.failed())
}

/// One authentication.
struct Run<'a> {
    config: &'a HostConfig,
    passphrases: &'a dyn Passphrases,
    ended: &'a (dyn Fn() -> Option<String> + Sync),
    attempts: Vec<AuthenticationAttempt>,
    /// The methods that the server accepts.
    accepted: Vec<String>,
    /// A key was refused.
    is_refused: bool,
    /// The hash for RSA, once the server was asked: the error is the reason to use no RSA keys.
    rsa: Option<Result<HashAlg, String>>,
}

impl Run<'_> {
    fn learn(&mut self, methods: &MethodSet) {
        if !methods.is_empty() {
            self.accepted = methods.iter().map(|method| <&str>::from(method).to_owned()).collect();
        }
    }

    fn accepts_keys(&self) -> bool {
        self.accepted.is_empty()
            || self.accepted.iter().any(|method| method == <&str>::from(&MethodKind::PublicKey))
    }

    fn note(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.attempts.push(AuthenticationAttempt { what: what.into(), reason: reason.into() });
    }

    /// The error at the end. A connection that breaks off before a key is refused says nothing of the keys.
    fn failed(&mut self) -> SshError {
        let ended_early = (self.ended)();
        if let Some(reason) = &ended_early
            && !self.is_refused
            && !reason.contains(TOO_MANY)
        {
            return SshError::Closed { host: self.config.target.clone(), reason: reason.clone() };
        }
        let ended_early = ended_early.map(|reason| match reason.contains(TOO_MANY) {
            true => format!(
                "{reason}; name the right key by IdentityFile and set IdentitiesOnly yes, so that it is tried first"
            ),
            false => reason,
        });
        SshError::Authentication(Box::new(AuthenticationFailure {
            host: self.config.target.clone(),
            user: self.config.user.clone(),
            attempts: std::mem::take(&mut self.attempts),
            accepted_methods: std::mem::take(&mut self.accepted),
            ended_early,
        }))
    }

    fn silent(&self) -> SshError {
        let (host, what) = (self.config.target.clone(), "the answer to the authentication".into());
        SshError::Timeout { host, what, limit: ANSWER_LIMIT }
    }

    async fn key_files(&mut self) -> Vec<KeyFile> {
        let (paths, certificates) =
            (self.config.identity_files.clone(), self.config.certificate_files.clone());
        let reading = task::spawn_blocking(move || read(&paths, &certificates)).await;
        let (files, missing, failures) = reading.unwrap_or_default();
        for (path, reason) in failures {
            self.note(path.display().to_string(), reason);
        }
        if files.is_empty() && !missing.is_empty() {
            let names: Vec<String> =
                missing.iter().map(|path| path.display().to_string()).collect();
            self.note("key files", format!("none of these exists: {}", names.join(" ")));
        }
        files
    }

    async fn agent<H: Handler>(&mut self, handle: &Handle<H>) -> Option<Agent> {
        let Some(socket) = &self.config.identity_agent else {
            self.note("agent", "there is none (SSH_AUTH_SOCK, IdentityAgent)");
            return None;
        };
        match Agent::connect(socket, handle.agent_session_binding()).await {
            Ok(agent) => {
                if agent.identities.is_empty() {
                    self.note("agent", "it has no keys (ssh-add adds one)");
                }
                Some(agent)
            }
            Err(reason) => {
                self.note(format!("agent {}", socket.display()), reason);
                None
            }
        }
    }

    async fn try_agent<H: Handler>(
        &mut self,
        handle: &mut Handle<H>,
        agent: &mut Agent,
        position: usize,
        certificate: Option<Certificate>,
    ) -> Result<Option<String>, SshError> {
        let Some(identity) = agent.identities.get(position).cloned() else { return Ok(None) };
        let key = identity.public_key().into_owned();
        let what = format!("agent key {} {}", Fingerprint::of(key.key_data()), identity.comment());
        let certificate = certificate.or_else(|| match &identity {
            AgentIdentity::Certificate { certificate, .. } => Some(certificate.clone()),
            AgentIdentity::PublicKey { .. } => None,
        });
        self.offer(
            handle,
            what.trim().into(),
            key,
            certificate,
            Source::Agent { agent, identity: Box::new(identity) },
        )
        .await
    }

    async fn try_file<H: Handler>(
        &mut self,
        handle: &mut Handle<H>,
        file: &mut KeyFile,
        certificate: Option<Certificate>,
    ) -> Result<Option<String>, SshError> {
        let what = file.path.display().to_string();
        if let Secret::Unusable(reason) = &file.secret {
            if certificate.is_none() {
                self.note(what, reason.clone());
            }
            return Ok(None);
        }
        // Without the public key, the server cannot be asked first.
        let key = match &file.public {
            Some(key) => key.clone(),
            None => match signer::private(&file.path, &file.secret, self.passphrases).await {
                Ok(key) => {
                    let public = key.public_key().clone();
                    file.secret = Secret::Plain(key);
                    public
                }
                Err(reason) => {
                    self.note(what, reason);
                    return Ok(None);
                }
            },
        };
        let source =
            Source::File { path: &file.path, secret: &file.secret, passphrases: self.passphrases };
        self.offer(handle, what, key, certificate, source).await
    }

    /// Offers a key, and signs with it if the server would accept it. Returns its description if it was accepted.
    async fn offer<H: Handler>(
        &mut self,
        handle: &mut Handle<H>,
        what: String,
        key: PublicKey,
        certificate: Option<Certificate>,
        source: Source<'_>,
    ) -> Result<Option<String>, SshError> {
        let what = match &certificate {
            Some(certificate) => format!("{what} with certificate {:?}", certificate.key_id()),
            None => what,
        };
        let hash = match key.algorithm().is_rsa() {
            false => None,
            true => match self.rsa_hash(handle).await {
                Ok(hash) => Some(hash),
                Err(reason) => {
                    self.note(what, reason);
                    return Ok(None);
                }
            },
        };
        let is_busy = Arc::new(AtomicBool::new(false));
        let mut signer = KeySigner { source, is_busy: is_busy.clone() };
        let user = self.config.user.as_str();
        let offering = async {
            match certificate {
                Some(certificate) => {
                    handle.authenticate_certificate_with(user, certificate, hash, &mut signer).await
                }
                None => handle.authenticate_publickey_with(user, key, hash, &mut signer).await,
            }
        };
        tokio::pin!(offering);
        let result = loop {
            match timeout(ANSWER_LIMIT, &mut offering).await {
                Ok(result) => break result,
                // The signer has limits of its own.
                Err(_) if is_busy.load(Ordering::Relaxed) => {}
                Err(_) => return Err(self.silent()),
            }
        };
        match result {
            Ok(AuthResult::Success) => return Ok(Some(what)),
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                self.learn(&remaining_methods);
                let reason = match (partial_success, (self.ended)()) {
                    (true, _) => "it is accepted, and the server asks for more than a key",
                    // The library reports the end of the session as a refusal.
                    (false, Some(_)) => "the session ended",
                    (false, None) => {
                        self.is_refused = true;
                        "not accepted"
                    }
                };
                self.note(what, reason);
            }
            Err(SignError::Failed(reason)) => self.note(what, reason),
            Err(SignError::Ended) => self.note(what, "the session ended"),
        }
        Ok(None)
    }

    /// The best hash that the server accepts with RSA keys.
    async fn rsa_hash<H: Handler>(&mut self, handle: &Handle<H>) -> Result<HashAlg, String> {
        if let Some(known) = &self.rsa {
            return known.clone();
        }
        let hash = match timeout(ANSWER_LIMIT, handle.best_supported_rsa_hash()).await {
            Ok(Ok(Some(Some(hash)))) => Ok(hash),
            Ok(Ok(Some(None))) => Err(
                "the server takes RSA keys only with SHA-1, which is not safe; use an ed25519 key"
                    .into(),
            ),
            // Servers that do not say it are old, and SHA-256 is what they may know.
            Ok(Ok(None)) => Ok(HashAlg::Sha256),
            Ok(Err(_)) | Err(_) => Err("the session ended".into()),
        };
        self.rsa.insert(hash).clone()
    }
}

type Read = (Vec<KeyFile>, Vec<PathBuf>, Vec<(PathBuf, String)>);

/// Reads key files: the usable ones, the missing ones, and those that failed.
fn read(paths: &[PathBuf], certificates: &[PathBuf]) -> Read {
    let (mut files, mut missing, mut failures) = Read::default();
    for path in paths {
        match KeyFile::read(path) {
            Ok(Some(file)) => files.push(file),
            Ok(None) => missing.push(path.clone()),
            Err(reason) => failures.push((path.clone(), reason)),
        }
    }
    for path in certificates {
        match key_file::certificate(path) {
            Ok(certificate) => {
                files.iter_mut().for_each(|file: &mut KeyFile| file.add_certificate(&certificate));
            }
            Err(reason) => failures.push((path.clone(), reason)),
        }
    }
    (files, missing, failures)
}
