//! One line of a file with host keys: [`Entry`].

use base64::{Engine, engine::general_purpose::STANDARD};
use russh::keys::{key::parse_public_key, ssh_key::public::KeyData};

use crate::error::HostKeyPlace;

use super::names::Names;

/// What a line says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// It is the key of these hosts.
    HostKey,
    /// It signs the certificates of these hosts.
    CertificateAuthority,
    /// It must not be trusted for these hosts.
    Revoked,
}

/// A usable line.
#[derive(Clone, Debug)]
pub(super) struct HostKeyLine {
    pub(super) place: HostKeyPlace,
    pub(super) marker: Marker,
    pub(super) names: Names,
    pub(super) key: KeyData,
}

/// Reads a line. Returns `None` for an empty line or a comment.
///
/// # Errors
/// Why the line cannot be used.
pub(super) fn read(line: &[u8], place: HostKeyPlace) -> Result<Option<HostKeyLine>, String> {
    // Comments can be in any encoding.
    let line = String::from_utf8_lossy(line);
    let mut rest = line.trim_matches(is_blank);
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(None);
    }
    let mut marker = Marker::HostKey;
    if rest.starts_with('@') {
        marker = match field(&mut rest) {
            "@cert-authority" => Marker::CertificateAuthority,
            "@revoked" => Marker::Revoked,
            other => return Err(format!("the marker {other:?} is unknown")),
        };
    }
    let names = Names::read(field(&mut rest))?;
    let key = key(&mut rest)?;
    Ok(Some(HostKeyLine { place, marker, names, key }))
}

/// Reads the type of a key and the key.
pub(super) fn key(rest: &mut &str) -> Result<KeyData, String> {
    let algorithm = field(rest);
    let encoded = field(rest);
    if encoded.is_empty() {
        return Err("the key is missing".into());
    }
    if algorithm.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is a key of version 1 of the protocol".into());
    }
    let bytes = STANDARD.decode(encoded).map_err(|_| "the key is not in Base64".to_owned())?;
    let key = parse_public_key(&bytes).map_err(|cause| format!("the key is broken: {cause}"))?;
    let key = key.key_data().clone();
    match key.algorithm().as_str() {
        actual if actual == algorithm => Ok(key),
        actual => Err(format!("the type is {algorithm:?}, and the key is of type {actual:?}")),
    }
}

/// Takes the next field.
fn field<'a>(rest: &mut &'a str) -> &'a str {
    let (field, after) = rest.split_at(rest.find(is_blank).unwrap_or(rest.len()));
    *rest = after.trim_start_matches(is_blank);
    field
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r')
}
