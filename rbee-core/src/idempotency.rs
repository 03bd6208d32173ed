//! Submitting twice what shall be done once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Job, JobId, Result, TenantId, prefix, request::invalid};

/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// A key under which a client may submit the same request again, after a broken connection for instance, without
/// having it done again. It counts within one tenant, for as long as the job is kept.
///
/// Named and used like the `Idempotency-Key` header of HTTP APIs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The client's key: 1 to 255 visible ASCII characters.
    pub key: Box<str>,
    /// What tells one request from another.
    pub fingerprint: u64,
}

impl Idempotency {
    /// Checks the key, and takes the fingerprint of what was asked for.
    pub(crate) fn new(key: &str, request: &impl Serialize) -> Result<Self> {
        check(key)?;
        // Whatever is in a request can be written as JSON.
        let bytes = serde_json::to_vec(request).unwrap_or_default();
        Ok(Self { key: key.into(), fingerprint: prefix::hash(prefix::START, &bytes) })
    }

    /// The job of this key: the same one every time, in every life of the queen.
    pub(crate) fn job(&self, tenant: Option<&TenantId>) -> JobId {
        let name = match tenant {
            Some(tenant) => format!("{tenant}/{}", self.key),
            // No tenant's name has a slash in it or is empty.
            None => format!("/{}", self.key),
        };
        let bits = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes());
        JobId::from_random_bits(bits.as_u128())
    }
}

/// Was the same asked for under the same key before?
///
/// # Errors
/// [`ErrorKind::Conflict`] where it was something else.
pub(crate) fn check_repeat(job: &Job, before: Option<&Idempotency>) -> Result<()> {
    if job.idempotency.as_deref() == before {
        return Ok(());
    }
    let key = job.idempotency.as_ref().map_or("", |idempotency| &*idempotency.key);
    let message = format!(
        "the idempotency key {key:?} was used for another request, job {}; use a new key",
        job.id
    );
    Err(Error::for_client(ErrorKind::Conflict, message).with_param("idempotency_key"))
}

fn check(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let shown: String = key.chars().take(80).collect();
        let message =
            format!("the idempotency key {shown:?} is not 1 to {MAX_KEY} visible ASCII characters");
        return Err(invalid(message).with_param("idempotency_key"));
    }
    Ok(())
}

/// As it is stored: the fingerprint in 16 hexadecimal digits, then the key.
impl fmt::Display for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{}", self.fingerprint, self.key)
    }
}

impl FromStr for Idempotency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_at_checked(16).and_then(|(fingerprint, key)| {
            check(key).ok()?;
            Some(Self { key: key.into(), fingerprint: u64::from_str_radix(fingerprint, 16).ok()? })
        });
        parsed.ok_or_else(|| {
            Error::new(ErrorKind::Storage, format!("{text:?} is no stored idempotency key"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_to_one_job_of_one_tenant() {
        let one = Idempotency::new("order-17", &1).unwrap();
        let other = Idempotency::new("order-17", &2).unwrap();
        let tenant = TenantId::new("acme").unwrap();
        assert_eq!(one.job(None), other.job(None));
        assert_ne!(one.job(None), one.job(Some(&tenant)));
        assert_ne!(one.fingerprint, other.fingerprint);
        assert_eq!(one.to_string().parse::<Idempotency>().unwrap(), one);
    }

    #[test]
    fn a_bad_key_is_refused() {
        for bad in ["", "a b", "\n", "é", &"x".repeat(256)] {
            let error = Idempotency::new(bad, &1).unwrap_err();
            assert_eq!(
                (error.kind(), error.param()),
                (ErrorKind::InvalidRequest, Some("idempotency_key"))
            );
        }
        assert!("short".parse::<Idempotency>().is_err());
    }
}
