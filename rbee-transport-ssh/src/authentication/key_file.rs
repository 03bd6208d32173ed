//! Key files: [`KeyFile`].

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::keys::{Algorithm, Certificate, Error, PrivateKey, PublicKey, decode_secret_key};
use zeroize::Zeroizing;

/// The most bytes of a key file.
const MOST_BYTES: u64 = 1 << 20;

/// A key of `IdentityFile`, with its certificates.
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// The public key, if it is known without the passphrase.
    pub(super) public: Option<PublicKey>,
    pub(super) secret: Secret,
    pub(super) certificates: Vec<Certificate>,
}

/// The private part of a key.
pub(super) enum Secret {
    Plain(Arc<PrivateKey>),
    Encrypted(Arc<Zeroizing<String>>),
    /// It cannot be used here, for this reason. An agent may have it.
    Unusable(String),
}

/// Why a key file cannot be decrypted.
pub(super) enum Locked {
    WrongPassphrase,
    Other(String),
}

impl KeyFile {
    /// Reads a key, its public part beside it (`.pub`) and its certificate (`-cert.pub`). Returns `None` if there is
    /// no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        let public_path = with_suffix(path, ".pub");
        let text = match text_of(path, true) {
            Ok(text) => Some(text),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(cause.to_string()),
        };
        let beside = || text_of(&public_path, false).ok().and_then(|text| public(&text));
        let (public, secret) = match text {
            // A public key alone chooses one of the agent.
            None => match beside() {
                Some(key) => (Some(key), Secret::Unusable("the private key is missing".into())),
                None => return Ok(None),
            },
            Some(text) => match public(&text) {
                Some(key) => (Some(key), Secret::Unusable("it is a public key".into())),
                None => secret(text)?,
            },
        };
        let certificate = text_of(&with_suffix(path, "-cert.pub"), false);
        let mut key = Self {
            path: path.into(),
            public: public.or_else(beside),
            secret,
            certificates: Vec::new(),
        };
        if let Some(certificate) =
            certificate.ok().and_then(|text| Certificate::from_openssh(text.trim()).ok())
        {
            key.add_certificate(&certificate);
        }
        Ok(Some(key))
    }

    /// Adds a certificate, if it is for this key.
    pub(super) fn add_certificate(&mut self, certificate: &Certificate) {
        let is_mine =
            self.public.as_ref().is_some_and(|key| key.key_data() == certificate.public_key());
        if is_mine && !self.certificates.contains(certificate) {
            self.certificates.push(certificate.clone());
        }
    }
}

/// Reads a file with a certificate.
pub(super) fn certificate(path: &Path) -> Result<Certificate, String> {
    let text = text_of(path, false).map_err(|cause| cause.to_string())?;
    Certificate::from_openssh(text.trim()).map_err(|cause| format!("it is no certificate: {cause}"))
}

/// Decrypts a key. This takes a third of a second or more, on purpose.
pub(super) fn decrypt(text: &str, passphrase: &str) -> Result<PrivateKey, Locked> {
    use russh::keys::ssh_key;
    decode_secret_key(text, Some(passphrase)).map_err(|cause| match cause {
        Error::SshKey(ssh_key::Error::Crypto) | Error::Unpad(_) | Error::Pad(_) => {
            Locked::WrongPassphrase
        }
        Error::Pkcs8(_) | Error::Pkcs1(_) | Error::KeyIsCorrupt | Error::Der(_) => {
            Locked::WrongPassphrase
        }
        other => Locked::Other(other.to_string()),
    })
}

fn secret(text: Zeroizing<String>) -> Result<(Option<PublicKey>, Secret), String> {
    // OpenSSH's format has the public key in the clear.
    let public = PrivateKey::from_openssh(text.as_bytes()).ok().map(|key| key.public_key().clone());
    if let Some(reason) = public.as_ref().and_then(|key| unusable(&key.algorithm())) {
        return Ok((public, Secret::Unusable(reason)));
    }
    if is_encrypted(&text) {
        return Ok((public, Secret::Encrypted(Arc::new(text))));
    }
    match decode_secret_key(&text, None) {
        Ok(key) => match unusable(&key.algorithm()) {
            Some(reason) => Ok((Some(key.public_key().clone()), Secret::Unusable(reason))),
            None => Ok((Some(key.public_key().clone()), Secret::Plain(Arc::new(key)))),
        },
        Err(Error::KeyIsEncrypted) => Ok((public, Secret::Encrypted(Arc::new(text)))),
        Err(cause) => Err(format!("it is no private key that can be read: {cause}")),
    }
}

/// Returns true for encrypted formats that the library does not recognize as such without a passphrase.
fn is_encrypted(text: &str) -> bool {
    let is_putty = text.trim_start().starts_with("PuTTY-User-Key-File-");
    let has_cipher =
        |line: &str| line.strip_prefix("Encryption:").is_some_and(|cipher| cipher.trim() != "none");
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || is_putty && text.lines().any(has_cipher)
}

/// Why keys of this type cannot sign here.
fn unusable(algorithm: &Algorithm) -> Option<String> {
    match algorithm {
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Some(
            "it is a FIDO key, which only its device can use; add it to the agent (ssh-add), or use another key".into(),
        ),
        Algorithm::Dsa => Some("DSA keys are not safe and not supported; make an ed25519 key".into()),
        _ => None,
    }
}

fn public(text: &str) -> Option<PublicKey> {
    let line =
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    PublicKey::from_openssh(line).ok()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Reads a file. A private one that others can read is refused, as by OpenSSH.
fn text_of(path: &Path, is_private: bool) -> io::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    // The buffer does not grow while it is read, so no copy stays behind.
    let mut text =
        Zeroizing::new(String::with_capacity(metadata.len().min(MOST_BYTES) as usize + 1));
    (&file).take(MOST_BYTES).read_to_string(&mut text)?;
    #[cfg(unix)]
    if is_private && public(&text).is_none() {
        use std::os::unix::fs::MetadataExt;
        let is_mine = metadata.uid() == rustix::process::getuid().as_raw();
        if is_mine && metadata.mode() & 0o077 != 0 {
            let message = format!("others can read it; run chmod 600 {}", path.display());
            return Err(io::Error::other(message));
        }
    }
    Ok(text)
}
