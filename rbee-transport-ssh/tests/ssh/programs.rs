//! The programs that are put on machines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rbee_end_to_end::{built, built_example};
use rbee_transport_ssh::deploy::Programs;

/// Those of this build.
pub(crate) fn real() -> Arc<Programs> {
    found_in(directory())
}

/// The directory with those of this build.
pub(crate) fn directory() -> PathBuf {
    in_directory("ssh-programs", built("llm-worker-rbee"))
}

/// The same with a worker without a model. One with a model named `…-ticks` emits a token every 20 ms.
pub(crate) fn with_echo_worker() -> Arc<Programs> {
    let worker = built_example("rbee-transport-http", "echo-worker");
    found_in(in_directory("ssh-echo-programs", worker))
}

fn found_in(directory: PathBuf) -> Arc<Programs> {
    Arc::new(Programs::new(env!("CARGO_PKG_VERSION")).without_defaults().with_path(directory))
}

/// Copies without the symbols for debuggers, which are most of these files.
fn in_directory(name: &str, worker: PathBuf) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).unwrap();
    // Other tests, also in other processes, do the same at this moment.
    let lock = fs::File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    for (name, source) in [("rbee-hive", built("rbee-hive")), ("llm-worker-rbee", worker)] {
        let target = directory.join(name);
        let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        if modified(&target) >= modified(&source) {
            continue;
        }
        let new = directory.join(format!("{name}.new"));
        let strip = Command::new("strip").arg("-o").arg(&new).arg(&source).status();
        assert!(strip.unwrap().success(), "strip is a part of binutils");
        fs::rename(new, target).unwrap();
    }
    directory
}

/// The same with other bytes in the file of the hive, as of a later build.
pub(crate) fn changed(directory: &Path) -> Arc<Programs> {
    drop(with_echo_worker());
    let (source, target) = (
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("ssh-echo-programs"),
        directory.join("changed"),
    );
    fs::create_dir(&target).unwrap();
    for name in ["rbee-hive", "llm-worker-rbee"] {
        fs::copy(source.join(name), target.join(name)).unwrap();
    }
    // What comes after the sections of a program is not loaded.
    let mut hive = fs::File::options().append(true).open(target.join("rbee-hive")).unwrap();
    std::io::Write::write_all(&mut hive, b"later").unwrap();
    found_in(target)
}
