//! GGUF files that the tests write.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

/// The values of a header; there are no tensors.
#[derive(Clone, Default)]
pub(super) struct Header {
    bytes: Vec<u8>,
    count: u64,
}

impl Header {
    fn string(&mut self, text: &[u8]) {
        self.bytes.extend((text.len() as u64).to_le_bytes());
        self.bytes.extend(text);
    }

    fn value(mut self, key: &str, kind: u32, value: impl FnOnce(&mut Self)) -> Self {
        self.string(key.as_bytes());
        self.bytes.extend(kind.to_le_bytes());
        value(&mut self);
        self.count += 1;
        self
    }

    pub(super) fn text(self, key: &str, text: &str) -> Self {
        self.value(key, 8, |header| header.string(text.as_bytes()))
    }

    pub(super) fn number(self, key: &str, number: u32) -> Self {
        self.value(key, 4, |header| header.bytes.extend(number.to_le_bytes()))
    }

    pub(super) fn flag(self, key: &str, value: bool) -> Self {
        self.value(key, 7, |header| header.bytes.push(value.into()))
    }

    pub(super) fn list(self, key: &str, kind: u32, length: u64, bytes: &[u8]) -> Self {
        self.value(key, 9, |header| {
            header.bytes.extend(kind.to_le_bytes());
            header.bytes.extend(length.to_le_bytes());
            header.bytes.extend(bytes);
        })
    }

    pub(super) fn texts<T: AsRef<[u8]>>(self, key: &str, texts: &[T]) -> Self {
        let mut list = Self::default();
        texts.iter().for_each(|text| list.string(text.as_ref()));
        self.list(key, 8, texts.len() as u64, &list.bytes)
    }

    pub(super) fn integers(self, key: &str, numbers: &[i32]) -> Self {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.list(key, 5, numbers.len() as u64, &bytes)
    }

    pub(super) fn floats(self, key: &str, numbers: &[f32]) -> Self {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.list(key, 6, numbers.len() as u64, &bytes)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(0_u64.to_le_bytes());
        file.extend(self.count.to_le_bytes());
        file.extend(&self.bytes);
        file
    }

    /// Writes the file, cut off after `most` bytes.
    pub(super) fn write(&self, most: usize) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bee.gguf");
        let bytes = self.bytes();
        fs::write(&path, &bytes[..bytes.len().min(most)]).unwrap();
        (dir, path)
    }
}
