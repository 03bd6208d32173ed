//! Identifiers of jobs, workers, hives, queens, tenants and leases.

use std::{cell::RefCell, collections::HashMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::error::{Error, ErrorKind};

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random identifier (UUID version 4).
            pub fn random() -> Self {
                Self(random_uuid())
            }

            /// An identifier from 128 bits that the caller chose; the version and variant bits of UUID v4 are set over
            /// them.
            pub fn from_random_bits(bits: u128) -> Self {
                Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
            }

            /// Its text, without an allocation and without the machinery of formatting.
            pub(crate) fn text(&self) -> IdText {
                IdText::new(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Uuid::try_parse(text).map(Self).map_err(|cause| {
                    Error::for_client(
                        ErrorKind::InvalidRequest,
                        format!(concat!($what, " {:?} is not a UUID such as 67e55044-10b1-426f-9247-bb680e5fe0c8"), text),
                    )
                    .with_source(cause)
                })
            }
        }
    };
}

/// The text of a UUID.
#[derive(Clone, Copy)]
pub(crate) struct IdText([u8; uuid::fmt::Hyphenated::LENGTH]);

impl IdText {
    fn new(id: &Uuid) -> Self {
        let mut text = Self([0; uuid::fmt::Hyphenated::LENGTH]);
        id.hyphenated().encode_lower(&mut text.0);
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only digits, letters and hyphens are written into it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

uuid_id! {
    /// The name of a job.
    JobId, "job id"
}
uuid_id! {
    /// The name of a worker. The queen chooses it, so that a spawn can be repeated without making a second worker.
    WorkerId, "worker id"
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 64 characters of `a-z A-Z 0-9 . _ -`; cheap to clone.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes the name.
            ///
            /// # Errors
            /// [`ErrorKind::InvalidRequest`] if the text is empty, is too long or contains another character.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
                let text = text.as_ref();
                let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
                    let shown: String = text.chars().take(80).collect();
                    return Err(Error::for_client(
                        ErrorKind::InvalidRequest,
                        format!(concat!($what, " {:?} is not 1 to 64 characters of a-z A-Z 0-9 . _ -"), shown),
                    ));
                }
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// The name of a hive: one machine.
    HiveId, "hive id"
}
text_id! {
    /// The permanent name of a queen. Two queens that run at the same time have different names.
    QueenId, "queen id"
}
text_id! {
    /// The name of a tenant, whose quota a job counts against.
    TenantId, "tenant id"
}
text_id! {
    /// An identifier that follows one request through queen, hive and worker, and into every log line.
    CorrelationId, "correlation id"
}

impl HiveId {
    /// The hive inside the process of the application, `local`.
    pub fn local() -> Self {
        Self("local".into())
    }
}

impl QueenId {
    /// A new random identifier.
    pub fn random() -> Self {
        Self(random_uuid().hyphenated().to_string().into())
    }
}

impl CorrelationId {
    /// The correlation id that is the id of a job.
    pub(crate) fn of_job(job: JobId) -> Self {
        Self(job.to_string().into())
    }

    /// A new random identifier.
    pub fn random() -> Self {
        Self(random_uuid().hyphenated().to_string().into())
    }
}

/// Random bytes of the operating system, which a thread gets many at a time: one system call for each would be a part of
/// the cost of every request. A process that forks must not go on to use them in the child.
struct RandomBytes {
    bytes: [u8; 512],
    /// The bytes before it are used up, and erased.
    next: usize,
}

thread_local! {
    static RANDOM: RefCell<RandomBytes> = const { RefCell::new(RandomBytes { bytes: [0; 512], next: 512 }) };
}

impl RandomBytes {
    /// `None` if the operating system gives none.
    fn take(&mut self) -> Option<[u8; 16]> {
        if self.next >= self.bytes.len() {
            getrandom::fill(&mut self.bytes).ok()?;
            self.next = 0;
        }
        let used = self.bytes.get_mut(self.next..self.next + 16)?;
        self.next += 16;
        let taken = <[u8; 16]>::try_from(&*used).ok()?;
        used.fill(0);
        Some(taken)
    }
}

/// A random UUID (version 4).
pub(crate) fn random_uuid() -> Uuid {
    let bytes = RANDOM.try_with(|random| random.borrow_mut().take()).ok().flatten();
    bytes.map_or_else(Uuid::new_v4, |bytes| uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// A table by ids. Its hash function is fast and has a random seed; nobody outside chooses ids, so it need not resist
/// chosen ones.
pub(crate) type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The right to one slot of one worker for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// One request to the scheduler for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// One run of a queen at its store. Grows with every opening; writes of an older run are refused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_their_text() {
        let job = JobId::from_random_bits(7);
        assert_eq!(job.to_string().parse::<JobId>().unwrap(), job);
        assert_eq!("hive-7".parse::<HiveId>().unwrap().to_string(), "hive-7");
    }

    #[test]
    fn random_ids_differ_on_all_threads_and_leave_no_bytes_behind() {
        let ids = || (0..100).map(|_| random_uuid()).collect::<Vec<_>>();
        let other = std::thread::spawn(ids);
        let mut all = ids();
        all.extend(other.join().unwrap());
        assert!(all.iter().all(|id| id.get_version_num() == 4), "{all:?}");
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 200);
        RANDOM.with_borrow(|random| {
            assert!(random.bytes[..random.next].iter().all(|byte| *byte == 0));
        });
    }

    #[test]
    fn a_bad_name_is_refused_with_the_name_in_the_message() {
        for bad in ["", "a b", "../etc", "é", &"x".repeat(65)] {
            assert_eq!(HiveId::new(bad).unwrap_err().kind(), ErrorKind::InvalidRequest, "{bad:?}");
        }
        let error = "nonsense".parse::<JobId>().unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
    }
}
