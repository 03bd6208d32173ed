//! Directories of another machine that can take programs: [`Place`].

use rbee_core::models::Digest;

use super::{
    error::{DeployError, NoPlace},
    size::Size,
};

/// The room that is left free beside the files, in bytes: the hive writes logs and small files.
const RESERVE: u64 = 16 << 20;
/// The files and directories that a version takes, generously.
const INODES: u64 = 32;

/// The kind of a directory for programs, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlaceKind {
    /// The caller has named it.
    Given,
    /// `$XDG_DATA_HOME/rbee`, or `~/.local/share/rbee`.
    Data,
    /// `$XDG_CACHE_HOME/rbee`, or `~/.cache/rbee`.
    Cache,
    /// `/var/tmp/rbee-UID`. It survives a restart of the machine, but systems remove what was not used for weeks.
    VarTmp,
    /// `$XDG_RUNTIME_DIR/rbee`, in memory. It is removed at the last logout.
    Runtime,
    /// `/dev/shm/rbee-UID`, in memory.
    Shm,
}

impl PlaceKind {
    pub(super) fn read(text: &str) -> Option<Self> {
        Some(match text {
            "given" => Self::Given,
            "data" => Self::Data,
            "cache" => Self::Cache,
            "var_tmp" => Self::VarTmp,
            "runtime" => Self::Runtime,
            "shm" => Self::Shm,
            _ => return None,
        })
    }

    /// Returns true if other users can create entries in its parent.
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::VarTmp | Self::Shm)
    }

    /// Returns true if a restart of the machine removes it.
    pub fn is_in_memory(self) -> bool {
        matches!(self, Self::Runtime | Self::Shm)
    }
}

/// A directory of another machine that can take programs. It may not exist yet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Place {
    /// The kind.
    pub kind: PlaceKind,
    /// The absolute path.
    pub path: String,
    /// Why it cannot be used, whatever the size of the programs is.
    pub refused: Option<String>,
    /// The free bytes for this user; `None` if not known. A quota may allow less.
    pub free_bytes: Option<u64>,
    /// The number of files that can still be created; `None` if not known or unlimited.
    pub free_inodes: Option<u64>,
    /// The versions in it.
    pub versions: Vec<InstalledVersion>,
    /// The names of the hives with a state directory in it.
    pub hives: Vec<String>,
    is_tested: bool,
}

impl Place {
    pub(super) fn new(kind: PlaceKind) -> Self {
        Self {
            kind,
            path: String::new(),
            refused: None,
            free_bytes: None,
            free_inodes: None,
            versions: Vec::new(),
            hives: Vec::new(),
            is_tested: false,
        }
    }

    /// Takes a line of the probe. The first reason to refuse the directory is kept.
    pub(super) fn set(&mut self, key: &str, value: &str, user_id: u32) {
        let reason = match (key, value) {
            ("free_kib", _) => {
                self.free_bytes = value.parse().ok().map(|kib: u64| kib.saturating_mul(1024));
                return;
            }
            ("free_inodes", _) => {
                // File systems without a limit show 0 of 0.
                self.free_inodes = value.parse().ok().filter(|count| *count > 0);
                return;
            }
            ("runs", "7") => {
                self.is_tested = true;
                return;
            }
            ("runs", "126") => "no program can run in it (the file system is mounted with noexec, or a policy forbids \
                                it)"
                .into(),
            ("runs", status) => format!("a program that was put there to test it ended with {status}"),
            ("write_error", why) => format!("it is not writable: {why}"),
            ("refused", why) => why.into(),
            ("link", _) if self.kind.is_shared() => "it is a symbolic link".into(),
            ("owner", owner) if owner != user_id.to_string() => {
                format!("it belongs to user {owner}, not to user {user_id}")
            }
            ("mode", mode) if !self.allows(mode) => format!("other users can use it ({mode})"),
            _ => return,
        };
        self.refused.get_or_insert(reason);
    }

    /// Returns true if the mode of the directory, such as `drwx------`, keeps others from changing it.
    fn allows(&self, mode: &str) -> bool {
        let mode = mode.as_bytes();
        let bit = |at: usize| mode.get(at).is_some_and(|c| *c != b'-');
        match self.kind.is_shared() {
            true => mode.len() >= 10 && !(4..10).any(bit),
            false => mode.len() >= 10 && !bit(5) && !bit(8),
        }
    }

    /// Returns `Ok` if it can take files of so many bytes, and otherwise the reason.
    ///
    /// # Errors
    /// The reason in a few words.
    pub fn can_take(&self, bytes: u64) -> Result<(), String> {
        if let Some(reason) = &self.refused {
            return Err(reason.clone());
        }
        if self.path.is_empty() || !self.is_tested {
            return Err("it could not be tested".into());
        }
        let needed = if bytes == 0 { 0 } else { bytes.saturating_add(RESERVE) };
        if let Some(free) = self.free_bytes.filter(|free| *free < needed) {
            return Err(format!("{} are free, and {} are needed", Size(free), Size(needed)));
        }
        if let Some(free) = self.free_inodes.filter(|free| bytes > 0 && *free < INODES) {
            return Err(format!("only {free} more files can be created (inodes)"));
        }
        Ok(())
    }

    /// The version with this name, if all its files are there.
    pub(super) fn intact_version(&self, name: &str) -> Option<&InstalledVersion> {
        self.versions.iter().find(|version| version.name == name && version.is_intact())
    }

    /// Returns true if there is a deployment in it.
    pub(super) fn is_in_use(&self) -> bool {
        !self.versions.is_empty() || !self.hives.is_empty()
    }
}

/// A version in a directory of another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledVersion {
    /// The name of its directory.
    pub name: String,
    /// Its files.
    pub files: Vec<InstalledFile>,
}

impl InstalledVersion {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.into(), files: Vec::new() }
    }

    /// Returns true if all its files have their size.
    pub fn is_intact(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(InstalledFile::is_intact)
    }
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledFile {
    /// Its name.
    pub name: String,
    /// The SHA-256 that it had when it was written.
    pub sha256: Digest,
    /// The size that it had when it was written, in bytes.
    pub size: u64,
    /// The size that it has; 0 if it is missing or cannot be run.
    pub actual_size: u64,
}

impl InstalledFile {
    /// From a line of the probe: hash, size, actual size, and name.
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let sha256 = format!("sha256:{}", words.next()?).parse().ok()?;
        let (size, actual_size) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { name: words.next()?.into(), sha256, size, actual_size })
    }

    /// Returns true if it has its size.
    pub fn is_intact(&self) -> bool {
        self.size == self.actual_size
    }
}

/// Chooses a directory: one with a deployment, else the first one that can take the bytes that it needs.
///
/// A deployment stays where it is, because its hive's state is there too.
pub(super) fn choose(
    places: &[Place],
    needed: impl Fn(&Place) -> u64,
) -> Result<&Place, DeployError> {
    let (used, other): (Vec<&Place>, Vec<&Place>) =
        places.iter().partition(|place| place.is_in_use());
    let mut refused = Vec::new();
    for place in used.into_iter().chain(other) {
        match place.can_take(needed(place)) {
            Ok(()) => return Ok(place),
            Err(reason) => refused.push((place.path.clone(), reason)),
        }
    }
    let needed = places.iter().map(needed).max().unwrap_or_default();
    Err(DeployError::NoPlace(Box::new(NoPlace { needed, places: refused })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: PlaceKind, lines: &[(&str, &str)]) -> Place {
        let mut place = Place::new(kind);
        place.path = "/p".into();
        for (key, value) in lines {
            place.set(key, value, 1000);
        }
        place
    }

    #[test]
    fn a_directory_is_refused_with_its_first_reason() {
        use PlaceKind::{Data, VarTmp};
        let refused = |kind, lines: &[(&str, &str)], reason: &str| {
            let why = place(kind, lines).can_take(1).unwrap_err();
            assert!(why.contains(reason), "{why}");
        };
        refused(Data, &[], "could not be tested");
        refused(Data, &[("runs", "126")], "noexec");
        refused(Data, &[("runs", "2")], "ended with 2");
        refused(Data, &[("write_error", "Read-only file system")], "Read-only");
        refused(Data, &[("owner", "0"), ("runs", "126")], "belongs to user 0");
        refused(Data, &[("mode", "drwxrwxr-x"), ("owner", "1000"), ("runs", "7")], "drwxrwxr-x");
        refused(VarTmp, &[("mode", "drwxr-xr-x"), ("owner", "1000"), ("runs", "7")], "drwxr-xr-x");
        refused(VarTmp, &[("link", "1"), ("runs", "7")], "symbolic link");
        refused(Data, &[("runs", "7"), ("free_kib", "1024")], "1 MiB are free, and 16 MiB");
        refused(Data, &[("runs", "7"), ("free_inodes", "3")], "3 more files");
        let fine = [("mode", "drwxr-xr-x."), ("owner", "1000"), ("link", "1"), ("runs", "7")];
        assert_eq!(place(Data, &fine).can_take(1), Ok(()));
        let unlimited = [("runs", "7"), ("free_inodes", "0"), ("free_kib", "-")];
        assert_eq!(place(Data, &unlimited).can_take(1 << 40), Ok(()));
        let full = place(Data, &[("runs", "7"), ("free_kib", "0")]);
        assert_eq!(full.can_take(0), Ok(()), "nothing is to be written");
    }

    #[test]
    fn a_file_with_another_size_makes_its_version_unusable() {
        let hash = "0".repeat(64);
        let mut place = place(PlaceKind::Data, &[]);
        let mut version = InstalledVersion::new("1-a");
        assert!(!version.is_intact(), "it has no files");
        version.files.extend(InstalledFile::read(&format!("{hash} 5 5 rbee hive")));
        assert_eq!(version.files[0].name, "rbee hive");
        place.versions.push(version.clone());
        assert_eq!(place.intact_version("1-a"), Some(&version));
        place.versions[0].files.extend(InstalledFile::read(&format!("{hash} 5 0 x")));
        assert_eq!(place.intact_version("1-a"), None);
        assert_eq!(InstalledFile::read("short 5 5 x"), None);
        assert_eq!(InstalledFile::read(&format!("{hash} 5 -1 x")), None);
    }
}
