//! GGUF models in several files, such as `name-00001-of-00003.gguf`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::Header;
use crate::model_info::files::{FileFault, Found, shown};

/// The most entries of a directory that are checked.
const MAX_ENTRIES: usize = 10_000;
/// The most files of a model.
const MAX_PARTS: u64 = 1_024;

/// The parts of a file name: its beginning, the number of the file (from 1), and the number of files.
fn parse(path: &Path) -> Option<(&str, u64, u64)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let number_of = |text: &str| {
        let digits = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (number, count) = (number_of(number)?, number_of(count)?);
    (1..=count).contains(&number).then_some((prefix, number, count))
}

/// A file of a model, with its header.
#[derive(Debug)]
pub(crate) struct Part {
    #[cfg_attr(not(feature = "candle"), allow(dead_code, reason = "what loads it needs it"))]
    pub(crate) path: PathBuf,
    #[cfg_attr(not(feature = "candle"), allow(dead_code, reason = "what loads it needs it"))]
    pub(crate) file: File,
    pub(crate) header: Header,
}

/// Opens the files of the model of which this is one; never none.
pub(crate) fn open_all(path: &Path) -> Found<Vec<Part>> {
    let (header, file) = Header::open(path)?;
    let parts = header.whole("split.count").unwrap_or(1);
    if parts <= 1 {
        return Ok(vec![Part { path: path.to_owned(), file, header }]);
    }
    let mut opened = Vec::new();
    for (number, path) in (0_u64..).zip(all_parts(path, parts)?) {
        let (header, file) = Header::open(&path)?;
        let says = (header.whole("split.no"), header.whole("split.count"));
        if says != (Some(number), Some(parts)) {
            let what = format!("is not file {} of {parts} by its header", number + 1);
            return Err(FileFault::defect(&path, what));
        }
        opened.push(Part { path, file, header });
    }
    let tensors: usize = opened.iter().map(|part| part.header.tensors.len()).sum();
    if let Some(count) = opened.first().and_then(|first| first.header.whole("split.tensors.count"))
        && count != tensors as u64
    {
        let what = format!("is a model of {count} tensors; its files have {tensors}");
        return Err(FileFault::defect(path, what));
    }
    Ok(opened)
}

/// All files of the model of which this is one of `count`.
fn all_parts(path: &Path, count: u64) -> Found<Vec<PathBuf>> {
    let Some((prefix, _, named)) = parse(path).filter(|(_, _, named)| *named == count) else {
        let what = format!(
            "is one of {count} files by its header; its name must end with -00001-of-{count:05}.gguf or its like"
        );
        return Err(FileFault::defect(path, what));
    };
    if named > MAX_PARTS {
        let what = format!("is one of {count} files; allowed are at most {MAX_PARTS}");
        return Err(FileFault::defect(path, what));
    }
    let name = |number| path.with_file_name(format!("{prefix}-{number:05}-of-{named:05}.gguf"));
    Ok((1..=named).map(name).collect())
}

/// The model in a directory: its only `.gguf` file, or the first file of a set. Image projectors, which some models
/// have next to them, are not models.
pub(crate) fn only_one(dir: &Path) -> Found<Option<PathBuf>> {
    let unreadable = |source| FileFault::unreadable(dir, source);
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)?.take(MAX_ENTRIES) {
        let path = entry.map_err(unreadable)?.path();
        let projector = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().contains("mmproj"));
        if path.extension().is_some_and(|extension| extension == "gguf") && !projector {
            found.push(path);
        }
    }
    found.sort();
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let set = |path: &Path| parse(path).map(|(prefix, _, count)| (prefix.to_owned(), count));
    let wanted = set(first);
    if found.len() > 1 && (wanted.is_none() || found.iter().any(|path| set(path) != wanted)) {
        let names: Vec<String> = found
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        let what = format!(
            "has {} models; name one of the files: {}",
            found.len(),
            shown(names.join(", "))
        );
        return Err(FileFault::defect(dir, what));
    }
    Ok(found.into_iter().next())
}
