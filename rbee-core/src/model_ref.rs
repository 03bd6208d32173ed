//! References to models: `hf:org/repo[@rev][::file=path]`, `file:/absolute/path`, or an alias.

use std::{fmt, path::Path, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};

/// The longest reference that is accepted, in bytes.
pub const MAX_MODEL_REF_BYTES: usize = 1024;

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
    /// A name that the model catalog, or a worker, knows.
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

/// True if the revision is a commit, which never changes.
pub(crate) fn is_commit(revision: &str) -> bool {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    revision.len() == 40 && revision.bytes().all(is_digit)
}

fn split<'a>(text: &'a str, at: &str) -> (&'a str, Option<&'a str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn malformed(text: &str, why: impl fmt::Display) -> Error {
    let shown: String = text.chars().take(120).collect();
    Error::for_client(
        ErrorKind::InvalidRequest,
        format!(
            "model reference {shown:?} is malformed: {why}; allowed are hf:org/repo[@revision][::file=path], \
             file:/absolute/path, or an alias of a-z A-Z 0-9 . _ -"
        ),
    )
}

/// Checks a part of a hub name: like a file name, never `.` or `..`.
fn check_name(text: &str, what: &str, part: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if part.is_empty() {
        return Err(malformed(text, format_args!("the {what} is missing")));
    }
    if let Some(bad) = part.chars().find(|c| !allowed(*c)) {
        return Err(malformed(text, format_args!("{bad:?} in the {what} {part:?}")));
    }
    if part.len() > 128 || part.chars().all(|c| c == '.') {
        return Err(malformed(text, format_args!("{part:?} is no {what}")));
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
            if let Some((scheme, _)) = text.split_once(':') {
                return Err(malformed(text, format_args!("the scheme {scheme:?} is not known")));
            }
            check_name(text, "alias", text)?;
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
            "a/b",
            "\u{202e}x",
        ] {
            let error = bad.parse::<ModelRef>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            assert!(error.message().contains("allowed are"), "{error}");
        }
    }

    proptest! {
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
