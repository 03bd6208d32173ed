//! The models that the engines of a hive can read. Pure: the result depends only on the arguments.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    model_info::{ModelFormat, ModelKind, ModelTask},
    model_on_disk::WorkerLimits,
    model_ref::ModelRef,
};

/// The most engines and hives that a message names.
const NAMED: usize = 4;

/// An engine of a hive, and the models that it can read.
///
/// ```
/// use rbee_core::{hive::EngineSupport, models::{ModelFormat, ModelKind}};
///
/// let engines = [EngineSupport::new("llama.cpp").for_models(["*.gguf"]), EngineSupport::candle()];
/// let mut mamba = ModelKind::new(ModelFormat::Gguf);
/// mamba.architecture = Some("mamba".into());
/// assert_eq!(EngineSupport::refusal(&engines, &"file:/models/bee.gguf".parse()?, &mamba), None);
/// let refusal = EngineSupport::refusal(&engines, &"file:/models/bee".parse()?, &mamba);
/// assert!(refusal.is_some_and(|why| why.contains("candle reads unquantized safetensors")));
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EngineSupport {
    /// Its name, which its workers report as their backend.
    pub name: String,
    /// The models that it is for: patterns over the whole reference, with `*` for any characters and `?` for one; every
    /// model if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The files that it reads; `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Vec<ReadableFiles>>,
    /// Its tasks; `None` if they are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<ModelTask>>,
    /// The limits of its workers.
    #[serde(default, skip_serializing_if = "WorkerLimits::are_none")]
    pub limits: WorkerLimits,
}

/// Model files that an engine reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReadableFiles {
    /// The format of the weights.
    pub format: ModelFormat,
    /// The architectures; every one if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// The classes of the transformers library; they count instead of the architecture if the model names its class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// True if the weights may be quantized.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quantized: bool,
    /// If the weights may be quantized: patterns over the names of the quantizations, with `*` for any characters and
    /// `?` for one; every one if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantizations: Vec<String>,
}

impl ReadableFiles {
    /// All files in this format.
    pub fn new(format: ModelFormat) -> Self {
        Self {
            format,
            architectures: Vec::new(),
            classes: Vec::new(),
            quantized: true,
            quantizations: Vec::new(),
        }
    }

    /// Plain weights of these architectures, whose configuration names one of these classes.
    fn plain(architectures: &[&str], classes: &[&str]) -> Self {
        Self {
            architectures: owned(architectures),
            classes: owned(classes),
            quantized: false,
            ..Self::new(ModelFormat::Safetensors)
        }
    }

    fn has_quantization(&self, name: &str) -> bool {
        let is_like = |pattern: &String| matches_pattern(pattern.as_bytes(), name.as_bytes());
        self.quantized && (self.quantizations.is_empty() || self.quantizations.iter().any(is_like))
    }

    fn includes(&self, kind: &ModelKind) -> bool {
        let is_named = |names: &[String], name: &Option<String>| {
            let name = name.as_ref().filter(|_| !names.is_empty());
            name.map(|name| names.contains(name))
        };
        let by_class = is_named(&self.classes, &kind.class);
        let is_of = by_class.or(is_named(&self.architectures, &kind.architecture));
        self.format == kind.format
            && is_of.unwrap_or(true)
            && kind.quantization.as_deref().is_none_or(|name| self.has_quantization(name))
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Names, as in "a, b and c".
fn listed(names: &[String]) -> String {
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// As in "unquantized safetensors of llama and bert", and "GGUF of llama (Q4_0 and Q8_0)".
impl fmt::Display for ReadableFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.quantized { "" } else { "unquantized " })?;
        write!(f, "{}", self.format)?;
        if !self.architectures.is_empty() {
            write!(f, " of {}", listed(&self.architectures))?;
        }
        if !self.quantizations.is_empty() {
            write!(f, " ({})", listed(&self.quantizations))?;
        }
        Ok(())
    }
}

/// The files for a message: those that differ only in their architectures are one entry.
fn combined(reads: &[ReadableFiles]) -> Vec<ReadableFiles> {
    let mut all: Vec<ReadableFiles> = Vec::new();
    for files in reads {
        let is_alike = |other: &&mut ReadableFiles| {
            (other.format, other.quantized, &other.quantizations)
                == (files.format, files.quantized, &files.quantizations)
        };
        match all.iter_mut().find(is_alike) {
            None => all.push(files.clone()),
            // An entry without architectures stands for every one.
            Some(alike) if alike.architectures.is_empty() || files.architectures.is_empty() => {
                alike.architectures.clear();
            }
            Some(alike) => alike.architectures.extend_from_slice(&files.architectures),
        }
    }
    all
}

impl EngineSupport {
    /// An engine that is for every model; what it reads is unknown.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            models: Vec::new(),
            reads: None,
            tasks: None,
            limits: WorkerLimits::default(),
        }
    }

    /// rbee's own engine.
    pub fn candle() -> Self {
        let decoder = ReadableFiles::plain(
            &[
                "llama",
                "mistral",
                "qwen2",
                "qwen3",
                "qwen3_moe",
                "gemma2",
                "gemma3_text",
                "gemma3",
                "phi3",
            ],
            &[
                "LlamaForCausalLM",
                "MistralForCausalLM",
                "Qwen2ForCausalLM",
                "Qwen3ForCausalLM",
                "Qwen3MoeForCausalLM",
                "Gemma2ForCausalLM",
                "Gemma3ForCausalLM",
                "Gemma3ForConditionalGeneration",
                "Phi3ForCausalLM",
            ],
        );
        let gguf = ReadableFiles {
            architectures: owned(&[
                "llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3",
            ]),
            quantizations: owned(&[
                "Q2_K*", "Q3_K*", "Q4_0", "Q4_1", "Q4_K*", "Q5_0", "Q5_1", "Q5_K*", "Q6_K*", "Q8_0",
            ]),
            ..ReadableFiles::new(ModelFormat::Gguf)
        };
        let bert = ReadableFiles::plain(
            &["bert", "roberta", "xlm-roberta", "camembert"],
            &[
                "BertModel",
                "BertForMaskedLM",
                "BertForSequenceClassification",
                "RobertaModel",
                "RobertaForMaskedLM",
                "RobertaForSequenceClassification",
                "XLMRobertaModel",
                "XLMRobertaForMaskedLM",
                "XLMRobertaForSequenceClassification",
                "CamembertModel",
                "CamembertForMaskedLM",
                "CamembertForSequenceClassification",
            ],
        );
        Self { reads: Some(vec![decoder, bert, gguf]), ..Self::new("candle") }
    }

    /// Sets the models that it is for.
    pub fn for_models(mut self, patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.models = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the files that it reads.
    pub fn reading(mut self, files: impl IntoIterator<Item = ReadableFiles>) -> Self {
        self.reads = Some(files.into_iter().collect());
        self
    }

    /// Sets its tasks.
    pub fn with_tasks(mut self, tasks: impl IntoIterator<Item = ModelTask>) -> Self {
        self.tasks = Some(tasks.into_iter().collect());
        self
    }

    /// Sets the limits of its workers.
    pub fn with_limits(mut self, limits: WorkerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// True if it is for this model. Of the engines of a hive, the first that is for a model runs it.
    pub fn is_for(&self, model: &ModelRef) -> bool {
        let model = model.as_str().as_bytes();
        self.models.is_empty()
            || self.models.iter().any(|pattern| matches_pattern(pattern.as_bytes(), model))
    }

    /// The reason that a hive with these engines cannot run a model of this kind; `None` if it can, as far as is known.
    /// The reason lists what the engines read.
    pub fn refusal(engines: &[Self], model: &ModelRef, kind: &ModelKind) -> Option<String> {
        let engine = engines.iter().find(|engine| engine.is_for(model));
        if let Some(engine) = engine {
            let reads = engine.reads.as_ref();
            if reads.is_none_or(|reads| reads.iter().any(|files| files.includes(kind))) {
                let (task, what) = match kind.task {
                    Some(task @ ModelTask::Embed) => (task, "vectors (`tasks: [embed]`), which"),
                    Some(task @ ModelTask::Rerank) => (task, "scores (`tasks: [rerank]`), which"),
                    _ => return None,
                };
                engine.tasks.as_ref().filter(|tasks| !tasks.contains(&task))?;
                let name = &engine.name;
                return Some(format!(
                    "{name} runs it, and is not configured for {what} this model makes"
                ));
            }
        }
        Some(Self::named(engines))
    }

    /// Checks that a machine with these engines can run a model of this kind, as far as is known.
    ///
    /// # Errors
    /// [`ErrorKind::ModelIncompatible`] with what the engines read.
    pub fn check(engines: &[Self], model: &ModelRef, kind: &ModelKind) -> Result<()> {
        match Self::refusal(engines, model, kind) {
            None => Ok(()),
            Some(why) => Err(incompatible(model, Some(kind), [format!("this machine: {why}")])),
        }
    }

    /// Checks that a machine with these engines may be able to run a model whose files are in no known format: only an
    /// engine that does not say what it reads.
    pub(crate) fn check_unknown(engines: &[Self], model: &ModelRef) -> Result<()> {
        let engine = engines.iter().find(|engine| engine.is_for(model));
        if engine.is_some_and(|engine| engine.reads.is_none()) {
            return Ok(());
        }
        let why = Self::named(engines);
        Err(incompatible(model, None, [format!("this machine: {why}")]))
    }

    /// What these engines read, for a message.
    fn named(engines: &[Self]) -> String {
        let mut named: Vec<_> = engines.iter().take(NAMED).map(ToString::to_string).collect();
        let more = engines.len().saturating_sub(NAMED);
        if more > 0 {
            named.push(format!("{more} more engines"));
        }
        match named.is_empty() {
            true => "it has no engines".to_owned(),
            false => named.join(", "),
        }
    }
}

/// As in "candle reads unquantized safetensors of llama and bert" and "llama.cpp runs models named *.gguf".
impl fmt::Display for EngineSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(reads) = &self.reads {
            let reads: Vec<_> = combined(reads).iter().map(ToString::to_string).collect();
            let reads = if reads.is_empty() { "no files".into() } else { reads.join(", and ") };
            write!(f, " reads {reads}")?;
        }
        if !self.models.is_empty() {
            let and = if self.reads.is_some() { " and" } else { "" };
            write!(f, "{and} runs models named {}", self.models.join(" or "))?;
        }
        Ok(())
    }
}

/// What is said of a model whose files have no known format.
const UNKNOWN: &str =
    "in no known format (a directory with config.json and safetensors files, or a GGUF file)";

/// The error for a model that none of these hives can run; each comes as a name with the reason.
pub(crate) fn incompatible(
    model: &ModelRef,
    kind: Option<&ModelKind>,
    hives: impl IntoIterator<Item = String>,
) -> Error {
    let mut hives: Vec<_> = hives.into_iter().collect();
    let more = hives.len().saturating_sub(NAMED);
    hives.truncate(NAMED);
    if more > 0 {
        hives.push(format!("{more} more hives"));
    }
    let kind = kind.map_or_else(|| UNKNOWN.into(), ToString::to_string);
    let message = format!(
        "model {model} is {kind}, and no engine can read it: {}; configure an engine for it (`engines`, see \
         docs/engines.md), or choose files in another format",
        hives.join("; ")
    );
    Error::new(ErrorKind::ModelIncompatible, message).with_param("model")
}

/// True if a text matches a pattern: `*` is any characters, `?` is one. Linear, except for backtracking to the last `*`.
pub fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(config: &str) -> ModelKind {
        ModelKind::of_config(config.as_bytes()).unwrap()
    }

    fn refusal(engines: &[EngineSupport], model: &str, kind: &ModelKind) -> Option<String> {
        EngineSupport::refusal(engines, &model.parse().unwrap(), kind)
    }

    #[test]
    fn the_own_engine_reads_its_families_and_nothing_else() {
        let own = [EngineSupport::candle()];
        for readable in [
            r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}"#,
            r#"{"model_type": "smol", "architectures": ["LlamaForCausalLM"]}"#,
            r#"{"model_type": "llama"}"#,
            r#"{"model_type": "mistral"}"#,
            r#"{"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}"#,
            r#"{"model_type": "bert", "architectures": ["BertModel"]}"#,
            r#"{"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}"#,
            "{}",
        ] {
            assert_eq!(refusal(&own, "hf:a/b", &kind(readable)), None, "{readable}");
        }
        for unreadable in [
            r#"{"model_type": "mamba", "architectures": ["MambaForCausalLM"]}"#,
            r#"{"model_type": "falcon"}"#,
            r#"{"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}"#,
            r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "awq", "bits": 4}}"#,
        ] {
            let why = refusal(&own, "hf:a/b", &kind(unreadable)).expect(unreadable);
            assert_eq!(
                why,
                "candle reads unquantized safetensors of llama, mistral, qwen2, qwen3, qwen3_moe, gemma2, \
                 gemma3_text, gemma3, phi3, bert, roberta, xlm-roberta and camembert, and GGUF of llama, qwen2, \
                 qwen3, qwen3moe, gemma2, gemma3 and phi3 (Q2_K*, Q3_K*, Q4_0, Q4_1, Q4_K*, Q5_0, Q5_1, Q5_K*, \
                 Q6_K* and Q8_0)"
            );
        }
        let gguf = |architecture: Option<&str>, quantization: Option<&str>| {
            let [architecture, quantization] =
                [architecture, quantization].map(|name| name.map(str::to_owned));
            let kind =
                ModelKind { architecture, quantization, ..ModelKind::new(ModelFormat::Gguf) };
            refusal(&own, "hf:a/b", &kind)
        };
        for (architecture, quantization) in [
            (None, None),
            (Some("llama"), None),
            (Some("gemma3"), Some("Q4_K_M")),
            (Some("qwen3moe"), Some("Q8_0")),
            (Some("phi3"), Some("Q2_K")),
        ] {
            let why = gguf(architecture, quantization);
            assert_eq!(why, None, "{architecture:?} {quantization:?}");
        }
        for (architecture, quantization) in [
            (Some("mamba"), None),
            (Some("gemma3n"), Some("Q4_K_M")),
            (Some("llama"), Some("IQ4_XS")),
            (None, Some("MXFP4")),
            (Some("qwen3"), Some("TQ1_0")),
        ] {
            let why = gguf(architecture, quantization);
            assert!(why.is_some(), "{architecture:?} {quantization:?}");
        }
    }

    #[test]
    fn what_an_engine_reads_is_listed_without_repetition() {
        let text = |reads: Vec<ReadableFiles>| EngineSupport::new("it").reading(reads).to_string();
        let (gguf, all) =
            (ReadableFiles::new(ModelFormat::Gguf), ReadableFiles::new(ModelFormat::Safetensors));
        let plain = |name| ReadableFiles::plain(&[name], &[]);
        assert_eq!(text(vec![]), "it reads no files");
        assert_eq!(text(vec![plain("a")]), "it reads unquantized safetensors of a");
        assert_eq!(
            text(vec![plain("a"), gguf.clone(), plain("b"), gguf]),
            "it reads unquantized safetensors of a and b, and GGUF"
        );
        let every = ReadableFiles::plain(&[], &[]);
        assert_eq!(
            text(vec![plain("a"), every, plain("b"), all]),
            "it reads unquantized safetensors, and safetensors"
        );
    }

    #[test]
    fn the_first_engine_that_is_for_the_model_decides() {
        let named = || EngineSupport::new("llama.cpp").for_models(["*.gguf"]);
        let architecture = Some("mamba".to_owned());
        let gguf = ModelKind { architecture, ..ModelKind::new(ModelFormat::Gguf) };
        let engines = [named(), EngineSupport::candle()];
        assert_eq!(refusal(&engines, "hf:a/b::file=b.gguf", &gguf), None);
        let why = refusal(&engines, "file:/models/b", &gguf).unwrap();
        assert!(why.contains("llama.cpp runs models named *.gguf, candle reads"), "{why}");
        // The engine that is for the model reads no such files; that another one would does not help.
        let reads = [ReadableFiles::new(ModelFormat::Safetensors)];
        let engines = [named().reading(reads), EngineSupport::new("any")];
        assert!(refusal(&engines, "file:/b.gguf", &gguf).is_some());
        assert_eq!(refusal(&[], "file:/b.gguf", &gguf).as_deref(), Some("it has no engines"));
    }

    #[test]
    fn a_model_that_makes_vectors_or_scores_needs_an_engine_with_that_task() {
        let vectors =
            ModelKind { task: Some(ModelTask::Embed), ..ModelKind::new(ModelFormat::Gguf) };
        let text = EngineSupport::new("llama.cpp").with_tasks([ModelTask::Generate]);
        let why = refusal(std::slice::from_ref(&text), "file:/b.gguf", &vectors).unwrap();
        assert!(why.contains("tasks: [embed]"), "{why}");
        let both = text.clone().with_tasks([ModelTask::Generate, ModelTask::Embed]);
        assert_eq!(refusal(std::slice::from_ref(&both), "file:/b.gguf", &vectors), None);
        let scores = ModelKind { task: Some(ModelTask::Rerank), ..vectors.clone() };
        let why = refusal(&[both], "file:/b.gguf", &scores).unwrap();
        assert!(why.contains("not configured for scores (`tasks: [rerank]`)"), "{why}");
        let ranks = text.clone().with_tasks([ModelTask::Rerank]);
        assert_eq!(refusal(&[ranks], "file:/b.gguf", &scores), None);
        let writes = ModelKind { task: Some(ModelTask::Generate), ..vectors };
        assert_eq!(refusal(&[text], "file:/b.gguf", &writes), None);
    }

    #[test]
    fn the_error_names_the_model_its_kind_the_hives_and_what_to_do() {
        let kind = kind(r#"{"model_type": "mamba", "architectures": ["MambaForCausalLM"]}"#);
        let error =
            EngineSupport::check(&[EngineSupport::candle()], &"hf:a/b".parse().unwrap(), &kind)
                .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
        for part in [
            "hf:a/b",
            "safetensors of mamba (MambaForCausalLM)",
            "candle reads unquantized safetensors of llama",
            "docs/engines.md",
        ] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }
}
