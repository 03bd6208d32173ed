//! The kinds of values that a key can have: how each is read and shown.

use std::{
    collections::BTreeMap,
    fmt::Display,
    marker::PhantomData,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use rbee_core::QueenId;
use rbee_transport_http::server::{AllowedHost, AllowedOrigin};

use super::yaml::{Node, Value};

/// Why a value is refused. Where it is inside a list or a map, its own line.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) message: String,
}

/// What is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    /// The key.
    pub(super) key: &'a str,
    /// What relative paths are relative to.
    pub(super) base: &'a Path,
}

impl At<'_> {
    /// The value is not one of those that are allowed.
    pub(super) fn wrong<T>(&self, node: &Node, allowed: impl Display) -> Result<T, Wrong> {
        self.wrong_in(node, "", allowed)
    }

    /// The same, for something inside the value.
    pub(super) fn wrong_in<T>(
        &self,
        node: &Node,
        inside: &str,
        allowed: impl Display,
    ) -> Result<T, Wrong> {
        let message = format!("{}{inside} is {}; allowed is {allowed}", self.key, node.shown());
        Err(Wrong { line: node.line, message })
    }
}

/// A kind of value.
pub(super) trait Kind {
    /// The value.
    type Value;
    /// What stands for it in the help.
    const FORM: &'static str;
    /// What is allowed, in words.
    const ALLOWED: &'static str;

    /// From its text.
    fn parse(text: &str, at: At<'_>) -> Option<Self::Value>;

    /// As it can be read again.
    fn show(value: &Self::Value) -> String;

    /// From a tree; most are plain text.
    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        let parsed = match &node.value {
            Value::Scalar { text, .. } => Self::parse(text, at),
            Value::List(_) | Value::Map(_) => None,
        };
        parsed.map_or_else(|| at.wrong(node, Self::ALLOWED), Ok)
    }
}

/// A whole number.
pub(super) struct Whole<T>(PhantomData<T>);

impl<T: FromStr + Display> Kind for Whole<T> {
    type Value = T;
    const FORM: &'static str = "NUMBER";
    const ALLOWED: &'static str = "a whole number";

    fn parse(text: &str, _: At<'_>) -> Option<T> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    }
    fn show(value: &T) -> String {
        value.to_string()
    }
}

/// A port.
pub(super) struct Port;

impl Kind for Port {
    type Value = u16;
    const FORM: &'static str = "PORT";
    const ALLOWED: &'static str = "0 (the operating system chooses) to 65535";

    fn parse(text: &str, at: At<'_>) -> Option<u16> {
        Whole::parse(text, at)
    }
    fn show(value: &u16) -> String {
        value.to_string()
    }
}

/// An address of this machine.
pub(super) struct Host;

impl Kind for Host {
    type Value = IpAddr;
    const FORM: &'static str = "ADDRESS";
    const ALLOWED: &'static str = "an IP address of this machine, 0.0.0.0 for all, or localhost";

    fn parse(text: &str, _: At<'_>) -> Option<IpAddr> {
        match text {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            text => text.parse().ok(),
        }
    }
    fn show(value: &IpAddr) -> String {
        value.to_string()
    }
}

/// Yes or no.
pub(super) struct YesNo;

impl Kind for YesNo {
    type Value = bool;
    const FORM: &'static str = "true|false";
    const ALLOWED: &'static str = "true or false";

    fn parse(text: &str, _: At<'_>) -> Option<bool> {
        text.parse().ok()
    }
    fn show(value: &bool) -> String {
        value.to_string()
    }
}

/// A span of time.
pub(super) struct Span;

const SPANS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Kind for Span {
    type Value = Duration;
    const FORM: &'static str = "DURATION";
    const ALLOWED: &'static str = "a duration with its unit, like 250ms, 90s, 5m, 1h30m or 7d";

    fn parse(text: &str, _: At<'_>) -> Option<Duration> {
        let (mut rest, mut sum) = (text, 0_u64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            let (_, each) = SPANS.iter().find(|(name, _)| *name == unit)?;
            sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*each)?)?;
            rest = tail;
        }
        (!text.is_empty()).then(|| Duration::from_millis(sum))
    }

    fn show(value: &Duration) -> String {
        let mut rest = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return "0s".into();
        }
        let mut shown = String::new();
        for (unit, each) in SPANS {
            if rest >= each {
                shown += &format!("{}{unit}", rest / each);
                rest %= each;
            }
        }
        shown
    }
}

/// A number of bytes.
pub(super) struct Size;

const SIZES: [(&str, usize); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Kind for Size {
    type Value = usize;
    const FORM: &'static str = "SIZE";
    const ALLOWED: &'static str = "a size, like 64MiB, 1GiB, 500MB or a number of bytes";

    fn parse(text: &str, _: At<'_>) -> Option<usize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = if unit.is_empty() { "B" } else { unit.trim_start() };
        let (_, each) = SIZES.iter().find(|(name, _)| *name == unit)?;
        number.parse::<usize>().ok()?.checked_mul(*each)
    }

    fn show(value: &usize) -> String {
        let fits = |each: usize| *value > 0 && value.is_multiple_of(each);
        let (unit, each) =
            SIZES[..4].iter().find(|(_, each)| fits(*each)).copied().unwrap_or(("B", 1));
        format!("{}{unit}", value / each)
    }
}

/// A file or directory.
pub(super) struct File;

impl Kind for File {
    type Value = PathBuf;
    const FORM: &'static str = "PATH";
    const ALLOWED: &'static str = "a path";

    fn parse(text: &str, at: At<'_>) -> Option<PathBuf> {
        (!text.is_empty()).then(|| at.base.join(text))
    }
    fn show(value: &PathBuf) -> String {
        quoted(&value.display().to_string())
    }
}

/// Files or directories.
pub(super) struct Files;

impl Kind for Files {
    type Value = Vec<PathBuf>;
    const FORM: &'static str = "[PATH, …]";
    const ALLOWED: &'static str = "a list of paths, like [/models, /srv/models]";

    fn parse(_: &str, _: At<'_>) -> Option<Self::Value> {
        None
    }
    fn show(value: &Self::Value) -> String {
        serde_json::json!(value).to_string()
    }
    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        let node = structured(node, at)?;
        let Value::List(items) = &node.value else { return at.wrong(&node, Self::ALLOWED) };
        items.iter().map(|item| File::read(item, at)).collect()
    }
}

/// One thing of a list, from its text.
pub(super) trait Item: FromStr<Err = rbee_core::Error> + Display {
    /// What stands for the list in the help.
    const FORM: &'static str;
    /// What is allowed, in words.
    const ALLOWED: &'static str;
}

/// A list; as text also with commas between its items.
pub(super) struct ListOf<T>(PhantomData<T>);

impl<T: Item> ListOf<T> {
    fn item(text: &str, line: usize, at: At<'_>) -> Result<T, Wrong> {
        let wrong = |error: rbee_core::Error| Wrong {
            line,
            message: format!("{}: {}", at.key, error.message()),
        };
        text.trim().parse().map_err(wrong)
    }
}

impl<T: Item> Kind for ListOf<T> {
    type Value = Vec<T>;
    const FORM: &'static str = T::FORM;
    const ALLOWED: &'static str = T::ALLOWED;

    fn parse(_: &str, _: At<'_>) -> Option<Self::Value> {
        None
    }
    fn show(value: &Self::Value) -> String {
        let texts: Vec<String> = value.iter().map(T::to_string).collect();
        serde_json::json!(texts).to_string()
    }
    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        // An item may be what YAML takes for something else: `*`, for instance.
        let is_plain = |text: &str| !text.trim_start().starts_with(['[', '{']);
        let node = match &node.value {
            Value::Scalar { text, .. } if is_plain(text) => node.clone(),
            _ => structured(node, at)?,
        };
        match &node.value {
            Value::Scalar { text, .. } => {
                text.split(',').map(|text| Self::item(text, node.line, at)).collect()
            }
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Scalar { text, .. } => Self::item(text, item.line, at),
                    Value::List(_) | Value::Map(_) => at.wrong(item, Self::ALLOWED),
                })
                .collect(),
            Value::Map(_) => at.wrong(&node, Self::ALLOWED),
        }
    }
}

impl Item for AllowedHost {
    const FORM: &'static str = "[HOST, …]";
    const ALLOWED: &'static str = "a list of hosts, like [llm.home.arpa, 192.168.1.5]";
}

impl Item for AllowedOrigin {
    const FORM: &'static str = "[ORIGIN, …]";
    const ALLOWED: &'static str =
        "a list of origins, like [https://chat.example, app://obsidian.md]";
}

/// A value that may be absent: `~` or nothing.
pub(super) struct Maybe<K>(PhantomData<K>);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;
    const FORM: &'static str = K::FORM;
    const ALLOWED: &'static str = K::ALLOWED;

    fn parse(text: &str, at: At<'_>) -> Option<Self::Value> {
        K::parse(text, at).map(Some)
    }
    fn show(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "~".into(), K::show)
    }
    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        match &node.value {
            Value::Scalar { text, plain: true } if matches!(&**text, "~" | "null") => Ok(None),
            _ => K::read(node, at).map(Some),
        }
    }
}

/// One of a few names.
pub(super) trait Named: Copy + PartialEq + 'static {
    /// The names, as the help shows them.
    const FORM: &'static str;
    /// Name and value.
    const ALL: &'static [(&'static str, Self)];
}

/// One of a few names.
pub(super) struct OneOf<T>(PhantomData<T>);

impl<T: Named> Kind for OneOf<T> {
    type Value = T;
    const FORM: &'static str = T::FORM;
    const ALLOWED: &'static str = T::FORM;

    fn parse(text: &str, _: At<'_>) -> Option<T> {
        T::ALL.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
    }
    fn show(value: &T) -> String {
        let name = T::ALL.iter().find(|(_, known)| known == value);
        name.map_or_else(String::new, |(name, _)| (*name).into())
    }
}

/// The name of a queen.
pub(super) struct QueenName;

impl Kind for QueenName {
    type Value = QueenId;
    const FORM: &'static str = "NAME";
    const ALLOWED: &'static str = "1 to 64 letters, digits, '.', '_' and '-'";

    fn parse(text: &str, _: At<'_>) -> Option<QueenId> {
        QueenId::new(text).ok()
    }
    fn show(value: &QueenId) -> String {
        quoted(value.as_str())
    }
}

/// Text that something else will make sense of.
pub(super) struct Words;

impl Kind for Words {
    type Value = String;
    const FORM: &'static str = "TEXT";
    const ALLOWED: &'static str = "text";

    fn parse(text: &str, _: At<'_>) -> Option<String> {
        Some(text.into())
    }
    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// Names and what they stand for.
pub(super) struct Names;

impl Kind for Names {
    type Value = BTreeMap<String, String>;
    const FORM: &'static str = "{NAME: REFERENCE, …}";
    const ALLOWED: &'static str =
        "a map of names to references, like {small: \"file:/models/small\"}";

    fn parse(_: &str, _: At<'_>) -> Option<Self::Value> {
        None
    }
    fn show(value: &Self::Value) -> String {
        serde_json::json!(value).to_string()
    }
    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        let node = structured(node, at)?;
        let Value::Map(entries) = &node.value else { return at.wrong(&node, Self::ALLOWED) };
        let mut names = BTreeMap::new();
        for entry in entries {
            let Value::Scalar { text, .. } = &entry.node.value else {
                return at.wrong_in(&entry.node, &format!(".{}", entry.key), "a reference");
            };
            names.insert(entry.key.clone(), text.clone());
        }
        Ok(names)
    }
}

/// A list or map that came as text, in a flag or a variable, is YAML in itself.
pub(super) fn structured(node: &Node, at: At<'_>) -> Result<Node, Wrong> {
    let Value::Scalar { text, .. } = &node.value else { return Ok(node.clone()) };
    match super::yaml::parse(text) {
        Ok(parsed) => Ok(parsed.unwrap_or_else(|| node.clone())),
        Err(why) => Err(Wrong {
            line: node.line,
            message: format!("{} is {}: {}", at.key, node.shown(), why.message),
        }),
    }
}

/// Text as YAML takes it, with quotes where it needs them.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let is_plain = text.chars().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !["true", "false", "null"].contains(&text);
    if is_plain { text.into() } else { serde_json::json!(text).to_string() }
}

#[cfg(test)]
mod tests;
