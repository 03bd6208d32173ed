//! [`EngineFactory`]: another engine, as a child of the worker process that stands for it.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, TcpListener},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use http::Method;
use rbee_core::{
    Error, ErrorKind, HiveId, Result, Worker, WorkerId, WorkerInfo, WorkerSpec,
    hive::{Progress, WorkerFactory},
    models::ModelSource,
    worker::Capabilities,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStderr, Command},
    sync::watch,
    time::timeout,
};

use crate::{
    client::{Endpoint, OpenAiWorker},
    dial::Tcp,
    process::free_port,
    wire::engine::{EngineCommand, Task, Values},
};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How many ports are tried, in case another program takes one between the choice and the use.
const PORT_TRIES: usize = 3;
/// The interval between two checks of an engine that is not ready: the first, and the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// The time limit for one response.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a killed engine may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of the last output is kept, in bytes.
const WORDS: usize = 4 << 10;

/// Starts an engine and makes it a worker. The engine ends when this process ends, for any reason: on Linux the
/// kernel does it; elsewhere the hive does, as long as it runs.
#[derive(Clone, Debug)]
pub struct EngineFactory {
    engine: Arc<EngineCommand>,
    context: Option<u32>,
    running: watch::Sender<Option<Arc<Running>>>,
}

/// A running engine that serves.
#[derive(Debug)]
struct Running {
    stop: watch::Sender<Option<Duration>>,
    ended: watch::Receiver<Option<Error>>,
}

impl EngineFactory {
    /// Starts this engine. `context` limits prompt and answer together, in tokens; `None` uses the engine's own
    /// setting.
    pub fn new(engine: EngineCommand, context: Option<u32>) -> Self {
        Self { engine: Arc::new(engine), context, running: watch::Sender::new(None) }
    }

    /// Waits until an engine that was ready has ended; returns how, with its last output.
    pub async fn died(&self) -> Error {
        let mut running = self.running.subscribe();
        let ready = running.wait_for(Option::is_some).await.ok().and_then(|one| one.clone());
        match ready {
            Some(running) => running.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the engine: asks it to end, and kills it after `grace`.
    pub async fn end(&self, grace: Duration) {
        let running = self.running.borrow().clone();
        if let Some(running) = running {
            running.stop.send_replace(Some(grace));
            running.ended().await;
        }
    }

    fn command(&self, values: &Values<'_>) -> Command {
        let mut words = self.engine.command.0.iter().map(|word| values.fill(word));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        for (name, value) in &self.engine.environment {
            command.env(&**name, values.fill(value));
        }
        command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    fn info(&self, id: WorkerId, hive: &HiveId, spec: &WorkerSpec, context: u32) -> WorkerInfo {
        let EngineCommand { name, tasks, .. } = &*self.engine;
        let mut info = WorkerInfo::new(spec.model.clone(), &**name);
        info.id = id;
        info.hive = hive.clone();
        info.devices = spec.devices.clone();
        info.slots = spec.slots;
        // Other engines cannot resume, and send no heartbeats while they compute a prompt.
        info.capabilities = Capabilities::default();
        info.capabilities.generate = tasks.contains(&Task::Generate);
        info.capabilities.embed = tasks.contains(&Task::Embed);
        info.capabilities.rerank = tasks.contains(&Task::Rerank);
        info.capabilities.context_tokens = Some(context);
        info
    }

    /// The worker that stands for the engine on this port.
    fn worker(&self, port: u16, model: &str, info: WorkerInfo) -> Result<OpenAiWorker> {
        let worker = OpenAiWorker::new(&format!("http://{HOST}:{port}/v1"), info)?;
        let mut worker = worker.with_model(model).with_extended_sampling();
        if self.engine.min_tokens {
            worker = worker.with_min_tokens();
        }
        if self.engine.tools {
            worker = worker.with_tools();
        }
        if self.engine.json_schema {
            worker = worker.with_json_schema();
        }
        Ok(worker)
    }

    /// Starts the engine on this port, and waits until it serves.
    async fn start(&self, values: &Values<'_>) -> Result<Running> {
        let name = &self.engine.name;
        let mut child = spawn(self.command(values)).map_err(|cause| {
            let program = self.engine.command.0.first().map_or("", |word| &**word);
            let message = format!("engine {name}: {program} cannot be started: {cause}");
            Error::new(ErrorKind::Config, message).with_source(cause)
        })?;
        let words = LastWords::default();
        let listening = child.stderr.take().map(|stderr| tokio::spawn(words.clone().hear(stderr)));
        let (stop, stopped) = watch::channel(None);
        let (tell, ended) = watch::channel(None);
        let watched = format!("engine {name}");
        tokio::spawn(async move {
            let how = end(&mut child, stopped).await;
            // Its last output may still be in the pipe. A child of its own may hold the pipe open.
            if let Some(listening) = listening {
                let _ = timeout(Duration::from_millis(200), listening).await;
            }
            let words = words.text();
            let mut message = format!("{watched} ended ({how})");
            if !words.is_empty() {
                message = format!("{message}; its last output was:\n{words}");
            }
            tell.send_replace(Some(Error::new(ErrorKind::WorkerLost, message)));
        });
        let running = Running { stop, ended };
        tokio::select! {
            biased;
            why = running.ended() => Err(why),
            () = self.serves(values.port) => Ok(running),
        }
    }

    /// Waits until the engine reports that it is usable.
    async fn serves(&self, port: u16) {
        // The caller of the load bounds this, and the end of the engine ends it.
        let endpoint = Endpoint::new(Arc::new(Tcp::loopback()), port, None);
        let mut delay = LOOK.0;
        loop {
            let asked = endpoint.open(Method::GET, &self.engine.health, None::<&()>, ANSWER);
            if asked.await.is_ok() {
                return;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LOOK.1);
        }
    }
}

impl Running {
    async fn ended(&self) -> Error {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| Error::new(ErrorKind::WorkerLost, "the engine ended"))
    }
}

#[async_trait]
impl WorkerFactory for EngineFactory {
    async fn load(
        &self,
        id: WorkerId,
        hive: &HiveId,
        spec: &WorkerSpec,
        progress: Progress,
    ) -> Result<Arc<dyn Worker>> {
        self.engine.validate()?;
        let path = path_of(spec)?;
        let context = self.context.unwrap_or(self.engine.context);
        let device = match spec.devices.first() {
            None | Some(0) => "cpu".to_owned(),
            Some(gpu) => (gpu - 1).to_string(),
        };
        progress.update(0, None);
        for tries in 1.. {
            let port = free_port(HOST)?;
            let values =
                Values { model_path: path, port, device: &device, slots: spec.slots, context };
            let running = match self.start(&values).await {
                Ok(running) => running,
                // Another program has taken the port.
                Err(_) if tries < PORT_TRIES && TcpListener::bind((HOST, port)).is_err() => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let model = values.fill(&self.engine.model);
            let info = self.info(id, hive, spec, context);
            let worker = self.worker(port, &model, info)?;
            self.running.send_replace(Some(Arc::new(running)));
            return Ok(Arc::new(worker));
        }
        Err(Error::new(ErrorKind::Internal, "no port was tried"))
    }
}

fn path_of(spec: &WorkerSpec) -> Result<&str> {
    let path = match (spec.path.as_deref(), spec.model.source()) {
        (Some(path), _) | (None, ModelSource::File(path)) => path.to_str(),
        _ => None,
    };
    path.ok_or_else(|| {
        let message = format!("the path of model {} on this machine is not given", spec.model);
        Error::new(ErrorKind::Unsupported, message)
    })
}

/// Waits until the engine ends, and stops it on request.
async fn end(child: &mut Child, mut stopped: watch::Receiver<Option<Duration>>) -> String {
    let grace = tokio::select! {
        status = child.wait() => return how(status),
        grace = stopped.wait_for(Option::is_some) => grace.ok().and_then(|grace| *grace).unwrap_or_default(),
    };
    if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
    {
        // An error means that it is gone.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if let Ok(status) = timeout(grace, child.wait()).await {
        return how(status);
    }
    tracing::warn!("the engine did not end within {grace:?}; killed");
    let _ = child.start_kill();
    match timeout(KILL_TIMEOUT, child.wait()).await {
        Ok(status) => how(status),
        Err(_) => "it does not end although it was killed".to_owned(),
    }
}

fn how(status: io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// Starts the engine so that it ends with this process.
///
/// The kernel ties a child to the thread that started it, not to the process. Threads of a runtime come and go, so
/// one thread is kept for this.
#[cfg(target_os = "linux")]
fn spawn(mut command: Command) -> io::Result<Child> {
    use std::{sync::mpsc, thread};

    let parent = rustix::process::getpid();
    let tie = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // The parent may have ended before the tie was made.
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(io::Error::other("the process that started this one is gone")),
        }
    };
    #[expect(unsafe_code, reason = "code between fork and exec must be checked by hand")]
    // SAFETY: the closure makes two system calls and touches no memory, locks or allocator if they succeed; if one
    // fails, the child ends without running anything else.
    unsafe {
        command.pre_exec(tie);
    }
    let runtime = tokio::runtime::Handle::current();
    let (tell, told) = mpsc::sync_channel(1);
    let keep = move || {
        let entered = runtime.enter();
        let spawned = command.spawn();
        drop(entered);
        let parked = spawned.is_ok();
        if tell.send(spawned).is_ok() && parked {
            loop {
                thread::park();
            }
        }
    };
    thread::Builder::new().name("engine-parent".into()).spawn(keep)?;
    told.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that starts engines is gone")))
}

#[cfg(not(target_os = "linux"))]
fn spawn(mut command: Command) -> io::Result<Child> {
    command.spawn()
}

/// The last output of a process.
#[derive(Clone, Debug, Default)]
struct LastWords(Arc<Mutex<VecDeque<u8>>>);

impl LastWords {
    /// Reads until the end, and copies everything to the standard error of this process.
    async fn hear(self, mut from: ChildStderr) {
        let mut out = tokio::io::stderr();
        let mut buffer = [0; 8 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            {
                let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                words.extend(&buffer[..count]);
                let surplus = words.len().saturating_sub(WORDS);
                words.drain(..surplus);
            }
            // If copying fails, it is still read: an engine must not block on its own output.
            let _ = out.write_all(&buffer[..count]).await;
        }
        let _ = out.flush().await;
    }

    fn text(&self) -> String {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(words.make_contiguous()).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_takes_jobs_with_what_its_configuration_says_that_it_knows() {
        type Able = fn(&Capabilities) -> bool;
        let fields: [(&str, Able); 3] = [
            ("min_tokens", |able| able.min_tokens),
            ("tools", |able| able.answer.tools.is_some()),
            ("json_schema", |able| able.grammar),
        ];
        for (field, able) in fields {
            for (line, takes) in [
                (String::new(), false),
                (format!("\"{field}\": false,"), false),
                (format!("\"{field}\": true,"), true),
            ] {
                let engine =
                    format!(r#"{{"name": "e", "models": ["*"], {line} "command": "e {{port}}"}}"#);
                let factory = EngineFactory::new(serde_json::from_str(&engine).unwrap(), None);
                let (hive, spec) = (HiveId::local(), WorkerSpec::new("m".parse().unwrap()));
                let info = factory.info(WorkerId::random(), &hive, &spec, 512);
                let worker = factory.worker(1, "m", info).unwrap();
                assert_eq!(able(&worker.info().capabilities), takes, "{engine}");
                // A worker process of an earlier version does not know the field.
                let sent = serde_json::to_string(&*factory.engine).unwrap();
                assert_eq!(sent.contains(field), takes, "{sent}");
            }
        }
    }
}
