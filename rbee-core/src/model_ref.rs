//! References to models and aliases for them. Everything that names a model is read here.
//!
//! ```text
//! name      = reference / alias
//! reference = "hf:" part "/" part [ "@" path ] [ "::file=" path ]
//!           / "file:" the absolute path of a file or directory
//! alias     = part *( ( "/" / ":" ) part )       at most 256 bytes
//! path      = part *( "/" part )
//! part      = 1*128( a-z / A-Z / 0-9 / "." / "_" / "-" ), and not only dots
//! ```
//!
//! An alias does not begin with a scheme: `hf:`, `file:`, `http:` and `https:` in any case are none. It follows from
//! the parts that it is no absolute path, has no `..`, and does not begin or end with `/` or `:`.
//!
//! The tag `:latest` may be added to any alias: `name:latest` is `name`, unless an alias `name:latest` exists.

mod suggestion;

use std::{collections::BTreeMap, fmt, path::Path, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};

/// The longest reference that is accepted, in bytes.
pub const MAX_MODEL_REF_BYTES: usize = 1024;

/// The longest alias that is accepted, in bytes.
const MAX_ALIAS_BYTES: usize = 256;

/// What an alias does not begin with, in any case.
const SCHEMES: [&str; 4] = ["hf", "file", "http", "https"];

/// The tag that may be added to any alias.
const LATEST: &str = ":latest";

/// A checked, normalized reference to a model. Cheap to clone and to compare.
///
/// The target always stays below the directory in which the reference is resolved: parts such as `..` do not parse.
///
/// ```
/// use rbee_core::{models::ModelSource, ModelRef};
///
/// let model: ModelRef = "hf:meta-llama/Llama-3.2-1B@main::file=model.safetensors".parse()?;
/// assert!(matches!(model.source(), ModelSource::Hub { org: "meta-llama", revision: Some("main"), .. }));
/// assert!("file:relative/path".parse::<ModelRef>().is_err());
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelRef(Arc<str>);

/// The target of a [`ModelRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelSource<'a> {
    /// A repository of a model hub.
    Hub {
        /// The owner of the repository.
        org: &'a str,
        /// The repository.
        repo: &'a str,
        /// The branch, tag or commit.
        revision: Option<&'a str>,
        /// One file of the repository, by its path there.
        file: Option<&'a str>,
    },
    /// A file or directory on the queen's machine.
    File(&'a Path),
    /// A name that the model catalog, or a worker, knows: up to 256 bytes of `a-z A-Z 0-9 . _ -`, with single `/` and
    /// `:` between them. It does not begin with a scheme.
    Alias(&'a str),
}

impl ModelRef {
    /// A reference to a file or directory; the path must be absolute.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if the path is not absolute, is not UTF-8, or contains `..`.
    pub fn file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = path
            .to_str()
            .ok_or_else(|| malformed(&path.to_string_lossy(), "the path is not UTF-8"))?;
        format!("file:{text}").parse()
    }

    /// A name for a model: see [`ModelSource::Alias`].
    ///
    /// ```
    /// # use rbee_core::ModelRef;
    /// assert_eq!(ModelRef::alias("llama3.2:3b")?.as_str(), "llama3.2:3b");
    /// assert!(ModelRef::alias("hf:org/repo").is_err());
    /// # Ok::<(), rbee_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if it has characters that are not allowed, begins with a scheme, looks like a
    /// path, or is too long.
    pub fn alias(name: &str) -> Result<Self> {
        check_alias(name).map_err(|why| {
            Error::for_client(
                ErrorKind::InvalidRequest,
                format!(
                    "alias {:?} is malformed: {why}; allowed are up to {MAX_ALIAS_BYTES} bytes of a-z A-Z 0-9 . _ -, \
                     with single / and : between them",
                    shown(name)
                ),
            )
        })?;
        Ok(Self(name.into()))
    }

    /// The same alias without the tag `:latest`, if it has that tag.
    pub(crate) fn without_latest(&self) -> Option<Self> {
        match self.source() {
            ModelSource::Alias(name) => Some(Self(name.strip_suffix(LATEST)?.into())),
            _ => None,
        }
    }

    /// The reference as text, in its normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if this reference is a resolved form of the other one, which may name a branch or no file.
    ///
    /// ```
    /// # use rbee_core::ModelRef;
    /// let commit = "0123456789abcdef0123456789abcdef01234567";
    /// let pinned: ModelRef = format!("hf:org/repo@{commit}").parse()?;
    /// assert!(pinned.is_of(&"hf:org/repo@main".parse()?));
    /// assert!(!pinned.is_of(&"hf:org/other".parse()?));
    /// # Ok::<(), rbee_core::Error>(())
    /// ```
    pub fn is_of(&self, other: &Self) -> bool {
        use ModelSource::Hub;
        match (self.source(), other.source()) {
            (
                Hub { org, repo, revision, file },
                Hub { org: org_of, repo: repo_of, revision: revision_of, file: file_of },
            ) => {
                (org, repo) == (org_of, repo_of)
                    && revision_of.is_none_or(|of| Some(of) == revision || !is_commit(of))
                    && file_of.is_none_or(|of| Some(of) == file)
            }
            _ => self == other,
        }
    }

    /// The target of the reference.
    pub fn source(&self) -> ModelSource<'_> {
        if let Some(path) = self.0.strip_prefix("file:") {
            return ModelSource::File(Path::new(path));
        }
        let Some(rest) = self.0.strip_prefix("hf:") else {
            return ModelSource::Alias(&self.0);
        };
        let (rest, file) = split(rest, "::file=");
        let (name, revision) = split(rest, "@");
        // A value of this type was parsed, so it contains the slash; without one, the whole text is the organization.
        let (org, repo) = name.split_once('/').unwrap_or((name, ""));
        ModelSource::Hub { org, repo, revision, file }
    }
}

/// The alias that is meant by this name, with its model: the one of this name, or of the name without `:latest`.
pub(crate) fn find_alias<'a>(
    aliases: &'a BTreeMap<String, ModelRef>,
    name: &str,
) -> Option<(&'a String, &'a ModelRef)> {
    let bare = || aliases.get_key_value(name.strip_suffix(LATEST)?);
    aliases.get_key_value(name).or_else(bare)
}

/// True if this text is meant as a reference, and not as an alias, whether it is well-formed or not.
pub(crate) fn is_reference(text: &str) -> bool {
    text.starts_with("hf:") || text.starts_with("file:")
}

/// The name as an error shows it.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 120;
    let mut shown: String = name.chars().take(MOST).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    shown
}

/// True if the revision is a commit, which never changes.
pub(crate) fn is_commit(revision: &str) -> bool {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    revision.len() == 40 && revision.bytes().all(is_digit)
}

fn split<'a>(text: &'a str, at: &str) -> (&'a str, Option<&'a str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn malformed(text: &str, why: impl fmt::Display) -> Error {
    Error::for_client(
        ErrorKind::InvalidRequest,
        format!(
            "model reference {:?} is malformed: {why}; allowed are hf:org/repo[@revision][::file=path], \
             file:/absolute/path, or an alias of a-z A-Z 0-9 . _ - with single / and : between them",
            shown(text)
        ),
    )
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// True for `.`, `..` and the like, and for a part that is too long.
fn is_no_part(part: &str) -> bool {
    part.len() > 128 || part.chars().all(|c| c == '.')
}

/// Checks a part of a hub name: like a file name, never `.` or `..`.
fn check_name(text: &str, what: &str, part: &str) -> Result<()> {
    if part.is_empty() {
        return Err(malformed(text, format_args!("the {what} is missing")));
    }
    if let Some(bad) = part.chars().find(|c| !is_allowed(*c)) {
        return Err(malformed(text, format_args!("{bad:?} in the {what} {part:?}")));
    }
    if is_no_part(part) {
        return Err(malformed(text, format_args!("{part:?} is no {what}")));
    }
    Ok(())
}

/// Checks an alias, and returns what is wrong with it.
fn check_alias(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.len() > MAX_ALIAS_BYTES {
        return Err(format!("it has {} bytes", text.len()));
    }
    if let Some((scheme, _)) = text.split_once(':')
        && SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
    {
        return Err(format!("it begins with the scheme {scheme}:"));
    }
    if text.starts_with('/') {
        return Err("it looks like an absolute path".into());
    }
    if let Some(bad) = text.chars().find(|c| !is_allowed(*c) && !matches!(c, '/' | ':')) {
        return Err(format!("{bad:?} is in it"));
    }
    for part in text.split(['/', ':']) {
        if part.is_empty() {
            return Err("nothing is before, after or between a / or :".into());
        }
        if is_no_part(part) {
            return Err(format!("{part:?} is no part of a name"));
        }
    }
    Ok(())
}

/// Checks a relative path in a repository, or a revision such as `refs/pr/1`.
fn check_path(text: &str, what: &str, path: &str) -> Result<()> {
    path.split('/').try_for_each(|part| check_name(text, what, part))
}

/// Normalizes a path: `//` and `/./` are folded. `..` is refused, because a reference must not leave its directory.
fn normal_file(text: &str, path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(malformed(text, "the path is not absolute"));
    }
    if let Some(bad) = path.chars().find(|c| c.is_control()) {
        return Err(malformed(text, format_args!("{bad:?} in the path")));
    }
    let mut normal = String::from("file:");
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(malformed(text, "the path has a \"..\" in it"));
        }
        normal.push('/');
        normal.push_str(part);
    }
    if normal == "file:" {
        return Err(malformed(text, "the path names no file"));
    }
    Ok(normal)
}

impl FromStr for ModelRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(malformed(text, "it is empty"));
        }
        if text.len() > MAX_MODEL_REF_BYTES {
            return Err(malformed(
                text,
                format_args!("it is longer than {MAX_MODEL_REF_BYTES} bytes"),
            ));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Self(normal_file(text, path)?.into()));
        }
        let Some(rest) = text.strip_prefix("hf:") else {
            check_alias(text).map_err(|why| malformed(text, why))?;
            return Ok(Self(text.into()));
        };
        let (rest, file) = split(rest, "::file=");
        let (name, revision) = split(rest, "@");
        let Some((org, repo)) = name.split_once('/') else {
            return Err(malformed(text, "the organization or the repository is missing"));
        };
        check_name(text, "organization", org)?;
        check_name(text, "repository", repo)?;
        revision.map_or(Ok(()), |revision| check_path(text, "revision", revision))?;
        file.map_or(Ok(()), |file| check_path(text, "file", file))?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ModelRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ModelRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_normalized() {
        let model: ModelRef = "file://models/./bee//tiny/".parse().unwrap();
        assert_eq!(model.as_str(), "file:/models/bee/tiny");
        assert_eq!(model.source(), ModelSource::File(Path::new("/models/bee/tiny")));
    }

    #[test]
    fn what_could_escape_or_confuse_is_refused_with_the_reference_named() {
        for bad in [
            "",
            "file:",
            "file:/",
            "file:a",
            "file:/a/../b",
            "file:/a\0b",
            "hf:",
            "hf:x",
            "hf:/x",
            "hf:x/",
            "hf:../x",
            "hf:a/b/c",
            "hf:a/b@",
            "hf:a/b@../x",
            "hf:a/b::file=",
            "hf:a/b::file=/etc/passwd",
            "hf:a/b::file=../x",
            "hf:a/b::fiel=x",
            "https://x/y",
            "a b",
            "..",
            "\u{202e}x",
            "/a/b",
            "./a.gguf",
            "../a",
            "a/../b",
            "a//b",
            "a/",
            ":a",
            "a:",
            "a::b",
            "a:/b",
            "HF:a/b",
            "File:a",
            "http:a",
            "C:\\a",
            "~/a",
            "a@b",
        ] {
            let error = bad.parse::<ModelRef>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            assert!(error.message().contains("allowed are"), "{error}");
        }
    }

    #[test]
    fn names_that_people_type_are_aliases() {
        for name in [
            "bee",
            "llama3.2:3b",
            "org/model",
            "hf.co/org/model:Q4_K_M",
            "gpt-4",
            "registry.local:5000/team/bee:latest",
            "hfx:y",
            "files/x",
        ] {
            let model: ModelRef = name.parse().unwrap();
            assert_eq!(model.source(), ModelSource::Alias(name));
            assert_eq!(ModelRef::alias(name).unwrap(), model);
        }
        assert!("a".repeat(MAX_ALIAS_BYTES / 2).parse::<ModelRef>().is_ok());
        let long = ["a".repeat(127), "b".repeat(127)].join("/");
        assert_eq!(
            ModelRef::alias(&(long.clone() + ":c")).unwrap_err().kind(),
            ErrorKind::InvalidRequest
        );
        assert!(ModelRef::alias(&long).is_ok(), "255 bytes");
    }

    #[test]
    fn an_alias_that_is_none_is_refused_with_the_reason() {
        for (name, why) in [
            ("", "it is empty"),
            ("hf:org/repo", "it begins with the scheme hf:"),
            ("FILE:/x", "it begins with the scheme FILE:"),
            ("/models/bee", "it looks like an absolute path"),
            ("./bee", "\".\" is no part of a name"),
            ("gpt 4", "' ' is in it"),
            ("a//b", "nothing is before, after or between a / or :"),
            (&*"x".repeat(300), "it has 300 bytes"),
        ] {
            let error = ModelRef::alias(name).unwrap_err();
            assert!(
                error.message().starts_with("alias \"") && error.message().contains(why),
                "{error}"
            );
            assert!(error.message().len() < 400, "{error}");
        }
    }

    #[test]
    fn latest_is_the_alias_without_a_tag_unless_there_is_one_of_that_name() {
        let model = |text: &str| text.parse::<ModelRef>().unwrap();
        let mut aliases = BTreeMap::from([("bee".to_owned(), model("file:/bee"))]);
        let found = |aliases: &BTreeMap<_, _>, name| {
            find_alias(aliases, name)
                .map(|(name, model): (&String, &ModelRef)| format!("{name} {model}"))
        };
        assert_eq!(found(&aliases, "bee:latest").as_deref(), Some("bee file:/bee"));
        for other in ["bee:3b", "bee:latest:latest", "latest", ":latest", "wasp:latest"] {
            assert_eq!(found(&aliases, other), None, "{other}");
        }
        aliases.insert("bee:latest".into(), model("file:/new"));
        assert_eq!(found(&aliases, "bee:latest").as_deref(), Some("bee:latest file:/new"));
        assert_eq!(found(&aliases, "bee").as_deref(), Some("bee file:/bee"));
        assert_eq!(model("bee:latest").without_latest(), Some(model("bee")));
        assert_eq!(model("hf:a/b@latest").without_latest(), None);
        assert_eq!(model("file:/a:latest").without_latest(), None);
    }

    proptest! {
        #[test]
        fn an_alias_is_exactly_its_parts(parts in proptest::collection::vec("[a-zA-Z0-9_.-]{0,8}[a-z0-9]", 1..6), marks in proptest::collection::vec("[/:]", 6)) {
            let mut text = String::new();
            for (part, mark) in parts.iter().zip(&marks) {
                text += part;
                text += mark;
            }
            text.pop();
            let begins_with_scheme = text.split_once(':').is_some_and(|(first, _)| SCHEMES.contains(&&*first.to_lowercase()));
            match text.parse::<ModelRef>() {
                Ok(model) => {
                    prop_assert_eq!(model.source(), ModelSource::Alias(&text));
                    prop_assert_eq!(model.to_string(), text.clone());
                    let json = serde_json::to_string(&model).unwrap();
                    prop_assert_eq!(serde_json::from_str::<ModelRef>(&json).unwrap(), model);
                }
                Err(error) => prop_assert!(begins_with_scheme, "{}: {}", text, error),
            }
        }

        #[test]
        fn what_is_an_alias_is_no_reference_and_stays_a_relative_name(text in "[a-zA-Z0-9_./: @-]{0,40}|(hf|HF|file|https?):[a-z/:.]{0,20}") {
            match ModelRef::alias(&text) {
                Ok(model) => {
                    prop_assert!(!is_reference(&text) && !text.starts_with('/') && text.len() <= MAX_ALIAS_BYTES);
                    prop_assert!(text.split(['/', ':']).all(|part| !part.is_empty() && part != ".."));
                    prop_assert_eq!(text.parse::<ModelRef>().unwrap(), model);
                }
                Err(_) => prop_assert!(text.parse::<ModelRef>().is_err() || is_reference(&text)),
            }
        }

        #[test]
        fn any_text_parses_or_is_refused_and_what_parses_is_its_own_normal_form(text in ".{0,60}|(hf|file):[a-z/@:.=]{0,40}") {
            if let Ok(model) = text.parse::<ModelRef>() {
                prop_assert_eq!(model.as_str().parse::<ModelRef>().unwrap(), model.clone());
                prop_assert!(!model.as_str().split('/').any(|part| part == ".."));
            }
        }

        #[test]
        fn a_hub_reference_gives_back_its_parts(org in "[a-z0-9]{1,9}", repo in "[A-Za-z0-9._-]{0,9}x", rev in proptest::option::of("[a-z0-9]{1,9}"), file in proptest::option::of("[a-z]{1,5}/[a-z]{1,5}")) {
            let mut text = format!("hf:{org}/{repo}");
            if let Some(rev) = &rev { text += &format!("@{rev}"); }
            if let Some(file) = &file { text += &format!("::file={file}"); }
            let model: ModelRef = text.parse().unwrap();
            prop_assert_eq!(model.to_string(), text);
            prop_assert_eq!(model.source(), ModelSource::Hub { org: &org, repo: &repo, revision: rev.as_deref(), file: file.as_deref() });
        }
    }
}
