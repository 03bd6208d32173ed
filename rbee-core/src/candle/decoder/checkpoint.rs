//! A model's files: opened, described and checked, before anything is loaded.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rbee_decoder::{architecture::Architecture, matrix::WeightType};
use serde_json::{Map, Value};

use super::{
    families::{self, Description, FAMILIES, Family, Source},
    plan::{Layout, Names, Plan},
    weights::{LoadedWeights, Residence, StoredWeights},
};
use crate::{
    candle::{
        config_fields::ConfigFields,
        files::{self, FileFault, LoadFault, Loaded, MAX_CONFIG_BYTES},
    },
    model_info::{self, CachePool, gguf},
};

/// A checked model that continues text.
#[derive(Debug)]
pub(in crate::candle) struct Checkpoint {
    /// The directory of its files.
    pub(in crate::candle) dir: PathBuf,
    pub(in crate::candle) architecture: Architecture,
    pub(in crate::candle) plan: Plan,
    /// The longest prompt and answer together, in tokens.
    pub(in crate::candle) context: u32,
    /// The tokens that end an answer by `config.json` and `generation_config.json`, in ascending order. Empty for GGUF:
    /// they are in its metadata.
    pub(in crate::candle) eos: Vec<u32>,
    /// The GGUF file, of a split one the first part; `None` for safetensors.
    pub(in crate::candle) gguf: Option<PathBuf>,
    weights: StoredWeights,
}

impl Checkpoint {
    /// Opens a directory, a `.safetensors` file, or a `.gguf` file. `context_limit` is that of the options.
    pub(in crate::candle) fn open(path: &Path, context_limit: Option<u32>) -> Loaded<Self> {
        let context = CachePool::context(context_limit, None);
        let metadata =
            std::fs::metadata(path).map_err(|source| FileFault::unreadable(path, source))?;
        let has_extension = |wanted: &str| path.extension().is_some_and(|is| is == wanted);
        if metadata.is_dir() {
            return match path.join("config.json").exists() {
                true => Self::safetensors(path, None, context),
                false => match gguf::only_one(path)? {
                    Some(file) => Self::gguf(&file, context),
                    None => Self::safetensors(path, None, context),
                },
            };
        }
        let dir = path.parent().unwrap_or(Path::new(""));
        match () {
            () if has_extension("gguf") => Self::gguf(path, context),
            () if has_extension("safetensors") => Self::safetensors(dir, Some(path), context),
            () => {
                let what = "is not a directory, a .safetensors file or a .gguf file";
                Err(LoadFault::defect(path, what))
            }
        }
    }

    fn safetensors(dir: &Path, file: Option<&Path>, context: u32) -> Loaded<Self> {
        let path = dir.join("config.json");
        let config = model_info::families::read(&path)?;
        let whole = ConfigFields::new(&path, &config);
        let family = family_of(&whole)?;
        let fields = match whole.object("text_config")? {
            Some(text) => text,
            None => ConfigFields::new(&path, &config),
        };
        if let Some(value) = whole.get("quantization_config") {
            let allowed = "none: weights as f32, f16 or bf16";
            return Err(whole.bad("quantization_config", value, allowed));
        }
        let mut eos = fields.token_ids("eos_token_id")?;
        eos.extend(whole.token_ids("eos_token_id")?);
        let path = dir.join("generation_config.json");
        if let Some(map) = files::read_object(&path, MAX_CONFIG_BYTES)? {
            eos.extend(ConfigFields::new(&path, &map).token_ids("eos_token_id")?);
        }
        let weights = StoredWeights::safetensors(dir, file)?;
        let description = family.describe(&Source::config(fields, &weights, context))?;
        let mut checkpoint = Self::checked(dir, family, description, weights, context)?;
        // A token without an embedding is never generated.
        eos.retain(|id| (*id as usize) < checkpoint.architecture.vocab);
        eos.sort_unstable();
        eos.dedup();
        checkpoint.eos = eos;
        let a = &mut checkpoint.architecture;
        // The reference multiplies in the type of the embeddings.
        a.embedding_scale = match checkpoint.weights.kind(&checkpoint.plan.embedding.name) {
            Some(WeightType::F16) => half::f16::from_f32(a.embedding_scale).to_f32(),
            Some(WeightType::Bf16) => half::bf16::from_f32(a.embedding_scale).to_f32(),
            _ => a.embedding_scale,
        };
        Ok(checkpoint)
    }

    fn gguf(path: &Path, context: u32) -> Loaded<Self> {
        let mut parts = gguf::open_all(path)?;
        let first = parts.first().map_or_else(|| path.to_owned(), |part| part.path.clone());
        let values = match parts.first_mut() {
            Some(first) => std::mem::take(&mut first.header.values),
            None => BTreeMap::new(),
        };
        let architecture = match values.get("general.architecture") {
            Some(gguf::Value::Text(architecture)) => architecture.clone(),
            _ => return Err(LoadFault::defect(path, "its header has no general.architecture")),
        };
        let Some(family) = Family::of_architecture(&architecture) else {
            let names: Vec<_> = FAMILIES.iter().flat_map(|family| family.architectures).collect();
            let fields =
                Map::from_iter([("general.architecture".into(), Value::from(&*architecture))]);
            let fields = ConfigFields::new(path, &fields);
            let allowed = format!("{names:?}");
            return Err(fields.bad("general.architecture", &Value::from(&*architecture), &allowed));
        };
        let weights = StoredWeights::gguf(parts)?;
        let object = families::object(&values, &architecture);
        let fields = ConfigFields::below(path, format!("{architecture}."), &object);
        let source = Source::metadata(fields, &values, &architecture, &weights, context);
        let description = family.describe(&source)?;
        let dir = path.parent().unwrap_or(Path::new(""));
        let mut checkpoint = Self::checked(dir, family, description, weights, context)?;
        checkpoint.gguf = Some(first);
        Ok(checkpoint)
    }

    fn checked(
        dir: &Path,
        family: &Family,
        description: Description,
        weights: StoredWeights,
        context: u32,
    ) -> Loaded<Self> {
        let Description { architecture, layout, idle } = description;
        let plan = Plan::new(&architecture, &layout);
        let is_gguf = layout.names == Names::Gguf;
        weights.check(&plan, family.name, |name| {
            idle.iter().any(|start| name.starts_with(start))
                // Old files contain tables, and some contain a copy of tied weights.
                || (!is_gguf && name.ends_with(".rotary_emb.inv_freq"))
                || (!is_gguf && architecture.tied && name == head(&layout))
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            context: architecture.positions.min(context),
            architecture,
            plan,
            eos: Vec::new(),
            gguf: None,
            weights,
        })
    }

    /// The bytes of the weights, as stored.
    pub(in crate::candle) fn bytes(&self) -> u64 {
        self.weights.bytes(&self.plan)
    }

    /// Brings the weights into memory. `progress` gets the bytes done and in total, and returns true if the load must
    /// continue.
    pub(in crate::candle) fn load(
        &self,
        residence: Residence,
        progress: impl FnMut(u64, u64) -> bool,
    ) -> Loaded<LoadedWeights> {
        self.weights.load(&self.plan, residence, progress)
    }
}

/// The name of the matrix of the logits.
fn head(layout: &Layout) -> &'static str {
    match layout.names {
        Names::Transformers => "lm_head.weight",
        Names::Prefixed { head, .. } => head,
        Names::Gguf => "output.weight",
    }
}

/// The family of the class that a configuration names.
fn family_of(config: &ConfigFields<'_>) -> Loaded<&'static Family> {
    let classes: Vec<_> = FAMILIES.iter().flat_map(|family| family.classes).collect();
    let allowed = || {
        format!(
            "one of {classes:?}, or for vectors and scores a model of the BERT family such as [\"BertModel\"]"
        )
    };
    let key = "architectures";
    let value = config.get(key).ok_or_else(|| config.absent(key, &allowed()))?;
    let class = value.as_array().filter(|list| list.len() == 1).and_then(|list| list.first());
    let family = class.and_then(Value::as_str).and_then(Family::of_class);
    family.ok_or_else(|| config.bad(key, value, &allowed()))
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
