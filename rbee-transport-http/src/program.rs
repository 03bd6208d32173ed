//! The programs of rbee, and how one of them starts another: [`Program`].

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

static CONTAINED: OnceLock<&'static [&'static str]> = OnceLock::new();
static PACKAGED: OnceLock<PathBuf> = OnceLock::new();

/// A program, and the arguments before all others.
///
/// One file can contain several programs. Its first argument is then the name of the one to run, unless the file has
/// that name itself.
///
/// ```
/// use rbee_transport_http::Program;
///
/// let worker = Program::new("/opt/rbee/rbee-programs", "llm-worker-rbee");
/// assert_eq!(worker.arguments, ["llm-worker-rbee"]);
/// let worker = Program::new("/opt/rbee/llm-worker-rbee", "llm-worker-rbee");
/// assert!(worker.arguments.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// The arguments before all others.
    pub arguments: Vec<String>,
}

impl Program {
    /// The name of the file that contains several programs: `rbee-programs`.
    pub const BUNDLE: &str = "rbee-programs";
    /// The programs in it, besides `rbee`.
    pub const BUNDLED: [&str; 2] = ["rbee-hive", "llm-worker-rbee"];

    /// The program `name` in this file.
    pub fn new(path: impl Into<PathBuf>, name: &str) -> Self {
        let path = path.into();
        let is_bundle = path.file_stem().is_some_and(|stem| stem == Self::BUNDLE);
        Self { path, arguments: is_bundle.then(|| name.to_owned()).into_iter().collect() }
    }

    /// Says that the program of this process contains these programs too. The first call counts.
    pub fn contain(names: &'static [&'static str]) {
        // A later call has no effect, as documented.
        let _ = CONTAINED.set(names);
    }

    /// Says that programs are in this file or in its directory, and not next to the program of this process, which is
    /// an interpreter, for example. The first call counts.
    pub fn packaged_as(path: impl Into<PathBuf>) {
        // A later call has no effect, as documented.
        let _ = PACKAGED.set(path.into());
    }

    /// The directory in which programs are searched first: the one with the program of this process, or the one that
    /// [`packaged_as`](Self::packaged_as) has set.
    pub fn directory() -> Option<PathBuf> {
        let path = PACKAGED.get().cloned().or_else(|| env::current_exe().ok())?;
        fs::canonicalize(path).ok()?.parent().map(Path::to_path_buf)
    }

    /// The program of this process, run as `name`.
    ///
    /// # Errors
    /// The operating system does not know the path.
    pub fn own(name: &str) -> io::Result<Self> {
        let arguments = contains(name).then(|| name.to_owned()).into_iter().collect();
        // A link to the program is not in the directory of the others.
        let path = env::current_exe().and_then(fs::canonicalize)?;
        Ok(Self { path, arguments })
    }

    /// The program `name` that belongs to the program of this process: contained in it, or in the same directory, by
    /// itself or in the file with all programs. If there is none, it is the path where it is missing.
    ///
    /// # Errors
    /// As [`own`](Self::own).
    pub fn beside(name: &str) -> io::Result<Self> {
        let own = Self::own(name)?;
        if contains(name) {
            return Ok(own);
        }
        let file = PACKAGED.get().unwrap_or(&own.path);
        let beside = |name: &str| file.with_file_name(format!("{name}{}", env::consts::EXE_SUFFIX));
        let (alone, bundle) = (beside(name), beside(Self::BUNDLE));
        let is_in_bundle = !alone.is_file() && Self::BUNDLED.contains(&name) && bundle.is_file();
        Ok(Self::new(if is_in_bundle { bundle } else { alone }, name))
    }

    /// The arguments of this process for its program `name`: the path of the program, and those after the name.
    pub fn own_arguments(name: &str) -> Vec<OsString> {
        without_name(env::args_os(), name)
    }
}

fn contains(name: &str) -> bool {
    CONTAINED.get().is_some_and(|names| names.contains(&name))
}

fn without_name(mut arguments: impl Iterator<Item = OsString>, name: &str) -> Vec<OsString> {
    let program = arguments.next();
    let mut arguments = arguments.peekable();
    arguments.next_if(|first| first == name);
    program.into_iter().chain(arguments).collect()
}

/// A program that is alone in its file.
impl From<PathBuf> for Program {
    fn from(path: PathBuf) -> Self {
        Self { path, arguments: Vec::new() }
    }
}

/// A program that is alone in its file.
impl From<&Path> for Program {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

/// A program that is alone in its file.
impl From<&str> for Program {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_is_taken_from_the_arguments_once() {
        let read = |line: &[&str]| {
            without_name(line.iter().map(OsString::from), "rbee-hive")
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&["x", "rbee-hive", "--id", "a"]), ["x", "--id", "a"]);
        assert_eq!(read(&["x", "--id", "rbee-hive"]), ["x", "--id", "rbee-hive"]);
        assert_eq!(read(&["x", "rbee-hive", "rbee-hive"]), ["x", "rbee-hive"]);
        assert!(read(&[]).is_empty());
    }

    #[test]
    fn what_is_missing_is_named_by_its_path() {
        let own = env::current_exe().unwrap().canonicalize().unwrap();
        let missing = Program::beside("no-such-program").unwrap();
        assert_eq!(missing, Program::from(own.with_file_name("no-such-program")));
        assert_eq!(Program::own("no-such-program").unwrap(), Program::from(own));
    }
}
