//! Opens the files of models, so that links do not lead out of the directories in which clients may name models.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use crate::error::{Error, ErrorKind, Result};

/// The directories of this process in which clients may name models, as absolute paths.
static ROOTS: RwLock<Vec<PathBuf>> = RwLock::new(Vec::new());

/// The reason why a file was not opened, or not used.
#[derive(Debug)]
struct LeadsOut;

impl fmt::Display for LeadsOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link leads out of the directories in which clients may name models (file_roots of a queen, --file-root of a hive); \
     all files of a model below one of them must be below one of them: copy the file to there, or add the directory that the link leads to")
    }
}

impl std::error::Error for LeadsOut {}

/// Confines the files of models below this directory: a model that lies below it is only read from files whose real
/// path is below it, or below another confined directory, whatever links there are. Use it for a directory in which
/// clients may name models, and in which others may write.
///
/// It applies to the whole process, for as long as it runs, and to the workers that it starts. Models elsewhere are
/// read through any links. Third-party engines open files themselves: their files are checked before the engine is
/// started.
///
/// A relative path starts at the current directory. It does not matter which links or `..` are in the path given here,
/// or in the path of a model.
pub fn confine_model_files(directory: impl Into<PathBuf>) {
    let directory = directory.into();
    // It fails for an empty path, or if there is no current directory: then there is nothing to read.
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let mut roots = ROOTS.write().unwrap_or_else(PoisonError::into_inner);
    if !roots.contains(&directory) {
        roots.push(directory);
    }
}

/// Checks a configured directory for [`confine_model_files`]: it must exist, because otherwise a mistake in its name
/// would leave models unconfined.
///
/// # Errors
/// [`ErrorKind::Config`] that names the directory.
pub fn check_file_root(directory: &Path) -> Result<()> {
    let why = match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "it is not a directory".to_owned(),
        Err(cause) => cause.to_string(),
    };
    let message = format!(
        "{}: {why}; name an existing directory in which clients may name models, or leave it out",
        directory.display()
    );
    Err(Error::new(ErrorKind::Config, message))
}

/// The directories that [`confine_model_files`] was called with, as absolute paths.
pub fn confined_directories() -> Vec<PathBuf> {
    ROOTS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Opens a file of a model, or a directory to find its real path. It does not wait for the other end of a pipe.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    }
    #[cfg(windows)]
    {
        // FILE_FLAG_BACKUP_SEMANTICS, without which no directory is opened.
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, 0x0200_0000);
    }
    let file = options.open(path)?;
    check(path, &file)?;
    Ok(file)
}

/// Returns true if the error says that a link leads out.
pub(crate) fn leads_out(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<LeadsOut>())
}

/// Checks the opened file, not its path: the path may lead elsewhere by now.
fn check(path: &Path, file: &File) -> io::Result<()> {
    let roots = ROOTS.read().unwrap_or_else(PoisonError::into_inner);
    if !leads_through(path, &roots) {
        return Ok(());
    }
    let real = real_path(path, file)?;
    let is_below = |root: &PathBuf| root.canonicalize().is_ok_and(|root| real.starts_with(root));
    if roots.iter().any(is_below) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, LeadsOut))
}

/// Returns true if the target of this path is confined.
pub(crate) fn is_confined(path: &Path) -> bool {
    leads_through(path, &ROOTS.read().unwrap_or_else(PoisonError::into_inner))
}

/// Returns true if the path leads through one of these directories, however both are spelled. Others can change only
/// what is below them, not the way to them.
fn leads_through(path: &Path, roots: &[PathBuf]) -> bool {
    if roots.is_empty() {
        return false;
    }
    if roots.iter().any(|root| path.starts_with(root)) {
        return true;
    }
    let roots: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
    let is_below = |real: PathBuf| roots.iter().any(|root| real.starts_with(root));
    // A relative path has an empty one at its end.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().any(|part| part.canonicalize().is_ok_and(is_below))
}

/// The path of an open file, without links.
fn real_path(path: &Path, file: &File) -> io::Result<PathBuf> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::fd::AsRawFd;
        let _ = path;
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }
    #[cfg(target_vendor = "apple")]
    {
        use std::os::unix::ffi::OsStringExt;
        let _ = path;
        let real = rustix::fs::getpath(file)?;
        Ok(std::ffi::OsString::from_vec(real.into_bytes()).into())
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        // The system does not report the path of a handle.
        let _ = file;
        path.canonicalize()
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::symlink};

    use super::*;

    /// A root that is confined, and a directory next to it with a file that no client may read.
    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("model")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        fs::write(root.join("model/plain"), "plain").unwrap();
        confine_model_files(&root);
        (dir, root, outside.join("secret"))
    }

    fn text(mut file: File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    fn refused(path: &Path) {
        let error = open(path).expect_err(&path.display().to_string());
        assert!(leads_out(&error), "{}: {error}", path.display());
        assert!(error.to_string().contains("file_roots"), "{error}");
    }

    #[test]
    fn links_to_files_and_directories_may_stay_below_a_root_and_not_lead_out() {
        let (dir, root, secret) = place();
        let model = root.join("model");
        symlink(&secret, model.join("to-a-file")).unwrap();
        symlink(secret.parent().unwrap(), model.join("to-a-directory")).unwrap();
        symlink("to-a-file", model.join("nested")).unwrap();
        symlink("../../outside/secret", model.join("relative")).unwrap();
        symlink(dir.path().join("outside"), root.join("whole")).unwrap();
        for path in [
            "model/to-a-file",
            "model/to-a-directory/secret",
            "model/nested",
            "model/relative",
            "whole/secret",
        ] {
            refused(&root.join(path));
        }
        refused(&root.join("model/../../outside/secret"));
        symlink("plain", model.join("inside")).unwrap();
        symlink(&model, root.join("other-name")).unwrap();
        for path in ["model/plain", "model/inside", "other-name/plain", "other-name/inside"] {
            assert_eq!(text(open(&root.join(path)).unwrap()), "plain", "{path}");
        }
        // Through another path it is not confined.
        assert_eq!(text(open(&secret).unwrap()), "secret");
    }

    #[test]
    fn a_root_that_is_a_link_and_links_from_one_root_to_another_are_followed() {
        let (dir, root, _) = place();
        let (alias, other) = (dir.path().join("alias"), dir.path().join("other"));
        symlink(&root, &alias).unwrap();
        fs::create_dir(&other).unwrap();
        symlink(root.join("model/plain"), other.join("link")).unwrap();
        confine_model_files(&alias);
        confine_model_files(&other);
        for path in [alias.join("model/plain"), other.join("link")] {
            assert_eq!(text(open(&path).unwrap()), "plain");
        }
    }

    #[test]
    fn a_root_is_confined_however_it_or_the_model_is_spelled() {
        let spelled = |spell: &dyn Fn(&Path) -> PathBuf| {
            let dir = tempfile::tempdir().unwrap();
            // Without links in its own path, to know which spelling is tested.
            let place = dir.path().canonicalize().unwrap();
            let root = place.join("root");
            fs::create_dir_all(root.join("model")).unwrap();
            fs::create_dir_all(place.join("beside")).unwrap();
            fs::write(place.join("secret"), "secret").unwrap();
            fs::write(root.join("model/plain"), "plain").unwrap();
            symlink(place.join("secret"), root.join("model/out")).unwrap();
            symlink(&place, place.join("alias")).unwrap();
            symlink(root.join("model"), place.join("model-alias")).unwrap();
            confine_model_files(spell(&place));
            for model in ["root/model", "alias/root/model", "beside/../root/model", "model-alias"] {
                refused(&place.join(model).join("out"));
                assert_eq!(text(open(&place.join(model).join("plain")).unwrap()), "plain");
            }
            let absolute = |root: &PathBuf| !root.is_absolute();
            assert!(
                !confined_directories().iter().any(absolute),
                "workers have their own directory"
            );
        };
        let up: PathBuf =
            std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
        spelled(&|place| place.join("root"));
        spelled(&|place| up.join(place.strip_prefix("/").unwrap()).join("root"));
        spelled(&|place| place.join("beside/../root"));
        spelled(&|place| place.join("alias/root"));
        spelled(&|place| place.join("root/./"));
    }

    #[test]
    fn a_root_that_is_no_directory_is_refused_by_its_name() {
        let (_dir, root, secret) = place();
        check_file_root(&root).unwrap();
        for wrong in [secret, root.join("none"), PathBuf::new()] {
            let error = check_file_root(&wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(&wrong.display().to_string()), "{error}");
        }
    }

    #[test]
    fn the_layout_of_the_hubs_cache_is_read_through_its_links() {
        let (_dir, root, _) = place();
        let snapshot = root.join("models--a--b/snapshots/c0ffee");
        fs::create_dir_all(root.join("models--a--b/blobs")).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(root.join("models--a--b/blobs/1"), "blob").unwrap();
        symlink("../../blobs/1", snapshot.join("config.json")).unwrap();
        assert_eq!(text(open(&snapshot.join("config.json")).unwrap()), "blob");
    }

    #[test]
    fn a_link_that_is_changed_between_opening_and_checking_changes_nothing() {
        let (_dir, root, secret) = place();
        let path = root.join("model/swapped");
        let swap = |to: &Path| {
            let new = root.join("model/new");
            symlink(to, &new).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        let plain = root.join("model/plain");
        swap(&secret);
        let opened = File::open(&path).unwrap();
        swap(&plain);
        // The path leads to an allowed file, and the handle does not.
        assert_eq!(fs::canonicalize(&path).unwrap(), fs::canonicalize(&plain).unwrap());
        assert!(leads_out(&check(&path, &opened).unwrap_err()));

        let opened = File::open(&path).unwrap();
        swap(&secret);
        check(&path, &opened).unwrap();
        assert_eq!(text(opened), "plain");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_does_not_block() {
        let (_dir, root, _) = place();
        let path = root.join("model/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(!open(&path).unwrap().metadata().unwrap().is_file());
    }
}
