//! `rbee ls`, `rbee show` and `rbee rm`: models.

use clap::Args;
use http::Method;
use rbee_core::{HiveId, models::ModelKind};
use rbee_transport_http::wire::{
    openai::{Model, ModelList},
    queen::{self, CatalogEntry, ModelDetails, ModelQuery},
    query,
};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    model_name::ModelArg,
    names::{self, Known},
    screen::{Column, Facts, Table, human},
};

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only names that contain this
    pattern: Option<String>,
}

impl Ls {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let pattern = self.pattern.as_ref().map(|pattern| pattern.to_lowercase());
        let is_wanted =
            |name: &str| pattern.as_ref().is_none_or(|part| name.to_lowercase().contains(part));
        let found = match names::known(keeper).await? {
            Known::Catalog(mut found) => {
                found.data.retain(|entry| is_wanted(&entry.name));
                found
            }
            Known::Models(mut found) => {
                found.data.retain(|model| is_wanted(&model.id));
                return names_only(keeper, &found).map(|()| Exit::Ok);
            }
        };
        if keeper.screen.is_json() {
            keeper.screen.document(&found)?;
            return Ok(Exit::Ok);
        }
        let mut table = Table::new([
            Column::new("NAME").middle(),
            Column::new("SIZE").right().keep(60),
            Column::new("STATE").state().keep(80),
            Column::new("HIVES").keep(40),
        ]);
        for entry in found.data {
            table.row([entry.name, size_of(entry.bytes), entry.state, list_of(entry.hives.iter())]);
        }
        keeper.screen.table(&table)?;
        Ok(Exit::Ok)
    }
}

/// Shows what a tenant may know of models.
fn names_only(keeper: &Keeper, found: &ModelList) -> Result<(), Failure> {
    if keeper.screen.is_json() {
        return keeper.screen.document(found);
    }
    let mut table = Table::new([Column::new("NAME").middle()]);
    for model in &found.data {
        table.row([model.id.clone()]);
    }
    keeper.screen.table(&table)
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The model: a name, hf:org/repo[@revision][::file=path], or a path like ./model.gguf
    model: ModelArg,
}

impl Show {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let query = ModelQuery { model: keeper.model(&self.model)?, hive: None };
        let entry: CatalogEntry = match keeper.client.get(queen::CATALOG_MODEL, &query).await {
            Ok(entry) => entry,
            Err(failure) if failure.is_not_allowed() => {
                return name_only(keeper, &query.model).await.map(|()| Exit::Ok);
            }
            Err(failure) => return Err(keeper.with_names(failure, &query.model).await),
        };
        if keeper.screen.is_json() {
            keeper.screen.document(&entry)?;
            return Ok(Exit::Ok);
        }
        let terminal = keeper.screen.is_terminal();
        let mut facts = Facts::default();
        facts.add("name", &entry.name);
        facts.add("reference", &entry.model);
        facts.state("state", &entry.state);
        facts.add("size", &size_of(entry.bytes));
        facts.add("on disk at", &list_of(entry.hives.iter()));
        let workers = entry.workers.iter().map(|id| names::short(id, terminal));
        facts.add("workers", &list_of(workers));
        if let Some(details) = &entry.details {
            add_details(&mut facts, details);
        } else {
            add_kind(&mut facts, entry.kind.as_ref());
        }
        keeper.screen.facts(&facts)?;
        if entry.hives.is_empty() && entry.workers.is_empty() {
            keeper
                .screen
                .note(&format!("no hive has it; `rbee pull {}` puts it there", self.model));
        }
        Ok(Exit::Ok)
    }
}

/// Shows what a tenant may know of the model.
async fn name_only(keeper: &Keeper, name: &str) -> Result<(), Failure> {
    let path = format!("{}/{}", queen::MODELS, query::encode(name));
    let model: Model = match keeper.client.get(&path, &()).await {
        Ok(model) => model,
        Err(failure) => return Err(keeper.with_names(failure, name).await),
    };
    if keeper.screen.is_json() {
        return keeper.screen.document(&model);
    }
    let mut facts = Facts::default();
    facts.add("name", &model.id);
    keeper.screen.facts(&facts)?;
    keeper.screen.note("the queen shows more only to its operator");
    Ok(())
}

/// What is known of a model whose files nobody has read.
fn add_kind(facts: &mut Facts, kind: Option<&ModelKind>) {
    let Some(kind) = kind else { return facts.add("format", "not known") };
    let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "not known".into());
    facts.add("format", &kind.format.to_string());
    facts.add("architecture", &known(&kind.architecture));
    if let Some(class) = &kind.class {
        facts.add("class", class);
    }
    if let Some(quantization) = &kind.quantization {
        facts.add("quantization", quantization);
    }
}

/// The facts from the model's files.
fn add_details(facts: &mut Facts, ModelDetails { digest, info, memory }: &ModelDetails) {
    let known =
        |number: Option<u32>| number.map_or_else(|| "-".into(), |number| number.to_string());
    facts.add("format", &info.format.to_string());
    facts.add("architecture", &info.architecture);
    facts.add("parameters", &info.parameters.map_or_else(|| "-".into(), human::large));
    facts.add("weights", info.quantization.as_deref().unwrap_or(&info.dtype));
    match &info.embedding {
        Some(embedding) => facts.add("dimension", &known(embedding.dimension)),
        None => facts.add("chat template", if info.has_chat_template { "yes" } else { "no" }),
    }
    facts.add("context", &known(info.context));
    facts.add("license", info.license.as_deref().unwrap_or("-"));
    let slots = if memory.slots == 1 { "slot" } else { "slots" };
    let memory = format!("{} with {} {slots}", human::bytes(memory.total), memory.slots);
    facts.add("memory", &memory);
    if let Some(digest) = digest {
        facts.add("digest", digest);
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The model: a name, hf:org/repo[@revision][::file=path], or a path like ./model.gguf
    model: ModelArg,

    /// Only on this hive
    #[arg(long)]
    hive: Option<HiveId>,
}

impl Rm {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let query = ModelQuery { model: keeper.model(&self.model)?, hive: self.hive.clone() };
        let typed = self.model.to_string();
        let removed = keeper.client.order(Method::DELETE, queen::CATALOG_MODEL, &query).await;
        if let Err(failure) = removed {
            let failure = match failure.code() {
                "CONFLICT" => {
                    failure.with_hint("`rbee unload MODEL` stops the workers that use it")
                }
                _ => failure,
            };
            return Err(keeper.with_names(failure, &query.model).await);
        }
        match &self.hive {
            Some(hive) => keeper.screen.done("removed", &typed, &format!("from hive {hive}"))?,
            None => keeper.screen.done("removed", &typed, "from every hive")?,
        }
        Ok(Exit::Ok)
    }
}

/// A size that may be unknown.
pub(super) fn size_of(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), human::bytes)
}

/// Names separated by commas.
pub(super) fn list_of(names: impl Iterator<Item = impl ToString>) -> String {
    let names: Vec<_> = names.map(|name| name.to_string()).collect();
    if names.is_empty() { "-".into() } else { names.join(", ") }
}
