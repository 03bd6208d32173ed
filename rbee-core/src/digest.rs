//! SHA-256 of files and of manifests.

use std::{fmt, io::Read, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// The text before the 64 hexadecimal digits.
const PREFIX: &str = "sha256:";

/// A SHA-256, shown as `sha256:` and 64 hexadecimal digits in lower case.
///
/// ```
/// use rbee_core::models::Digest;
///
/// let digest = Digest::of(b"bee");
/// assert_eq!(digest.to_string().parse::<Digest>()?, digest);
/// assert!("sha256:short".parse::<Digest>().is_err());
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these 32 bytes; nothing is hashed.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of these bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes.as_ref()).into())
    }

    /// The 64 hexadecimal digits without the prefix.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// From 64 hexadecimal digits in lower case.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        unhex(text, &mut bytes).then_some(Self(bytes))
    }
}

/// These bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Fills `bytes` from exactly that many pairs of lower-case hexadecimal digits. Returns false if the text is anything
/// else.
pub(crate) fn unhex(text: &str, bytes: &mut [u8]) -> bool {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if text.len() != bytes.len() * 2 {
        return false;
    }
    text.as_bytes().chunks_exact(2).zip(bytes).all(|(pair, byte)| {
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            _ => false,
        }
    })
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix(PREFIX).and_then(Self::from_hex).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            let message = format!(
                "{shown:?} is not a digest; allowed is {PREFIX} and 64 hexadecimal digits in lower case"
            );
            Error::new(ErrorKind::InvalidRequest, message)
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest that is being computed.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }

    /// Reads to the end, and calls `tell` with the number of bytes of every read.
    pub(crate) fn read(
        mut self,
        mut from: impl Read,
        mut tell: impl FnMut(u64),
    ) -> std::io::Result<Digest> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(self.finish()),
                read => {
                    self.update(&buffer[..read]);
                    tell(read as u64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_published_one() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of("").to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), Digest::of(""));
        let json = serde_json::to_string(&Digest::of("")).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), Digest::of(""));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let good = Digest::of("").to_string();
        for bad in
            ["", "sha256:", &good[1..], &good[..70], &good.to_uppercase(), &format!("{good}0")]
        {
            let error = bad.parse::<Digest>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        }
        assert!("sha256:é".repeat(9).parse::<Digest>().is_err());
    }
}
