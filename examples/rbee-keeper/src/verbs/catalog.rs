//! `rbee ls`, `rbee show` and `rbee rm`: models.

use clap::Args;
use http::Method;
use rbee_core::{HiveId, models::ModelKind};
use rbee_transport_http::wire::queen::{self, CatalogEntry, Listing, ModelDetails, ModelQuery};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    names,
    screen::{Column, Facts, Table, human},
};

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only names that contain this
    pattern: Option<String>,
}

impl Ls {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let mut found: Listing<CatalogEntry> = keeper.client.get(queen::CATALOG, &()).await?;
        if let Some(pattern) = &self.pattern {
            let pattern = pattern.to_lowercase();
            found.data.retain(|entry| entry.name.to_lowercase().contains(&pattern));
        }
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

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The model
    model: String,
}

impl Show {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let query = ModelQuery { model: self.model.clone(), hive: None };
        let entry: CatalogEntry = match keeper.client.get(queen::CATALOG_MODEL, &query).await {
            Ok(entry) => entry,
            Err(failure) => return Err(keeper.with_names(failure, &self.model).await),
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
    facts.add("memory", &format!("{} at that context", human::bytes(memory.total)));
    if let Some(digest) = digest {
        facts.add("digest", digest);
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The model
    model: String,

    /// Only on this hive
    #[arg(long)]
    hive: Option<HiveId>,
}

impl Rm {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let query = ModelQuery { model: self.model.clone(), hive: self.hive.clone() };
        let removed = keeper.client.order(Method::DELETE, queen::CATALOG_MODEL, &query).await;
        if let Err(failure) = removed {
            let failure = match failure.code() {
                "CONFLICT" => {
                    failure.with_hint("`rbee unload MODEL` stops the workers that use it")
                }
                _ => failure,
            };
            return Err(keeper.with_names(failure, &self.model).await);
        }
        match &self.hive {
            Some(hive) => {
                keeper.screen.done("removed", &self.model, &format!("from hive {hive}"))?
            }
            None => keeper.screen.done("removed", &self.model, "from every hive")?,
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
