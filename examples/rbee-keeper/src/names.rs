//! Lookup by imprecise names: a model by a name that is nearly right, a job or worker by the beginning of its id.

use std::{collections::BTreeMap, time::Duration};

use rbee_core::{ModelRef, similar};
use rbee_transport_http::wire::{
    openai::ModelList,
    queen::{self, CatalogEntry, Listing},
};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    model_name,
};

/// The timeout of the catalog if it is only needed for a better error message.
const TIMEOUT: Duration = Duration::from_secs(3);

impl Keeper {
    /// Adds similar names to a failure about an unknown model, or the way to name the file here that is called so.
    pub(crate) async fn with_names(&self, failure: Failure, model: &str) -> Failure {
        if matches!(failure.code(), "MODEL_NOT_FOUND" | "INVALID_REQUEST")
            && self.client.address().is_loopback()
            && let Some(path) = model_name::as_path_here(model)
        {
            return failure.with_hint(format!("for the model in this directory, write {path}"));
        }
        // The queen compares the name with its aliases, and the keeper also with the references.
        if failure.code() != "MODEL_NOT_FOUND" || failure.message().contains("did you mean") {
            return failure;
        }
        let Ok(Ok(found)) = tokio::time::timeout(TIMEOUT, known(self)).await else {
            return failure;
        };
        let names = found.names();
        // The model is known; something else about it is not.
        if names.iter().any(|name| name == model || Some(&**name) == without_latest(model)) {
            return failure;
        }
        match &*similar::names(model, names.iter().map(String::as_str)) {
            // The failure says what is wrong with the path.
            [] if model.starts_with("file:") => failure,
            [] if names.is_empty() => {
                failure.with_hint("no model is known yet; `rbee pull MODEL` downloads one")
            }
            [] => failure.with_hint("`rbee ls` shows the models that are known"),
            near => failure.with_hint(format!("did you mean {}?", near.join(" or "))),
        }
    }
}

/// The models, as far as the caller may know them.
pub(crate) enum Known {
    /// To an operator: with their places.
    Catalog(Listing<CatalogEntry>),
    /// To a tenant: the names that it may use.
    Models(ModelList),
}

impl Known {
    pub(crate) fn names(self) -> Vec<String> {
        match self {
            Self::Catalog(known) => known.data.into_iter().map(|entry| entry.name).collect(),
            Self::Models(known) => known.data.into_iter().map(|model| model.id).collect(),
        }
    }
}

pub(crate) async fn known(keeper: &Keeper) -> Result<Known, Failure> {
    match keeper.client.get(queen::CATALOG, &()).await {
        Ok(known) => Ok(Known::Catalog(known)),
        Err(failure) if failure.is_not_allowed() => {
            keeper.client.get(queen::MODELS, &()).await.map(Known::Models)
        }
        Err(failure) => Err(failure),
    }
}

/// The names of models, by reference. A tenant gets none: it only ever reads names. A model with several names has the first of them.
pub(crate) async fn of_models(keeper: &Keeper) -> Result<BTreeMap<String, String>, Failure> {
    let Known::Catalog(known) = known(keeper).await? else { return Ok(BTreeMap::new()) };
    Ok(known.data.into_iter().rev().map(|entry| (entry.model, entry.name)).collect())
}

/// The entry that this name means to the queen: an alias, or else a model, in both cases with its name or else with the
/// name without `:latest`.
pub(crate) fn meant<'a>(entries: &'a [CatalogEntry], asked: &str) -> Option<&'a CatalogEntry> {
    // The name of an entry without an alias is its reference.
    let alias = |name: &str| {
        entries.iter().find(|entry| entry.name == name && !is_model(&entry.model, &entry.name))
    };
    let model = |name: &str| {
        entries.iter().find(|entry| is_model(&entry.model, name) || entry.name == name)
    };
    let bare = without_latest(asked);
    alias(asked)
        .or_else(|| bare.and_then(alias))
        .or_else(|| model(asked))
        .or_else(|| bare.and_then(model))
}

/// The name without `:latest`, if it is a name with it.
fn without_latest(name: &str) -> Option<&str> {
    let is_reference = name.starts_with("hf:") || name.starts_with("file:");
    name.strip_suffix(":latest").filter(|_| !is_reference)
}

/// True if `asked` is the reference of this model; it may leave out the commit and the file.
pub(crate) fn is_model(model: &str, asked: &str) -> bool {
    let parsed = |text: &str| text.parse::<ModelRef>().ok();
    model == asked
        || parsed(model).zip(parsed(asked)).is_some_and(|(model, asked)| model.is_of(&asked))
}

/// The only one of these ids with this beginning.
pub(crate) fn by_beginning<T: ToString>(
    what: &str,
    beginning: &str,
    ids: impl IntoIterator<Item = T>,
) -> Result<T, Failure> {
    let lower = beginning.to_ascii_lowercase();
    let mut found: Vec<T> =
        ids.into_iter().filter(|id| id.to_string().starts_with(&lower)).take(2).collect();
    match (found.pop(), found.is_empty()) {
        (Some(id), true) if !lower.is_empty() => Ok(id),
        (Some(_), _) => Err(Failure::usage(format!(
            "several {what}s have an id that begins with {beginning:?}; give more of it"
        ))),
        (None, _) => Err(Failure::new(
            Exit::NotFound,
            "NOT_FOUND",
            format!("no {what} has an id that begins with {beginning:?}"),
        )),
    }
}

/// True if this can be an id, or the beginning of one.
pub(crate) fn looks_like_id(text: &str) -> bool {
    text.len() >= 4
        && text.len() <= 36
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// An id for display: whole, or its beginning in a terminal.
pub(crate) fn short(id: &impl ToString, is_terminal: bool) -> String {
    let id = id.to_string();
    if is_terminal { id.chars().take(8).collect() } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_its_reference_without_the_commit() {
        let pinned = format!("hf:org/repo@{}", "0".repeat(40));
        assert!(is_model(&pinned, "hf:org/repo") && is_model(&pinned, &pinned));
        assert!(!is_model(&pinned, "hf:org/other") && !is_model("a", "b"));
    }

    #[test]
    fn a_name_means_what_it_means_to_the_queen() {
        let entry = |name: &str, model: &str| CatalogEntry {
            name: name.into(),
            model: model.into(),
            state: "loaded".into(),
            bytes: None,
            hives: Vec::new(),
            workers: Vec::new(),
            kind: None,
            details: None,
        };
        let pinned = format!("hf:org/repo@{}", "0".repeat(40));
        let entries = [
            entry("wasp:latest", "wasp:latest"),
            entry("wasp", "wasp"),
            entry("bee:latest", "bee:latest"),
            entry("bee", "hf:org/bee"),
            entry("hornet", "hornet"),
            entry("repo", &pinned),
        ];
        for (asked, name) in [
            ("bee", Some("bee")),
            // An alias comes first.
            ("bee:latest", Some("bee")),
            ("wasp:latest", Some("wasp:latest")),
            ("wasp", Some("wasp")),
            ("hornet:latest", Some("hornet")),
            ("repo:latest", Some("repo")),
            ("hf:org/repo", Some("repo")),
            ("hf:org/repo:latest", None),
            ("hornet:3b", None),
            (":latest", None),
        ] {
            assert_eq!(meant(&entries, asked).map(|entry| &*entry.name), name, "{asked}");
        }
    }

    #[test]
    fn the_beginning_of_an_id_is_enough_where_it_is_the_only_one() {
        let ids = ["abcd-1", "abce-2", "ffff-3"];
        assert_eq!(by_beginning("job", "ABCD", ids).unwrap(), "abcd-1");
        assert_eq!(by_beginning("job", "abc", ids).unwrap_err().exit(), Exit::Usage);
        assert_eq!(by_beginning("job", "", ids).unwrap_err().exit(), Exit::Usage);
        assert_eq!(by_beginning("job", "9", ids).unwrap_err().exit(), Exit::NotFound);
    }
}
