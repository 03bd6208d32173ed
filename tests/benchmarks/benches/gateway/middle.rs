//! The gateway between the clients and the workers.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rbee_core::{HiveId, Queen, Settings, SqliteRegistry, Worker};
use rbee_transport_http::{
    client::{Endpoint, HttpWorker},
    dial::Tcp,
    server,
};

use crate::{
    Result,
    cpu::{self, Process},
    upstream::TOKEN,
};

/// The time limit for a process to start listening.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A process of this benchmark; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    ports: Vec<u16>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub(crate) fn upstream() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::start(command.arg("upstream"))
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
}

/// One path to a worker.
pub(crate) struct Middle {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    running: Option<Running>,
    _files: Option<tempfile::TempDir>,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Middle {
    pub(crate) fn process(&self) -> Option<Process> {
        self.running.as_ref().map(|running| Process(running.child.id()))
    }

    pub(crate) fn direct(workers: &Running) -> Self {
        Self { name: "direct", address: loopback(workers.ports[2]), running: None, _files: None }
    }

    pub(crate) fn queen(workers: &Running) -> Result<Self> {
        let exe = std::env::current_exe()?;
        let mut command = cpu::alone(exe.as_os_str());
        command.arg("queen").args(workers.ports[..2].iter().map(u16::to_string));
        let running = Running::start(&mut command)?;
        Ok(Self {
            name: "queen",
            address: loopback(running.ports[0]),
            running: Some(running),
            _files: None,
        })
    }

    /// nginx with one worker process, keep-alive connections on both sides, and no buffering.
    pub(crate) fn nginx(workers: &Running) -> Result<Option<Self>> {
        if Command::new("nginx").arg("-v").output().is_err() {
            println!("nginx is not installed: its lines are missing");
            return Ok(None);
        }
        let files = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = files.path().join("nginx.conf");
        let (upstream, at) = (workers.ports[2], files.path().display());
        let mut file = std::fs::File::create(&configuration)?;
        write!(
            file,
            "daemon off; master_process on; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
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
        let mut command = cpu::alone("nginx".as_ref());
        command.arg("-c").arg(&configuration).stdin(Stdio::null());
        let running = Running { child: command.spawn()?, ports: vec![port] };
        let began = Instant::now();
        while std::net::TcpStream::connect(loopback(port)).is_err() {
            if began.elapsed() > TIMEOUT {
                return Err("nginx does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(Self {
            name: "nginx",
            address: loopback(port),
            running: Some(running),
            _files: Some(files),
        }))
    }
}

/// A queen with a database file, in front of the two workers on these ports. Serves until it is killed.
pub(crate) fn serve_queen(fast: &str, paced: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let files = tempfile::tempdir()?;
        let settings = Settings { queue_capacity: 100_000, ..Settings::default() };
        let mut queen = Queen::builder()
            .registry(SqliteRegistry::open(files.path().join("queen.db"))?)
            .settings(settings);
        for port in [fast, paced] {
            let endpoint =
                Endpoint::new(Arc::new(Tcp::loopback()), port.parse()?, Some(TOKEN.parse()?));
            let worker = HttpWorker::connect(endpoint).await?;
            assert_eq!(worker.info().hive, HiveId::local());
            queen = queen.worker(worker);
        }
        let router = server::queen(queen.build().await?);
        let listener = server::Server::bind("127.0.0.1:0".parse()?).await?;
        println!("{}", listener.address().port());
        std::io::stdout().flush()?;
        listener.run(router, Default::default(), Duration::ZERO).await;
        Ok(())
    })
}
