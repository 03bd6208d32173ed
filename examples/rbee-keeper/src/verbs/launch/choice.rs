//! The choice of a model that suffices for a client.

use rbee_core::ModelRef;
use rbee_transport_http::wire::{
    openai::{Model, ModelList},
    queen, query,
};

use super::clients::ClientKind;
use crate::{
    Keeper,
    failure::{Exit, Failure},
    model_name::ModelArg,
    names::{self, Known},
};

/// How many models an error lists.
const MOST_LISTED: usize = 20;

/// What a client needs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// The longest prompt and answer together, in tokens.
    pub(super) context: u32,
    /// Tool calls.
    pub(super) tools: bool,
}

/// A model of the queen, as far as the queen knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) context: Option<u32>,
    /// Empty if unknown.
    capabilities: Vec<String>,
    is_loaded: bool,
}

impl From<Model> for Candidate {
    fn from(model: Model) -> Self {
        let Model { id, context_length, capabilities, .. } = model;
        Self { name: id, context: context_length, capabilities, is_loaded: false }
    }
}

impl Candidate {
    fn can(&self, what: &str) -> bool {
        self.capabilities.iter().any(|capability| capability == what)
    }

    /// What the client needs and the model does not have; empty if the model suffices.
    fn missing(&self, needs: Needs) -> Vec<String> {
        if self.capabilities.is_empty() {
            return vec!["it is not known what it can do".into()];
        }
        let mut missing = Vec::new();
        if !self.can("completion") {
            missing.push("it generates no text".into());
        }
        if needs.tools && !self.can("tools") {
            missing.push("it calls no tools".into());
        }
        match self.context {
            Some(context) if context >= needs.context => {}
            Some(context) => {
                missing.push(format!("its context is {context} of {} tokens", needs.context));
            }
            None => missing.push("its context is not known".into()),
        }
        missing
    }

    /// The name and the context.
    pub(super) fn described(&self) -> String {
        match self.context {
            Some(context) => format!("{}, context {context} tokens", self.name),
            None => self.name.clone(),
        }
    }
}

/// The model to use: the one that was named, or the best one that suffices.
pub(super) async fn choose(
    keeper: &Keeper,
    client: ClientKind,
    named: Option<&ModelArg>,
) -> Result<Candidate, Failure> {
    let needs = client.needs();
    if let Some(named) = named {
        let chosen = find(keeper, &keeper.model(named)?).await?;
        let missing = chosen.missing(needs);
        if !missing.is_empty() {
            let missing = missing.join(", ");
            let name = &chosen.name;
            keeper.screen.warn(&format!("{name} may not suffice for {client}: {missing}"));
        }
        return Ok(chosen);
    }
    let list: ModelList = keeper.client.get(queen::MODELS, &()).await?;
    let mut candidates: Vec<Candidate> = list.data.into_iter().map(Candidate::from).collect();
    // Only the operator may know what is loaded.
    if let Known::Catalog(catalog) = names::known(keeper).await? {
        for candidate in &mut candidates {
            let entry = catalog.data.iter().find(|entry| entry.name == candidate.name);
            candidate.is_loaded = entry.is_some_and(|entry| entry.state == "loaded");
        }
    }
    match best(&candidates, needs) {
        Some(best) => Ok(best.clone()),
        None => Err(none_suffices(client, &candidates)),
    }
}

/// The model with this name.
async fn find(keeper: &Keeper, name: &str) -> Result<Candidate, Failure> {
    let path = format!("{}/{}", queen::MODELS, query::encode(name));
    match keeper.client.get::<Model>(&path, &()).await {
        // It is requested by the name that was typed, whatever other names it has.
        Ok(model) => Ok(Candidate { name: name.to_owned(), ..Candidate::from(model) }),
        // The queen can get what a reference names when it is requested.
        Err(failure) if failure.exit() == Exit::NotFound && is_reference(name) => {
            Ok(Candidate { name: name.to_owned(), ..Candidate::default() })
        }
        Err(failure) => Err(keeper.with_names(failure, name).await),
    }
}

fn is_reference(name: &str) -> bool {
    let has_scheme = name.starts_with("hf:") || name.starts_with("file:");
    has_scheme && name.parse::<ModelRef>().is_ok()
}

/// The best model that suffices: a loaded one rather than another, then one that calls tools, then the one with the
/// longest context, then the first one.
fn best(candidates: &[Candidate], needs: Needs) -> Option<&Candidate> {
    let sufficient = candidates.iter().filter(|candidate| candidate.missing(needs).is_empty());
    // `max_by_key` takes the last one of several.
    sufficient
        .rev()
        .max_by_key(|candidate| (candidate.is_loaded, candidate.can("tools"), candidate.context))
}

fn none_suffices(client: ClientKind, candidates: &[Candidate]) -> Failure {
    let needs = client.needs();
    let tools = if needs.tools { "tool calls and " } else { "" };
    let needed = format!("{client} needs {tools}a context of {} tokens", needs.context);
    let fail = |message| Failure::new(Exit::NotFound, "MODEL_NOT_FOUND", message);
    if candidates.is_empty() {
        return fail(format!("no model is known to the queen; {needed}"))
            .with_hint("`rbee pull MODEL` downloads one");
    }
    let mut message = format!("no model suffices, because {needed}:");
    for candidate in candidates.iter().take(MOST_LISTED) {
        let missing = candidate.missing(needs).join(", ");
        message += &format!("\n    {}: {missing}", candidate.name);
    }
    if candidates.len() > MOST_LISTED {
        message += &format!("\n    and {} more", candidates.len() - MOST_LISTED);
    }
    fail(message).with_hint(format!(
        "`rbee pull MODEL` downloads another one; `rbee launch {client} --model MODEL` uses one of these anyway"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs { context: 16_384, tools: true };

    fn model(name: &str, context: Option<u32>, capabilities: &str) -> Candidate {
        let capabilities = capabilities.split_whitespace().map(str::to_owned).collect();
        Candidate { name: name.into(), context, capabilities, is_loaded: false }
    }

    fn loaded(name: &str, context: u32) -> Candidate {
        Candidate { is_loaded: true, ..model(name, Some(context), "completion tools") }
    }

    fn chosen(candidates: &[Candidate], needs: Needs) -> Option<&str> {
        best(candidates, needs).map(|best| &*best.name)
    }

    #[test]
    fn only_a_model_that_has_everything_suffices() {
        for (capabilities, context, missing) in [
            ("completion tools", Some(16_384), &[][..]),
            ("completion tools", Some(16_383), &["its context is 16383 of 16384 tokens"]),
            ("completion tools", None, &["its context is not known"]),
            ("completion", Some(99_999), &["it calls no tools"]),
            ("embedding", Some(99_999), &["it generates no text", "it calls no tools"]),
            ("", Some(99_999), &["it is not known what it can do"]),
        ] {
            let model = model("bee", context, capabilities);
            assert_eq!(model.missing(NEEDS), missing, "{capabilities} {context:?}");
            assert_eq!(best(&[model], NEEDS).is_some(), missing.is_empty(), "{capabilities}");
        }
    }

    #[test]
    fn a_loaded_model_comes_first_then_tools_then_the_longest_context_then_the_first_name() {
        let long = model("long", Some(65_536), "completion tools");
        let short = model("short", Some(16_384), "completion tools");
        let all = [short.clone(), long.clone(), loaded("loaded", 16_384)];
        assert_eq!(chosen(&all, NEEDS), Some("loaded"));
        assert_eq!(chosen(&[short.clone(), long.clone()], NEEDS), Some("long"));
        let also = Candidate { name: "also".into(), ..short.clone() };
        assert_eq!(chosen(&[also, short.clone()], NEEDS), Some("also"));
        let without_tools = Needs { tools: false, ..NEEDS };
        let plain = model("plain", Some(65_536), "completion");
        assert_eq!(chosen(&[plain.clone(), short.clone()], without_tools), Some("short"));
        let warm = Candidate { name: "warm".into(), is_loaded: true, ..plain };
        assert_eq!(chosen(&[short, warm], without_tools), Some("warm"));
        assert_eq!(chosen(&[loaded("small", 512)], NEEDS), None, "also a loaded one must suffice");
    }

    #[test]
    fn if_none_suffices_the_error_says_what_each_one_lacks_and_what_to_do() {
        let models = [model("bee-tiny", Some(512), "completion tools"), model("x", None, "")];
        let failure = none_suffices(ClientKind::Codex, &models);
        assert_eq!(failure.exit(), Exit::NotFound);
        for words in [
            "codex needs tool calls and a context of 16384 tokens",
            "bee-tiny: its context is 512 of 16384 tokens",
            "x: it is not known what it can do",
            "`rbee pull MODEL`",
            "--model MODEL",
        ] {
            assert!(failure.to_string().contains(words), "{words}: {failure}");
        }
        let many: Vec<_> = (0..25).map(|at| model(&format!("m{at}"), None, "")).collect();
        assert!(none_suffices(ClientKind::Codex, &many).message().ends_with("and 5 more"));
        let failure = none_suffices(ClientKind::Aider, &[]);
        assert!(failure.message().contains("no model is known"), "{failure}");
    }
}
