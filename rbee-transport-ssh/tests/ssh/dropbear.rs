//! A server of another kind: [`Dropbear`].

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(20);

/// A running server. It lets in whom the files of the user let in, so the tests have no key for it.
pub(crate) struct Dropbear {
    child: Child,
    pub(crate) port: u16,
}

impl Dropbear {
    pub(crate) fn start(directory: &Path) -> Self {
        const INSTALL: &str = "install it (Debian: apt-get install dropbear-bin)";
        let key = directory.join("dropbear_key");
        let made = Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f", key.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap_or_else(|cause| panic!("dropbearkey cannot be run ({cause}); {INSTALL}"));
        assert!(made.success());
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Command::new("/usr/sbin/dropbear")
                .args(["-F", "-E", "-s", "-r", key.to_str().unwrap()])
                .args(["-p", &format!("127.0.0.1:{port}"), "-P", "/dev/null"])
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|cause| panic!("dropbear cannot be run ({cause}); {INSTALL}"));
            // It says nothing when it listens.
            let begin = Instant::now();
            while begin.elapsed() < LIMIT && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, port };
                }
                thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("dropbear does not start");
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
