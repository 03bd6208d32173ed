//! Python environments with the clients in them. Each is created once and kept with the build; a changed list of
//! packages makes another one.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::Program;

/// The time limit of an installation.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Set to `1` if the clients cannot be installed, and the tests must pass without them.
const SKIP: &str = "RBEE_SKIP_CLIENTS";

/// Returns true if the clients are to be left out, and prints a warning then.
pub fn are_clients_skipped() -> bool {
    let skip = std::env::var(SKIP).is_ok_and(|value| value == "1");
    if skip {
        eprintln!("{SKIP}=1: THE CLIENTS ARE NOT TESTED");
    }
    skip
}

/// A virtual environment of Python with packages.
#[derive(Clone, Debug)]
pub struct Environment {
    directory: PathBuf,
}

impl Environment {
    /// The environment with these packages, each with its version, and those of npm if there are any. It is created if
    /// it does not exist.
    ///
    /// # Panics
    /// If it cannot be created: without Python, or without the package registries. `RBEE_SKIP_CLIENTS=1` lets the tests
    /// pass anyway.
    pub async fn prepare(cache: &Path, name: &str, python: &[&str], npm: &[&str]) -> Self {
        let mut hasher = DefaultHasher::new();
        (python, npm).hash(&mut hasher);
        let directory = cache.join("clients").join(format!("{name}-{:016x}", hasher.finish()));
        fs::create_dir_all(&directory).unwrap();
        let lock = fs::File::create(directory.join("lock")).unwrap();
        // Another test, or another run, may be creating it.
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
        let _lock = lock.await.unwrap().unwrap();
        let environment = Self { directory };
        let done = environment.directory.join("done");
        if !done.exists() {
            environment.install(python, npm).await;
            fs::write(done, []).unwrap();
        }
        environment
    }

    async fn install(&self, python: &[&str], npm: &[&str]) {
        let hint = format!("the clients cannot be installed; {SKIP}=1 leaves them out");
        let run = async |program: Program| {
            let output = program.output(TIMEOUT).await;
            assert!(output.success, "{hint}:\n{}", output.text);
        };
        run(Program::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(self.directory.join("venv")))
        .await;
        run(self
            .python()
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(python))
        .await;
        if !npm.is_empty() {
            let install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
            run(self.program("npm").args(install).arg(&self.directory).args(npm)).await;
        }
    }

    /// A program of this environment, with the environment in its path.
    pub fn program(&self, name: &str) -> Program {
        let programs = self.directory.join("venv").join("bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(programs.clone()).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(paths).unwrap();
        Program::new(programs.join(name)).env("PATH", path)
    }

    /// Its Python.
    pub fn python(&self) -> Program {
        self.program("python").env("PYTHONDONTWRITEBYTECODE", "1")
    }

    /// The directory of npm's packages; a script in it finds them.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
