//! [`CandleWorker`]: a model in this process, run by candle.

mod batch;
mod bert;
mod call_syntax;
mod causal_lm;
mod closed_schema;
mod config_fields;
mod cross_encoder;
mod decoder;
mod embed;
mod encoder;
mod engine;
#[cfg(feature = "test-util")]
pub mod evaluate;
mod factory;
mod files;
mod generate;
#[cfg(test)]
mod golden_tests;
mod guide;
mod guided;
mod heartbeat;
mod logprobs;
mod numerics;
mod rerank;
mod sampler;
#[cfg(test)]
mod table_tests;
mod text;
mod token_mask;
mod weights;

use std::{
    collections::HashMap,
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};

pub use self::factory::CandleFactory;
pub use crate::model_info::CacheType;

use self::{
    bert::BertConfig,
    causal_lm::CausalLm,
    embed::Embedder,
    engine::{Engine, Handle},
    files::{FileFault, LoadFault, Loaded},
    rerank::Reranker,
    weights::{Checkpoint, Part},
};
use crate::{
    error::{Error, ErrorKind, Result},
    hive::devices::{Ram, ram},
    id::{HiveId, WorkerId},
    model_info::CachePool,
    model_ref::ModelRef,
    progress::Progress,
    task::Task,
    worker::{Capabilities, OutputStream, Run, Worker, WorkerHealth, WorkerInfo},
};

/// The device of a [`CandleWorker`].
///
/// The tests of this crate run on the processor. On a GPU the same code runs with candle's own kernels; it has not been
/// shown that a stream can be continued there bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CandleDevice {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this CUDA number; needs feature `cuda`.
    Cuda(usize),
    /// The Apple GPU with this number; needs feature `metal`.
    Metal(usize),
}

impl CandleDevice {
    fn open(self) -> Loaded<Device> {
        let opened = match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => Device::new_cuda(ordinal),
            Self::Metal(ordinal) => Device::new_metal(ordinal),
        };
        opened.and_then(|device| compute(&device).map(|()| device)).map_err(|source| {
            let advice = self.advice(&source);
            LoadFault::Device { device: self.to_string(), source, advice }
        })
    }

    /// What to do about a device that cannot be used.
    fn advice(self, source: &candle_core::Error) -> &'static str {
        match (self, source) {
            (_, candle_core::Error::NotCompiledWithCudaSupport) => {
                "build this program with feature cuda, or choose another device"
            }
            (_, candle_core::Error::NotCompiledWithMetalSupport) => {
                "build this program with feature metal, or choose another device"
            }
            (Self::Cuda(_), _) => {
                "check with nvidia-smi that the driver finds the GPU, and that the driver and the GPU are not too old for \
                 the CUDA toolkit of this build; or choose another device"
            }
            (Self::Metal(_), _) => "check that this Mac has such a GPU, or choose another device",
            (Self::Cpu, _) => "choose another device",
        }
    }

    /// The index of the device on a hive: 0 is the processor, GPUs follow.
    fn hive_index(self) -> u32 {
        match self {
            Self::Cpu => 0,
            Self::Cuda(ordinal) | Self::Metal(ordinal) => {
                u32::try_from(ordinal).unwrap_or(u32::MAX).saturating_add(1)
            }
        }
    }
}

/// Computes something on a GPU. A kernel that the driver or the GPU does not take fails here, before a model is loaded,
/// and not in the first run.
fn compute(device: &Device) -> candle_core::Result<()> {
    if device.is_cpu() {
        return Ok(());
    }
    let sum: f32 = (Tensor::new(&[1_f32, 2.0], device)? + 1.0)?.sum_all()?.to_scalar()?;
    match sum == 5.0 {
        true => Ok(()),
        false => candle_core::bail!("it adds 2 and 3 to {sum}"),
    }
}

impl fmt::Display for CandleDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal(ordinal) => write!(f, "metal:{ordinal}"),
        }
    }
}

/// The options of a [`CandleWorker`].
///
/// ```
/// use rbee_core::candle::CandleOptions;
///
/// let mut options = CandleOptions::new("bee-tiny".parse()?);
/// options.context = Some(2048);
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CandleOptions {
    /// Its id; random by default.
    pub id: WorkerId,
    /// The hive it belongs to; the one inside this process by default.
    pub hive: HiveId,
    /// The model reference that it reports.
    pub model: ModelRef,
    /// Its address, if it runs in a separate process.
    pub url: Option<Arc<str>>,
    /// The revision of the hive's state at which it appears.
    pub since: u64,
    /// Its device; the processor by default.
    pub device: CandleDevice,
    /// The devices that it reports, by the hive's index. By default that of `device`: 0 for the processor, the GPU's
    /// number plus 1 for a GPU.
    pub devices: Option<Vec<u32>>,
    /// The number of threads on the processor, at most the number of cores, which is the default. The results do not
    /// depend on it.
    pub threads: Option<NonZeroUsize>,
    /// The longest prompt and answer together, in tokens, at least 2: the model's own limit, but at most this. `None`:
    /// at most 32,768, because memory grows with it.
    pub context: Option<u32>,
    /// The most concurrent runs of a model that continues text; 8 by default. A model that makes vectors or scores has 1
    /// slot.
    pub slots: NonZeroU32,
    /// The tokens whose keys and values there is memory for, in blocks of 32; it is reserved at start. The runs share
    /// it, and what they do not need keeps the beginnings of earlier prompts. `None`: the default of
    /// [`CachePool`]. The context is never longer than this.
    pub cache_tokens: Option<NonZeroU32>,
    /// The data type of keys and values; 16-bit floats by default. 8-bit integers take about half of their memory.
    pub cache_type: CacheType,
    /// False, the default: the weight files are mapped into memory, which shares them with the cache of the operating
    /// system. Nobody may then change or shorten such a file in place while the worker runs, or the system ends this
    /// process. To replace it by a new file of the same name is safe. True: the weights are copied into memory of the
    /// worker. On a GPU they are always copied.
    pub copy_weights: bool,
}

/// The number of slots if none is given.
pub(crate) const DEFAULT_SLOTS: NonZeroU32 = NonZeroU32::new(8).unwrap();

impl CandleOptions {
    /// A worker of this process on the processor, with the defaults of all other options.
    pub fn new(model: ModelRef) -> Self {
        Self {
            id: WorkerId::random(),
            hive: HiveId::local(),
            model,
            url: None,
            since: 0,
            device: CandleDevice::default(),
            devices: None,
            threads: None,
            context: None,
            slots: DEFAULT_SLOTS,
            cache_tokens: None,
            cache_type: CacheType::default(),
            copy_weights: false,
        }
    }

    fn pool(&self) -> CachePool {
        CachePool { tokens: self.cache_tokens, kind: self.cache_type }
    }

    fn threads(&self) -> usize {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or(cores, |threads| threads.get().min(cores))
    }
}

/// A model in this process: of the Llama, Mistral, Qwen, Gemma or Phi family, which continues text, or of the BERT
/// family, which makes vectors of texts or scores documents. `config.json`, or the metadata of a GGUF file, determines
/// which.
///
/// A model that continues text computes up to [`slots`](CandleOptions::slots) runs at the same time. A run gives the
/// same tokens alone and beside others. Every step computes one token of each run that generates, and a part of the
/// prompts that arrived; the part is chosen so that a prompt delays the tokens of the other runs by about 100 ms per
/// step. The memory for keys and values is allocated at start ([`cache_tokens`](CandleOptions::cache_tokens)); if it
/// is full, the run that arrived last waits, and is computed again later. The beginnings of earlier prompts and answers
/// stay in this memory until it is needed, and a prompt that begins in the same way, of the same tenant, is not
/// computed again. A model that makes vectors or scores has one run at a time.
///
/// It reads a GGUF file, of a model in several files the one that is named, with all that is in it. Or it reads a
/// directory as the transformers library writes it: `config.json`, `tokenizer.json`, `model.safetensors` (or
/// shards with `model.safetensors.index.json`), and if they exist `generation_config.json`, `tokenizer_config.json` and
/// `chat_template.jinja`. A key that `config.json` does not contain has the value of that library's configuration class
/// for the same `model_type`. A value that this engine does not support is refused, with the file and the value in the
/// message, before memory is allocated for the model.
///
/// Vectors are pooled and normalized to length 1 as `modules.json` and `1_Pooling/config.json` specify, which the
/// sentence-transformers library writes; without these files a vector is the mean of a text's tokens, at length 1. A
/// text that is longer than the model allows is refused, and never cut. `default_prompt_name` and modules of other
/// kinds are refused at load.
///
/// A model of the BERT family for the classification of sequences, with one label, is a reranker: it scores pairs of a
/// query and a document, joined by the template for pairs in `tokenizer.json`. A score is from 0 to 1, unless the model's
/// files name `Identity` as its `activation_fn`: then it is the number that the model gives. A document that is too long
/// is cut at its end; a query that leaves no room for a document is refused.
///
/// A conversation is rendered by the model's own template and encoded as the transformers library does it. Text of the
/// request never becomes a control token, even if it contains the name of one; the exceptions are
/// [`Prompt::Raw`](crate::request::Prompt::Raw), and tokens like `<think>` in an assistant's message, which the model's
/// own answer shows as text.
///
/// A stream can be continued: the tokens so far are computed like a longer prompt. That gives the same stream bit for
/// bit if [`numerics`](WorkerInfo::numerics) are equal. The only exception is a template that uses the date.
///
/// The computation has its own thread with its own thread pool; async threads only pass messages on. Dropping a stream
/// ends its run between two steps, or between two batches of 512 tokens of its texts or pairs. Dropping the worker ends the
/// thread and frees the memory. Prompts become tokens on a thread for blocking work of the tokio runtime that
/// [`execute`](Worker::execute) is called in.
///
/// ```no_run
/// use std::sync::Arc;
/// use rbee_core::{candle::{CandleOptions, CandleWorker}, hive::Progress, Worker};
///
/// # async fn load() -> rbee_core::Result<()> {
/// let options = CandleOptions::new("bee-tiny".parse()?);
/// let worker: Arc<dyn Worker> = Arc::new(CandleWorker::load("models/bee-tiny", options, Progress::ignore()).await?);
/// println!("{}", worker.info().numerics);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CandleWorker {
    info: Arc<WorkerInfo>,
    engine: Handle,
    memory_bytes: u64,
}

impl CandleWorker {
    /// Loads a model from its directory, from a `.gguf` file, or from one `.safetensors` file with the other files next
    /// to it. The progress is in bytes of the weights. Dropping the future stops the load.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] if a file is missing, [`ErrorKind::ModelIncompatible`] if a file is damaged or
    /// contains a value that this engine does not support, [`ErrorKind::Unsupported`] if the device does not exist or
    /// its support was not built in, [`ErrorKind::InsufficientVram`] if the model does not fit into it,
    /// [`ErrorKind::Config`] for an option out of range.
    pub async fn load(
        path: impl AsRef<Path>,
        options: CandleOptions,
        progress: Progress,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        if let Some(context @ 0..=1) = options.context {
            let what = format!("context is {context}; allowed is at least 2");
            return Err(LoadFault::Option { what }.into());
        }
        let threads = options.threads();
        let wanted = options.clone();
        let (engine, facts) = Handle::start(threads, options.slots.get(), move |gone| {
            load(&path, &wanted, &progress, gone)
        })
        .await?;
        let devices = options.devices.unwrap_or_else(|| vec![options.device.hive_index()]);
        let info = WorkerInfo {
            id: options.id,
            hive: options.hive,
            model: options.model,
            backend: "candle".into(),
            devices,
            url: options.url,
            slots: engine.slots(),
            capabilities: facts.capabilities,
            numerics: facts.numerics.into(),
            since: options.since,
        };
        Ok(Self { info: Arc::new(info), engine, memory_bytes: facts.memory_bytes })
    }
}

/// The results of a load.
struct Facts {
    capabilities: Capabilities,
    numerics: String,
    /// The memory of weights, keys and values.
    memory_bytes: u64,
}

/// A current load.
struct Loading<'a> {
    path: &'a Path,
    /// The directory of the model.
    dir: PathBuf,
    /// The file with the weights, if the path names one.
    file: Option<PathBuf>,
    options: &'a CandleOptions,
    progress: &'a Progress,
    /// True if the caller has disconnected.
    gone: &'a dyn Fn() -> bool,
}

impl Loading<'_> {
    /// Reads these parts, and returns the memory that they take.
    fn read(
        &self,
        checkpoint: &mut Checkpoint,
        parts: &[Part],
        dtype: DType,
        device: &Device,
    ) -> Loaded<(HashMap<String, Tensor>, u64)> {
        let tensors =
            checkpoint.read(parts, dtype, device, |done, total| self.goes_on(done, total))?;
        let size = |tensor: &Tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
        let bytes = tensors.values().map(size).sum();
        Ok((tensors, bytes))
    }

    /// Reports the bytes that are loaded; returns false if the caller is gone.
    fn goes_on(&self, done: u64, total: u64) -> bool {
        self.progress.update(done, Some(total));
        !(self.gone)()
    }

    /// Refuses a model that this machine has no memory for, before it is loaded.
    ///
    /// `mapped` bytes need no free memory: the system can read them again. `own` bytes must be available now.
    fn check_memory(
        &self,
        mapped: u64,
        own: u64,
        needs: impl FnOnce() -> String,
        advice: &'static str,
    ) -> Loaded<()> {
        if self.options.device != CandleDevice::Cpu {
            return Ok(());
        }
        let Some(Ram { total, available }) = ram() else { return Ok(()) };
        match mapped.saturating_add(own) > total || own > available {
            true => Err(LoadFault::Memory { needs: needs(), total, available, advice }),
            false => Ok(()),
        }
    }

    /// The device in the numerics: a GPU is equal only to itself.
    fn place(&self) -> String {
        format!("{} of hive {}", self.options.device, self.options.hive)
    }

    fn does_not_fit(&self, source: candle_core::Error) -> LoadFault {
        LoadFault::DeviceMemory { device: self.options.device.to_string(), source }
    }
}

fn load(
    path: &Path,
    options: &CandleOptions,
    progress: &Progress,
    gone: &dyn Fn() -> bool,
) -> Loaded<(Engine, Facts)> {
    let (dir, file) = locate(path)?;
    let loading = Loading { path, dir, file, options, progress, gone };
    let is_gguf = path.extension().is_some_and(|extension| extension == "gguf");
    // A directory with a GGUF file has none either.
    let has_config = !is_gguf && loading.dir.join("config.json").exists();
    let encoder = match has_config {
        true => BertConfig::load(&loading.dir)?,
        false => None,
    };
    Ok(match encoder {
        Some(config) if config.is_reranker => {
            let (reranker, facts) = Reranker::load(&loading, config)?;
            (Engine::Scores(Box::new(reranker)), facts)
        }
        Some(config) => {
            let (embedder, facts) = Embedder::load(&loading, config)?;
            (Engine::Vectors(Box::new(embedder)), facts)
        }
        None => {
            let (causal_lm, facts) = CausalLm::load(&loading)?;
            (Engine::Text(Box::new(causal_lm)), facts)
        }
    })
}

/// The directory of a model at this path, and the file with the weights if the path names it.
fn locate(path: &Path) -> Loaded<(PathBuf, Option<PathBuf>)> {
    let metadata = std::fs::metadata(path).map_err(|source| FileFault::unreadable(path, source))?;
    if metadata.is_dir() {
        return Ok((path.to_owned(), None));
    }
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok((dir, Some(path.to_owned())))
}

#[async_trait]
impl Worker for CandleWorker {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let mut outputs = self.engine.execute(run).await?;
        Ok(Box::pin(futures_util::stream::poll_fn(move |context| outputs.poll_recv(context))))
    }

    /// Busy as long as the thread works on a run, even if the run's stream was dropped already. Unhealthy if the
    /// current step takes much longer than the engine's steps usually take. The memory is that of the weights, and of
    /// the keys and values for which it is allocated at start.
    async fn health(&self) -> Result<WorkerHealth> {
        if !self.engine.is_alive() {
            return Err(Error::new(ErrorKind::WorkerLost, "the worker's engine has ended"));
        }
        if let Some(step) = self.engine.hangs_for() {
            let message =
                format!("the engine has been at one step of its computation for {step:.1?}");
            return Err(Error::new(ErrorKind::WorkerFault, message));
        }
        Ok(WorkerHealth {
            busy: self.engine.busy(),
            warm: self.engine.warm(),
            vram_bytes: Some(self.memory_bytes),
        })
    }

    /// One prompt at a time is counted.
    async fn count_tokens(&self, task: Arc<Task>) -> Result<u32> {
        self.engine.count_tokens(task).await
    }
}
