//! The types of keys that are more than one word, and the reading of all own types from YAML.

use std::{fmt, marker::PhantomData, ops::Deref, str::FromStr};

use rbee_core::tenant::TenantLimits;
use rbee_transport_http::{
    Token,
    server::{ListenHost, quoted},
    wire::engine::EngineCommand,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, Unexpected},
};

use super::{
    BatchKeys,
    refusal::{Problem, Refusal},
    yaml::read,
};

/// A list or a map: YAML in the file, and text that is YAML in a flag or a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Yaml<T>(pub T);

impl<T> Deref for Yaml<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned> FromStr for Yaml<T> {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        read(text).map(Self)
    }
}

/// A list of text values; also as one text separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// One value of a [`List`].
#[derive(Deserialize)]
#[serde(try_from = "String", bound = "T: FromStr<Err = rbee_core::Error>")]
struct Item<T>(T);

impl<T: FromStr<Err = rbee_core::Error>> TryFrom<String> for Item<T> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.trim().parse().map(Self).map_err(|error: rbee_core::Error| error.message().to_owned())
    }
}

impl<T: FromStr<Err = rbee_core::Error>> FromStr for List<T> {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if text.trim_start().starts_with(['[', '{']) {
            return read(text);
        }
        // An item may be something else in YAML, for example `*`.
        let items = text.split(',').map(|item| Item::try_from(item.to_owned()).map(|item| item.0));
        items.collect::<Result<_, _>>().map(Self).map_err(|why| Refusal {
            line: 1,
            path: String::new(),
            problem: Problem::Other(why),
        })
    }
}

impl<'de, T: FromStr<Err = rbee_core::Error>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: FromStr<Err = rbee_core::Error>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<List<T>, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<List<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(Item(item)) = seq.next_element()? {
                    items.push(item);
                }
                Ok(List(items))
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

impl<T: fmt::Display> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

/// A value whose own rules are checked as soon as it is read, so that an error has its line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Checked<T>(pub T);

impl<T> Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Reads and writes text types of the configuration with `FromStr` and `Display`.
macro_rules! by_text {
    ($($type:ty: $allowed:expr),* $(,)?) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|_| {
                    let shown = quoted(&text);
                    D::Error::invalid_value(Unexpected::Other(&shown), &$allowed)
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
by_text!(
    crate::hive_url::HiveUrl: crate::hive_url::HiveUrl::ALLOWED,
);

macro_rules! checked {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for Checked<$type> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = <$type>::deserialize(deserializer)?;
                value.validate().map_err(|error| D::Error::custom(error.message()))?;
                Ok(Self(value))
            }
        }
    )*};
}
checked!(EngineCommand, TenantLimits, BatchKeys);

/// One of the names of an enum.
pub(super) fn named<T: DeserializeOwned>(text: &str) -> Result<T, serde::de::value::Error> {
    T::deserialize(serde::de::value::StrDeserializer::new(text))
}

/// An address of this machine.
pub(super) fn host(text: &str) -> Result<ListenHost, &'static str> {
    text.parse().map_err(|_| "it is no IP address")
}

pub(super) fn host_in_a_file<'de, D: Deserializer<'de>>(from: D) -> Result<ListenHost, D::Error> {
    let text = String::deserialize(from)?;
    let shown = quoted(&text);
    host(&text).map_err(|why| D::Error::invalid_value(Unexpected::Other(&shown), &why))
}

/// Refuses a secret in a file.
pub(super) fn not_in_a_file<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Token>, D::Error> {
    match Option::<IgnoredAny>::deserialize(from)? {
        None => Ok(None),
        Some(_) => Err(D::Error::custom(
            "not allowed in a file that may be copied; use token_file, or the variable RBEE_TOKEN",
        )),
    }
}

/// Shows that there is a secret, but not the secret.
pub(super) fn hidden<T, S: Serializer>(secret: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "(hidden)").serialize(to)
}
