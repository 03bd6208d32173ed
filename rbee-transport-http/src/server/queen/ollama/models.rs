//! Models as Ollama's API shows them: names with tags, and facts with the names of GGUF files.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::StatusCode,
};
use rbee_core::{
    ClusterView, ModelRef, Queen, Result,
    cluster::{WorkerState, WorkerView},
    hive::DeviceKind,
    models::{Digest, ModelFormat, ModelInfo, ModelOnDisk, ModelSource, ModelTask},
    time::Time,
};
use serde_json::{Value, json};

use super::rules;
use crate::{
    server::{
        queen::{
            Shared,
            caller::Caller,
            catalog,
            field_rules::finish,
            fields::{Fields, missing},
            local_user::Locality,
            middleware::HandlerResult,
            model_facts::{Capability, ModelFacts},
            openai,
            rfc3339::rfc3339,
            unix_seconds,
        },
        response,
    },
    wire::{
        OllamaErrorBody,
        ollama::{
            API_VERSION, ListedModel, LoadedModel, LoadedModels, ModelDetails, ModelList, PS, SHOW,
            ShowRequest, ShowResponse, TAGS, VERSION, Version,
        },
    },
};

/// The tag of a name without one.
const LATEST: &str = ":latest";

/// When a model expires that stays loaded: so much later than now.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Get the version of Ollama whose features rbee has.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = VERSION,
        tag = "ollama",
        responses(
            (status = 200, description = "The version.", body = Version),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn version() -> HandlerResult {
    Ok(response::json(StatusCode::OK, &Version { version: API_VERSION.into() }))
}

/// List the available models.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = TAGS,
        tag = "ollama",
        responses(
            (status = 200, description = "The models.", body = ModelList),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn tags(
    State(shared): State<Shared>,
    caller: Caller,
) -> HandlerResult {
    let cluster = shared.queen.cluster().await?;
    let names = openai::visible(&shared, &cluster, &caller).await;
    let modified_at = rfc3339(shared.began_at);
    let list = |name: &String| {
        let model = shared.queen.models().resolve_in(name, &cluster).ok();
        let held = model.as_ref().and_then(|model| on_disk(&cluster, model));
        let facts = model.map(|model| ModelFacts::of(&cluster, &model)).unwrap_or_default();
        let name = tagged(name, &names);
        ListedModel {
            capabilities: capabilities(facts.capabilities),
            model: name.clone(),
            modified_at: modified_at.clone(),
            size: held.map_or(0, |held| held.bytes),
            digest: digest(held, &name),
            details: details(held.and_then(|held| held.info.as_deref())),
            name,
        }
    };
    let models = names.iter().map(list).collect();
    Ok(response::json(StatusCode::OK, &ModelList { models }))
}

/// Describe a model.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = SHOW,
        tag = "ollama",
        request_body = ShowRequest,
        responses(
            (status = 200, description = "The model.", body = ShowResponse),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    let body = shared.read_body(request).await?;
    let mut fields = Fields::of_body(body.bytes())?;
    let name = named(&mut fields)?;
    finish(fields, &[rules::MODEL])?;
    drop(body);
    let (models, cluster) = (shared.queen.models(), shared.queen.cluster().await?);
    let mut facts = match openai::known(&shared, &cluster, &caller, &name).await {
        Some(model) => ModelFacts::read(&shared.file_facts, &shared.queen, &cluster, &model).await,
        None if caller.tenant().is_some() => {
            return Err(models.unknown(&name, caller.tenant(), Some(&cluster)).into());
        }
        None => ModelFacts::default(),
    };
    if facts.info.is_none() && caller.tenant().is_none() {
        // It may be on no disk yet: a hub is asked.
        let found = catalog::find(&shared, &locality, &name).await?;
        facts.info = found.details.map(|details| details.info.into());
    }
    if facts.capabilities.is_empty() {
        facts.capabilities.extend(facts.info.as_deref().and_then(capability));
    }
    let model = models.resolve_in(&name, &cluster)?;
    let info = facts.info.as_deref();
    let shown = ShowResponse {
        license: info.and_then(|info| info.license.clone()).unwrap_or_default(),
        modelfile: String::new(),
        parameters: String::new(),
        template: template(&model).await,
        details: details(info),
        model_info: model_info(&name, info, facts.context),
        capabilities: capabilities(facts.capabilities),
        modified_at: rfc3339(shared.began_at),
    };
    Ok(response::json(StatusCode::OK, &shown))
}

/// List the loaded models.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        get,
        path = PS,
        tag = "ollama",
        responses(
            (status = 200, description = "The loaded models.", body = LoadedModels),
            (status = "default", description = "The error.", body = OllamaErrorBody),
        ),
    )
)]
pub(in crate::server::queen) async fn ps(State(shared): State<Shared>) -> HandlerResult {
    let (queen, now) = (&shared.queen, shared.queen.status().await?.now);
    let cluster = queen.cluster().await?;
    let names = catalog::names(queen, &cluster);
    let all: Vec<String> = names.keys().cloned().collect();
    let mut seen = BTreeSet::new();
    let mut models = Vec::new();
    for (name, model) in names {
        let workers: Vec<&WorkerView> = cluster
            .workers()
            .map(|worker| &**worker)
            .filter(|worker| worker.state == WorkerState::Ready && worker.info.model.is_of(&model))
            // A model with several aliases is one model.
            .filter(|worker| seen.insert(worker.info.id))
            .collect();
        if workers.is_empty() {
            continue;
        }
        let name = tagged(&name, &all);
        let held = on_disk(&cluster, &model);
        let left = workers.iter().map(|worker| time_left(queen, worker, now)).max();
        let expires = unix_seconds() + left.unwrap_or(FOR_EVER).as_secs();
        models.push(LoadedModel {
            model: name.clone(),
            size: workers.iter().map(|worker| worker.memory_bytes).sum(),
            size_vram: workers.iter().map(|worker| on_gpus(&cluster, worker)).sum(),
            digest: digest(held, &name),
            details: details(held.and_then(|held| held.info.as_deref())),
            expires_at: rfc3339(expires),
            context_length: ModelFacts::of(&cluster, &model).context.unwrap_or(0),
            name,
        });
    }
    Ok(response::json(StatusCode::OK, &LoadedModels { models }))
}

/// Reads the name of a model, of a request about the model itself. Older clients send it as `name`.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`](rbee_core::ErrorKind::InvalidRequest) if it is missing.
pub(super) fn named(fields: &mut Fields<'_>) -> Result<String> {
    const NAME: &str = "the name of a model";
    let (model, name): (Option<String>, Option<String>) =
        (fields.take("model", NAME)?, fields.take("name", NAME)?);
    let given = model.filter(|model| !model.is_empty()).or(name);
    given.ok_or_else(|| missing("model", NAME))
}

/// The name as Ollama's clients know it: with a tag. A name with a colon has one, and so has a reference.
fn tagged(name: &str, names: &[String]) -> String {
    let with_tag = format!("{name}{LATEST}");
    if name.contains(':') || names.contains(&with_tag) { name.to_owned() } else { with_tag }
}

fn on_disk<'a>(cluster: &'a ClusterView, model: &ModelRef) -> Option<&'a ModelOnDisk> {
    let mut held = cluster.hives().flat_map(|hive| hive.models.values());
    held.find(|held| held.model.is_of(model))
}

/// 64 hexadecimal digits, as clients expect: some show the first twelve. If the content has no digest, they are made of
/// the name: what an alias stands for must not be found out by trials.
fn digest(held: Option<&ModelOnDisk>, name: &str) -> String {
    held.and_then(|held| held.digest).unwrap_or_else(|| Digest::of(name)).hex()
}

fn details(info: Option<&ModelInfo>) -> ModelDetails {
    let Some(info) = info else { return ModelDetails::default() };
    let format = match info.format {
        ModelFormat::Gguf => "gguf",
        ModelFormat::Safetensors => "safetensors",
    };
    ModelDetails {
        parent_model: String::new(),
        format: format.into(),
        family: info.architecture.clone(),
        families: vec![info.architecture.clone()],
        parameter_size: info.parameters.map(short_number).unwrap_or_default(),
        quantization_level: info.quantization.as_ref().unwrap_or(&info.dtype).clone(),
    }
}

/// A large number with three or four digits: `7.6B`, `494.03M`.
fn short_number(number: u64) -> String {
    let scaled = |unit: f64| number as f64 / unit;
    match number {
        1_000_000_000.. => format!("{:.1}B", scaled(1e9)),
        1_000_000.. => format!("{:.2}M", scaled(1e6)),
        1_000.. => format!("{:.0}K", scaled(1e3)),
        _ => number.to_string(),
    }
}

/// The facts with the names that GGUF files have for them.
fn model_info(
    name: &str,
    info: Option<&ModelInfo>,
    context: Option<u32>,
) -> BTreeMap<String, Value> {
    let family = info.map_or("unknown", |info| &info.architecture);
    let mut facts = BTreeMap::from([
        ("general.architecture".to_owned(), json!(family)),
        // Editors show it as the name of the model.
        ("general.basename".to_owned(), json!(name.strip_suffix(LATEST).unwrap_or(name))),
    ]);
    let mut put = |name: &str, fact: Option<u64>| {
        if let Some(fact) = fact {
            facts.insert(name.to_owned(), fact.into());
        }
    };
    let of_family = |name: &str| format!("{family}.{name}");
    let context = context.or_else(|| info.and_then(|info| info.context));
    put(&of_family("context_length"), context.map(u64::from));
    let Some(info) = info else { return facts };
    put("general.parameter_count", info.parameters);
    for (name, fact) in [
        ("block_count", info.layers),
        ("embedding_length", info.hidden),
        ("attention.head_count", info.heads),
        ("attention.head_count_kv", info.kv_heads),
        ("attention.key_length", info.head_dim),
        ("vocab_size", info.vocab),
    ] {
        put(&of_family(name), fact.map(u64::from));
    }
    facts
}

/// The names of capabilities. Ollama has none for the others.
fn capabilities(known: Vec<Capability>) -> Vec<String> {
    let is_named =
        |known: &Capability| !matches!(known, Capability::StructuredOutput | Capability::Rerank);
    known.into_iter().filter(is_named).map(|known| known.as_str().to_owned()).collect()
}

/// What a model can do that no worker has loaded and no hive has.
fn capability(info: &ModelInfo) -> Option<Capability> {
    match info.task {
        ModelTask::Generate => Some(Capability::Completion),
        ModelTask::Embed => Some(Capability::Embedding),
        ModelTask::Rerank => Some(Capability::Rerank),
        ModelTask::Other => None,
    }
}

/// The chat template of a model that is a file of this machine; empty if there is none.
async fn template(model: &ModelRef) -> String {
    let ModelSource::File(path) = model.source() else { return String::new() };
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || ModelInfo::chat_template(path));
    // A file that is not here may be on another machine.
    read.await.ok().and_then(Result::ok).flatten().unwrap_or_default()
}

/// How long a worker stays loaded if nobody uses it.
fn time_left(queen: &Queen, worker: &WorkerView, now: Time) -> Duration {
    let settings = queen.settings();
    let mut own = settings.model_keep_alive.iter();
    let is_of = |name: &str| {
        queen.models().resolve(name).is_ok_and(|model| worker.info.model.is_of(&model))
    };
    let own = own.find_map(|(name, time)| is_of(name).then_some(*time));
    match own.or(settings.keep_alive) {
        Some(time) if !worker.pinned => {
            let idle = if worker.leased == 0 { now - worker.last_used } else { Duration::ZERO };
            time.saturating_sub(idle)
        }
        _ => FOR_EVER,
    }
}

/// The part of a worker's memory that is on GPUs, in bytes.
fn on_gpus(cluster: &ClusterView, worker: &WorkerView) -> u64 {
    let hive = cluster.hive(&worker.info.hive);
    let mut devices = hive.iter().flat_map(|hive| hive.devices.iter());
    let is_gpu = devices.any(|device| {
        worker.info.devices.contains(&device.index) && device.kind != DeviceKind::Cpu
    });
    if is_gpu { worker.memory_bytes } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_tag_unless_another_model_has_that_name() {
        let names = ["bee".to_owned(), "wasp".into(), "wasp:latest".into()];
        for (name, expected) in [
            ("bee", "bee:latest"),
            ("org/bee", "org/bee:latest"),
            ("bee:7b", "bee:7b"),
            ("hf:org/bee", "hf:org/bee"),
            ("wasp", "wasp"),
            ("wasp:latest", "wasp:latest"),
        ] {
            assert_eq!(tagged(name, &names), expected);
        }
    }

    #[test]
    fn numbers_of_parameters_are_short() {
        for (number, text) in
            [(7_615_616_512, "7.6B"), (494_032_768, "494.03M"), (1_500, "2K"), (12, "12")]
        {
            assert_eq!(short_number(number), text);
        }
    }

    #[test]
    fn facts_have_the_names_of_gguf_files() {
        let facts = model_info("bee:latest", None, Some(512));
        assert_eq!(facts["general.architecture"], "unknown");
        assert_eq!(facts["general.basename"], "bee");
        assert_eq!(facts["unknown.context_length"], 512);
    }
}
