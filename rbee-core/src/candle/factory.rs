//! The factory of candle workers for a hive.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;

use super::{CandleDevice, CandleOptions, CandleWorker, DEFAULT_SLOTS};
use crate::{
    engine_support::EngineSupport,
    error::{Error, ErrorKind, Result},
    hive::WorkerFactory,
    id::{HiveId, WorkerId},
    model_info::{CachePool, CacheType, gguf},
    model_on_disk::{ModelOnDisk, WorkerLimits},
    model_ref::{ModelRef, ModelSource},
    progress::Progress,
    worker::Worker,
    worker_spec::WorkerSpec,
};

/// Loads models with candle, for an [`InProcessHive`](crate::InProcessHive).
///
/// Device 0 of the hive is the processor. A GPU needs the feature `cuda` or `metal`; then device *n* + 1 is the GPU
/// with the driver's number *n*.
///
/// ```
/// use rbee_core::{CandleFactory, InProcessHive};
///
/// let hive = InProcessHive::new().with_factory(CandleFactory::default());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CandleFactory {
    /// The threads of a worker on the processor; all cores by default.
    pub threads: Option<NonZeroUsize>,
    /// The longest prompt and answer together, in tokens; the model's own limit by default.
    pub context: Option<u32>,
    /// The most concurrent runs of a worker, 8 by default; the order to start it may set fewer.
    pub slots: Option<NonZeroU32>,
    /// The tokens whose keys and values a worker has memory for
    /// ([`CandleOptions::cache_tokens`](super::CandleOptions::cache_tokens)).
    pub cache_tokens: Option<NonZeroU32>,
    /// The data type of keys and values; 16-bit floats by default.
    pub cache_type: CacheType,
}

impl CandleFactory {
    fn most_slots(&self) -> NonZeroU32 {
        self.slots.unwrap_or(DEFAULT_SLOTS)
    }

    fn worker_limits(&self) -> WorkerLimits {
        WorkerLimits {
            slots: Some(self.most_slots().get()),
            context: self.context,
            cache: Some(CachePool { tokens: self.cache_tokens, kind: self.cache_type }),
        }
    }

    fn device(spec: &WorkerSpec) -> Result<CandleDevice> {
        match spec.devices[..] {
            [] | [0] => Ok(CandleDevice::Cpu),
            [gpu] if cfg!(feature = "metal") => Ok(CandleDevice::Metal(gpu as usize - 1)),
            [gpu] => Ok(CandleDevice::Cuda(gpu as usize - 1)),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "model {} was ordered on devices {:?}; candle supports one device",
                    spec.model, spec.devices
                ),
            )),
        }
    }
}

#[async_trait]
impl WorkerFactory for CandleFactory {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        let path = match (spec.path.as_deref(), spec.model.source()) {
            (Some(path), _) | (None, ModelSource::File(path)) => path,
            _ => {
                let message =
                    format!("where model {} lies on this machine is not said", spec.model);
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let mut options = CandleOptions::new(spec.model.clone());
        options.id = id;
        options.hive = hive.clone();
        options.device = Self::device(spec)?;
        options.devices = Some(spec.devices.clone());
        options.threads = self.threads;
        options.context = self.context;
        let ordered = NonZeroU32::new(spec.slots).unwrap_or(NonZeroU32::MIN);
        options.slots = ordered.min(self.most_slots());
        options.cache_tokens = self.cache_tokens;
        options.cache_type = self.cache_type;
        Ok(Arc::new(CandleWorker::load(path, options, progress).await?))
    }

    async fn inspect(&self, model: &ModelRef, path: Option<&Path>) -> Result<ModelOnDisk> {
        let at = match (path, model.source()) {
            (None, ModelSource::File(path)) => Some(path),
            (path, _) => path,
        };
        // A directory without a model is refused before a worker is planned for it.
        if let Some(at) = at
            && at.is_dir()
            && !at.join("config.json").is_file()
            && !matches!(gguf::only_one(at), Ok(Some(_)))
        {
            let message =
                format!("{} is not a model: it has no config.json and no .gguf file", at.display());
            return Err(Error::new(ErrorKind::ModelNotFound, message));
        }
        let on_disk = crate::hive::files_of(model, path).await?;
        if let Some(info) = &on_disk.info {
            EngineSupport::check(&[EngineSupport::candle()], model, &info.as_ref().into())?;
        }
        Ok(on_disk)
    }

    fn engines(&self) -> Option<Vec<EngineSupport>> {
        Some(vec![EngineSupport::candle().with_limits(self.worker_limits())])
    }

    fn limits(&self, _: &ModelRef) -> WorkerLimits {
        self.worker_limits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        candle::{bert, decoder::families},
        model_info::ModelFormat,
    };

    /// What a queen refuses before it copies a model must be what the engine cannot load.
    #[test]
    fn what_is_reported_is_what_the_engine_loads() {
        let reads = EngineSupport::candle().reads.unwrap();
        let is_loaded = |class: &str| {
            families::Family::of_class(class).is_some() || bert::Family::of(class).is_some()
        };
        let classes: Vec<&String> = reads.iter().flat_map(|files| &files.classes).collect();
        for class in &classes {
            assert!(is_loaded(class), "{class}");
        }
        let names = [
            "Bert",
            "Roberta",
            "XLMRoberta",
            "Camembert",
            "DistilBert",
            "Mistral",
            "Mixtral",
            "Llama",
            "Qwen2",
            "Qwen2Moe",
            "Qwen3",
            "Qwen3Moe",
            "Gemma",
            "Gemma2",
            "Gemma3",
            "Gemma3n",
            "Phi",
            "Phi3",
            "Mamba",
        ];
        let heads = [
            "Model",
            "ForMaskedLM",
            "ForSequenceClassification",
            "ForCausalLM",
            "ForConditionalGeneration",
        ];
        for class in names.iter().flat_map(|name| heads.map(|head| format!("{name}{head}"))) {
            assert_eq!(classes.contains(&&class), is_loaded(&class), "{class}");
        }
        let gguf = reads.iter().find(|files| files.format == ModelFormat::Gguf).unwrap();
        let loaded = families::FAMILIES.iter().flat_map(|family| family.architectures);
        assert!(loaded.eq(&gguf.architectures), "{gguf:?}");
    }
}
