//! What a store is told when it is opened.

use std::{env, path::PathBuf, time::Duration};

/// How a [`ModelStore`](crate::ModelStore) works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The hub's cache. As it stands: the standard place, which is `HF_HUB_CACHE`, else `hub` below `HF_HOME`, else
    /// `huggingface/hub` below `XDG_CACHE_HOME`, else that below `.cache` in the user's directory.
    pub hub_cache: Option<PathBuf>,
    /// Bytes that the models may take which this store has fetched; those that were least recently used make room.
    /// Nothing: as many as there are. What other tools put in the hub's cache counts for nothing and is not touched.
    pub budget: Option<u64>,
    /// Bytes of the disk that must stay free, 1 GiB as it stands.
    pub head_room: u64,
    /// How long a source may give nothing before a copy from it fails, 60 s as it stands. Ten times as long this
    /// process waits for another that fetches the same model and comes no further: it may be reading what it has.
    pub stall: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { hub_cache: None, budget: None, head_room: 1 << 30, stall: Duration::from_secs(60) }
    }
}

/// Where other tools look for the hub's cache too.
pub(in crate::models) fn standard_hub_cache() -> Option<PathBuf> {
    standard(|name| env::var_os(name).filter(|value| !value.is_empty()), env::home_dir)
}

fn standard(
    var: impl Fn(&str) -> Option<std::ffi::OsString>,
    home: impl Fn() -> Option<PathBuf>,
) -> Option<PathBuf> {
    let path = |name| {
        let value = PathBuf::from(var(name)?);
        // A tilde that no shell has replaced.
        match value.strip_prefix("~") {
            Ok(rest) => Some(home()?.join(rest)),
            Err(_) => Some(value),
        }
    };
    path("HF_HUB_CACHE")
        .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(path("HF_HOME")?.join("hub")))
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(home()?.join(".cache/huggingface/hub")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_other_tools_look_for_it() {
        let at = |set: &[(&str, &str)]| {
            let var = |name: &str| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
            };
            standard(var, || Some("/home/bee".into())).unwrap()
        };
        assert_eq!(at(&[]), PathBuf::from("/home/bee/.cache/huggingface/hub"));
        assert_eq!(at(&[("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
        assert_eq!(at(&[("HF_HOME", "~/hf")]), PathBuf::from("/home/bee/hf/hub"));
        assert_eq!(at(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), PathBuf::from("/c"));
    }
}
