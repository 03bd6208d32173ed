//! Deployments to this system, by real shells.

mod choosing;
mod judging;
mod local;
mod mounts;
mod probing;
mod removing;
mod shells;
mod timing;
mod uploading;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use super::{DeployOptions, MachineFacts, Place, PlaceKind, Programs};

/// Two small programs of this system, with the names of a hive's programs.
struct TestPrograms {
    directory: tempfile::TempDir,
    version: String,
}

impl TestPrograms {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new("/bin/true").arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let version = text.lines().next().unwrap().split(' ').next_back().unwrap().to_owned();
        let programs = Self { directory, version };
        programs.put("rbee-hive", &fs::read("/bin/true").unwrap());
        programs.put("llm-worker-rbee", &fs::read("/bin/echo").unwrap());
        programs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Replaces a text in a program by another of the same length.
    fn patch(&self, name: &str, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len());
        let mut bytes = fs::read(self.path(name)).unwrap();
        let found: Vec<usize> =
            (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
        assert!(!found.is_empty());
        for at in found {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        self.put(name, &bytes);
    }

    fn programs(&self) -> Programs {
        Programs::new(&self.version).without_defaults().with_path(self.directory.path())
    }

    fn options(&self) -> DeployOptions {
        DeployOptions::new(Arc::new(self.programs()), "queen-1")
    }
}

/// The directory of this kind.
fn place(facts: &MachineFacts, kind: PlaceKind) -> &Place {
    facts.places.iter().find(|place| place.kind == kind).unwrap()
}

/// The paths below a directory, and what symbolic links, files and modes they have.
fn tree(directory: &Path) -> Vec<(String, u32, u64)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(path) = pending.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            let shown = entry.path().strip_prefix(directory).unwrap().display().to_string();
            let size = if metadata.is_dir() { 0 } else { metadata.len() };
            found.push((shown, metadata.mode() & 0o7777, size));
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The names of the entries of a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).map(|entries| entries.map(Result::unwrap).collect());
    let entries: Vec<fs::DirEntry> = entries.unwrap_or_default();
    let mut names: Vec<String> =
        entries.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The facts of this system, also for tests whose time is paused.
fn facts_of(home: &Path) -> MachineFacts {
    let home = home.to_path_buf();
    let probing =
        async move { super::probe(&local::LocalExec::new(&home), None, &()).await.unwrap() };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime().block_on(probing)).join().unwrap()
}
