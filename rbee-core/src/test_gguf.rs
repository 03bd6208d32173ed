//! Writes GGUF files for tests.
//!
//! ```
//! use rbee_core::test_gguf::{GgufFile, GgufType};
//!
//! let file = GgufFile::new("llama")
//!     .with("llama.block_count", 1_u32)
//!     .with("tokenizer.ggml.tokens", vec!["<s>", "bee"])
//!     .tensor("token_embd.weight", &[2, 4], GgufType::F32, vec![0; 32]);
//! assert!(file.to_bytes().starts_with(b"GGUF"));
//! ```

/// A GGUF file of version 3: metadata, and tensors one after the other.
///
/// Nothing is checked, so that tests can write damaged files.
#[derive(Clone, Debug)]
pub struct GgufFile {
    metadata: Vec<(String, GgufValue)>,
    tensors: Vec<Tensor>,
    alignment: usize,
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    kind: u32,
    bytes: Vec<u8>,
    /// Where the data is said to begin; `None`: where it begins.
    offset: Option<u64>,
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum GgufValue {
    /// Type 2.
    U16(u16),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 6.
    F32(f32),
    /// Type 7.
    Bool(bool),
    /// Type 8.
    Text(String),
    /// Type 9, of values of one type. An empty array is one of texts.
    Array(Vec<Self>),
    /// Type 10.
    U64(u64),
    /// The type with this number. Its bytes may be those of no value.
    Raw(u32, Vec<u8>),
}

/// The data type of a tensor, by its number in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are those of the format")]
pub enum GgufType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2K = 10,
    Q3K = 11,
    Q4K = 12,
    Q5K = 13,
    Q6K = 14,
    Bf16 = 30,
}

impl GgufFile {
    /// A file without tensors, and with one metadata value: `general.architecture`.
    pub fn new(architecture: &str) -> Self {
        Self::empty().with("general.architecture", architecture)
    }

    /// A file without tensors and metadata, as parts of split models can be.
    pub fn empty() -> Self {
        Self { metadata: Vec::new(), tensors: Vec::new(), alignment: 32 }
    }

    /// Adds a metadata value.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<GgufValue>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Aligns the data of the tensors to this, a power of two, and states it in the metadata.
    #[must_use]
    pub fn with_alignment(mut self, alignment: u32) -> Self {
        self.alignment = alignment as usize;
        self.with("general.alignment", alignment)
    }

    /// Adds a tensor. The outermost dimension of the shape is the first, so a matrix is `[rows, columns]`.
    #[must_use]
    pub fn tensor(self, name: &str, shape: &[usize], kind: GgufType, bytes: Vec<u8>) -> Self {
        self.tensor_of_number(name, shape, kind as u32, bytes)
    }

    /// Adds a tensor of the data type with this number, which may be one that nothing supports.
    #[must_use]
    pub fn tensor_of_number(
        mut self,
        name: &str,
        shape: &[usize],
        kind: u32,
        bytes: Vec<u8>,
    ) -> Self {
        let (name, shape) = (name.into(), shape.into());
        self.tensors.push(Tensor { name, shape, kind, bytes, offset: None });
        self
    }

    /// Adds a tensor without data. The file says that its data begins at this offset.
    #[must_use]
    pub fn tensor_at(mut self, name: &str, shape: &[usize], kind: GgufType, offset: u64) -> Self {
        let (name, shape) = (name.into(), shape.into());
        let (kind, bytes, offset) = (kind as u32, Vec::new(), Some(offset));
        self.tensors.push(Tensor { name, shape, kind, bytes, offset });
        self
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            out.extend(value.kind().to_le_bytes());
            value.put(&mut out);
        }
        let mut offset = 0_usize;
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            // The format begins with the innermost dimension.
            tensor.shape.iter().rev().for_each(|side| out.extend((*side as u64).to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset as u64).to_le_bytes());
            offset = (offset + tensor.bytes.len()).next_multiple_of(self.alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&tensor.bytes);
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out
    }
}

impl GgufValue {
    /// An array that claims to have so many values of the type with this number, whatever its bytes are.
    pub fn raw_array(kind: u32, length: u64, bytes: &[u8]) -> Self {
        let start = [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat();
        Self::Raw(9, [&start, bytes].concat())
    }

    fn kind(&self) -> u32 {
        match self {
            Self::U16(_) => 2,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::Raw(kind, _) => *kind,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::U16(value) => out.extend(value.to_le_bytes()),
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::I32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push((*value).into()),
            Self::Text(value) => put_text(out, value),
            Self::U64(value) => out.extend(value.to_le_bytes()),
            Self::Raw(_, bytes) => out.extend(bytes),
            Self::Array(values) => {
                out.extend(values.first().map_or(8, Self::kind).to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| value.put(out));
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

macro_rules! from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for GgufValue {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from! {
    u16 => U16, u32 => U32, i32 => I32, f32 => F32, bool => Bool, &str => Text, String => Text, u64 => U64,
}

impl<T: Into<GgufValue>> From<Vec<T>> for GgufValue {
    fn from(values: Vec<T>) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}
