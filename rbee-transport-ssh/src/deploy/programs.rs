//! Programs on this machine that can be put on another: [`Programs`].

use std::{
    collections::HashMap,
    env, fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::SystemTime,
};

use rbee_core::models::Digest;
use rbee_transport_http::Program;
use sha2::{Digest as _, Sha256};

use super::{
    elf::Elf,
    error::{DeployError, NoPrograms},
    facts::MachineFacts,
    source::hash_file,
};

/// The programs that a hive needs.
const NAMES: [&str; 2] = ["rbee-hive", "llm-worker-rbee"];
/// The most subdirectories of a directory that are looked at.
const MOST_SUBDIRECTORIES: usize = 64;

/// Where the programs of a hive are searched on this machine, and their version.
///
/// The directories are searched in this order: the [setting](Self::with_path), beside the running program,
/// [others](Self::with_directory) such as that of the Python package, and `PATH`. The programs are in the directory
/// itself, or in a subdirectory for a kind of machine, whose name begins with the processor:
///
/// ```text
/// rbee-hive, llm-worker-rbee
/// aarch64-unknown-linux-gnu/rbee-hive, aarch64-unknown-linux-gnu/llm-worker-rbee
/// x86_64-cuda/rbee-hive, x86_64-cuda/llm-worker-rbee
/// ```
///
/// A file `rbee-programs`, which contains all programs, serves for those that are not there by themselves.
///
/// What a program needs (processor, C library, CUDA) is read from its own headers, so nothing has to describe it. The
/// first directory with programs that fit the machine is used; within it, programs for CUDA are preferred if the
/// machine has an NVIDIA GPU, and static programs to others.
#[derive(Debug)]
pub struct Programs {
    version: String,
    names: Vec<String>,
    path: Option<PathBuf>,
    beside: Option<PathBuf>,
    directories: Vec<PathBuf>,
    search_path: Vec<PathBuf>,
    /// The hashes of files that did not change since. The lock is held while a file is read, so that many machines that
    /// are added at once read it once.
    hashes: Mutex<HashMap<PathBuf, (Stamp, Digest)>>,
}

/// Tells whether a file was changed.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Programs {
    /// The programs of this version, searched beside the running program and in `PATH`.
    pub fn new(version: impl Into<String>) -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        Self {
            version: version.into(),
            names: NAMES.map(String::from).into(),
            path: None,
            beside: Program::directory(),
            directories: Vec::new(),
            search_path: env::split_paths(&path).filter(|path| path.is_absolute()).collect(),
            hashes: Mutex::default(),
        }
    }

    /// Searches this directory first; or, if it is a program, the directory that it is in.
    pub fn with_path(self, path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// Searches this directory after the one with the running program.
    pub fn with_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directories.push(directory.into());
        self
    }

    /// Searches only the [setting](Self::with_path) and the [directories](Self::with_directory).
    pub fn without_defaults(self) -> Self {
        Self { beside: None, search_path: Vec::new(), ..self }
    }

    /// The version of the programs.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Chooses the programs that fit a machine. It reads files, so call it on a thread that may block.
    ///
    /// # Errors
    /// [`DeployError::NoPrograms`] with every place that was searched, what is missing there, and where to put programs
    /// for this machine; [`DeployError::Setting`] if the setting names nothing that can hold programs;
    /// [`DeployError::LocalProgram`] if a chosen program cannot be read.
    pub fn choose(&self, facts: &MachineFacts) -> Result<ProgramSet, DeployError> {
        let directories = self.search()?;
        let mut refused = Vec::new();
        for directory in &directories {
            let mut fitting = Vec::new();
            for candidate in candidates(directory, facts.architecture.name()) {
                match self.inspect(&candidate, facts) {
                    Ok(Some(programs)) => fitting.push((candidate, programs)),
                    Ok(None) => {}
                    Err(reasons) => refused.extend(reasons),
                }
            }
            // Of equals the first one remains.
            let best = fitting.into_iter().rev().max_by_key(|(_, programs)| {
                let cuda = programs.iter().any(|(_, _, elf)| elf.needs_cuda());
                let is_static = programs.iter().filter(|(_, _, elf)| elf.is_static()).count();
                (cuda == facts.has_nvidia(), is_static)
            });
            if let Some((directory, programs)) = best {
                return self.set(directory, programs, refused);
            }
        }
        let named =
            |directory: &PathBuf| refused.iter().any(|(path, _)| path.starts_with(directory));
        let empty: Vec<PathBuf> = directories.iter().filter(|path| !named(path)).cloned().collect();
        let missing = format!("no {} there", self.names.join(" and no "));
        let put_in = directories.first().cloned().unwrap_or_default();
        refused.extend(empty.into_iter().map(|directory| (directory, missing.clone())));
        Err(DeployError::NoPrograms(Box::new(NoPrograms {
            machine: facts.to_string(),
            names: self.names.clone(),
            searched: refused,
            put_in: put_in.join(format!("{}-unknown-linux-gnu", facts.architecture)),
        })))
    }

    /// The directories to search.
    fn search(&self) -> Result<Vec<PathBuf>, DeployError> {
        let mut found = Vec::new();
        if let Some(path) = &self.path {
            found.push(self.setting(path)?);
        }
        let others = self.beside.iter().chain(&self.directories).chain(&self.search_path);
        for directory in others {
            if !found.contains(directory) {
                found.push(directory.clone());
            }
        }
        Ok(found)
    }

    fn setting(&self, path: &Path) -> Result<PathBuf, DeployError> {
        let wrong = |reason: String| DeployError::Setting {
            what: "the path of the programs",
            value: path.display().to_string(),
            reason,
        };
        let metadata = fs::metadata(path).map_err(|cause| wrong(cause.to_string()))?;
        if metadata.is_dir() {
            return Ok(path.into());
        }
        let name = path.file_name().unwrap_or_default();
        match path.parent() {
            Some(parent)
                if self.names.iter().any(|is| is.as_str() == name) || name == Program::BUNDLE =>
            {
                Ok(parent.into())
            }
            _ => {
                Err(wrong(format!("it must be a directory, or a file {}", self.names.join(" or "))))
            }
        }
    }

    /// The programs in a directory, if all fit. `None` if there is none of them. Otherwise the reasons.
    fn inspect(&self, directory: &Path, facts: &MachineFacts) -> Result<Option<Found>, Reasons> {
        let (mut found, mut missing, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for name in &self.names {
            let alone = directory.join(name);
            let bundle = directory.join(Program::BUNDLE);
            let is_in_bundle = !alone.exists() && bundle.exists();
            let path = if is_in_bundle { bundle } else { alone };
            match Elf::read(&path) {
                Ok(elf) => {
                    if let Err(reason) = elf.fits(facts) {
                        reasons.push((path.clone(), reason));
                    }
                    found.push((name.clone(), path, elf));
                }
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => missing.push(path),
                Err(cause) => reasons.push((path, cause.to_string())),
            }
        }
        if found.is_empty() && reasons.is_empty() {
            return Ok(None);
        }
        // Other parts of a set that does not fit are of no interest.
        if reasons.is_empty() {
            reasons.extend(missing.into_iter().map(|path| (path, "this file is missing".into())));
        }
        if reasons.is_empty() { Ok(Some(found)) } else { Err(reasons) }
    }

    fn set(
        &self,
        directory: PathBuf,
        programs: Found,
        refused: Reasons,
    ) -> Result<ProgramSet, DeployError> {
        let mut files = Vec::new();
        for (name, path, elf) in programs {
            let unreadable = |cause: io::Error| DeployError::LocalProgram {
                path: path.clone(),
                reason: cause.to_string(),
            };
            let (sha256, size) = self.hash(&path).map_err(unreadable)?;
            files.push(ProgramFile { name, path, size, sha256, elf });
        }
        let mut hasher = Sha256::new();
        for file in &files {
            hasher.update(format!("{} {}\n", file.sha256.hex(), file.name));
        }
        let digest = Digest::from_bytes(hasher.finalize().into()).hex();
        let directory_name = format!("{}-{}", self.version, &digest[..16]);
        Ok(ProgramSet { version: self.version.clone(), directory, directory_name, files, refused })
    }

    fn hash(&self, path: &Path) -> io::Result<(Digest, u64)> {
        let metadata = fs::metadata(path)?;
        let stamp = Stamp { size: metadata.len(), modified: metadata.modified().ok() };
        let mut hashes = self.hashes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((known, digest)) = hashes.get(path)
            && *known == stamp
        {
            return Ok((*digest, stamp.size));
        }
        let (digest, size) = hash_file(path)?;
        hashes.insert(path.into(), (Stamp { size, ..stamp }, digest));
        Ok((digest, size))
    }
}

/// The names of programs, their files, and what these need.
type Found = Vec<(String, PathBuf, Elf)>;
type Reasons = Vec<(PathBuf, String)>;

/// The directory, and its subdirectories for this processor in the order of their names.
fn candidates(directory: &Path, architecture: &str) -> Vec<PathBuf> {
    let prefix = format!("{architecture}-");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut below: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name == architecture || name.starts_with(&prefix)
        })
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .take(MOST_SUBDIRECTORIES)
        .collect();
    below.sort();
    below.insert(0, directory.into());
    below
}

/// Programs that fit a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramSet {
    /// Their version.
    pub version: String,
    /// The directory that they are in.
    pub directory: PathBuf,
    /// The name of their directory on other machines: the version and the first digits of a hash over all files.
    pub directory_name: String,
    /// The files.
    pub files: Vec<ProgramFile>,
    /// Programs that were preferred or searched earlier, with the reasons why they do not fit.
    pub refused: Vec<(PathBuf, String)>,
}

impl ProgramSet {
    /// The size of all files in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Returns true if they compute on NVIDIA GPUs.
    pub fn needs_cuda(&self) -> bool {
        self.files.iter().any(|file| file.elf.needs_cuda())
    }
}

/// A program on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramFile {
    /// Its name: `rbee-hive`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// What it needs of a machine.
    pub elf: Elf,
}
