//! `rbee tenants`: the tenants, their limits and their keys.

use clap::{Args, Subcommand};
use http::Method;
use rbee_core::{ErrorKind, Priority, TenantId, tenant::TenantLimits};
use rbee_transport_http::wire::{
    queen::Listing,
    tenants::{IssuedKey, NewKey, TENANT, TENANT_KEY, TENANT_KEYS, TENANTS, TenantView},
};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    model_name::ModelArg,
    screen::{Column, Facts, Table, human},
};

#[derive(Debug, Args)]
pub(crate) struct Tenants {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the tenants; the default
    #[command(visible_alias = "list")]
    Ls,
    /// Show a tenant and its keys
    Show {
        /// Its name
        tenant: TenantId,
    },
    /// Add a tenant, or change some of its limits; the others stay
    Set(Set),
    /// Remove a tenant and its keys
    Rm {
        /// Its name
        tenant: TenantId,
    },
    /// Issue a key and print it once
    Key {
        /// The tenant's name
        tenant: TenantId,

        /// What the key is for
        #[arg(long, default_value = "")]
        label: String,
    },
    /// Revoke a key
    Revoke {
        /// The tenant's name
        tenant: TenantId,

        /// The beginning of the key's hash (see `rbee tenants show`)
        hash: String,
    },
}

#[derive(Debug, Args)]
struct Set {
    /// Its name
    tenant: TenantId,

    /// Tokens on one day (UTC), or none
    #[arg(long, value_name = "NUMBER|none", value_parser = limit::<u64>)]
    daily_tokens: Option<Limit<u64>>,

    /// Jobs at once, waiting and running, or none
    #[arg(long, value_name = "NUMBER|none", value_parser = limit::<u32>)]
    concurrent: Option<Limit<u32>>,

    /// Requests in a minute, or none
    #[arg(long, value_name = "NUMBER|none", value_parser = limit::<u32>)]
    requests_per_minute: Option<Limit<u32>>,

    /// Tokens in a minute, or none
    #[arg(long, value_name = "NUMBER|none", value_parser = limit::<u32>)]
    tokens_per_minute: Option<Limit<u32>>,

    /// The priorities its requests may have: interactive, batch, or all
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    priorities: Vec<String>,

    /// The models it may use, by alias, reference or path, or all
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    models: Vec<ModelArg>,

    /// Its share compared with other tenants
    #[arg(long, value_name = "NUMBER")]
    weight: Option<u32>,
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit<T>(Option<T>);

fn limit<T: std::str::FromStr>(text: &str) -> Result<Limit<T>, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    text.parse()
        .map(|number| Limit(Some(number)))
        .map_err(|_| "allowed is a number, or none".into())
}

impl Tenants {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        match self.verb.as_ref().unwrap_or(&Verb::Ls) {
            Verb::Ls => ls(keeper).await?,
            Verb::Show { tenant } => show(keeper, tenant).await?,
            Verb::Set(set) => set.run(keeper).await?,
            Verb::Rm { tenant } => {
                keeper.client.order(Method::DELETE, &path_of(TENANT, tenant), &()).await?;
                keeper.screen.done("removed", &format!("tenant {tenant}"), "")?;
            }
            Verb::Key { tenant, label } => key(keeper, tenant, label).await?,
            Verb::Revoke { tenant, hash } => {
                let path = path_of(TENANT_KEY, tenant).replace("{hash}", hash);
                keeper.client.order(Method::DELETE, &path, &()).await?;
                keeper.screen.done("revoked", &format!("key {hash} of tenant {tenant}"), "")?;
            }
        }
        Ok(Exit::Ok)
    }
}

impl Set {
    async fn run(&self, keeper: &Keeper) -> Result<(), Failure> {
        let path = path_of(TENANT, &self.tenant);
        let found: Result<TenantView, Failure> = keeper.client.get(&path, &()).await;
        let before = match found {
            Ok(tenant) => tenant.limits,
            Err(failure) if failure.code() == ErrorKind::NotFound.code() => TenantLimits::default(),
            Err(failure) => return Err(failure),
        };
        let limits = self.changed(keeper, before)?;
        let tenant: TenantView = keeper.client.put(&path, &limits).await?;
        if keeper.screen.is_json() {
            return keeper.screen.document(&tenant);
        }
        keeper.screen.done("set", &format!("tenant {}", tenant.id), "")
    }

    fn changed(&self, keeper: &Keeper, mut limits: TenantLimits) -> Result<TenantLimits, Failure> {
        fn put<T: Copy>(limit: Option<Limit<T>>, field: &mut Option<T>) {
            if let Some(Limit(value)) = limit {
                *field = value;
            }
        }
        put(self.daily_tokens, &mut limits.daily_tokens);
        put(self.concurrent, &mut limits.concurrent_jobs);
        put(self.requests_per_minute, &mut limits.requests_per_minute);
        put(self.tokens_per_minute, &mut limits.tokens_per_minute);
        limits.weight = self.weight.unwrap_or(limits.weight);
        let is_all = |list: &[String]| matches!(list, [one] if one == "all");
        let models = self.models.iter().map(|model| keeper.model(model));
        let models = models.collect::<Result<Vec<_>, _>>()?;
        if is_all(&models) {
            limits.models = None;
        } else if !models.is_empty() {
            limits.models = Some(models.into_iter().collect());
        }
        if is_all(&self.priorities) {
            limits.priorities = None;
        } else if !self.priorities.is_empty() {
            let parsed = self.priorities.iter().map(|name| priority(name));
            limits.priorities = Some(parsed.collect::<Result<_, _>>()?);
        }
        Ok(limits)
    }
}

fn priority(name: &str) -> Result<Priority, Failure> {
    Priority::ALL.into_iter().find(|priority| priority.as_str() == name).ok_or_else(|| {
        Failure::usage(format!("{name:?} is no priority; allowed are interactive, batch and all"))
    })
}

fn path_of(path: &str, tenant: &TenantId) -> String {
    path.replace("{id}", tenant.as_str())
}

/// `used/limit`, or only the used amount.
fn of(used: impl std::fmt::Display, limit: Option<impl std::fmt::Display>) -> String {
    match limit {
        Some(limit) => format!("{used}/{limit}"),
        None => used.to_string(),
    }
}

fn or_dash(limit: Option<u32>) -> String {
    limit.map_or_else(|| "-".into(), |limit| limit.to_string())
}

async fn ls(keeper: &Keeper) -> Result<(), Failure> {
    let found: Listing<TenantView> = keeper.client.get(TENANTS, &()).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&found);
    }
    let mut table = Table::new([
        Column::new("TENANT").whole(),
        Column::new("TOKENS TODAY").right().keep(90),
        Column::new("JOBS").right().keep(80),
        Column::new("REQUESTS/MIN").right().keep(40),
        Column::new("TOKENS/MIN").right().keep(50),
        Column::new("WEIGHT").right().keep(60),
        Column::new("KEYS").right().keep(70),
    ]);
    for tenant in found.data {
        let limits = &tenant.limits;
        table.row([
            tenant.id.to_string(),
            of(tenant.used_today, limits.daily_tokens),
            of(tenant.live_jobs, limits.concurrent_jobs),
            or_dash(limits.requests_per_minute),
            or_dash(limits.tokens_per_minute),
            limits.weight.to_string(),
            tenant.keys.len().to_string(),
        ]);
    }
    keeper.screen.table(&table)
}

async fn show(keeper: &Keeper, tenant: &TenantId) -> Result<(), Failure> {
    let tenant: TenantView = keeper.client.get(&path_of(TENANT, tenant), &()).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&tenant);
    }
    let limits = &tenant.limits;
    let mut facts = Facts::default();
    facts.add("tenant", tenant.id.as_str());
    facts.add("tokens today", &of(tenant.used_today, limits.daily_tokens));
    facts.add("jobs now", &of(tenant.live_jobs, limits.concurrent_jobs));
    let text = |limit: Option<u32>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    facts.add("requests a minute", &text(limits.requests_per_minute));
    facts.add("tokens a minute", &text(limits.tokens_per_minute));
    let priorities = limits.priorities.iter().flatten().map(|priority| priority.as_str());
    facts.add("priorities", &priorities.collect::<Vec<_>>().join(", "));
    let models = limits.models.iter().flatten().cloned();
    facts.add("models", &models.collect::<Vec<_>>().join(", "));
    facts.add("weight", &limits.weight.to_string());
    keeper.screen.facts(&facts)?;
    if tenant.keys.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([
        Column::new("KEY").whole(),
        Column::new("LABEL").keep(80),
        Column::new("ISSUED").right().keep(70),
    ]);
    for key in tenant.keys {
        let label = if key.label.is_empty() { "-".into() } else { key.label };
        table.row([key.hash.chars().take(12).collect(), label, human::ago(key.created_at_ms)]);
    }
    keeper.screen.out("\n")?;
    keeper.screen.table(&table)
}

async fn key(keeper: &Keeper, tenant: &TenantId, label: &str) -> Result<(), Failure> {
    let body = NewKey { label: label.to_owned() };
    let issued: IssuedKey = keeper.client.post(&path_of(TENANT_KEYS, tenant), &body).await?;
    if keeper.screen.is_json() {
        return keeper.screen.document(&issued);
    }
    keeper.screen.note("the key is shown this once; its clients send it as their API key");
    keeper.screen.out(&format!("{}\n", issued.key))
}
