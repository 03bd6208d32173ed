//! Host certificates of a trusted authority.

use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::{Algorithm, Certificate, HashAlg, ssh_key::certificate::CertType};

use crate::{pattern, printable::printable};

/// Checks a certificate whose authority is trusted.
///
/// # Errors
/// Why it is not valid for this host.
pub(super) fn check(certificate: &Certificate, host: &str, now: SystemTime) -> Result<(), String> {
    if certificate.cert_type() != CertType::Host {
        return Err("it is a certificate of a user, not of a host".into());
    }
    let principals = certificate.valid_principals();
    let fits = |principal: &String| pattern::fits(&principal.to_ascii_lowercase(), host);
    if !principals.is_empty() && !principals.iter().any(fits) {
        return Err(format!("it is for {}, not for {host}", printable(&principals.join(", "))));
    }
    if let Some((name, _)) = certificate.critical_options().iter().next() {
        return Err(format!(
            "it has the critical option {:?}, which a host has not",
            printable(name)
        ));
    }
    if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
        return Err("it is signed with SHA-1, which is not safe".into());
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now < certificate.valid_after() {
        return Err(format!("it is valid in {} s from now only", certificate.valid_after() - now));
    }
    if now >= certificate.valid_before() {
        return Err(format!("it expired {} s ago", now - certificate.valid_before()));
    }
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    certificate.validate_at(now, [&authority]).map_err(|_| "its signature is wrong".into())
}
