//! Idempotency keys: repeated submissions of a request that must run once.

mod named;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result, invalid},
    id::{JobId, TenantId},
    prefix,
};

/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// A key under which a client may submit the same request again, for example after a broken connection, without a
/// second run. It is valid within one tenant, for as long as the job is kept.
///
/// Named and used like the `Idempotency-Key` header of HTTP APIs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The client's key: 1 to 255 visible ASCII characters.
    pub key: Box<str>,
    /// The index, from 0, among the jobs that were submitted together under the key.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub part: u32,
    /// A hash that distinguishes requests.
    pub fingerprint: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn is_zero(part: &u32) -> bool {
    *part == 0
}

impl Idempotency {
    /// Checks the key, and computes the fingerprint of the request.
    pub(crate) fn new(key: &str, part: u32, request: &impl Serialize) -> Result<Self> {
        check(key)?;
        // Every request can be written as JSON.
        let bytes = serde_json::to_vec(request).unwrap_or_default();
        Ok(Self { key: key.into(), part, fingerprint: prefix::hash(prefix::START, &bytes) })
    }

    /// The job of this key and part: always the same one, in every run of the queen.
    pub(crate) fn job(&self, tenant: Option<&TenantId>) -> JobId {
        // No name of a tenant contains a slash or is empty.
        let mut name = tenant.map(ToString::to_string).unwrap_or_default();
        name.push('/');
        self.put_name(&mut name);
        JobId::from_random_bits(named::bits(&name))
    }
}

impl Idempotency {
    /// Key and part. No key contains a space, so key and part together cannot equal another key.
    fn put_name(&self, out: &mut String) {
        out.push_str(&self.key);
        if self.part > 0 {
            out.push(' ');
            out.push_str(&self.part.to_string());
        }
    }
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

/// The stored form: the fingerprint in 16 hexadecimal digits, then the key, then a space and the part if it is not 0.
impl fmt::Display for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = String::with_capacity(self.key.len());
        self.put_name(&mut name);
        write!(f, "{:016x}{name}", self.fingerprint)
    }
}

impl FromStr for Idempotency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_at_checked(16).and_then(|(fingerprint, name)| {
            let (key, part) = match name.split_once(' ') {
                Some((key, part)) => (key, part.parse().ok()?),
                None => (name, 0),
            };
            check(key).ok()?;
            let fingerprint = u64::from_str_radix(fingerprint, 16).ok()?;
            Some(Self { key: key.into(), part, fingerprint })
        });
        parsed.ok_or_else(|| {
            Error::new(ErrorKind::Storage, format!("{text:?} is not a stored idempotency key"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_to_one_job_of_one_tenant() {
        let one = Idempotency::new("order-17", 0, &1).unwrap();
        let other = Idempotency::new("order-17", 0, &2).unwrap();
        let tenant = TenantId::new("acme").unwrap();
        assert_eq!(one.job(None), other.job(None));
        assert_ne!(one.job(None), one.job(Some(&tenant)));
        assert_ne!(one.fingerprint, other.fingerprint);
        assert_eq!(one.to_string().parse::<Idempotency>().unwrap(), one);
    }

    /// Databases hold jobs under these identifiers.
    #[test]
    fn a_key_leads_to_the_job_that_it_always_led_to() {
        let key = |part| Idempotency::new("order-17", part, &1).unwrap();
        let tenant = TenantId::new("acme").unwrap();
        assert_eq!(key(0).job(None).to_string(), "0bf4b364-0361-4a59-ab06-248d5cee99a0");
        assert_eq!(key(2).job(Some(&tenant)).to_string(), "b75d859b-efab-46a2-bced-f1a76ae45ef2");
    }

    #[test]
    fn no_part_of_a_key_is_the_job_of_another_key() {
        let part = Idempotency::new("k", 1, &1).unwrap();
        for key in ["k", "k#1", "k1", "k-1", "k/1", "k.1", "1"] {
            for other in 0..3 {
                let other = Idempotency::new(key, other, &1).unwrap();
                assert_eq!(other.job(None) == part.job(None), other == part, "{other:?}");
            }
        }
        assert_eq!(part.to_string().parse::<Idempotency>().unwrap(), part);
        let json = serde_json::to_string(&part).unwrap();
        assert_eq!(serde_json::from_str::<Idempotency>(&json).unwrap(), part);
        assert!("0000000000000000k x".parse::<Idempotency>().is_err());
    }

    #[test]
    fn a_bad_key_is_refused() {
        for bad in ["", "a b", "\n", "é", &"x".repeat(256)] {
            let error = Idempotency::new(bad, 0, &1).unwrap_err();
            assert_eq!(
                (error.kind(), error.param()),
                (ErrorKind::InvalidRequest, Some("idempotency_key"))
            );
        }
        assert!("short".parse::<Idempotency>().is_err());
    }
}
