//! What a name that is no known model may have been meant to be, as its form alone shows.

use super::{ModelRef, is_allowed, is_no_part};

/// The addresses under which people know a model of the hub.
const HUB_PREFIXES: [&str; 3] = ["https://", "http://", "hf:"];
const HUB_HOSTS: [&str; 2] = ["huggingface.co/", "hf.co/"];
/// The ends of the names of model files.
const FILE_ENDS: [&str; 2] = [".gguf", ".safetensors"];

impl ModelRef {
    /// The reference to a repository of the hub that this name looks like: `org/name` gives `hf:org/name`. A tag after
    /// it, as in `hf.co/org/name:Q4_K_M`, is left out, because it names no file.
    pub(crate) fn hub_suggestion(name: &str) -> Option<Self> {
        let without = |text: &str, prefixes: &[&str]| {
            let is_first = |prefix: &&&str| {
                text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            };
            let length = prefixes.iter().filter(is_first).map(|prefix| prefix.len()).max();
            text[length.unwrap_or(0)..].to_owned()
        };
        let rest = without(&without(name, &HUB_PREFIXES), &HUB_HOSTS);
        let rest = rest.split(':').next()?;
        let (org, repo) = rest.split_once('/')?;
        let is_part =
            |part: &str| !part.is_empty() && !is_no_part(part) && part.chars().all(is_allowed);
        let is_file = FILE_ENDS.iter().any(|end| repo.to_ascii_lowercase().ends_with(end));
        (is_part(org) && is_part(repo) && !is_file)
            .then(|| format!("hf:{org}/{repo}").parse().ok())?
    }

    /// The reference to a file that this name looks like, if it is a path. Of a path that is not absolute only the form
    /// of the reference is known.
    pub(crate) fn file_suggestion(name: &str) -> Option<String> {
        if name.starts_with('/') {
            return Some(Self::file(name).ok()?.to_string());
        }
        let is_relative = ["./", "../", "~/"].iter().any(|start| name.starts_with(start));
        let is_file = FILE_ENDS.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        (is_relative || is_file).then(|| "file:/absolute/path".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_a_repository_of_the_hub_is_recognized() {
        for name in [
            "Qwen/Qwen2.5-0.5B",
            "hf.co/Qwen/Qwen2.5-0.5B",
            "hf.co/Qwen/Qwen2.5-0.5B:Q4_K_M",
            "Qwen/Qwen2.5-0.5B:latest",
            "huggingface.co/Qwen/Qwen2.5-0.5B",
            "https://huggingface.co/Qwen/Qwen2.5-0.5B",
            "HF:Qwen/Qwen2.5-0.5B",
        ] {
            let meant = ModelRef::hub_suggestion(name);
            assert_eq!(meant.unwrap().as_str(), "hf:Qwen/Qwen2.5-0.5B", "{name}");
        }
        for name in [
            "gpt-4",
            "llama3.2:3b",
            "a/b/c",
            "/a/b",
            "./a",
            "../a",
            "a/b.gguf",
            "a b/c",
            "/",
            ":",
            "é/é",
        ] {
            assert_eq!(ModelRef::hub_suggestion(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_that_looks_like_a_path_is_recognized() {
        let meant = |name| ModelRef::file_suggestion(name);
        assert_eq!(meant("/models//bee.gguf").as_deref(), Some("file:/models/bee.gguf"));
        for name in ["./bee", "../bee", "~/bee", "bee.gguf", "models/Bee.GGUF", "a.safetensors"] {
            assert_eq!(meant(name).as_deref(), Some("file:/absolute/path"), "{name}");
        }
        for name in ["bee", "org/model", "a:b", "/a/../b", "/"] {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}
