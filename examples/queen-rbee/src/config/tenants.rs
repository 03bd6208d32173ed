//! Tenants that are named in the configuration, and what they may use.

use std::collections::BTreeMap;

use rbee_core::{Mode, TenantId, TenantLimits, TenantReferences};
use serde_json::{Map, Value as Json};

use super::{
    value::{At, Kind, Named, Wrong, structured},
    yaml::{Node, Value},
};

impl Named for Mode {
    const FORM: &'static str = "home|platform";
    const ALL: &'static [(&'static str, Self)] =
        &[("home", Self::Home), ("platform", Self::Platform)];
}

impl Named for TenantReferences {
    const FORM: &'static str = "off|public|with_hub_token";
    const ALL: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("public", Self::Public), ("with_hub_token", Self::WithHubToken)];
}

/// The limits of one tenant.
pub(super) struct Limits;

impl Kind for Limits {
    type Value = TenantLimits;
    const FORM: &'static str = "{LIMIT: NUMBER, …}";
    const ALLOWED: &'static str = "a map like {daily_tokens: 100000, concurrent_jobs: 4}; also \
        requests_per_minute, tokens_per_minute, priorities, models and weight";

    fn parse(_: &str, _: At<'_>) -> Option<Self::Value> {
        None
    }
    fn show(value: &Self::Value) -> String {
        shown(value).to_string()
    }
    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        let node = structured(node, at)?;
        limits(&node, "", at)
    }
}

/// Tenants by name.
pub(super) struct Tenants;

impl Kind for Tenants {
    type Value = BTreeMap<TenantId, TenantLimits>;
    const FORM: &'static str = "{NAME: {LIMIT: NUMBER, …}, …}";
    const ALLOWED: &'static str =
        "a map of names to limits, like {acme: {daily_tokens: 100000, weight: 2}}";

    fn parse(_: &str, _: At<'_>) -> Option<Self::Value> {
        None
    }
    fn show(value: &Self::Value) -> String {
        let tenants = value.iter().map(|(id, limits)| (id.to_string(), shown(limits)));
        Json::Object(tenants.collect::<Map<_, _>>()).to_string()
    }
    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        let node = structured(node, at)?;
        let Value::Map(entries) = &node.value else { return at.wrong(&node, Self::ALLOWED) };
        let tenants = entries.iter().map(|entry| {
            let Ok(id) = TenantId::new(&entry.key) else {
                let key = format!(".{}", entry.key);
                let allowed = "a name of 1 to 64 letters, digits, '.', '_' and '-'";
                return at.wrong_in(&entry.node, &key, allowed);
            };
            Ok((id, limits(&entry.node, &format!(".{}", entry.key), at)?))
        });
        tenants.collect()
    }
}

fn limits(node: &Node, key: &str, at: At<'_>) -> Result<TenantLimits, Wrong> {
    let Value::Map(entries) = &node.value else { return at.wrong_in(node, key, Limits::ALLOWED) };
    let fields = entries.iter().map(|entry| (entry.key.clone(), json(&entry.node)));
    let parsed = serde_json::from_value(Json::Object(fields.collect()));
    let limits: Result<TenantLimits, String> =
        parsed.map_err(|error| error.to_string()).and_then(|limits: TenantLimits| {
            limits.validate().map(|()| limits).map_err(|error| error.message().to_owned())
        });
    limits.map_err(|why| Wrong { line: node.line, message: format!("{}{key}: {why}", at.key) })
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { text, .. } => match text.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => Json::String(text.clone()),
        },
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(_) => Json::Null,
    }
}

/// What is set, without the limits that are not.
fn shown(limits: &TenantLimits) -> Json {
    let mut shown = serde_json::json!(limits);
    if let Json::Object(fields) = &mut shown {
        fields.retain(|_, value| !value.is_null());
    }
    shown
}
