//! The limits on files and batches of requests.

use std::{fmt::Debug, time::Duration};

use rbee_core::{Error, ErrorKind, Result};
use rbee_transport_http::server::{BatchLimits, ByteSize, HumanDuration};
use serde::{Deserialize, Serialize};

/// The keys of `batch_limits`; [`BatchLimits`] says what each of them limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchKeys {
    /// An uploaded file.
    pub file_bytes: ByteSize,
    /// The files of one tenant.
    pub tenant_files: usize,
    /// All files of one tenant together.
    pub tenant_bytes: ByteSize,
    /// The space that uploads and results leave free on the disk.
    pub free_bytes: ByteSize,
    /// Concurrent uploads of one tenant.
    pub tenant_uploads: usize,
    /// Jobs of one batch at once.
    pub lines_in_flight: usize,
    /// Concurrent batches of one tenant.
    pub tenant_active: usize,
    /// Batches of one tenant that have not ended.
    pub tenant_batches: usize,
    /// How long files are kept, and batches after their end.
    pub retention: HumanDuration,
}

impl Default for BatchKeys {
    fn default() -> Self {
        let limits = BatchLimits::default();
        Self {
            file_bytes: limits.file_bytes.into(),
            tenant_files: limits.tenant_files,
            tenant_bytes: limits.tenant_bytes.into(),
            free_bytes: limits.free_bytes.into(),
            tenant_uploads: limits.tenant_uploads,
            lines_in_flight: limits.lines_in_flight,
            tenant_active: limits.tenant_active,
            tenant_batches: limits.tenant_batches,
            retention: limits.retention.into(),
        }
    }
}

impl BatchKeys {
    /// The limits.
    pub fn limits(&self) -> BatchLimits {
        BatchLimits {
            file_bytes: self.file_bytes.into(),
            tenant_files: self.tenant_files,
            tenant_bytes: self.tenant_bytes.into(),
            free_bytes: self.free_bytes.into(),
            tenant_uploads: self.tenant_uploads,
            lines_in_flight: self.lines_in_flight,
            tenant_active: self.tenant_active,
            tenant_batches: self.tenant_batches,
            retention: self.retention.into(),
            ..BatchLimits::default()
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the limit, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        const MOST: usize = 100_000;
        let limits = self.limits();
        for (name, value, most) in [
            ("tenant_files", limits.tenant_files, MOST),
            ("tenant_uploads", limits.tenant_uploads, 1_000),
            ("lines_in_flight", limits.lines_in_flight, 10_000),
            ("tenant_active", limits.tenant_active, 1_000),
            ("tenant_batches", limits.tenant_batches, MOST),
        ] {
            within(name, value, 1, most)?;
        }
        for (name, value) in
            [("file_bytes", limits.file_bytes), ("tenant_bytes", limits.tenant_bytes)]
        {
            within(name, value, 1, u64::MAX)?;
        }
        let (minute, year) = (Duration::from_secs(60), Duration::from_secs(366 * 24 * 3_600));
        within("retention", limits.retention, minute, year)
    }
}

fn within<T: PartialOrd + Debug>(name: &str, value: T, least: T, most: T) -> Result<()> {
    if (&least..=&most).contains(&&value) {
        return Ok(());
    }
    let message = format!("{name} is {value:?}; allowed is {least:?} to {most:?}");
    Err(Error::new(ErrorKind::Config, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_server_and_each_limit_has_its_bounds() {
        let keys = BatchKeys::default();
        keys.validate().unwrap();
        assert_eq!(keys.limits(), BatchLimits::default());
        for (wrong, said) in [
            (
                BatchKeys { lines_in_flight: 0, ..keys.clone() },
                "lines_in_flight is 0; allowed is 1 to 10000",
            ),
            (
                BatchKeys { file_bytes: 0_u64.into(), ..keys.clone() },
                "file_bytes is 0; allowed is 1 to",
            ),
            (
                BatchKeys { retention: Duration::from_secs(1).into(), ..keys.clone() },
                "retention is 1s; allowed is 60s to",
            ),
        ] {
            let error = wrong.validate().unwrap_err();
            assert!(error.message().starts_with(said), "{error}");
        }
    }
}
