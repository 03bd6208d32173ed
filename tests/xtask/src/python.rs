//! The Python package: its wheel, and its tests with every Python that is there.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::steps::{Failure, root};

/// The oldest version that the package supports.
const OLDEST: (u32, u32) = (3, 10);
/// The newest version that is looked for by its name.
const NEWEST_MINOR: u32 = 14;
/// The most bytes of the wheel.
const MOST_BYTES: u64 = 33 << 20;
/// What the tests need besides the package, and what only those of one version need.
const PACKAGES: [&str; 3] = ["pytest", "uvloop", "anyio"];
const PACKAGES_OF_NEWEST: [&str; 9] = [
    "mypy",
    "pyright[nodejs]",
    "typing_extensions",
    "fastapi",
    "uvicorn",
    "nbclient",
    "ipykernel",
    "tqdm",
    "types-tqdm",
];

/// Builds the wheel as `pip` does, and runs the tests of the package in a fresh environment of each Python.
pub(crate) fn test() -> Result<(), Failure> {
    if env::var_os("RBEE_SKIP_PYTHON").is_some_and(|value| value == "1") {
        println!("!!! NOT TESTED: the Python package (RBEE_SKIP_PYTHON=1)");
        return Ok(());
    }
    let pythons = pythons();
    let Some((newest, python)) = pythons.last_key_value() else {
        return Err(format!(
            "there is no Python {}.{} or newer with venv; install one (apt install python3-venv), or leave its tests \
             out with RBEE_SKIP_PYTHON=1",
            OLDEST.0, OLDEST.1
        ));
    };
    let directory = root().join("target/python");
    let wheel = build(python, &directory)?;
    for (version, python) in &pythons {
        println!("\nPython {}.{}: {}", version.0, version.1, python.display());
        check(python, version == newest, &directory, &wheel, *version)?;
    }
    let untested = (OLDEST.1..=NEWEST_MINOR).filter(|minor| !pythons.contains_key(&(3, *minor)));
    for minor in untested {
        println!("!!! NOT TESTED: Python 3.{minor} is not installed");
    }
    Ok(())
}

/// The Pythons of this machine, by their versions. Each has been run.
fn pythons() -> BTreeMap<(u32, u32), PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = env::split_paths(&path)
        .flat_map(|directory| {
            let names = (OLDEST.1..=NEWEST_MINOR).map(|minor| format!("python3.{minor}"));
            names.chain(["python3".to_owned()]).map(move |name| directory.join(name))
        })
        .collect();
    let home = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    let versions = home.and_then(|home| fs::read_dir(home.join("versions")).ok());
    found.extend(versions.into_iter().flatten().flatten().map(|one| one.path().join("bin/python")));
    let mut pythons = BTreeMap::new();
    for python in found.into_iter().filter(|python| python.is_file()) {
        if let Some(version) = version(&python)
            && version >= OLDEST
        {
            pythons.entry(version).or_insert(python);
        }
    }
    pythons
}

/// The version, if it is CPython with the module that makes environments.
fn version(python: &Path) -> Option<(u32, u32)> {
    let script = "import ensurepip, venv, sys; assert sys.implementation.name == 'cpython'; print(*sys.version_info[:2])";
    let output = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn build(python: &Path, directory: &Path) -> Result<PathBuf, Failure> {
    let wheels = directory.join("wheels");
    // One of an earlier version must not be found.
    let _ = fs::remove_dir_all(&wheels);
    let environment = directory.join("build");
    let own = made(python, &environment)?;
    run(Command::new(own)
        .current_dir(root())
        .args(["-m", "pip", "wheel", "--no-deps", "--quiet"])
        .args(["--wheel-dir".as_ref(), wheels.as_os_str(), ".".as_ref()]))?;
    let entries =
        fs::read_dir(&wheels).map_err(|cause| format!("{}: {cause}", wheels.display()))?;
    let wheel = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let wheel = wheel.ok_or_else(|| format!("pip has put no wheel into {}", wheels.display()))?;
    let bytes =
        fs::metadata(&wheel).map_err(|cause| format!("{}: {cause}", wheel.display()))?.len();
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    println!("{name}: {:.1} MB", bytes as f64 / f64::from(1 << 20));
    if !name.contains("-cp310-abi3-") {
        return Err(format!("{name} is not for every Python since 3.10 (cp310-abi3)"));
    }
    if bytes > MOST_BYTES {
        return Err(format!("{name} has {bytes} bytes; at most {MOST_BYTES} are allowed"));
    }
    Ok(wheel)
}

fn check(
    python: &Path,
    is_newest: bool,
    directory: &Path,
    wheel: &Path,
    version: (u32, u32),
) -> Result<(), Failure> {
    let environment = directory.join(format!("{}.{}", version.0, version.1));
    let own = made(python, &environment)?;
    // The package needs no other one, so it installs without a network.
    let install = |arguments: &[&str]| {
        let mut command = Command::new(&own);
        command
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(arguments);
        run(&mut command)
    };
    install(&["--no-index", "--force-reinstall", &wheel.display().to_string()])?;
    install(&PACKAGES)?;
    let mut pytest = Command::new(&own);
    // Not in the root, where Python would find the sources of the package.
    let tests = root().join("rbee-py/tests");
    pytest.current_dir(directory).args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(tests);
    if is_newest {
        install(&PACKAGES_OF_NEWEST)?;
    }
    // For programs that look for the environment's own Python by its name.
    let programs = environment.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&path)));
    pytest.env("PATH", path.map_err(|cause| cause.to_string())?).env("VIRTUAL_ENV", &environment);
    run(&mut pytest)
}

/// The Python of a new environment in this directory.
fn made(python: &Path, environment: &Path) -> Result<PathBuf, Failure> {
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(environment))?;
    Ok(environment.join("bin/python"))
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    println!("$ {line}");
    let status = command.stdin(Stdio::null()).status();
    let status = status.map_err(|cause| format!("{line}: {cause}"))?;
    if status.success() { Ok(()) } else { Err(format!("{status}; to see it again: {line}")) }
}
