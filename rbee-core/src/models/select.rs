//! Selection of the files of a repository that a worker needs.

use std::{collections::BTreeSet, fmt, path::Path};

use super::disk;
use crate::{
    error::{Error, ErrorKind, Result},
    model_ref::ModelRef,
};

/// Files next to the weights that are downloaded too, from the top directory of the repository.
const COMPANIONS: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "README.md",
];
/// Companions are small; a larger file with the name of a companion is left out.
const MAX_COMPANION: u64 = 128 << 20;
/// Weight files that can run code when they are loaded, or that no worker supports.
const NEVER: &[&str] =
    &["bin", "pt", "pth", "pkl", "pickle", "ckpt", "h5", "msgpack", "onnx", "tflite"];
/// The index of weights in several files.
const INDEX: &str = "model.safetensors.index.json";
/// The default quantization: the usual balance of size and quality.
const USUAL: &str = "Q4_K_M";
/// The most files that an error lists.
const SHOWN: usize = 20;

/// A file of a repository.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) path: String,
    pub(super) bytes: u64,
}

/// The selected files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picked {
    /// Sorted.
    pub(super) files: Vec<String>,
    /// The selected one of several files that each contain the whole model; the reference is pinned to it.
    pub(super) one: Option<String>,
}

#[derive(Debug)]
enum SelectError {
    NoFile { model: ModelRef, file: String, there: String },
    Never { model: ModelRef, file: String, there: String },
    NoWeights { model: ModelRef, there: String },
    Shards { model: ModelRef, file: String, missing: usize, of: usize },
    Several { model: ModelRef, count: usize, there: String },
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile { model, file, there } => {
                write!(f, "model {model} has no file {file:?}; there are {there}")
            }
            Self::Never { model, file, there } => write!(
                f,
                "{file:?} of model {model} is not loaded: it can run code, or is of a kind that no worker reads; allowed are \
         .safetensors and .gguf; there are {there}"
            ),
            Self::NoWeights { model, there } => {
                write!(f, "model {model} has neither safetensors nor GGUF files; there are {there}")
            }
            Self::Shards { model, file, missing, of } => {
                write!(f, "model {model} lacks {missing} of its {of} parts of {file:?}")
            }
            Self::Several { model, count, there } => write!(
                f,
                "model {model} has {count} GGUF files, and none or several of {USUAL}; name one with ::file=; there are {there}"
            ),
        }
    }
}

impl std::error::Error for SelectError {}

impl From<SelectError> for Error {
    fn from(error: SelectError) -> Self {
        let kind = match error {
            SelectError::NoFile { .. } => ErrorKind::ModelNotFound,
            SelectError::Several { .. } => ErrorKind::InvalidRequest,
            _ => ErrorKind::ModelIncompatible,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

/// Selects the files: the named one with its companions, else the safetensors, else one GGUF.
pub(super) fn pick(listed: &[Listed], file: Option<&str>, model: &ModelRef) -> Result<Picked> {
    let there: BTreeSet<&str> = listed.iter().map(|file| file.path.as_str()).collect();
    let weights = || {
        let all = listed.iter().map(|file| file.path.as_str());
        shown(all.filter(|path| is(path, "gguf") || is(path, "safetensors") || never(path)))
    };
    let model = || model.clone();
    if let Some(file) = file {
        if never(file) {
            let (model, file, there) = (model(), file.to_owned(), weights());
            return Err(SelectError::Never { model, file, there }.into());
        }
        if !there.contains(file) {
            let (model, file, there) = (model(), file.to_owned(), weights());
            return Err(SelectError::NoFile { model, file, there }.into());
        }
        let mut files = shards(file, &there, model)?;
        if !is(file, "gguf") {
            files.extend(companions(listed));
        }
        return Ok(picked(files, Some(file.to_owned())));
    }
    if let Some(mut files) = safetensors(&there, model)? {
        files.extend(companions(listed));
        return Ok(picked(files, None));
    }
    let mut ggufs: Vec<_> = there.iter().copied().filter(|path| is_gguf_model(path)).collect();
    ggufs.retain(|path| shard(path).is_none_or(|shard| shard.number == 1));
    let usual = |path: &&&str| path.to_ascii_uppercase().contains(USUAL);
    let one = match (&ggufs[..], &ggufs.iter().filter(usual).collect::<Vec<_>>()[..]) {
        ([], _) => return Err(SelectError::NoWeights { model: model(), there: weights() }.into()),
        ([only], _) => *only,
        (_, [usual]) => **usual,
        (all, _) => {
            let (model, count, there) = (model(), all.len(), shown(all.iter().copied()));
            return Err(SelectError::Several { model, count, there }.into());
        }
    };
    Ok(picked(shards(one, &there, model)?, Some(one.to_owned())))
}

fn picked(files: Vec<String>, one: Option<String>) -> Picked {
    let files: BTreeSet<_> = files.into_iter().collect();
    Picked { files: files.into_iter().collect(), one }
}

fn shown<'a>(files: impl Iterator<Item = &'a str>) -> String {
    let mut files: Vec<_> = files.collect();
    let more = files.len().saturating_sub(SHOWN);
    files.truncate(SHOWN);
    match (files.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => files.join(", "),
        (false, more) => format!("{} and {more} more", files.join(", ")),
    }
}

fn is(path: &str, extension: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case(extension))
}

fn never(path: &str) -> bool {
    NEVER.iter().any(|extension| is(path, extension))
}

/// True for a GGUF that contains a model, and not a vision projector or the statistics used for quantization.
fn is_gguf_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    is(path, "gguf") && !name.contains("mmproj") && !name.contains("imatrix")
}

/// The safetensors in the top directory of the repository; `None` if there are none.
fn safetensors(
    there: &BTreeSet<&str>,
    model: impl Fn() -> ModelRef,
) -> Result<Option<Vec<String>>> {
    if there.contains("model.safetensors") {
        return Ok(Some(vec!["model.safetensors".to_owned()]));
    }
    let own = |path: &&&str| !path.contains('/') && is(path, "safetensors");
    if there.contains(INDEX) {
        let first = there.iter().filter(own).find(|path| {
            path.starts_with("model-") && shard(path).is_some_and(|shard| shard.number == 1)
        });
        if let Some(first) = first {
            let mut files = shards(first, there, model)?;
            files.push(INDEX.to_owned());
            return Ok(Some(files));
        }
    }
    match there.iter().filter(own).collect::<Vec<_>>()[..] {
        [only] => Ok(Some(vec![(*only).to_owned()])),
        _ => Ok(None),
    }
}

/// Companions of the weights, including those that sentence-transformers stores in directories such as `1_Pooling`.
fn companions(listed: &[Listed]) -> impl Iterator<Item = String> + '_ {
    let wanted = |path: &str| match path.split_once('/') {
        None => COMPANIONS.contains(&path),
        Some((directory, name)) => {
            let numbered = directory.split_once('_').is_some_and(|(number, kind)| {
                number.parse::<u8>().is_ok() && kind.chars().all(|c| c.is_ascii_alphanumeric())
            });
            numbered && matches!(name, "config.json" | "model.safetensors")
        }
    };
    let small = listed.iter().filter(|file| file.bytes <= MAX_COMPANION);
    small.map(|file| &file.path).filter(move |path| wanted(path)).cloned()
}

/// The position of a file in a set such as `model-00001-of-00003.safetensors`.
#[derive(Clone, Copy)]
struct Shard<'a> {
    before: &'a str,
    number: usize,
    of: usize,
    end: &'a str,
}

fn shard(path: &str) -> Option<Shard<'_>> {
    let (stem, end) = path.rsplit_once('.')?;
    let (rest, of) = stem.rsplit_once("-of-")?;
    let (before, number) = rest.rsplit_once('-')?;
    let five = |digits: &str| {
        let is = digits.len() == 5 && digits.bytes().all(|c| c.is_ascii_digit());
        is.then(|| digits.parse().ok()).flatten()
    };
    Some(Shard { before, number: five(number)?, of: five(of)?, end })
}

/// The file, together with all others of its set if it belongs to one.
fn shards(file: &str, there: &BTreeSet<&str>, model: impl Fn() -> ModelRef) -> Result<Vec<String>> {
    let Some(Shard { before, of, end, .. }) = shard(file) else {
        return Ok(vec![file.to_owned()]);
    };
    let all: Vec<_> = (1..=of.min(crate::models::MAX_MODEL_FILES))
        .map(|number| format!("{before}-{number:05}-of-{of:05}.{end}"))
        .collect();
    let missing = all.iter().filter(|path| !there.contains(path.as_str())).count();
    if missing > 0 || of > crate::models::MAX_MODEL_FILES {
        let (model, file) = (model(), file.to_owned());
        return Err(SelectError::Shards { model, file, missing, of }.into());
    }
    Ok(all)
}

/// True if all files named by the index of shards exist. Without an index true, except that safetensors need a
/// configuration file next to them.
pub(super) fn is_whole(root: &Path, files: &[String]) -> bool {
    let has = |name: &str| files.iter().any(|file| file == name);
    if files.iter().any(|file| is(file, "safetensors")) && !has("config.json") {
        return false;
    }
    if !has(INDEX) {
        return true;
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let read = disk::read_small(&root.join(INDEX), MAX_COMPANION).ok().flatten();
    let index = read.and_then(|text| serde_json::from_slice::<Index>(&text).ok());
    index.is_some_and(|index| index.weight_map.values().all(|shard| has(shard)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(files: &[&str], file: Option<&str>) -> Result<Picked> {
        let listed: Vec<_> =
            files.iter().map(|path| Listed { path: (*path).to_owned(), bytes: 1 }).collect();
        super::pick(&listed, file, &"hf:bee/tiny".parse().unwrap())
    }

    #[test]
    fn of_a_repository_of_safetensors_those_and_their_companions_are_taken() {
        let all = [
            "README.md",
            "config.json",
            "pytorch_model.bin",
            "model.safetensors",
            "tokenizer.json",
            "onnx/model.onnx",
            "1_Pooling/config.json",
            "modules.json",
            "model-q4_k_m.gguf",
            "x.py",
        ];
        let picked = pick(&all, None).unwrap();
        assert_eq!(
            picked.files,
            [
                "1_Pooling/config.json",
                "README.md",
                "config.json",
                "model.safetensors",
                "modules.json",
                "tokenizer.json",
            ]
        );
        assert_eq!(picked.one, None);
    }

    #[test]
    fn shards_come_all_with_their_index_or_not_at_all() {
        let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        let picked = pick(&[a, b, INDEX, "config.json"], None).unwrap();
        assert_eq!(picked.files, ["config.json", a, b, INDEX]);
        let error = pick(&[a, INDEX], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelIncompatible);
        assert!(error.message().contains("lacks 1 of its 2 parts"), "{error}");
    }

    #[test]
    fn of_several_ggufs_the_usual_one_is_taken_and_none_by_chance() {
        let only = pick(&["a.gguf", "mmproj-a.gguf", "config.json"], None).unwrap();
        assert_eq!(only, Picked { files: vec!["a.gguf".into()], one: Some("a.gguf".into()) });
        let usual = pick(&["a-Q8_0.gguf", "a-q4_k_m.gguf"], None).unwrap();
        assert_eq!(usual.one.as_deref(), Some("a-q4_k_m.gguf"));
        let error = pick(&["a-Q8_0.gguf", "a-Q5_0.gguf"], None).unwrap_err();
        assert!(error.message().contains("there are a-Q5_0.gguf, a-Q8_0.gguf"), "{error}");
        assert_eq!(
            pick(&["a-Q8_0.gguf", "a-Q5_0.gguf"], Some("a-Q8_0.gguf")).unwrap().files,
            ["a-Q8_0.gguf"]
        );
    }

    #[test]
    fn a_gguf_in_parts_counts_as_one() {
        let (a, b) = ("q/a-Q4_K_M-00001-of-00002.gguf", "q/a-Q4_K_M-00002-of-00002.gguf");
        let picked = pick(&[b, a], None).unwrap();
        assert_eq!((picked.files, picked.one.as_deref()), (vec![a.into(), b.into()], Some(a)));
    }

    #[test]
    fn what_can_run_code_is_never_taken() {
        for (files, file) in [(&["pytorch_model.bin"][..], None), (&["a.pt"], Some("a.pt"))] {
            let error = pick(files, file).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ModelIncompatible, "{error}");
            assert!(error.message().contains(files[0]));
        }
        let missing = pick(&["a.gguf"], Some("b.gguf")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::ModelNotFound);
    }
}
