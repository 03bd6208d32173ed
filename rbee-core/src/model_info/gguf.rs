//! GGUF files: the header, without the data after it.
//!
//! The header is not trusted: no count and no length is used before the bytes that it describes were read.

mod facts;
mod split;
pub(crate) mod types;
#[cfg(feature = "candle")]
mod vocabulary;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use super::files::{self, FileFault, Found, shown};

pub(super) use facts::read;
#[cfg(feature = "candle")]
pub(crate) use facts::windowed_layers;
pub(crate) use split::only_one;
#[cfg(feature = "candle")]
pub(crate) use split::{Part, open_all};
use types::TensorType;
#[cfg(feature = "candle")]
pub(crate) use vocabulary::{ByteStrings, TokenKind, Vocabulary};

/// The longest header that is read, in bytes; a vocabulary of 260,000 tokens with its merges takes 15 MB.
const MAX_HEADER_BYTES: u64 = 256 << 20;
const MAX_VALUES: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 17;
const MAX_NAME_BYTES: u64 = 1 << 16;
/// The longest text that is kept, in bytes; the longest texts are chat templates. Longer texts are ignored.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// The longest list of numbers that is kept (one number per layer); of longer lists only the length is kept.
const MAX_LIST: u64 = 4_096;
const MAX_DEPTH: u32 = 4;
const MAX_DIMENSIONS: u32 = 8;

/// A value of the header.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Whole(u64),
    /// A negative integer, or a floating-point number.
    Number(f64),
    Bool(bool),
    Text(String),
    /// Integers (1 for true), if all values of a short list are integers.
    List(Vec<u64>),
    /// The number of values that are not kept.
    Long(u64),
}

/// The value in a message.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "\"{}\"", shown(text)),
            Self::List(items) => write!(f, "a list of {} values", items.len()),
            Self::Long(count) => write!(f, "a list of {count} values"),
        }
    }
}

/// A tensor, as the header describes it.
#[derive(Debug)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    /// The number of its type.
    #[cfg_attr(not(feature = "candle"), allow(dead_code, reason = "what loads it needs it"))]
    pub(crate) kind: u32,
    /// Its type; `None` if not known here.
    pub(crate) stored: Option<TensorType>,
    /// As the file lists it: the innermost dimension first.
    #[cfg_attr(not(feature = "candle"), allow(dead_code, reason = "what loads it needs it"))]
    pub(crate) shape: Vec<u64>,
    elements: u64,
    /// From the beginning of the data, in bytes.
    pub(crate) offset: u64,
    pub(crate) bytes: Option<u64>,
}

/// The part of the file before the data.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) values: BTreeMap<String, Value>,
    pub(crate) tensors: Vec<TensorInfo>,
    /// The place of the data in the file.
    #[cfg_attr(not(feature = "candle"), allow(dead_code, reason = "what loads it needs it"))]
    pub(crate) data_start: u64,
    /// The size of the data after the header.
    data_bytes: u64,
}

impl Header {
    /// Reads the header of one file, and checks that the file contains the data that it describes.
    fn open(path: &Path) -> Found<(Self, File)> {
        let mut reader = Reader::open(path)?;
        let header = reader.header()?;
        header.check(path)?;
        Ok((header, reader.source.into_inner()))
    }

    /// Checks that tensors are within the data, and do not overlap.
    fn check(&self, path: &Path) -> Found<()> {
        let mut by_offset: Vec<&TensorInfo> = self.tensors.iter().collect();
        by_offset.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
        let mut end = 0;
        for tensor in by_offset {
            let name = shown(&tensor.name);
            if tensor.offset < end {
                let what = format!(
                    "tensor {name} begins at byte {} of the data; the one before it ends at {end}",
                    tensor.offset
                );
                return Err(FileFault::defect(path, what));
            }
            let ends = tensor.offset.checked_add(tensor.bytes.unwrap_or(0));
            if ends.is_none_or(|ends| ends > self.data_bytes) {
                let what = format!(
                    "tensor {name} is {} bytes from byte {} of the data on; the file has {} of them: it was cut off",
                    tensor.bytes.unwrap_or(0),
                    tensor.offset,
                    self.data_bytes
                );
                return Err(FileFault::defect(path, what));
            }
            end = ends.unwrap_or(end);
        }
        Ok(())
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn whole(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Whole(number) => Some(*number),
            _ => None,
        }
    }
}

struct Reader<'a> {
    path: &'a Path,
    source: BufReader<File>,
    /// Bytes that may still be read.
    left: u64,
    size: u64,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Found<Self> {
        let (file, size) = files::open(path)?;
        let source = BufReader::with_capacity(1 << 16, file);
        Ok(Self { path, source, left: size.min(MAX_HEADER_BYTES), size })
    }

    fn defect(&self, what: impl Into<String>) -> FileFault {
        FileFault::defect(self.path, what)
    }

    /// Subtracts bytes from those that may be read.
    fn claim(&mut self, bytes: u64) -> Found<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None if self.size > MAX_HEADER_BYTES => Err(self
                .defect(format!("its header has more than the {MAX_HEADER_BYTES} bytes allowed"))),
            None => Err(self.defect(format!(
                "its header continues past the end of the file of {} bytes: it was cut off or is damaged",
                self.size
            ))),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Found<[u8; N]> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        let read = self.source.read_exact(&mut bytes);
        read.map_err(|source| FileFault::unreadable(self.path, source))?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Found<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Found<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn skip(&mut self, bytes: u64) -> Found<()> {
        self.claim(bytes)?;
        let copied = io::copy(&mut (&mut self.source).take(bytes), &mut io::sink());
        copied.map(drop).map_err(|source| FileFault::unreadable(self.path, source))
    }

    /// A text of at most `most` bytes; `None` for a longer one, which is ignored.
    fn text(&mut self, most: u64) -> Found<Option<String>> {
        let length = self.u64()?;
        if length > most {
            self.skip(length)?;
            return Ok(None);
        }
        self.claim(length)?;
        let mut text = vec![0; length as usize];
        let read = self.source.read_exact(&mut text);
        read.map_err(|source| FileFault::unreadable(self.path, source))?;
        // Vocabularies contain parts of characters; the texts used here are plain.
        Ok(Some(
            String::from_utf8(text)
                .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()),
        ))
    }

    fn name(&mut self, what: &str) -> Found<String> {
        self.text(MAX_NAME_BYTES)?.ok_or_else(|| {
            self.defect(format!("the name of a {what} has more than {MAX_NAME_BYTES} bytes"))
        })
    }

    /// The numbers of tensors and of values, at the beginning of a file.
    fn counts(&mut self) -> Found<(u64, u64)> {
        let magic: [u8; 4] = self.bytes()?;
        if magic != *b"GGUF" {
            let found = magic.escape_ascii();
            return Err(
                self.defect(format!("begins with \"{found}\"; a GGUF file does with \"GGUF\""))
            );
        }
        match self.u32()? {
            2 | 3 => {}
            other if matches!(other.swap_bytes(), 2 | 3) => {
                return Err(
                    self.defect("is written for big-endian machines; allowed is little-endian")
                );
            }
            other => {
                return Err(self.defect(format!("is GGUF version {other}; allowed are 2 and 3")));
            }
        }
        let (tensor_count, value_count) = (self.u64()?, self.u64()?);
        if tensor_count > MAX_TENSORS || value_count > MAX_VALUES {
            return Err(self.defect(format!(
                "its header claims {tensor_count} tensors and {value_count} values; allowed are at most \
                 {MAX_TENSORS} and {MAX_VALUES}"
            )));
        }
        Ok((tensor_count, value_count))
    }

    fn header(&mut self) -> Found<Header> {
        let (tensor_count, value_count) = self.counts()?;
        let mut values = BTreeMap::new();
        for _ in 0..value_count {
            let key = self.name("value")?;
            let kind = self.u32()?;
            let value = self.value(&key, kind, 0)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(self.defect(format!("value {} is listed twice", shown(key))));
            }
        }
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(self.tensor()?);
        }
        let alignment = match values.get("general.alignment") {
            None => 32,
            Some(Value::Whole(bytes)) if bytes.is_power_of_two() && *bytes <= 1 << 16 => *bytes,
            Some(other) => {
                return Err(self.defect(format!(
                    "general.alignment is {other}; allowed is a power of two up to 65536"
                )));
            }
        };
        let read = self.size.min(MAX_HEADER_BYTES) - self.left;
        let data_start = read.next_multiple_of(alignment);
        let data_bytes = self.size.saturating_sub(data_start);
        Ok(Header { values, tensors, data_start, data_bytes })
    }

    fn value(&mut self, key: &str, kind: u32, depth: u32) -> Found<Value> {
        let whole =
            |number: i64| u64::try_from(number).map_or(Value::Number(number as f64), Value::Whole);
        Ok(match kind {
            0 => Value::Whole(self.bytes::<1>()?[0].into()),
            1 => whole(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Whole(u16::from_le_bytes(self.bytes()?).into()),
            3 => whole(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Whole(self.u32()?.into()),
            5 => whole(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Number(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Bool(self.bytes::<1>()? != [0]),
            8 => match self.text(MAX_TEXT_BYTES)? {
                Some(text) => Value::Text(text),
                None => Value::Long(1),
            },
            9 if depth < MAX_DEPTH => self.list(key, depth + 1)?,
            10 => Value::Whole(self.u64()?),
            11 => whole(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Number(f64::from_le_bytes(self.bytes()?)),
            _ => {
                return Err(self.defect(format!(
                    "value {} has type {kind} at depth {depth}; allowed are 0 to 12, and lists {MAX_DEPTH} deep",
                    shown(key)
                )));
            }
        })
    }

    fn list(&mut self, key: &str, depth: u32) -> Found<Value> {
        let (kind, length) = (self.u32()?, self.u64()?);
        let fixed = match kind {
            0 | 1 | 7 => Some(1),
            2 | 3 => Some(2),
            4..=6 => Some(4),
            10..=12 => Some(8),
            _ => None,
        };
        if let (Some(bytes), true) = (fixed, length > MAX_LIST) {
            // A list that long would not fit into memory anyway; a length that overflows is longer than any file.
            self.skip(length.saturating_mul(bytes))?;
            return Ok(Value::Long(length));
        }
        let mut numbers = Vec::new();
        let mut all = fixed.is_some();
        for _ in 0..length {
            if kind == 8 {
                let bytes = self.u64()?;
                self.skip(bytes)?;
                continue;
            }
            match self.value(key, kind, depth)? {
                Value::Whole(number) => numbers.push(number),
                Value::Bool(is) => numbers.push(is.into()),
                _ => all = false,
            }
        }
        Ok(if all && numbers.len() as u64 == length {
            Value::List(numbers)
        } else {
            Value::Long(length)
        })
    }

    fn tensor(&mut self) -> Found<TensorInfo> {
        let name = self.name("tensor")?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(self.defect(format!(
                "tensor {} has {dimensions} dimensions; allowed are at most {MAX_DIMENSIONS}",
                shown(&name)
            )));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64()?);
        }
        let kind = self.u32()?;
        let offset = self.u64()?;
        let stored = types::tensor_type(kind);
        let elements = shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
        let bytes = match (stored, elements) {
            (Some(stored), Some(elements)) if elements.is_multiple_of(stored.block) => {
                (elements / stored.block).checked_mul(stored.bytes).map(Some)
            }
            (None, Some(_)) => Some(None),
            _ => None,
        };
        let (Some(bytes), Some(elements)) = (bytes, elements) else {
            return Err(self.defect(format!(
                "tensor {} has shape {shape:?}, which type {} cannot have",
                shown(&name),
                stored.map_or("unknown", |stored| stored.name)
            )));
        };
        Ok(TensorInfo { name, kind, stored, shape, elements, offset, bytes })
    }
}
