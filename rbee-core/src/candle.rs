//! [`CandleWorker`]: a model in this process, computed by candle.

mod added_tokens;
mod bert;
mod causal_lm;
mod config;
mod config_fields;
#[cfg(test)]
mod control_tests;
mod detokenizer;
mod embed;
mod encoder;
mod engine;
mod factory;
mod files;
mod generate;
#[cfg(test)]
mod golden_tests;
mod heartbeat;
mod json;
mod model;
mod numerics;
mod prompt;
mod sampler;
mod stop;
mod strftime;
mod template;
mod tokenizer;
mod weights;

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};

pub use self::factory::CandleFactory;

use self::{
    bert::BertConfig,
    causal_lm::CausalLm,
    embed::Embedder,
    engine::{Engine, Handle},
    files::{LoadFault, Loaded},
    weights::{Checkpoint, Part},
};
use crate::{
    error::{Error, ErrorKind, Result},
    id::{HiveId, WorkerId},
    model_ref::ModelRef,
    progress::Progress,
    worker::{Capabilities, OutputStream, Run, Worker, WorkerHealth, WorkerInfo},
};

/// What a [`CandleWorker`] computes with.
///
/// The tests of this crate run on the processor; on a GPU the same code runs through candle's own kernels, and whether
/// a stream can be continued there to the last bit has not been shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CandleDevice {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, as CUDA counts; needs feature `cuda`.
    Cuda(usize),
    /// The Apple GPU of this number; needs feature `metal`.
    Metal(usize),
}

impl CandleDevice {
    fn open(self) -> Loaded<Device> {
        let opened = match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => Device::new_cuda(ordinal),
            Self::Metal(ordinal) => Device::new_metal(ordinal),
        };
        opened.map_err(|source| LoadFault::Device { device: self.to_string(), source })
    }

    /// The index a hive gives it: 0 is the processor, GPUs follow.
    fn hive_index(self) -> u32 {
        match self {
            Self::Cpu => 0,
            Self::Cuda(ordinal) | Self::Metal(ordinal) => {
                u32::try_from(ordinal).unwrap_or(u32::MAX).saturating_add(1)
            }
        }
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

/// The type that weights are kept in, and most of the arithmetic is done in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CandleDtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 16-bit floats with the range of 32-bit ones.
    Bf16,
}

/// How a [`CandleWorker`] is to be loaded.
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
    /// The worker's name; a random one by default.
    pub id: WorkerId,
    /// The hive it belongs to; the one inside this process by default.
    pub hive: HiveId,
    /// The model it is known to serve.
    pub model: ModelRef,
    /// Where it listens, for a worker in a process of its own.
    pub url: Option<Arc<str>>,
    /// The revision of the hive's state at which it appears.
    pub since: u64,
    /// What it computes with; the processor by default.
    pub device: CandleDevice,
    /// The devices it is reported on, by the hive's index. By default the one of `device`: 0 for the processor, the
    /// GPU's number plus 1 for a GPU.
    pub devices: Option<Vec<u32>>,
    /// The type of the weights in memory. By default 32-bit floats on the processor, and what the files hold on a GPU;
    /// a model that makes vectors takes 32-bit floats only.
    pub dtype: Option<CandleDtype>,
    /// How many threads it computes with on the processor, at most as many as there are cores, which is the default.
    /// The results do not depend on it.
    pub threads: Option<NonZeroUsize>,
    /// The longest prompt and answer together, in tokens, at least 2: the model's own limit, but at most this. Where
    /// none is given, at most 32,768, because memory grows with it.
    pub context: Option<u32>,
}

impl CandleOptions {
    /// A worker of this process on the processor, with all else by default.
    pub fn new(model: ModelRef) -> Self {
        Self {
            id: WorkerId::random(),
            hive: HiveId::local(),
            model,
            url: None,
            since: 0,
            device: CandleDevice::default(),
            devices: None,
            dtype: None,
            threads: None,
            context: None,
        }
    }

    fn threads(&self) -> usize {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or(cores, |threads| threads.get().min(cores))
    }

    fn dtype(&self, stored: DType) -> Loaded<DType> {
        match (self.device, self.dtype) {
            (CandleDevice::Cpu, None) | (_, Some(CandleDtype::F32)) => Ok(DType::F32),
            (_, None) => Ok(stored),
            (CandleDevice::Cpu, Some(CandleDtype::Bf16)) => Err(LoadFault::Option {
                what: "dtype is Bf16 on the processor; allowed there are F32 and F16".into(),
            }),
            (_, Some(CandleDtype::F16)) => Ok(DType::F16),
            (_, Some(CandleDtype::Bf16)) => Ok(DType::BF16),
        }
    }
}

/// A model in this process, one run at a time: of the Llama family, which continues text, or of the BERT family, which
/// makes vectors of texts. `config.json` says which.
///
/// It reads a directory as the transformers library writes it: `config.json`, `tokenizer.json`, `model.safetensors` (or
/// shards with `model.safetensors.index.json`), and where they are there `generation_config.json`,
/// `tokenizer_config.json` and `chat_template.jinja`. What a file says that this engine cannot do is refused, with the
/// file and the value named, before memory is taken for it.
///
/// Vectors are pooled and brought to length 1 as `modules.json` and `1_Pooling/config.json` say, which the
/// sentence-transformers library writes; without them they are the mean of a text's tokens, at length 1. A text that is
/// longer than the model allows is refused, and never cut. `default_prompt_name` and modules of other kinds are
/// refused while loading.
///
/// A conversation is rendered by the model's own template and encoded as the transformers library does it. That means
/// that the name of a special token in the text of a message becomes that token: who passes on text of strangers and
/// does not want that removes those names before.
///
/// A stream can be continued: the tokens so far are computed again as the first worker computed them, which takes as
/// long as it took to generate them, and gives the same stream to the last bit where
/// [`numerics`](WorkerInfo::numerics) are equal. Only a template that asks for the date can undo that.
///
/// The computation has a thread of its own, and a thread pool of its own with it; async threads only pass messages on.
/// Dropping a stream ends its run between two tokens, or between two chunks of 128 tokens of its prompt, or between two
/// batches of 512 tokens of its texts. Dropping the
/// worker ends the thread and frees the memory.
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
    weight_bytes: u64,
}

impl CandleWorker {
    /// Loads a model from its directory, or from one `.safetensors` file with the other files beside it. Progress is
    /// told in bytes of the weights. Dropping the future gives the load up.
    ///
    /// # Errors
    /// [`ErrorKind::ModelNotFound`] where a file is missing, [`ErrorKind::ModelIncompatible`] where one is damaged or
    /// says what this engine cannot do, [`ErrorKind::Unsupported`] where the device is not there or was not built in,
    /// [`ErrorKind::InsufficientVram`] where the model does not fit it, [`ErrorKind::Config`] for an option out of
    /// range.
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
        let (engine, facts) =
            Handle::start(threads, move |gone| load(&path, &wanted, &progress, gone)).await?;
        let devices = options.devices.unwrap_or_else(|| vec![options.device.hive_index()]);
        let info = WorkerInfo {
            id: options.id,
            hive: options.hive,
            model: options.model,
            backend: "candle".into(),
            devices,
            url: options.url,
            slots: 1,
            capabilities: facts.capabilities,
            numerics: facts.numerics.into(),
            since: options.since,
        };
        Ok(Self { info: Arc::new(info), engine, weight_bytes: facts.weight_bytes })
    }
}

/// What a load found out.
struct Facts {
    capabilities: Capabilities,
    numerics: String,
    weight_bytes: u64,
}

/// A load under way.
struct Loading<'a> {
    dir: PathBuf,
    /// The file with the weights, where that was named itself.
    file: Option<PathBuf>,
    options: &'a CandleOptions,
    progress: &'a Progress,
    /// Has the one who wanted it gone away?
    gone: &'a dyn Fn() -> bool,
}

impl Loading<'_> {
    /// Reads these parts, and says how much memory they take.
    fn read(
        &self,
        checkpoint: &mut Checkpoint,
        parts: &[Part],
        dtype: DType,
        device: &Device,
    ) -> Loaded<(HashMap<String, Tensor>, u64)> {
        let tensors = checkpoint.read(parts, dtype, device, |done, total| {
            self.progress.update(done, Some(total));
            !(self.gone)()
        })?;
        let size = |tensor: &Tensor| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
        let bytes = tensors.values().map(size).sum();
        Ok((tensors, bytes))
    }

    /// The device as numerics have it: a GPU is itself only.
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
    let (dir, file) = config::locate(path)?;
    let loading = Loading { dir, file, options, progress, gone };
    Ok(match BertConfig::load(&loading.dir)? {
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

#[async_trait]
impl Worker for CandleWorker {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let mut outputs = self.engine.execute(run).await?;
        Ok(Box::pin(futures_util::stream::poll_fn(move |context| outputs.poll_recv(context))))
    }

    /// Busy as long as the thread is at a run, also where its stream was dropped already. An engine that has not ended a
    /// step for much longer than its steps take is not well. The memory is that of the
    /// weights; keys and values of a run come on top while it lasts.
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
            busy: self.engine.is_busy().into(),
            warm: Vec::new(),
            vram_bytes: Some(self.weight_bytes),
        })
    }
}
