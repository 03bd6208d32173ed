//! Safetensors files: their headers, checked against the file sizes before they are used.
//!
//! A file that was truncated during a copy is detected here, before memory is allocated for it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::files::{self, FileFault, Found, shown};

/// The longest header of a safetensors file that is read, in bytes; that of a model with 400 layers has 1 MB.
const MAX_HEADER_BYTES: u64 = 16 << 20;
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const MAX_SHARDS: usize = 1_024;

/// The location of one tensor.
#[derive(Clone, Debug)]
pub(crate) struct TensorEntry {
    /// The index of its file.
    pub(crate) shard: usize,
    /// The type as the format names it, for example `BF16`.
    pub(crate) dtype: Box<str>,
    #[cfg_attr(not(feature = "candle"), allow(dead_code, reason = "what loads it needs it"))]
    pub(crate) shape: Vec<usize>,
    pub(crate) elements: u64,
    /// From the beginning of the file, in bytes.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// The checked contents of a model's weight files.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    pub(crate) shards: Vec<(PathBuf, File)>,
    pub(crate) tensors: BTreeMap<String, TensorEntry>,
}

impl WeightFiles {
    /// True if there are such files in this directory.
    pub(crate) fn are_in(dir: &Path) -> bool {
        dir.join(SINGLE).exists() || dir.join(INDEX).exists()
    }

    /// Reads the headers of the named file, or of the files in the directory.
    pub(crate) fn open(dir: &Path, file: Option<&Path>) -> Found<Self> {
        let mut checkpoint = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        let single = file.map_or_else(|| dir.join(SINGLE), Path::to_owned);
        let index = dir.join(INDEX);
        if file.is_none() && !single.exists() && index.exists() {
            let (names, map) = shards(&index)?;
            for name in names {
                checkpoint.add(dir.join(name))?;
            }
            for (tensor, shard) in &map {
                let found = checkpoint.tensors.get(tensor);
                if found.is_none_or(|entry| !checkpoint.shards[entry.shard].0.ends_with(shard)) {
                    let what = format!(
                        "weight_map puts {} into {shard:?}; it does not exist",
                        shown(tensor)
                    );
                    return Err(FileFault::defect(&index, what));
                }
            }
        } else {
            checkpoint.add(single)?;
        }
        Ok(checkpoint)
    }

    fn add(&mut self, path: PathBuf) -> Found<()> {
        let (mut file, size) = files::open(&path)?;
        let shard = self.shards.len();
        for (name, entry) in header(&path, &mut file, size, shard)? {
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                let other = self.shards.get(other.shard).map_or(&path, |(path, _)| path);
                let what =
                    format!("has tensor {}, which {} has too", shown(&name), other.display());
                return Err(FileFault::defect(&path, what));
            }
        }
        self.shards.push((path, file));
        Ok(())
    }
}

/// The shards in an index, each once, and the shard of each tensor.
fn shards(index: &Path) -> Found<(Vec<String>, BTreeMap<String, String>)> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = files::read(index, MAX_HEADER_BYTES)?;
    let Index { weight_map } = serde_json::from_slice(&bytes)
        .map_err(|source| FileFault::malformed(index, "is not an index of weights", source))?;
    let mut names: Vec<String> = weight_map.values().cloned().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > MAX_SHARDS {
        let what = format!("weight_map names {} files; allowed are 1 to {MAX_SHARDS}", names.len());
        return Err(FileFault::defect(index, what));
    }
    for name in &names {
        // A name with a separator of any system, or with several parts, could lead out of the directory.
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        let odd = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
        if !plain || name.contains(odd) || !name.ends_with(".safetensors") {
            let what = format!(
                "weight_map names the file {:?}; allowed are names of .safetensors files next to it",
                shown(name)
            );
            return Err(FileFault::defect(index, what));
        }
    }
    Ok((names, weight_map))
}

/// The JSON header of a safetensors file. Parsed with custom code for two things that a map would lose: a name that
/// occurs twice, and the exact defect of a tensor.
struct Header(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut pairs: Vec<(String, Value)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        pairs.push((name, map.next_value()?));
                    }
                }
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                    let name = shown(&pair[0].0);
                    return Err(A::Error::custom(format!("tensor {name} is listed twice")));
                }
                Ok(Header(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn header(
    path: &Path,
    file: &mut File,
    size: u64,
    shard: usize,
) -> Found<Vec<(String, TensorEntry)>> {
    let unreadable = |source| FileFault::unreadable(path, source);
    let defect = |what: String| FileFault::defect(path, what);
    if size < 8 {
        return Err(defect(format!("has {size} bytes; a safetensors file has at least 8")));
    }
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    let most = MAX_HEADER_BYTES.min(size - 8);
    if length > most {
        return Err(defect(format!(
            "its header claims {length} bytes; allowed are at most {most} in this file of {size}"
        )));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(unreadable)?;
    let Header(pairs) = serde_json::from_slice(&text)
        .map_err(|source| FileFault::malformed(path, "its header is malformed", source))?;
    let data = 8 + length;
    let mut entries = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let mut entry = entry(&value, size - data)
            .map_err(|what| defect(format!("tensor {}: {what}", shown(&name))))?;
        entry.offset += data;
        entry.shard = shard;
        entries.push((name, entry));
    }
    contiguous(&entries, data, size).map_err(defect)?;
    Ok(entries)
}

/// Checks that there are no holes or overlaps, which the format forbids: each byte belongs to one tensor.
fn contiguous(entries: &[(String, TensorEntry)], data: u64, size: u64) -> Result<(), String> {
    let mut by_offset: Vec<&(String, TensorEntry)> = entries.iter().collect();
    by_offset.sort_by_key(|(_, entry)| (entry.offset, entry.bytes));
    let mut end = data;
    for (name, entry) in by_offset {
        if entry.offset != end {
            return Err(format!(
                "tensor {} begins at byte {}; the one before it ends at {end}",
                shown(name),
                entry.offset
            ));
        }
        end += entry.bytes;
    }
    if end != size {
        return Err(format!("has {size} bytes; its tensors end at {end}"));
    }
    Ok(())
}

/// The header entry of one tensor, checked against the size of the data.
fn entry(value: &Value, data: u64) -> Result<TensorEntry, String> {
    let field = |key: &str| value.get(key).unwrap_or(&Value::Null);
    let Some(dtype) = field("dtype").as_str().filter(|name| name.len() <= 32) else {
        return Err(format!("dtype is {}; allowed is a name", shown(field("dtype"))));
    };
    let numbers = |key: &str| -> Result<Vec<u64>, String> {
        field(key)
            .as_array()
            .filter(|list| list.len() <= 8)
            .and_then(|list| list.iter().map(Value::as_u64).collect())
            .ok_or_else(|| {
                let found = shown(field(key));
                format!("{key} is {found}; allowed is a list of up to 8 whole numbers")
            })
    };
    let shape = numbers("shape")?;
    let offsets = numbers("data_offsets")?;
    let &[begin, end] = &offsets[..] else {
        return Err(format!("data_offsets is {offsets:?}; allowed are two numbers"));
    };
    if begin > end || end > data {
        return Err(format!(
            "data_offsets is {offsets:?}; allowed are two rising numbers up to {data}"
        ));
    }
    let elements = shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
    // The size of a type that is not known here cannot be computed; its bytes are in the file anyway.
    if let Some(bits) = bits(dtype) {
        let bits = elements.and_then(|count| count.checked_mul(bits));
        if bits != (end - begin).checked_mul(8) {
            return Err(format!(
                "data_offsets is {offsets:?}, {} bytes; that does not make shape {shape:?} of {dtype}",
                end - begin
            ));
        }
    }
    let elements = elements.ok_or_else(|| format!("no tensor has shape {shape:?}"))?;
    let shape = shape.iter().map(|side| *side as usize).collect();
    Ok(TensorEntry {
        shard: 0,
        dtype: dtype.into(),
        shape,
        elements,
        offset: begin,
        bytes: end - begin,
    })
}

/// The number of bits per element; `None` if the type is not known here.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "BOOL" | "I8" | "U8" => 8,
        _ if dtype.starts_with("F8_") => 8,
        "F6_E2M3" | "F6_E3M2" => 6,
        "F4" => 4,
        _ => return None,
    })
}

/// True for a type of plain numbers, each of which is a parameter of the model.
pub(crate) fn is_float(dtype: &str) -> bool {
    dtype.starts_with('F') || dtype == "BF16"
}
