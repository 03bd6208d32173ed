//! The output file and the error file of a batch: one result in each line, appended as the requests end.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use rbee_core::private_files::open_own;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::wire::batches::BatchResultError;

/// The longest line that is read. Nobody writes a longer one: it would not fit into the memory of a worker's answer.
const LONGEST: u64 = 1 << 30;

/// The result of one request, as it is written.
#[derive(Serialize)]
pub(super) struct ResultLine<'a> {
    pub(super) id: &'a str,
    pub(super) custom_id: &'a str,
    pub(super) response: Option<Response<'a>>,
    pub(super) error: Option<BatchResultError>,
}

/// The response to one request, with its body as the route sends it.
#[derive(Serialize)]
pub(super) struct Response<'a> {
    pub(super) status_code: u16,
    pub(super) request_id: &'a str,
    pub(super) body: &'a RawValue,
}

impl ResultLine<'_> {
    /// The line, with its end.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Text and JSON can always be written.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// The part of a result by which it is recognized.
#[derive(Deserialize)]
struct Known<'a> {
    id: &'a str,
}

/// A file of results that is being written. A clone is another handle on it.
#[derive(Clone, Debug)]
pub(super) struct ResultFile {
    path: Arc<Path>,
    file: Arc<File>,
    /// The length of all whole lines.
    bytes: u64,
}

impl ResultFile {
    /// Opens a file, or creates it, and calls `found` with the id of each result in it. A result that was cut off by the
    /// end of the process, and everything after it, is removed. `found` returns false for an id that is not of this
    /// batch, which counts as cut off too.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) fn open(path: PathBuf, mut found: impl FnMut(&str) -> bool) -> io::Result<Self> {
        let mut options = File::options();
        let file = open_own(&path, options.read(true).write(true).create(true).truncate(false))?;
        let (mut reader, mut line, mut bytes) = (BufReader::new(&file), Vec::new(), 0);
        loop {
            line.clear();
            let read = (&mut reader).take(LONGEST).read_until(b'\n', &mut line)?;
            let known = serde_json::from_slice::<Known<'_>>(&line);
            if line.last() != Some(&b'\n') || !known.is_ok_and(|known| found(known.id)) {
                break;
            }
            bytes += read as u64;
        }
        drop(reader);
        file.set_len(bytes)?;
        Ok(Self { path: path.into(), file: Arc::new(file), bytes })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The length of all whole lines.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends whole lines: all of them or none.
    ///
    /// # Errors
    /// The error of the system; it can be tried again.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = append(&self.file, self.bytes, lines);
        match written {
            Ok(()) => self.bytes += lines.len() as u64,
            // What was written of them would be a part of the next line. If that fails too, the next try overwrites it.
            Err(_) => drop(self.file.set_len(self.bytes)),
        }
        written
    }

    /// Waits until everything is on the disk, or removes the file if it has no results.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) fn finish(&self) -> io::Result<()> {
        match self.bytes {
            0 => super::disk::remove(&self.path),
            bytes => {
                self.file.set_len(bytes)?;
                self.file.sync_all()
            }
        }
    }
}

fn append(mut file: &File, at: u64, lines: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str) -> String {
        format!("{{\"id\":\"{id}\",\"custom_id\":\"x\"}}\n")
    }

    fn open(path: &Path) -> (ResultFile, Vec<String>) {
        let mut ids = Vec::new();
        let file = ResultFile::open(path.to_owned(), |id| {
            ids.push(id.to_owned());
            id.starts_with("ours")
        });
        (file.unwrap(), ids)
    }

    #[test]
    fn a_result_that_was_cut_off_is_removed_and_the_next_one_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.jsonl");
        let whole = [line("ours_1"), line("ours_2")].concat();
        for torn in
            ["", "{\"id\":\"ours_3\"", "{\"id\":\"ou\n", "\0\0\0", "\0\n\0\n", &line("theirs_1")]
        {
            std::fs::write(&path, format!("{whole}{torn}")).unwrap();
            let (mut file, ids) = open(&path);
            assert_eq!(ids[..2], ["ours_1", "ours_2"], "{torn:?}");
            assert_eq!(file.bytes(), whole.len() as u64);
            file.append(line("ours_3").as_bytes()).unwrap();
            file.finish().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text, format!("{whole}{}", line("ours_3")), "{torn:?}");
        }
    }

    #[test]
    fn a_file_without_results_is_removed_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.jsonl");
        let (file, ids) = open(&path);
        assert!(ids.is_empty() && path.exists());
        file.finish().unwrap();
        file.finish().unwrap();
        assert!(!path.exists());
    }

    /// A disk that becomes full in the middle of a line.
    #[cfg(target_os = "linux")]
    #[test]
    fn lines_that_do_not_fit_on_the_disk_are_appended_as_a_whole_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.jsonl");
        let (mut file, _) = open(&path);
        file.append(line("ours_1").as_bytes()).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let good = std::mem::replace(&mut file.file, Arc::new(full));
        let error = file.append(line("ours_2").as_bytes()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.file = good;
        // What a part of the line would have left behind.
        append(&file.file, file.bytes, b"{\"id\":").unwrap();
        file.append(line("ours_2").as_bytes()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, [line("ours_1"), line("ours_2")].concat());
    }
}
