//! Copying programs to a machine: [`install`].

use std::{path::PathBuf, time::Duration};

use rbee_core::models::Digest;

use super::{
    answers::Answers,
    error::DeployError,
    exec::Exec,
    facts::MachineFacts,
    place::{self, Place},
    programs::{ProgramFile, ProgramSet},
    progress::{DeployEvent, DeployProgress, DeployStep, RunningStep},
    script::{COMMON, Script, quoted, random_word},
    size::Size,
    source::FileSource,
};

const WHAT: &str = "copying the programs";
/// The time of a script apart from the time to send its file: it computes a hash and runs each program once.
const LIMIT: Duration = Duration::from_secs(120);
/// The most characters of a program's output that an error shows.
const MOST_SHOWN: usize = 600;
/// The functions of the scripts.
const FUNCTIONS: &str = include_str!("upload.sh");

/// How programs are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstallOptions {
    /// Names who does this, such as the queen and the hive: what an upload with the same name has left behind is
    /// removed. So it must differ between callers that may do this at the same time.
    pub uploader: String,
    /// Compresses the files on their way, if the machine has `gzip`. It pays on connections that carry less than about
    /// 10 MB/s, and costs time on faster ones. Off by default.
    pub compress: bool,
}

impl InstallOptions {
    /// Without compression.
    pub fn new(uploader: impl Into<String>) -> Self {
        Self { uploader: uploader.into(), compress: false }
    }
}

/// Programs on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installed {
    /// The directory of rbee on the machine, which also has the state of hives.
    pub root: String,
    /// The directory of the programs.
    pub directory: String,
    /// The size of the files that were sent; 0 if all files were there.
    pub sent_bytes: u64,
}

impl Installed {
    /// The path of a program on the machine.
    pub fn program(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }
}

/// Copies programs to a machine, if they are not there, and runs each of them once.
///
/// They get a directory of their own, which gets its name when it is complete. So they never replace a program that
/// runs, an upload that breaks off leaves nothing that could be run, and several queens can do this at once. Files that
/// another version has are not sent again.
///
/// # Errors
/// [`DeployError::NoPlace`] if no directory can take them, [`DeployError::Write`], [`DeployError::Damaged`],
/// [`DeployError::DoesNotRun`] or [`DeployError::OtherVersion`] with the reason, [`DeployError::LocalProgram`] if a
/// file of this machine has changed or cannot be read, and the errors of the connection.
pub async fn install(
    exec: &dyn Exec,
    facts: &MachineFacts,
    programs: &ProgramSet,
    options: &InstallOptions,
    progress: &dyn DeployProgress,
) -> Result<Installed, DeployError> {
    let place = place::choose(&facts.places, |place| bytes_to_send(place, programs))?;
    let installed = |sent_bytes| Installed {
        root: place.path.clone(),
        directory: format!("{}/versions/{}", place.path, programs.directory_name),
        sent_bytes,
    };
    if place.intact_version(&programs.directory_name).is_some() {
        return Ok(installed(0));
    }
    let step = RunningStep::start(progress, DeployStep::Upload);
    let upload = Upload { exec, facts, programs, place, options, progress };
    let sent = upload.run().await?;
    step.finish(format!("{} to {}", Size(sent), installed(sent).directory));
    Ok(installed(sent))
}

/// A file in the same directory of the machine with the same content.
fn same_file<'a>(place: &'a Place, file: &ProgramFile) -> Option<(&'a str, &'a str)> {
    place.versions.iter().find_map(|version| {
        let same = version.files.iter().find(|known| {
            known.is_intact() && known.sha256 == file.sha256 && known.size == file.size
        })?;
        Some((version.name.as_str(), same.name.as_str()))
    })
}

/// The bytes that must be sent if the programs are put into this directory.
pub(super) fn bytes_to_send(place: &Place, programs: &ProgramSet) -> u64 {
    if place.intact_version(&programs.directory_name).is_some() {
        return 0;
    }
    let files = programs.files.iter().filter(|file| same_file(place, file).is_none());
    without_copies(files.collect()).iter().map(|(file, _)| file.size).sum()
}

/// Each file with the names of the others that have the same content.
fn without_copies(files: Vec<&ProgramFile>) -> Vec<(&ProgramFile, Vec<&str>)> {
    let mut different: Vec<(&ProgramFile, Vec<&str>)> = Vec::new();
    for file in files {
        match different.iter_mut().find(|(other, _)| other.sha256 == file.sha256) {
            Some((_, names)) => names.push(&file.name),
            None => different.push((file, Vec::new())),
        }
    }
    different
}

struct Upload<'a> {
    exec: &'a dyn Exec,
    facts: &'a MachineFacts,
    programs: &'a ProgramSet,
    place: &'a Place,
    options: &'a InstallOptions,
    progress: &'a dyn DeployProgress,
}

impl Upload<'_> {
    /// Returns the number of bytes that were sent.
    async fn run(&self) -> Result<u64, DeployError> {
        let variables = self.variables()?;
        let (reused, mut to_send): (Vec<&ProgramFile>, Vec<&ProgramFile>) =
            self.programs.files.iter().partition(|file| same_file(self.place, file).is_some());
        let mut before = "prepare\n".to_owned();
        if !reused.is_empty() {
            let calls: String = reused.iter().map(|file| self.reuse(file)).collect();
            let script = script(&variables, format!("{before}{calls}say end 1\n"));
            let answers = self.checked(script.run(self.exec).await?)?;
            let not_reused: Vec<&str> = answers.all("not_reused").collect();
            let missing = |file: &&&ProgramFile| not_reused.contains(&file.name.as_str());
            to_send.extend(reused.iter().filter(missing));
            before.clear();
        }
        let to_send = without_copies(to_send);
        let total = to_send.iter().map(|(file, _)| file.size).sum();
        let after = self.finish();
        let mut done = 0;
        for (index, (file, copies)) in to_send.iter().enumerate() {
            let is_last = index + 1 == to_send.len();
            let mut receive = receive(file, if self.compresses() { "gzip -dc" } else { "cat" });
            for name in copies {
                receive += &format!("also {} {}\n", quoted(&file.name), quoted(name));
            }
            let after = if is_last { after.as_str() } else { "" };
            let script = script(&variables, format!("{before}{receive}{after}say end 1\n"));
            self.send(&script, file, done, total).await?;
            done += file.size;
            before.clear();
        }
        if to_send.is_empty() {
            let script = script(&variables, format!("{after}say end 1\n"));
            self.checked(script.run(self.exec).await?)?;
        }
        Ok(total)
    }

    async fn send(
        &self,
        script: &Script,
        file: &ProgramFile,
        before: u64,
        total: u64,
    ) -> Result<(), DeployError> {
        let report = |sent| {
            let (file, done) = (file.name.clone(), before + sent);
            self.progress.event(&DeployEvent::Sent { file, done, total });
        };
        report(0);
        let mut source =
            FileSource::open(&file.path, file.sha256, self.compresses(), &report).await?;
        let running = script.start(self.exec).await?;
        let answers = match running.is_ready() {
            true => running.send(&mut source).await?,
            false => running.finish().await?,
        };
        self.checked(answers).map(|_| ())
    }

    fn compresses(&self) -> bool {
        self.options.compress && self.facts.tools.contains("gzip")
    }

    fn variables(&self) -> Result<Vec<(&'static str, String)>, DeployError> {
        let uploader = Digest::of(&self.options.uploader).hex()[..8].to_owned();
        let damaged =
            self.place.versions.iter().any(|version| version.name == self.programs.directory_name);
        let files = self.programs.files.iter();
        let files: Vec<String> = files
            .map(|file| format!("{} {} {}", file.sha256.hex(), file.size, file.name))
            .collect();
        Ok(vec![
            ("root", self.place.path.clone()),
            ("new_name", format!(".upload-{uploader}-{}", random_word()?)),
            ("final_name", self.programs.directory_name.clone()),
            ("uploader", uploader),
            ("shared", u8::from(self.place.kind.is_shared()).to_string()),
            ("damaged", u8::from(damaged).to_string()),
            ("version", self.programs.version.clone()),
            ("files", files.join("\n")),
        ])
    }

    fn reuse(&self, file: &ProgramFile) -> String {
        let Some((version, name)) = same_file(self.place, file) else { return String::new() };
        let path = quoted(&format!("{}/versions/{version}/{name}", self.place.path));
        format!("reuse {path} {} {} {}\n", quoted(&file.name), file.size, file.sha256.hex())
    }

    /// The calls after the last file.
    fn finish(&self) -> String {
        let names = self.programs.files.iter().map(|file| quoted(&file.name));
        let tests: String = names.map(|name| format!("test_run {name}\n")).collect();
        format!("{tests}finish\n")
    }

    /// The answers, or the failure that the script reported.
    fn checked(&self, answers: Answers) -> Result<Answers, DeployError> {
        let Some(kind) = answers.get("fail") else { return Ok(answers) };
        let thing = answers.get("thing").unwrap_or("a file").to_owned();
        let reason = answers.get("reason").unwrap_or("no reason was given");
        let reason: String = reason.chars().take(MOST_SHOWN).collect();
        let local = || -> PathBuf {
            let file = self.programs.files.iter().find(|file| file.name == thing);
            file.map_or_else(|| thing.clone().into(), |file| file.path.clone())
        };
        Err(match kind {
            "damaged" => DeployError::Damaged { file: thing, reason },
            "run" => {
                let advice = self.advice_to_run(&reason);
                DeployError::DoesNotRun { program: local(), reason, advice }
            }
            "version" => DeployError::OtherVersion {
                program: local(),
                printed: reason,
                expected: self.programs.version.clone(),
            },
            _ => {
                let advice = advice_to_write(&reason);
                DeployError::Write { what: thing, reason, advice }
            }
        })
    }

    fn advice_to_run(&self, reason: &str) -> String {
        let machine = self.facts.to_string();
        if reason.contains("error while loading shared libraries") || reason.contains("libcu") {
            "install this library there, or use a build that does not need it".into()
        } else if reason.contains("GLIBC_") || reason.contains("not found") {
            format!(
                "use a static build (target feature crt-static), or one that was built for {machine}"
            )
        } else if reason.contains("Permission denied") {
            "programs may not run in this directory; name another one, or change the policy that forbids it".into()
        } else if reason.contains("exit status 132") || reason.contains("Illegal instruction") {
            "its processor lacks instructions that this build uses; use a build for older processors".into()
        } else if reason.contains("exit status 124") || reason.contains("exit status 143") {
            "it did not end within 30 s; check what keeps the machine busy".into()
        } else {
            format!("use a build for {machine}")
        }
    }
}

fn receive(file: &ProgramFile, unpack: &str) -> String {
    format!("receive {} {} {} '{unpack}'\n", quoted(&file.name), file.size, file.sha256.hex())
}

fn script(variables: &[(&'static str, String)], calls: String) -> Script {
    Script {
        what: WHAT,
        variables: variables.to_vec(),
        body: format!("{COMMON}{FUNCTIONS}{calls}"),
        limit: LIMIT,
    }
}

fn advice_to_write(reason: &str) -> &'static str {
    let reason = reason.to_lowercase();
    if reason.contains("no space left") {
        "make room there, or name a directory on another file system"
    } else if reason.contains("quota") {
        "the user's disk quota is used up: make room, or name a directory on another file system"
    } else if reason.contains("read-only") {
        "name a directory on a file system that can be written to"
    } else {
        "check who owns the directory, or name another one"
    }
}
