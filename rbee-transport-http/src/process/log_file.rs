//! The output of a process, in a file: a pipe would break if its reader ended before the process.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use rbee_core::private_files::open_own;

/// The size that a file may reach between two checks, in bytes.
const MOST: u64 = 4 << 20;
/// The size that a file is cut to when it has grown too large.
const KEPT: u64 = 256 << 10;
/// How much of the last output is shown, in bytes and in lines.
const SHOWN: u64 = 4 << 10;
const SHOWN_LINES: usize = 12;

/// The standard output and error of one process.
#[derive(Clone, Debug)]
pub(crate) struct LogFile(PathBuf);

impl LogFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Empties the file, for a process to write to.
    pub(crate) fn create(&self) -> io::Result<File> {
        self.remove();
        open_own(&self.0, File::options().create_new(true).append(true))
    }

    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "a log cannot be removed");
        }
    }

    /// Drops the older part if the file has grown too large.
    pub(crate) fn trim(&self) -> io::Result<()> {
        if fs::metadata(&self.0)?.len() <= MOST {
            return Ok(());
        }
        let kept = read_end(&self.0, KEPT)?;
        // The process appends, so it continues at the new end.
        let mut file = open_own(&self.0, File::options().append(true))?;
        file.set_len(0)?;
        file.write_all(b"... earlier output was removed: the log had grown too large\n")?;
        file.write_all(&kept)
    }

    /// The last lines, for people; empty if there are none.
    pub(crate) fn last_words(&self) -> String {
        let Ok(end) = read_end(&self.0, SHOWN) else { return String::new() };
        let text = String::from_utf8_lossy(&end);
        let clean = |c: &char| *c == '\t' || !c.is_control();
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.chars().filter(clean).collect::<String>())
            .filter(|line| !line.trim().is_empty())
            .collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

fn read_end(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = open_own(path, File::options().read(true))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut end = Vec::new();
    file.take(most).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stays_within_its_bound_and_keeps_the_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::new(dir.path().join("log"));
        let mut file = log.create().unwrap();
        for n in 0..200_000 {
            writeln!(file, "this is what line {n} says").unwrap();
        }
        log.trim().unwrap();
        assert!(fs::metadata(log.path()).unwrap().len() < KEPT + 100);
        write!(file, "\n\x1b[31mend\x1b[0m\n\n").unwrap();
        let words = log.last_words();
        assert!(words.ends_with("this is what line 199999 says\n[31mend[0m"), "{words}");
        assert_eq!(words.lines().count(), SHOWN_LINES);
    }
}
