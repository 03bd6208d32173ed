//! Durations and sizes as people write them, and the words for what a value may be.

use std::{fmt, ops::Deref, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, Unexpected},
};

/// A duration with its unit: `250ms`, `90s`, `1h30m`, `7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HumanDuration(Duration);

/// A number of bytes: `64MiB`, `500MB`, `1024`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteSize(u64);

const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// The allowed values, by the placeholder in the help of a daemon. Other placeholders list them themselves.
const ALLOWED: [(&str, &str); 9] = [
    ("ADDRESS", "an IP address of this machine, 0.0.0.0 for all, or localhost"),
    ("DURATION", HumanDuration::ALLOWED),
    ("NAME", "1 to 64 letters, digits, '.', '_' and '-'"),
    ("NUMBER", "a whole number"),
    ("PATH", "a path"),
    ("PORT", "0 (the operating system chooses) to 65535"),
    ("SIZE", ByteSize::ALLOWED),
    ("TEXT", "text"),
    ("true|false", "true or false"),
];

/// The values that are allowed for a setting with this placeholder in the help, in words: `PORT`, `DURATION`. `None` for
/// a placeholder that lists them itself.
pub fn allowed_values(placeholder: &str) -> Option<&'static str> {
    ALLOWED.iter().find(|(name, _)| *name == placeholder).map(|(_, allowed)| *allowed)
}

/// A text of a user in a message: in quotes, and without control characters. A quote in it is not escaped, because the
/// text is for people.
pub fn quoted(text: &str) -> String {
    let mark = if text.contains('"') { '\'' } else { '"' };
    let plain = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    [mark].into_iter().chain(plain).chain([mark]).collect()
}

impl HumanDuration {
    /// What is allowed, in words.
    pub const ALLOWED: &str = "a duration with its unit, like 250ms, 90s, 5m, 1h30m or 7d";
}

impl ByteSize {
    /// What is allowed, in words.
    pub const ALLOWED: &str = "a size, like 64MiB, 1GiB, 500MB or a number of bytes";
}

/// The number at the start of the text, and the rest.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

fn unit(units: &[(&str, u64)], name: &str) -> Option<u64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, factor)| *factor)
}

fn milliseconds(mut text: &str) -> Option<u64> {
    let mut sum = 0_u64;
    loop {
        let (count, rest) = number(text)?;
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, rest) = rest.split_at(letters);
        sum = sum.checked_add(count.checked_mul(unit(&DURATIONS, name)?)?)?;
        if rest.is_empty() {
            return Some(sum);
        }
        text = rest;
    }
}

impl FromStr for HumanDuration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        milliseconds(text).map(|sum| Self(Duration::from_millis(sum))).ok_or(Self::ALLOWED)
    }
}

impl FromStr for ByteSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = || {
            let (count, rest) = number(text)?;
            let name = if rest.is_empty() { "B" } else { rest.trim_start() };
            count.checked_mul(unit(&SIZES, name)?)
        };
        bytes().map(Self).ok_or(Self::ALLOWED)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in DURATIONS {
            if rest >= factor {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |factor: u64| self.0 > 0 && self.0.is_multiple_of(factor);
        let largest = SIZES[..4].iter().find(|(_, factor)| fits(*factor));
        let (name, factor) = largest.unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

/// Reads and writes these types as text.
macro_rules! by_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|allowed| {
                    let shown = quoted(&text);
                    D::Error::invalid_value(Unexpected::Other(&shown), &allowed)
                })
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
by_text!(HumanDuration, ByteSize);

impl Deref for HumanDuration {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<usize> for ByteSize {
    fn from(bytes: usize) -> Self {
        Self(bytes as u64)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

/// A size larger than the address space of this machine becomes all of it.
impl From<ByteSize> for usize {
    fn from(size: ByteSize) -> Self {
        Self::try_from(size.0).unwrap_or(Self::MAX)
    }
}
