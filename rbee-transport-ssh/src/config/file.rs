//! Reading `ssh_config` without an SSH client: `Host`, `Include` and the keywords that rbee uses.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{error::SshError, local_user::LocalUser, pattern};

use super::{
    keywords,
    line::{self, Directive},
    settings::Settings,
};

/// The most bytes of one file, how deep `Include` goes (as in OpenSSH), and the most files.
const MOST_BYTES: u64 = 1 << 20;
const MOST_DEPTH: usize = 16;
const MOST_FILES: usize = 256;

/// The configuration of the system.
const SYSTEM: &str = "/etc/ssh/ssh_config";

/// Reads the settings of a host from a file, or from those of the user and the system.
///
/// # Errors
/// [`SshError::Config`] with file and line. `Match` is refused: a wrong answer would lead to another machine or user.
pub(super) fn read(
    host: &str,
    file: Option<&Path>,
    user: &LocalUser,
    settings: Settings,
) -> Result<Settings, SshError> {
    let mut reader = Reader { host, user, settings, ignored: Vec::new(), files: 0 };
    match file {
        // As with `ssh -F none`.
        Some(file) if file == Path::new("none") => {}
        Some(file) => {
            let origin = Origin { directory: user.home.join(".ssh"), must_be_private: false };
            let text = text_of(file, false).map_err(|reason| at_file(file, reason))?;
            reader.file(file, &text, &origin, true, 0)?;
        }
        None => {
            let directory = user.home.join(".ssh");
            let path = directory.join("config");
            let origin = Origin { directory, must_be_private: true };
            reader.file_if_there(&path, &origin, true, 0)?;
            let origin = Origin { directory: "/etc/ssh".into(), must_be_private: false };
            reader.file_if_there(Path::new(SYSTEM), &origin, true, 0)?;
        }
    }
    Ok(reader.settings)
}

struct Reader<'a> {
    host: &'a str,
    user: &'a LocalUser,
    settings: Settings,
    /// The patterns of `IgnoreUnknown`.
    ignored: Vec<String>,
    files: usize,
}

/// What applies to a file and to all that it includes.
struct Origin {
    /// Where relative paths begin.
    directory: PathBuf,
    /// OpenSSH refuses a configuration that others can write to.
    must_be_private: bool,
}

impl Reader<'_> {
    fn file_if_there(
        &mut self,
        path: &Path,
        origin: &Origin,
        is_active: bool,
        depth: usize,
    ) -> Result<(), SshError> {
        match fs::metadata(path) {
            Err(cause) if is_missing(&cause) => Ok(()),
            _ => {
                let text = text_of(path, origin.must_be_private)
                    .map_err(|reason| at_file(path, reason))?;
                self.file(path, &text, origin, is_active, depth)
            }
        }
    }

    fn file(
        &mut self,
        path: &Path,
        text: &str,
        origin: &Origin,
        is_active: bool,
        depth: usize,
    ) -> Result<(), SshError> {
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(at_file(path, format!("more than {MOST_FILES} files are included")));
        }
        let mut applies = is_active;
        for (index, text) in text.split('\n').enumerate() {
            let wrong = |reason| {
                let place = format!("{}:{}", path.display(), index + 1);
                SshError::Config { place, reason }
            };
            let Some(Directive { keyword, arguments }) = line::read(text).map_err(wrong)? else {
                continue;
            };
            match keyword.as_str() {
                "host" if arguments.is_empty() => return Err(wrong("Host has no pattern".into())),
                "host" => {
                    let patterns = arguments.iter().map(String::as_str);
                    applies = is_active && pattern::fits_list(patterns, self.host);
                }
                "match" => return Err(wrong(
                    "Match is supported only where the program ssh is installed; install an OpenSSH client, or name a \
                     configuration without Match"
                        .into(),
                )),
                "include" if arguments.is_empty() => {
                    return Err(wrong("Include names no file".into()));
                }
                "include" => {
                    for argument in &arguments {
                        let files = self.included(argument, origin).map_err(wrong)?;
                        if depth == MOST_DEPTH && !files.is_empty() {
                            return Err(wrong(format!("files are included more than {MOST_DEPTH} deep")));
                        }
                        for file in files {
                            self.file_if_there(&file, origin, applies, depth + 1)?;
                        }
                    }
                }
                _ => self.set(&keyword, &arguments, applies).map_err(wrong)?,
            }
        }
        Ok(())
    }

    /// Sets a keyword, if its block is for this host. Wrong values are reported whatever the host.
    fn set(&mut self, keyword: &str, arguments: &[String], applies: bool) -> Result<(), String> {
        if keyword == "ignoreunknown" && applies {
            let patterns = arguments.iter().flat_map(|list| list.split(','));
            self.ignored.extend(patterns.map(str::to_ascii_lowercase));
            return Ok(());
        }
        if !keywords::is_known(keyword) {
            let is_ignored = pattern::fits_list(self.ignored.iter().map(String::as_str), keyword);
            return match is_ignored {
                true => Ok(()),
                false => Err(format!(
                    "{keyword:?} is no keyword of ssh_config; remove it, or name it in IgnoreUnknown before"
                )),
            };
        }
        let canonical = arguments.first().map_or("no", String::as_str);
        if keyword == "canonicalizehostname" && applies && !["no", "false"].contains(&canonical) {
            return Err("CanonicalizeHostname is supported only where the program ssh is installed; install an \
                        OpenSSH client, or write whole names"
                .into());
        }
        let mut other = Settings::default();
        let settings = if applies { &mut self.settings } else { &mut other };
        settings.set(keyword, arguments).map_err(|reason| format!("{keyword}: {reason}"))
    }

    /// The files that fit a pattern, in alphabetical order.
    fn included(&self, pattern: &str, origin: &Origin) -> Result<Vec<PathBuf>, String> {
        let path = match pattern.strip_prefix('~') {
            None => origin.directory.join(pattern),
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                self.user.home.join(rest.trim_start_matches('/'))
            }
            Some(_) => {
                return Err(format!("Include {pattern:?}: write the whole path of the directory"));
            }
        };
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found = glob::glob_with(&path.to_string_lossy(), options)
            .map_err(|cause| format!("Include {pattern:?}: {cause}"))?;
        let files: Result<Vec<PathBuf>, _> = found.take(MOST_FILES + 1).collect();
        files.map_err(|cause| format!("Include {pattern:?}: {cause}"))
    }
}

/// A missing file, or one in a missing directory.
fn is_missing(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn at_file(path: &Path, reason: String) -> SshError {
    SshError::Config { place: path.display().to_string(), reason }
}

fn text_of(path: &Path, must_be_private: bool) -> Result<String, String> {
    let unreadable = |cause: io::Error| format!("it cannot be read: {cause}");
    let file = File::open(path).map_err(unreadable)?;
    #[cfg(unix)]
    if must_be_private {
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata().map_err(unreadable)?;
        let is_mine = [0, rustix::process::getuid().as_raw()].contains(&metadata.uid());
        if !is_mine || metadata.mode() & 0o022 != 0 {
            return Err("others can write to it, so it is not used; run chmod go-w on it".into());
        }
    }
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(format!("it has more than {MOST_BYTES} bytes"));
    }
    String::from_utf8(text).map_err(|_| "it is not in UTF-8".into())
}
