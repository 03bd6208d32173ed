//! The machine of the comparison.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rbee_core::{HiveId, ModelRef};
use rbee_transport_http::{
    Token,
    client::{Endpoint, HttpHive},
    dial::Tcp,
};
use rbee_transport_ssh::{ConfigOptions, SshHive, deploy::Programs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{Error, Result};

const SCRIPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/ssh_machines/machines.sh");
const NAME: &str = "bee-1";
const ADDRESS: &str = "198.18.1.2";
const PORT: u16 = 7835;

pub(crate) struct Machine {
    directory: PathBuf,
    programs: PathBuf,
    direct: std::sync::Mutex<Option<Child>>,
}

impl Machine {
    /// # Errors
    /// The programs were not built, or the machine cannot be made.
    pub(crate) fn up() -> Result<Self> {
        let directory = std::env::temp_dir().join("rbee-bench-machines");
        let machine =
            Self { programs: directory.join("programs"), directory, direct: Default::default() };
        script(&machine.directory, &["down"])?;
        script(&machine.directory, &["up", "1"])?;
        fs::create_dir(&machine.programs)?;
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release");
        for (name, file) in
            [("rbee-hive", "rbee-hive"), ("llm-worker-rbee", "examples/echo-worker")]
        {
            let file = built.join(file);
            fs::copy(&file, machine.programs.join(name)).map_err(|cause| {
                format!("{}: {cause}; `cargo xtask bench tunnel` builds it", file.display())
            })?;
        }
        Ok(machine)
    }

    /// The hive of this name, by SSH.
    pub(crate) fn hive(&self, name: &str) -> SshHive {
        self.by(name, self.directory.join("ssh_config"))
    }

    fn by(&self, name: &str, config: PathBuf) -> SshHive {
        let programs =
            Programs::new(env!("CARGO_PKG_VERSION")).without_defaults().with_path(&self.programs);
        SshHive::new(HiveId::new(name).expect("it is a name"), NAME.parse().expect("it is a host"))
            .with_config(ConfigOptions::file(config))
            .with_programs(Arc::new(programs))
    }

    /// The same, with a network that delays each direction.
    pub(crate) async fn delayed(&self, name: &str, delay: Duration) -> Result<SshHive> {
        let proxy = TcpListener::bind("127.0.0.1:0").await?;
        let port = proxy.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((near, _)) = proxy.accept().await {
                tokio::spawn(async move {
                    let far = TcpStream::connect((ADDRESS, 22)).await?;
                    near.set_nodelay(true)?;
                    far.set_nodelay(true)?;
                    let ((near_read, near_write), (far_read, far_write)) =
                        (near.into_split(), far.into_split());
                    tokio::spawn(late(near_read, far_write, delay));
                    tokio::spawn(late(far_read, near_write, delay));
                    Ok::<_, std::io::Error>(())
                });
            }
        });
        let text = fs::read_to_string(self.directory.join("ssh_config"))?;
        let text = text.replace(
            &format!("HostName {ADDRESS}"),
            &format!("HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias {ADDRESS}"),
        );
        let path = self.directory.join(format!("ssh_config.{port}"));
        fs::write(&path, text)?;
        Ok(self.by(name, path))
    }

    /// A hive on the machine that is reached over TCP.
    pub(crate) async fn direct(&self) -> Result<HttpHive> {
        let token = Token::random()?;
        let program = self.programs.join("rbee-hive").display().to_string();
        let child = Command::new("sh")
            .arg(SCRIPT)
            .args([
                "run",
                NAME,
                "setpriv",
                "--reuid=7001",
                "--regid=7001",
                "--clear-groups",
                "env",
                "HOME=/home/bee",
            ])
            .arg(program)
            .args([
                "--id",
                "direct",
                "--host",
                ADDRESS,
                "--port",
                &PORT.to_string(),
                "--token-file",
                "-",
            ])
            .args(["--state-dir", "/home/bee/direct"])
            .env("MACHINES_DIR", &self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.directory.join("direct.log"))?)
            .spawn()?;
        let mut child = child;
        if let Some(mut input) = child.stdin.take() {
            std::io::Write::write_all(&mut input, format!("{}\n", token.reveal()).as_bytes())?;
        }
        *self.direct.lock().expect("nothing panics") = Some(child);
        let endpoint = Endpoint::new(Arc::new(Tcp::new(ADDRESS)), PORT, Some(token));
        let mut last: Option<Error> = None;
        for _ in 0..200 {
            match HttpHive::connect(endpoint.clone()).await {
                Ok(hive) => return Ok(hive),
                Err(error) => last = Some(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(last.unwrap_or_else(|| "it was not asked".into()))
    }

    /// A model of this name that the machine can read. `ticks` in the name is a token every 20 ms.
    pub(crate) fn model(&self, name: &str) -> Result<ModelRef> {
        let target = self.directory.join(name);
        if !target.exists() {
            let source =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/bee-tiny");
            fs::create_dir(&target)?;
            for file in fs::read_dir(source)? {
                let file = file?;
                if file.path().is_file() {
                    fs::copy(file.path(), target.join(file.file_name()))?;
                }
            }
        }
        Ok(format!("file:{}", target.display()).parse()?)
    }

    /// A model whose weights have this size.
    pub(crate) fn file(&self, bytes: usize) -> Result<ModelRef> {
        let model = self.model("bee-large")?;
        let mut state = 7_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(bytes)
        .collect();
        fs::write(self.directory.join("bee-large/more.bin"), noise)?;
        Ok(model)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = script(&self.directory, &["down"]);
        if let Some(mut child) = self.direct.get_mut().ok().and_then(Option::take) {
            let _ = child.wait();
        }
    }
}

fn script(directory: &Path, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("sh").arg(SCRIPT).args(arguments).env("MACHINES_DIR", directory).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

/// Carries bytes, each of them this late.
async fn late(
    mut from: impl AsyncReadExt + Unpin + Send + 'static,
    mut to: impl AsyncWriteExt + Unpin + Send + 'static,
    delay: Duration,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    tokio::spawn(async move {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0
            || sender.send((Instant::now() + delay, buffer[..count].to_vec())).await.is_err()
        {
            return;
        }
    }
}
