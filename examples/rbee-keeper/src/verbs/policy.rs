//! `rbee policy`: the policy that decides where jobs go.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Subcommand, ValueEnum};
use rbee_core::scheduler::{PolicyLanguage, PolicySource};
use rbee_transport_http::wire::{
    policy::{
        self, PolicyCheck, PolicyDryRun, PolicyQuery, PolicyRollback, PolicyText, PolicyVersion,
        PolicyView,
    },
    queen::Listing,
};

use super::{replay, why};
use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::{Column, Facts, Table, human},
};

/// The maximum size of a policy, in bytes: more than the queen accepts, so that the queen's error is shown.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show the active policy and its faults; or a version, or its text in a language
    Show {
        /// Print only its text, in this language: rules in YAML can be shown as the equivalent script
        #[arg(long = "as", value_name = "LANGUAGE")]
        language: Option<Language>,

        /// Print the text of this version (see `rbee policy versions`)
        #[arg(long, value_name = "NUMBER")]
        version: Option<u64>,
    },
    /// Print the original text of the active policy
    Get,
    /// Activate a policy: a Rhai script (.rhai) or rules (.yaml)
    Set {
        /// The file
        file: PathBuf,
    },
    /// Test a policy on the fleet and the last jobs, or on those described in files; nothing is changed
    Check {
        /// The file
        file: PathBuf,

        /// A description of another fleet, in YAML
        #[arg(long, value_name = "FILE")]
        fleet: Option<PathBuf>,

        /// A description of a job, in YAML
        #[arg(long, value_name = "FILE")]
        job: Option<PathBuf>,
    },
    /// Replay past jobs with a policy, and compare it with the active one; nothing is changed
    Replay {
        /// The file
        file: PathBuf,

        /// How far to look back: 90m, 24h, 7d
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
        since: Duration,
    },
    /// Print the JSON schema of rules in YAML, with which an editor completes and checks them
    Schema,
    /// List the versions that were active
    #[command(visible_alias = "ls")]
    Versions,
    /// Activate an earlier version again
    Rollback {
        /// Its number (see `rbee policy versions`)
        version: u64,
    },
    /// Activate the policy of the queen's configuration, or the built-in one
    Reset,
}

/// `90m`, `24h`, `7d`.
fn span(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("allowed is a number with s, m, h or d: 90m, 24h, 7d".into()),
    };
    let number: u32 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// The languages in which a policy can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rhai,
    Yaml,
}

impl From<Language> for PolicyLanguage {
    fn from(language: Language) -> Self {
        match language {
            Language::Rhai => Self::Rhai,
            Language::Yaml => Self::Yaml,
        }
    }
}

impl Policy {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        match self {
            Self::Show { language, version: Some(version) } => {
                show_version(keeper, *version, *language).await?;
            }
            Self::Show { language: None, version: None } => {
                facts_of(keeper, &in_force(keeper, None).await?)?;
            }
            Self::Show { language, version: None } => get(keeper, *language).await?,
            Self::Get => get(keeper, None).await?,
            Self::Set { file } => set(keeper, file).await?,
            Self::Check { file, fleet, job } => {
                check(keeper, file, fleet.as_deref(), job.as_deref()).await?;
            }
            Self::Replay { file, since } => {
                let replayed = replay::replay(keeper, text_of(file)?, *since).await;
                replayed.map_err(|failure| failure.in_file(file))?;
            }
            Self::Schema => schema(keeper).await?,
            Self::Versions => versions(keeper).await?,
            Self::Rollback { version } => rollback(keeper, *version).await?,
            Self::Reset => told(keeper, &keeper.client.delete(policy::POLICY).await?)?,
        }
        Ok(Exit::Ok)
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("the file {} cannot be read: {why}", file.display()))
    };
    let size = std::fs::metadata(file).map_err(|cause| unreadable(&cause))?.len();
    if size > MOST_BYTES {
        return Err(unreadable(&format!("it has {size} bytes; allowed are {MOST_BYTES}")));
    }
    std::fs::read_to_string(file).map_err(|cause| unreadable(&cause))
}

fn text_of(file: &Path) -> Result<PolicyText, Failure> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let source = PolicySource::named(&name, read(file)?)
        .map_err(|error| Failure::usage(error.message().to_owned()))?;
    Ok(PolicyText { language: source.language, source: source.text.to_string() })
}

async fn in_force(keeper: &Keeper, language: Option<Language>) -> Result<PolicyView, Failure> {
    let query = PolicyQuery { as_language: language.map(Into::into) };
    keeper.client.get(policy::POLICY, &query).await
}

async fn get(keeper: &Keeper, language: Option<Language>) -> Result<(), Failure> {
    let view = in_force(keeper, language).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&view);
    }
    text(keeper, view.source.as_deref(), || {
        format!(
            "the policy {} is compiled in and has no text; activate one with `rbee policy set FILE`",
            view.name
        )
    })
}

async fn show_version(
    keeper: &Keeper,
    version: u64,
    language: Option<Language>,
) -> Result<(), Failure> {
    let query = PolicyQuery { as_language: language.map(Into::into) };
    let path = policy::POLICY_VERSION.replace("{id}", &version.to_string());
    let found: PolicyVersion = keeper.client.get(&path, &query).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&found);
    }
    text(keeper, found.source.as_deref(), || {
        format!(
            "version {version} is a reset and has no text: the queen's default policy was activated again"
        )
    })
}

fn text(keeper: &Keeper, text: Option<&str>, none: impl Fn() -> String) -> Result<(), Failure> {
    match text {
        Some(text) => keeper.screen.out(&format!("{}\n", text.trim_end())),
        None => Err(Failure::usage(none())),
    }
}

fn facts_of(keeper: &Keeper, view: &PolicyView) -> Result<(), Failure> {
    if keeper.screen.is_json() {
        return keeper.screen.document(view);
    }
    let mut facts = Facts::default();
    facts.add("policy", &view.name);
    facts.text("what it does", &view.description);
    facts.add("version", &view.version.map(|version| version.to_string()).unwrap_or_default());
    facts.add("written in", view.language.map_or("", |language| language.as_str()));
    facts.add("hash", view.hash.as_deref().map_or("", |hash| &hash[..hash.len().min(12)]));
    facts.state(
        "state",
        match (view.suspended, view.fixed) {
            (true, _) => "suspended: it failed too often, and the built-in one decides",
            (_, true) => "fixed",
            _ => "",
        },
    );
    let count = |number: u64| if number > 0 { number.to_string() } else { String::new() };
    facts.add("faults", &count(view.faults));
    facts.add("ignored", &count(view.passed_over));
    if let Some(fault) = &view.last_fault {
        facts.text("last fault", &format!("{} ({})", fault.message, human::ago(fault.at_ms)));
    }
    keeper.screen.facts(&facts)
}

async fn set(keeper: &Keeper, file: &Path) -> Result<(), Failure> {
    let body = text_of(file)?;
    let put = keeper.client.put(policy::POLICY, &body).await;
    let view: PolicyView = put.map_err(|failure: Failure| failure.in_file(file))?;
    told(keeper, &view)
}

async fn rollback(keeper: &Keeper, version: u64) -> Result<(), Failure> {
    let body = PolicyRollback { version };
    let view: PolicyView = keeper.client.post(policy::POLICY_ROLLBACK, &body).await?;
    told(keeper, &view)
}

fn told(keeper: &Keeper, view: &PolicyView) -> Result<(), Failure> {
    if keeper.screen.is_json() {
        return keeper.screen.document(view);
    }
    let version = view.version.map(|version| format!("(version {version})")).unwrap_or_default();
    keeper.screen.done("in force", &format!("policy {}", view.name), &version)
}

async fn check(
    keeper: &Keeper,
    file: &Path,
    fleet: Option<&Path>,
    job: Option<&Path>,
) -> Result<(), Failure> {
    let PolicyText { language, source } = text_of(file)?;
    let body = PolicyCheck {
        language,
        source,
        fleet: fleet.map(read).transpose()?,
        job: job.map(read).transpose()?,
    };
    let checked = keeper.client.post(policy::POLICY_CHECK, &body).await;
    let trial: PolicyDryRun = checked.map_err(|failure: Failure| failure.in_file(file))?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&trial);
    }
    keeper.screen.done("understood", &format!("policy {}", trial.name), &trial.description)?;
    for decision in &trial.decisions {
        keeper.screen.out("\n")?;
        why::decision(keeper, decision)?;
    }
    if trial.decisions.is_empty() {
        keeper.screen.note("there is no model in the fleet to try it on");
    }
    Ok(())
}

async fn schema(keeper: &Keeper) -> Result<(), Failure> {
    let schema: serde_json::Value = keeper.client.get(policy::POLICY_SCHEMA, &()).await?;
    keeper.screen.out(&format!("{schema:#}\n"))
}

async fn versions(keeper: &Keeper) -> Result<(), Failure> {
    let found: Listing<PolicyVersion> = keeper.client.get(policy::POLICY_VERSIONS, &()).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&found);
    }
    let mut table = Table::new([
        Column::new("VERSION").right(),
        Column::new("STATE").state().keep(90),
        Column::new("WRITTEN IN").keep(50),
        Column::new("FROM").keep(60),
        Column::new("SINCE").right().keep(70),
        Column::new("HASH").keep(40),
    ]);
    for version in found.data.iter().rev() {
        table.row([
            version.version.to_string(),
            if version.in_force { "in force".into() } else { "-".into() },
            version.language.as_str().into(),
            version.origin.as_str().into(),
            human::ago(version.at_ms),
            version.hash.chars().take(12).collect(),
        ]);
    }
    keeper.screen.table(&table)
}
