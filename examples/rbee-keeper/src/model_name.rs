//! Models as users type them: a name, a reference, or a path on this machine.
//!
//! This is the one place that reads an argument with a model. A path becomes a reference that the queen understands,
//! which names an absolute path: only this program knows the directory in which it was started, and the user's home.

use std::{fmt, path::Path};

use rbee_core::{ModelRef, models::absolute_path};

use crate::{Address, Keeper, failure::Failure};

/// An argument that names a model, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelArg(String);

impl From<String> for ModelArg {
    fn from(typed: String) -> Self {
        Self(typed)
    }
}

impl fmt::Display for ModelArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Keeper {
    /// The name or reference for the queen. A path is made absolute, which is only possible if the queen is on this
    /// machine.
    pub(crate) fn model(&self, typed: &ModelArg) -> Result<String, Failure> {
        resolve(&typed.0, self.client.address())
    }
}

fn resolve(typed: &str, queen: &Address) -> Result<String, Failure> {
    let path = match typed.strip_prefix("file:") {
        // On the queen's machine, wherever that is.
        Some(path) if path.starts_with('/') && !has_parent(path) => return Ok(typed.to_owned()),
        Some(path) => path,
        None if is_path(typed) => typed,
        None => return Ok(typed.to_owned()),
    };
    let wrong = |why: String| Failure::usage(format!("{typed:?} names no model: {why}"));
    if path.is_empty() {
        return Err(wrong("the path is missing".into()));
    }
    if !queen.is_loopback() {
        let why = format!(
            "it is a path on this machine, and the queen at {queen} is on another; file:/absolute/path names a file of \
             the queen's machine, and hf:org/repo a model of the hub"
        );
        return Err(wrong(why));
    }
    let path = absolute_path(path, None).map_err(|cause| wrong(cause.to_string()))?;
    // Also what a reference cannot contain is refused here, with what was typed.
    let model = ModelRef::file(&path).map_err(|error| wrong(error.message().to_owned()))?;
    Ok(model.as_str().to_owned())
}

/// True if the text is a path and not a name: it says where it starts. A name such as `org/model` may contain slashes.
fn is_path(typed: &str) -> bool {
    let first = typed.split('/').next().unwrap_or_default();
    matches!(first, "" | "." | ".." | "~") && !typed.is_empty()
}

fn has_parent(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// The way to name the file or directory that exists under this name, if it was typed without `./`.
pub(crate) fn as_path_here(typed: &str) -> Option<String> {
    let is_name = !is_path(typed) && !typed.contains(':') && !typed.is_empty();
    (is_name && Path::new(typed).exists()).then(|| format!("./{typed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(typed: &str) -> Result<String, Failure> {
        resolve(typed, &Address::default())
    }

    fn elsewhere(typed: &str) -> Result<String, Failure> {
        resolve(typed, &"bee".parse().unwrap())
    }

    #[test]
    fn names_and_references_are_left_as_they_are() {
        for typed in [
            "bee-tiny",
            "llama3.2:3b",
            "org/model",
            "bee/tiny.gguf",
            ".hidden",
            "~name",
            "hf:org/repo@main::file=x.gguf",
            "file:/models/bee",
            "",
        ] {
            assert_eq!(here(typed).unwrap(), typed);
            assert_eq!(elsewhere(typed).unwrap(), typed);
        }
    }

    #[test]
    fn a_path_becomes_the_reference_of_an_absolute_path() {
        let file = |path: &Path| format!("file:{}", path.display());
        let current = std::env::current_dir().unwrap();
        let home = std::env::home_dir().unwrap();
        for (typed, meant) in [
            ("./bee", file(&current.join("bee"))),
            (".", file(&current)),
            ("..", file(current.parent().unwrap())),
            ("./a/./b//c.gguf", file(&current.join("a/b/c.gguf"))),
            ("file:bee", file(&current.join("bee"))),
            ("file:./bee", file(&current.join("bee"))),
            ("file:../bee", file(&current.parent().unwrap().join("bee"))),
            ("~/bee", file(&home.join("bee"))),
            ("file:~/bee", file(&home.join("bee"))),
            ("/models/bee/", "file:/models/bee".into()),
            ("/none/../bee", "file:/bee".into()),
            ("file:/none/../bee", "file:/bee".into()),
        ] {
            assert_eq!(here(typed).unwrap(), meant, "{typed}");
        }
    }

    #[test]
    fn a_path_for_a_queen_on_another_machine_is_refused_with_the_way_to_name_its_files() {
        for typed in ["./bee", "/models/bee", "~/bee", "file:bee", "file:../bee"] {
            let failure = elsewhere(typed).unwrap_err();
            assert_eq!(failure.exit(), crate::Exit::Usage);
            for words in [typed, "http://bee:7833", "file:/absolute/path"] {
                assert!(failure.message().contains(words), "{failure}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_path_is_refused_with_what_was_typed() {
        for (typed, words) in [
            ("file:", "the path is missing"),
            ("/", "names no file"),
            ("./a\u{7}b", "'\\u{7}' in the path"),
        ] {
            let failure = here(typed).unwrap_err();
            assert!(failure.message().contains(words), "{failure}");
        }
    }
}
