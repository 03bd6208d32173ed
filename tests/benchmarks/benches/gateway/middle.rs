//! The gateways between the clients and the workers: each a process.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Result,
    cpu::{self, Process},
    scenes::Scene,
    upstream::{HIVE, TOKEN},
};

/// The time limit for a process to start listening.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A process of this benchmark; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) ports: Vec<u16>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// The workers; the paced ones take this long for a token.
    pub(crate) fn upstream(pace: Duration) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::start(command.arg("upstream").arg(pace.as_millis().to_string()))
    }

    /// Starts a process that prints the ports it listens on.
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("the output is piped")?;
        BufReader::new(output).read_line(&mut line)?;
        let ports = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { child, ports })
    }

    /// Starts a process that will listen on this port, and waits for that.
    fn start_on(command: &mut Command, port: u16) -> Result<Self> {
        let running = Self { child: command.stdin(Stdio::null()).spawn()?, ports: vec![port] };
        let began = Instant::now();
        while std::net::TcpStream::connect(loopback(port)).is_err() {
            if began.elapsed() > TIMEOUT {
                return Err(format!("{command:?} does not listen").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }
}

/// A kind of gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    /// A second nginx: the control.
    NginxAgain,
    HyperProxy,
    /// See [`crate::minimal`].
    Minimal,
    /// A queen in a program of its own, as an application embeds it: without logs and metrics.
    Queen,
    /// The same, with the worker over HTTP with server-sent events.
    QueenHttp,
    /// The program `queen-rbee`, with logs in JSON and metrics.
    Daemon,
    /// The queen of another build of this benchmark.
    OtherQueen(&'static str),
    VllmRouter,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Nginx,
        Self::NginxAgain,
        Self::HyperProxy,
        Self::Minimal,
        Self::Queen,
        Self::QueenHttp,
        Self::Daemon,
        Self::VllmRouter,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::NginxAgain => "nginx again",
            Self::HyperProxy => "hyper proxy",
            Self::Minimal => "minimal durable",
            Self::Queen => "queen",
            Self::QueenHttp => "queen over HTTP",
            Self::Daemon => "queen-rbee",
            Self::OtherQueen(path) => path,
            Self::VllmRouter => "vllm-router",
        }
    }

    /// True if it can do this.
    pub(crate) fn plays(self, scene: &Scene) -> bool {
        match self {
            Self::Minimal => !scene.stream,
            _ => true,
        }
    }
}

/// A gateway, running.
pub(crate) struct Middle {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) running: Running,
    _files: Option<tempfile::TempDir>,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Middle {
    pub(crate) fn process(&self) -> Process {
        Process(self.running.child.id())
    }

    /// Starts it behind `wrapper`, if there is one: a program and its arguments. `None` if it is not installed.
    pub(crate) fn start(kind: Kind, workers: &Running, wrapper: &[String]) -> Result<Option<Self>> {
        let [fast, paced, openai, hive] = workers.ports[..] else {
            return Err("the workers have four ports".into());
        };
        let exe = std::env::current_exe()?;
        let own = |program: &Path, arguments: &[&str], ports: &[u16]| {
            let mut command = command(wrapper, program);
            command.args(arguments).args(ports.iter().map(u16::to_string));
            Self::own(kind, &mut command).map(Some)
        };
        match kind {
            Kind::Nginx | Kind::NginxAgain => Self::nginx(kind, openai, wrapper),
            Kind::HyperProxy => own(&exe, &["proxy"], &[openai]),
            Kind::Minimal => own(&exe, &["minimal"], &[fast]),
            Kind::Queen => own(&exe, &["queen"], &[fast, paced]),
            Kind::QueenHttp => own(&exe, &["queen", "http"], &[fast, paced]),
            Kind::OtherQueen(path) => own(Path::new(path), &["queen"], &[fast, paced]),
            Kind::Daemon => Self::daemon(hive, wrapper),
            Kind::VllmRouter => Self::vllm_router(openai, wrapper),
        }
    }

    fn own(kind: Kind, command: &mut Command) -> Result<Self> {
        let running = Running::start(command)?;
        let port = *running.ports.first().ok_or("it did not say where it listens")?;
        Ok(Self { kind, address: loopback(port), running, _files: None })
    }

    /// The daemon, with the hive on this port.
    fn daemon(hive: u16, wrapper: &[String]) -> Result<Option<Self>> {
        let Some(program) = std::env::var_os("QUEEN_RBEE") else {
            println!("QUEEN_RBEE names no program: the lines of the daemon are missing");
            return Ok(None);
        };
        let files = tempfile::tempdir()?;
        let (port, at) = (free_port()?, files.path());
        let token = at.join("hive.token");
        std::fs::write(&token, TOKEN)?;
        std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600))?;
        let configuration = at.join("queen.yaml");
        std::fs::write(
            &configuration,
            format!(
                "listen_port: {port}\ndata_dir: data\nlog_format: json\nqueue_capacity: 100000\n\
                 hives:\n  - {{id: {HIVE}, url: \"http://127.0.0.1:{hive}\", token_file: hive.token}}\n"
            ),
        )?;
        let log = std::fs::File::create(at.join("log"))?;
        let mut command = command(wrapper, Path::new(&program));
        command.arg("--config").arg(&configuration).stderr(log);
        let running = Running::start_on(&mut command, port)?;
        Ok(Some(Self { kind: Kind::Daemon, address: loopback(port), running, _files: Some(files) }))
    }

    /// nginx with one process, keep-alive connections on both sides, and no buffering.
    fn nginx(kind: Kind, upstream: u16, wrapper: &[String]) -> Result<Option<Self>> {
        if Command::new("nginx").arg("-v").output().is_err() {
            println!("nginx is not installed: its lines are missing");
            return Ok(None);
        }
        let files = tempfile::tempdir()?;
        let port = free_port()?;
        let configuration = files.path().join("nginx.conf");
        let at = files.path().display();
        let mut file = std::fs::File::create(&configuration)?;
        write!(
            file,
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
             events {{ worker_connections 4096; }}
             http {{
                 access_log off; keepalive_requests 1000000; tcp_nodelay on;
                 client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
                 uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                 upstream worker {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000; }}
                 server {{
                     listen 127.0.0.1:{port};
                     location / {{
                         proxy_pass http://worker; proxy_http_version 1.1; proxy_set_header Connection \"\";
                         proxy_buffering off; proxy_request_buffering off;
                     }}
                 }}
             }}"
        )?;
        let mut command = command(wrapper, Path::new("nginx"));
        command.arg("-c").arg(&configuration);
        let running = Running::start_on(&mut command, port)?;
        Ok(Some(Self { kind, address: loopback(port), running, _files: Some(files) }))
    }

    /// The router of the vLLM project, as its Python package installs it.
    fn vllm_router(upstream: u16, wrapper: &[String]) -> Result<Option<Self>> {
        let Some(program) = std::env::var_os("VLLM_ROUTER") else {
            println!("vllm-router is not installed: its lines are missing");
            return Ok(None);
        };
        let port = free_port()?;
        let mut command = command(wrapper, Path::new(&program));
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--worker-urls", &format!("http://127.0.0.1:{upstream}")]);
        command.args(["--policy", "round_robin", "--log-level", "error"]);
        command.args([
            "--prometheus-host",
            "127.0.0.1",
            "--prometheus-port",
            &free_port()?.to_string(),
        ]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start_on(&mut command, port)?;
        Ok(Some(Self { kind: Kind::VllmRouter, address: loopback(port), running, _files: None }))
    }
}

/// The command for this program, behind a wrapper if there is one, else on a processor of its own.
fn command(wrapper: &[String], program: &Path) -> Command {
    let Some((first, rest)) = wrapper.split_first() else { return cpu::alone(program.as_os_str()) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}
