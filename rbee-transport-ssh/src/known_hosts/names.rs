//! The first field of a line: the names that a key belongs to.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

use crate::pattern;

/// How a name is hidden: HMAC-SHA1 with a random key, both in Base64.
const HASHED: &str = "|1|";
/// The bytes of an HMAC-SHA1, and of the key that OpenSSH makes for it.
const HASH_BYTES: usize = 20;

/// The names of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl Names {
    /// Reads the field.
    pub(super) fn read(field: &str) -> Result<Self, String> {
        if let Some(rest) = field.strip_prefix(HASHED) {
            let decode = |text| STANDARD.decode(text).ok();
            let (salt, hash) = rest.split_once('|').unwrap_or_default();
            return match (decode(salt), decode(hash)) {
                (Some(salt), Some(hash)) if hash.len() == HASH_BYTES && !salt.is_empty() => {
                    Ok(Self::Hashed { salt, hash })
                }
                _ => Err("the hash of the host name is broken".into()),
            };
        }
        if field.starts_with('|') {
            return Err("the host name is hashed in an unknown way".into());
        }
        Ok(Self::Patterns(field.split(',').map(str::to_ascii_lowercase).collect()))
    }

    /// Returns true if this name, in lower case, is meant.
    pub(super) fn include(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => {
                pattern::fits_list(patterns.iter().map(String::as_str), name)
            }
            Self::Hashed { salt, hash } => hash_of(salt, name).as_ref() == hash,
        }
    }
}

/// A name as `HashKnownHosts` writes it.
pub(super) fn hashed(name: &str) -> Result<String, getrandom::Error> {
    let mut salt = [0; HASH_BYTES];
    getrandom::fill(&mut salt)?;
    let (salt, hash) = (STANDARD.encode(salt), STANDARD.encode(hash_of(&salt, name)));
    Ok(format!("{HASHED}{salt}|{hash}"))
}

fn hash_of(salt: &[u8], name: &str) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
    hmac::sign(&key, name.as_bytes())
}
