//! What is known of a machine: [`MachineFacts`].

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::{
    answers::Answers,
    architecture::Architecture,
    error::DeployError,
    place::{InstalledFile, InstalledVersion, Place, PlaceKind},
};

/// Facts about a machine, as [`probe`](super::probe) found them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MachineFacts {
    /// The operating system, as `uname -s` prints it: `Linux`.
    pub os: String,
    /// The release of the kernel, as `uname -r` prints it.
    pub kernel: String,
    /// The processor of the kernel. Programs for 32 bits can run on a kernel for 64, but not the reverse.
    pub architecture: Architecture,
    /// The machine's name, as `uname -n` prints it.
    pub name: String,
    /// The number of the user.
    pub user_id: u32,
    /// The name of the user.
    pub user: Option<String>,
    /// The home directory, which may not exist.
    pub home: Option<String>,
    /// The C library; `None` if it could not be found out.
    pub libc: Option<Libc>,
    /// The program interpreters that are there, such as `/lib64/ld-linux-x86-64.so.2`. Programs that are not static
    /// need theirs.
    pub interpreters: Vec<String>,
    /// The memory, in bytes.
    pub memory: Option<u64>,
    /// The memory that programs can still get, in bytes.
    pub available_memory: Option<u64>,
    /// The number of processors.
    pub cpus: Option<u32>,
    /// The directories that can take the programs, in the order of preference.
    pub places: Vec<Place>,
    /// The NVIDIA GPUs that `nvidia-smi` lists.
    pub gpus: Vec<Gpu>,
    /// What `nvidia-smi` printed, if it is there and lists no GPU.
    pub gpu_error: Option<String>,
    /// The device files of GPUs that the user can use: `/dev/nvidia0`, `/dev/kfd` (AMD).
    pub gpu_devices: Vec<String>,
    /// The device files of GPUs that the user may not use.
    pub closed_gpu_devices: Vec<String>,
    /// The CUDA libraries that the dynamic linker finds, such as `libcuda.so.1`. `None` if its list could not be read.
    pub cuda_libraries: Option<BTreeSet<String>>,
    /// True if systemd ends all processes of a user at the last logout. `None` if it is not known.
    pub kill_user_processes: Option<bool>,
    /// True if systemd keeps the user's processes after the last logout (lingering). `None` if it is not known.
    pub lingering: Option<bool>,
    /// The tools that a deployment uses if they are there: `gzip`, `sha256sum`, `timeout`, `setsid`, ….
    pub tools: BTreeSet<String>,
}

impl MachineFacts {
    /// Reads the answer of the script.
    pub(super) fn from_answers(answers: &Answers) -> Result<Self, DeployError> {
        let text = |key| answers.get(key).map(str::to_owned);
        let kib = |key| number(answers, key).map(|kib: u64| kib.saturating_mul(1024));
        let flag = |key, prefix: &str| match answers.get(key)?.strip_prefix(prefix)? {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        };
        let list = |key| answers.all(key).map(str::to_owned);
        let user_id = answers.require("user_id")?;
        let user_id = user_id.parse().map_err(|_| DeployError::Answer {
            what: "looking at the machine",
            reason: format!("the number of the user is {user_id:?}"),
        })?;
        let (gpus, other): (Vec<_>, Vec<_>) =
            answers.all("gpu").map(|line| Gpu::read(line).ok_or(line)).partition(Result::is_ok);
        let gpus: Vec<Gpu> = gpus.into_iter().flatten().collect();
        let other: Vec<&str> = other.into_iter().filter_map(Result::err).collect();
        let gpu_error = (gpus.is_empty() && !other.is_empty()).then(|| other.join(" "));
        Ok(Self {
            os: answers.require("os")?.into(),
            kernel: answers.require("kernel")?.into(),
            architecture: Architecture::from_uname(answers.require("machine")?),
            name: answers.require("name")?.into(),
            user_id,
            user: text("user"),
            home: text("home"),
            libc: Libc::read(answers.get("glibc"), answers.get("ldd")),
            interpreters: list("loader").collect(),
            memory: kib("memory_kib"),
            available_memory: kib("available_kib"),
            cpus: number(answers, "cpus"),
            places: places(answers, user_id),
            gpus,
            gpu_error,
            gpu_devices: list("nvidia_device").chain(list("amd_device")).collect(),
            closed_gpu_devices: list("closed_device").collect(),
            cuda_libraries: answers.get("library_cache").map(|_| list("library").collect()),
            kill_user_processes: flag("kill", "KillUserProcesses="),
            lingering: flag("linger", "Linger="),
            tools: list("tool").collect(),
        })
    }

    /// Returns true if it has an NVIDIA GPU that works.
    pub fn has_nvidia(&self) -> bool {
        !self.gpus.is_empty()
    }
}

/// `Linux on aarch64 with glibc 2.31`
impl fmt::Display for MachineFacts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} on {}", self.os, self.architecture)?;
        match &self.libc {
            Some(libc) => write!(formatter, " with {libc}"),
            None => formatter.write_str(" with an unknown C library"),
        }
    }
}

fn number<T: FromStr>(answers: &Answers, key: &str) -> Option<T> {
    answers.get(key)?.parse().ok()
}

/// The directories; each has the lines from its `place` to the next.
fn places(answers: &Answers, user_id: u32) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (key, value) in answers.pairs() {
        if key == "place" {
            // A directory whose path is no text of one line keeps this empty path, and cannot be used.
            places.extend(PlaceKind::read(value).map(Place::new));
            continue;
        }
        let Some(place) = places.last_mut() else { continue };
        match key {
            "path" => place.path = value.into(),
            "step" => break,
            "version" => place.versions.push(InstalledVersion::new(value)),
            "file" => {
                if let (Some(version), Some(file)) =
                    (place.versions.last_mut(), InstalledFile::read(value))
                {
                    version.files.push(file);
                }
            }
            "hive" => place.hives.push(value.into()),
            _ => place.set(key, value, user_id),
        }
    }
    places
}

/// A C library and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Libc {
    /// The GNU C library.
    Glibc(LibcVersion),
    /// musl. Its programs are best static.
    Musl(LibcVersion),
}

impl Libc {
    /// From what `getconf GNU_LIBC_VERSION` and `ldd --version` print.
    fn read(glibc: Option<&str>, ldd: Option<&str>) -> Option<Self> {
        if let Some(version) = glibc.and_then(|text| text.strip_prefix("glibc ")) {
            return version.parse().ok().map(Self::Glibc);
        }
        let ldd = ldd?;
        let version = ldd.split_ascii_whitespace().next_back()?.parse().ok()?;
        if ldd.starts_with("musl") {
            Some(Self::Musl(version))
        } else if ldd.contains("GLIBC") || ldd.contains("GNU libc") {
            Some(Self::Glibc(version))
        } else {
            None
        }
    }
}

impl fmt::Display for Libc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc(version) => write!(formatter, "glibc {version}"),
            Self::Musl(version) => write!(formatter, "musl {version}"),
        }
    }
}

/// The version of a C library: 2.36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LibcVersion {
    /// The 2 in 2.36.
    pub major: u32,
    /// The 36 in 2.36.
    pub minor: u32,
}

/// Ignores what follows the second number.
impl FromStr for LibcVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.').map(|part| {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            part[..digits].parse().map_err(|_| ())
        });
        let mut next = || numbers.next().ok_or(())?;
        Ok(Self { major: next()?, minor: next()? })
    }
}

impl fmt::Display for LibcVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// An NVIDIA GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name: `NVIDIA GeForce RTX 4090`.
    pub name: String,
    /// The version of its driver.
    pub driver: String,
    /// Its memory in bytes.
    pub memory: Option<u64>,
}

impl Gpu {
    /// From a line of `nvidia-smi`: driver, memory in MiB, and name.
    fn read(line: &str) -> Option<Self> {
        let mut columns = line.splitn(3, ", ").map(str::trim);
        let (driver, memory, name) = (columns.next()?, columns.next()?, columns.next()?);
        driver.starts_with(|c: char| c.is_ascii_digit()).then(|| Self {
            name: name.into(),
            driver: driver.into(),
            memory: memory.parse().ok().map(|mib: u64| mib.saturating_mul(1 << 20)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_known_from_either_tool() {
        let read = |glibc, ldd| Libc::read(glibc, ldd).map(|libc| libc.to_string());
        assert_eq!(read(Some("glibc 2.36"), None).as_deref(), Some("glibc 2.36"));
        let debian = Some("ldd (Debian GLIBC 2.31-13+deb11u11) 2.31");
        assert_eq!(read(None, debian).as_deref(), Some("glibc 2.31"));
        assert_eq!(read(None, Some("ldd (GNU libc) 2.39")).as_deref(), Some("glibc 2.39"));
        let musl = Some("musl libc (x86_64) Version 1.2.5");
        assert_eq!(read(None, musl).as_deref(), Some("musl 1.2.5".trim_end_matches(".5")));
        assert_eq!(read(None, Some("sh: ldd: not found")), None);
        assert_eq!(read(None, None), None);
    }

    #[test]
    fn a_gpu_is_read_and_a_complaint_is_none() {
        let gpu = Gpu::read("570.133.20, 81559, NVIDIA H100 80GB HBM3, MIG").unwrap();
        let name = "NVIDIA H100 80GB HBM3, MIG".to_owned();
        let memory = Some(81_559 << 20);
        assert_eq!(gpu, Gpu { name, driver: "570.133.20".into(), memory });
        assert_eq!(Gpu::read("1.0, [N/A], x").unwrap().memory, None);
        let complaint = "NVIDIA-SMI has failed because it couldn't communicate, with, the driver";
        assert_eq!(Gpu::read(complaint), None);
    }
}
