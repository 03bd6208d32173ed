//! Starts a worker process, and waits until it is usable.

use std::{
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rbee_core::{
    Error, ErrorKind, HiveId, ModelRef, Result, Worker, WorkerId, WorkerSpec,
    hive::{Device, DeviceKind, Devices, EngineSupport, Progress, WorkerFactory},
    models::{ModelOnDisk, WorkerLimits},
};
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    Config, PROGRAM,
    measured::Measured,
    table::{Process, Record, Table},
};
use crate::{
    client,
    dial::Sockets,
    process::{Running, free_port},
    program::Program,
    token::Token,
    wire::{
        self, ProgressBody,
        worker::{EXIT_PORT_TAKEN, Health, Phase, Start},
    },
};

/// How many ports are tried, in case another program takes one between the choice and the use.
const PORT_TRIES: usize = 5;
/// The interval between two checks of a worker that is not ready: the first, and the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// The time limit for one response.
const ANSWER: Duration = Duration::from_secs(5);
/// The time limit for writing the order, which fits into a pipe.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Makes workers that are processes of their own.
#[derive(Debug)]
pub(super) struct ProcessFactory {
    config: Config,
    table: Arc<Table>,
    devices: Devices,
    /// The number of the next socket.
    next_socket: AtomicU16,
}

/// A process that is not ready. It is killed if its load is abandoned.
struct Loading {
    process: Process,
    ready: bool,
}

impl Drop for Loading {
    fn drop(&mut self) {
        if !self.ready {
            self.process.running.kill();
        }
    }
}

/// Why a process did not become a worker.
enum Failure {
    /// Another program had its port.
    PortTaken,
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

#[async_trait]
impl WorkerFactory for ProcessFactory {
    async fn inspect(&self, model: &ModelRef, path: Option<&Path>) -> Result<ModelOnDisk> {
        let on_disk = ModelOnDisk::read(model, path).await?;
        if let Some(info) = on_disk.info.as_deref() {
            EngineSupport::check(&engines(&self.config), model, &info.into())?;
        }
        Ok(on_disk)
    }

    fn engines(&self) -> Option<Vec<EngineSupport>> {
        Some(engines(&self.config))
    }

    fn limits(&self, model: &ModelRef) -> WorkerLimits {
        let engines = engines(&self.config);
        engines
            .iter()
            .find(|engine| engine.is_for(model))
            .map_or_else(Default::default, |engine| engine.limits)
    }

    async fn load(
        &self,
        id: WorkerId,
        _: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        for _ in 0..PORT_TRIES {
            // A worker that a previous hive started and that still loads is already in the table.
            let process = match self.table.get(id) {
                Some(process) => process,
                None => self.spawn(id, spec).await?,
            };
            let mut loading = Loading { process, ready: false };
            match self.ready(&loading.process, &progress).await {
                Ok(worker) => {
                    loading.ready = true;
                    let number = loading.process.record.process.number();
                    return Ok(Arc::new(Measured::new(worker, number, self.devices.clone())));
                }
                Err(failure) => {
                    loading.process.running.end(Duration::ZERO).await;
                    self.table.forget(&loading.process);
                    if let Failure::Other(error) = failure {
                        return Err(error);
                    }
                }
            }
        }
        let message =
            format!("worker {id} found {PORT_TRIES} ports taken that were free a moment before");
        Err(Error::new(ErrorKind::WorkerLost, message))
    }
}

/// The engines, what they read, and their limits; rbee's own worker is the last.
///
/// The order to start rbee's own worker may set fewer slots. Another engine reserves its whole context when it starts.
fn engines(config: &Config) -> Vec<EngineSupport> {
    let others = config.engines.iter().map(|engine| {
        let context = Some(config.context.unwrap_or(engine.context));
        engine.support().with_limits(WorkerLimits { context, ..WorkerLimits::default() })
    });
    // What memory another program takes is not known.
    let cache = config.support.is_none().then_some(config.cache);
    let own = config.support.clone().unwrap_or_else(EngineSupport::candle);
    let limits = WorkerLimits { slots: Some(OWN_SLOTS), context: config.context, cache };
    others.chain([own.with_limits(limits)]).collect()
}

/// The most concurrent runs of rbee's own worker.
const OWN_SLOTS: u32 = 8;

impl ProcessFactory {
    pub(super) fn new(config: Config, table: Arc<Table>, devices: Devices) -> Self {
        Self { config, table, devices, next_socket: AtomicU16::new(1) }
    }

    /// The number of a socket that no worker has. It is given to no other worker before all other numbers.
    fn free_socket(&self) -> Result<u16> {
        let sockets = Sockets::new(self.config.state_dir.directory());
        let next = || self.next_socket.fetch_add(1, Ordering::Relaxed);
        let is_free = |port: &u16| *port > 0 && !sockets.path(*port).exists();
        (0..=u16::MAX).map(|_| next()).find(is_free).ok_or_else(|| {
            let message = format!("{} sockets are in use; stop some workers", u16::MAX);
            Error::new(ErrorKind::Config, message)
        })
    }

    /// Starts a process and writes its order to it.
    async fn spawn(&self, id: WorkerId, spec: &WorkerSpec) -> Result<Process> {
        let config = &self.config;
        let Confined { visible, devices } = Confined::to(&spec.devices, &self.devices.read().await);
        let start = Start {
            id,
            hive: config.id.clone(),
            spec: spec.clone(),
            devices,
            host: config.bind,
            port: match config.has_sockets {
                true => self.free_socket()?,
                false => free_port(config.bind)?,
            },
            sockets: config.has_sockets.then(|| config.state_dir.directory().to_owned()),
            tls: config.worker_tls(),
            token: Token::random()?,
            lease_ms: u64::try_from(config.lease.as_millis()).unwrap_or(u64::MAX),
            engine: config.engines.iter().find(|engine| engine.serves(&spec.model)).cloned(),
            threads: config.threads,
            context: config.context,
            cache: config.cache,
            file_roots: rbee_core::models::confined_directories(),
            log: config.log.clone(),
        };
        let program = self.program()?;
        let log = self.table.log(id);
        let failed = |what: &str, cause: std::io::Error| {
            let message =
                format!("{what} {} for worker {id} failed: {cause}", program.path.display());
            Error::new(ErrorKind::Config, message).with_source(cause)
        };
        let output = log.create().map_err(|cause| failed("the log of", cause))?;
        let also = output.try_clone().map_err(|cause| failed("the log of", cause))?;
        let mut command = Command::new(&program.path);
        // Only what helps a reader of `ps`. The full id is a secret between hive and worker: a process that responds
        // with it on the worker's port has read the order.
        let short: String = id.to_string().chars().take(8).collect();
        command.args(&program.arguments).args(&config.arguments);
        command.args(["--worker", &short, "--model", spec.model.as_str()]);
        command.stdin(Stdio::piped()).stdout(output).stderr(also).process_group(0);
        command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID").env("CUDA_VISIBLE_DEVICES", visible);
        // The settings and secrets of this process do not go to the worker.
        let ours = |name: &std::ffi::OsStr| name.to_str().is_some_and(|n| n.starts_with("RBEE_"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|cause| failed("starting", cause))?;
        let stdin = child.stdin.take();
        let running = Running::child(child).map_err(|cause| failed("starting", cause))?;
        let record = Record {
            id,
            process: running.identity().clone(),
            host: start.host,
            port: start.port,
            sockets: start.sockets.clone(),
            tls: start.tls.clone(),
            token: start.token.clone(),
            spec: spec.clone(),
        };
        let process =
            Process { endpoint: record.endpoint(), record, running, log, links: Vec::new() };
        let loading = Loading { process, ready: false };
        // Recorded before it gets its order: if this process ends in between, the child sees the end of its input and
        // ends, or is found again.
        self.table.state_dir().write(&id.to_string(), &loading.process.record)?;
        self.table.insert(loading.process.clone())?;
        let mut order = serde_json::to_vec(&start).map_err(|cause| {
            Error::new(ErrorKind::Internal, format!("the order cannot be written: {cause}"))
        })?;
        order.push(b'\n');
        if let Some(mut stdin) = stdin {
            // If it does not read, it has ended or will not respond; either error says more than this one would.
            let handed = tokio::time::timeout(HAND_OVER, stdin.write_all(&order)).await;
            if !matches!(handed, Ok(Ok(()))) {
                tracing::debug!(worker = %id, "the worker did not read its order");
            }
        }
        Ok(loading.keep())
    }

    fn program(&self) -> Result<Program> {
        if let Some(program) = &self.config.program {
            return Ok(program.clone());
        }
        Program::beside(PROGRAM).map_err(|cause| {
            let message =
                "this program does not know its own path; set the path of llm-worker-rbee";
            Error::new(ErrorKind::Config, message).with_source(cause)
        })
    }

    /// Waits until the process is a usable worker.
    async fn ready(
        &self,
        process: &Process,
        progress: &Progress,
    ) -> Result<Arc<dyn Worker>, Failure> {
        let became = tokio::select! {
            biased;
            ended = process.running.ended() => {
                if ended.code == Some(i32::from(EXIT_PORT_TAKEN)) {
                    return Err(Failure::PortTaken);
                }
                let lost = process.lost().await;
                return Err(match self.table.is_stopping(process.record.id) {
                    true => Error::new(ErrorKind::Cancelled, lost.message().to_owned()).into(),
                    false => lost.into(),
                });
            }
            became = self.answers(process, progress) => became?,
        };
        Ok(became)
    }

    async fn answers(&self, process: &Process, progress: &Progress) -> Result<Arc<dyn Worker>> {
        let (id, spec) = (process.record.id, &process.record.spec);
        let Config { answer_limit, load_limit, .. } = self.config;
        let began = Instant::now();
        let (mut heard, mut delay, mut told) = (began, LOOK.0, ProgressBody::default());
        loop {
            match process.endpoint.get::<Health>(wire::HEALTH, ANSWER).await {
                // Another program has the port; the worker will notice, and end.
                Ok(health) if health.worker != id => {}
                Ok(Health { phase: Phase::Failed, error, .. }) => {
                    return Err(error.map_or_else(
                        || {
                            Error::new(
                                ErrorKind::WorkerFault,
                                "it failed to load, and gave no reason",
                            )
                        },
                        Error::from,
                    ));
                }
                Ok(Health { phase: Phase::Ready, info: Some(info), links, .. }) => {
                    if (info.id, &info.hive, &info.model) != (id, &self.config.id, &spec.model) {
                        let message = format!(
                            "worker {id} of hive {} with {} describes itself as worker {} of hive {} with {}",
                            self.config.id, spec.model, info.id, info.hive, info.model
                        );
                        return Err(Error::new(ErrorKind::WorkerFault, message));
                    }
                    let worker = client::worker(process.endpoint.clone(), Arc::new(info), &links);
                    self.table.offers(id, links);
                    return Ok(worker);
                }
                Ok(health) => {
                    heard = Instant::now();
                    if health.progress != told {
                        told = health.progress;
                        progress.update(told.done, told.total);
                    }
                }
                Err(_) => {}
            }
            let late = |what: &str, limit: Duration| {
                let message = format!("worker {id} {what} within {limit:?}");
                Err(Error::new(ErrorKind::SpawnTimeout, message))
            };
            if heard.elapsed() >= answer_limit {
                return late("did not answer", answer_limit);
            }
            if began.elapsed() >= load_limit {
                return late("did not load its model", load_limit);
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LOOK.1);
        }
    }
}

impl Loading {
    /// Keeps the process: dropping this no longer kills it.
    fn keep(mut self) -> Process {
        self.ready = true;
        self.process.clone()
    }
}

/// The devices that a worker sees.
#[derive(Debug, PartialEq, Eq)]
struct Confined {
    /// The value of `CUDA_VISIBLE_DEVICES`.
    visible: String,
    /// The worker's devices, in its own numbering.
    devices: Vec<u32>,
}

impl Confined {
    fn to(wanted: &[u32], all: &[Device]) -> Self {
        let is_cuda = |index: u32| {
            all.iter().any(|device| device.index == index && device.kind == DeviceKind::Cuda)
        };
        let mut ordinals = Vec::new();
        let mut devices = Vec::new();
        for index in wanted.iter().copied() {
            if is_cuda(index) && index > 0 {
                // Device n + 1 is number n for CUDA, and in the worker the nth of its visible devices.
                ordinals.push((index - 1).to_string());
                devices.push(u32::try_from(ordinals.len()).unwrap_or(u32::MAX));
            } else {
                devices.push(index);
            }
        }
        Self { visible: ordinals.join(","), devices }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_sees_the_gpus_it_was_given_and_no_others() {
        let device = |index, kind| Device {
            index,
            kind,
            name: String::new(),
            memory_total: 1,
            memory_free: 1,
        };
        let mut all = vec![device(0, DeviceKind::Cpu)];
        all.extend((1..=4).map(|index| device(index, DeviceKind::Cuda)));
        let confined = |wanted: &[u32]| {
            let Confined { visible, devices } = Confined::to(wanted, &all);
            (visible, devices)
        };
        assert_eq!(confined(&[0]), (String::new(), vec![0]));
        assert_eq!(confined(&[]), (String::new(), vec![]));
        assert_eq!(confined(&[3]), ("2".to_owned(), vec![1]));
        assert_eq!(confined(&[4, 2]), ("3,1".to_owned(), vec![1, 2]));
        assert_eq!(confined(&[0, 3]), ("2".to_owned(), vec![0, 1]));
    }
}
