//! GGUF files that the tests write.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::test_gguf::{GgufFile, GgufValue};

/// A list of texts that need not be UTF-8.
pub(super) fn texts(texts: &[&[u8]]) -> GgufValue {
    let text = |text: &&[u8]| [&(text.len() as u64).to_le_bytes()[..], text].concat();
    let bytes: Vec<u8> = texts.iter().flat_map(text).collect();
    GgufValue::raw_array(8, texts.len() as u64, &bytes)
}

/// Writes a file, cut off after `most` bytes.
pub(super) fn write(file: &GgufFile, most: usize) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bee.gguf");
    let bytes = file.to_bytes();
    fs::write(&path, &bytes[..bytes.len().min(most)]).unwrap();
    (dir, path)
}
