//! The weights: safetensors files, checked against the configuration before anything is built from them.
//!
//! A file is read tensor by tensor into memory of its own. Mapping it instead would save the copy, but a mapped file
//! that another process shortens kills this one with a signal, and this one is somebody's application.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::{
    config::ModelConfig,
    files::{self, LoadFault, Loaded, shown},
};

/// The longest header of a safetensors file that is read, in bytes; that of a model with 400 layers has 1 MB.
const MAX_HEADER_BYTES: u64 = 16 << 20;
const MAX_SHARDS: usize = 1_024;
/// How much is read between two looks at whether the load is still wanted.
const CHUNK_BYTES: usize = 4 << 20;

/// Where one tensor lies.
#[derive(Clone, Debug)]
struct Entry {
    shard: usize,
    dtype: DType,
    shape: Vec<usize>,
    /// From the beginning of the file.
    offset: u64,
    bytes: u64,
}

/// The checked contents of a model's weight files.
#[derive(Debug)]
pub(super) struct Checkpoint {
    shards: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Entry>,
}

impl Checkpoint {
    /// Reads the headers of the one file named, or of what the directory holds.
    pub(super) fn open(dir: &Path, file: Option<&Path>) -> Loaded<Self> {
        let mut checkpoint = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        let single = file.map_or_else(|| dir.join("model.safetensors"), Path::to_owned);
        let index = dir.join("model.safetensors.index.json");
        if file.is_none() && !single.exists() && index.exists() {
            let (names, map) = shards(&index)?;
            for name in names {
                checkpoint.add(dir.join(name))?;
            }
            for (tensor, shard) in &map {
                let found = checkpoint.tensors.get(tensor);
                if found.is_none_or(|entry| !checkpoint.shards[entry.shard].0.ends_with(shard)) {
                    let what = format!(
                        "weight_map puts {} into {shard:?}; it is not there",
                        shown(tensor)
                    );
                    return Err(LoadFault::defect(&index, what));
                }
            }
        } else {
            checkpoint.add(single)?;
        }
        Ok(checkpoint)
    }

    fn add(&mut self, path: PathBuf) -> Loaded<()> {
        let (mut file, size) = files::open(&path)?;
        let shard = self.shards.len();
        for (name, entry) in header(&path, &mut file, size, shard)? {
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                let other = self.shards.get(other.shard).map_or(&path, |(path, _)| path);
                let what =
                    format!("has tensor {}, which {} has too", shown(&name), other.display());
                return Err(LoadFault::defect(&path, what));
            }
        }
        self.shards.push((path, file));
        Ok(())
    }

    /// Compares what is there with what the configuration says there must be.
    pub(super) fn check(&self, config: &ModelConfig) -> Loaded<()> {
        let file = |entry: Option<&Entry>| &*self.shards[entry.map_or(0, |entry| entry.shard)].0;
        let mut expected = HashMap::new();
        for (name, shape) in config.tensors() {
            let Some(entry) = self.tensors.get(&name) else {
                let what = format!("tensor {name} is missing; its shape must be {shape:?}");
                return Err(LoadFault::defect(file(None), what));
            };
            if entry.shape != shape {
                let what = format!(
                    "tensor {name} has shape {:?}; by config.json it must be {shape:?}",
                    entry.shape
                );
                return Err(LoadFault::defect(file(Some(entry)), what));
            }
            expected.insert(name, ());
        }
        // What is left over would change the results were it used, so it must be known to be of no use: tables that
        // old files carry along, and a copy of weights that are tied.
        let idle = |name: &str| {
            name.ends_with(".rotary_emb.inv_freq")
                || (name == "lm_head.weight" && config.llama.tie_word_embeddings)
        };
        match self.tensors.iter().find(|(name, _)| !expected.contains_key(*name) && !idle(name)) {
            Some((name, entry)) => {
                let what = format!(
                    "tensor {} is not part of a Llama model of this config.json; allowed are those that are",
                    shown(name)
                );
                Err(LoadFault::defect(file(Some(entry)), what))
            }
            None => Ok(()),
        }
    }

    /// The type that most of the weights were stored in, by the embeddings.
    pub(super) fn stored_dtype(&self) -> DType {
        self.tensors.get("model.embed_tokens.weight").map_or(DType::F32, |entry| entry.dtype)
    }

    /// Reads the tensors the model is built of. `progress` hears of the bytes done and in all, and says whether the
    /// load is still wanted.
    pub(super) fn read(
        &mut self,
        config: &ModelConfig,
        dtype: DType,
        device: &Device,
        mut progress: impl FnMut(u64, u64) -> bool,
    ) -> Loaded<HashMap<String, Tensor>> {
        let mut wanted: Vec<(String, Entry)> = config
            .tensors()
            .filter_map(|(name, _)| self.tensors.get(&name).map(|entry| (name, entry.clone())))
            .collect();
        // In the order they lie on the disk.
        wanted.sort_by_key(|(_, entry)| (entry.shard, entry.offset));
        let total = wanted.iter().map(|(_, entry)| entry.bytes).sum();
        let mut done = 0;
        let mut tensors = HashMap::with_capacity(wanted.len());
        for (name, entry) in wanted {
            let (path, file) = &mut self.shards[entry.shard];
            let unreadable =
                |source: io::Error| LoadFault::Unreadable { path: path.clone(), source };
            file.seek(SeekFrom::Start(entry.offset)).map_err(unreadable)?;
            // The header was checked against the size of the file, so this is never more than that.
            let mut raw = vec![0; entry.bytes as usize];
            for chunk in raw.chunks_mut(CHUNK_BYTES) {
                file.read_exact(chunk).map_err(unreadable)?;
                done += chunk.len() as u64;
                if !progress(done, total) {
                    return Err(LoadFault::GivenUp);
                }
            }
            let tensor = Tensor::from_raw_buffer(&raw, entry.dtype, &entry.shape, &Device::Cpu)
                .and_then(|tensor| tensor.to_device(device)?.to_dtype(dtype))
                .map_err(|source| LoadFault::DeviceMemory {
                    device: format!("{:?}", device.location()),
                    source,
                })?;
            tensors.insert(name, tensor);
        }
        Ok(tensors)
    }
}

/// The shards an index lists, each once, and which tensor lies where.
fn shards(index: &Path) -> Loaded<(Vec<String>, BTreeMap<String, String>)> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = files::read(index, MAX_HEADER_BYTES)?;
    let Index { weight_map } = serde_json::from_slice(&bytes)
        .map_err(|source| LoadFault::malformed(index, "is not an index of weights", source))?;
    let mut names: Vec<String> = weight_map.values().cloned().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > MAX_SHARDS {
        let what = format!("weight_map names {} files; allowed are 1 to {MAX_SHARDS}", names.len());
        return Err(LoadFault::defect(index, what));
    }
    for name in &names {
        // A name with a separator of any system, or with parts, could lead out of the directory.
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        let odd = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
        if !plain || name.contains(odd) || !name.ends_with(".safetensors") {
            let what = format!(
                "weight_map names the file {:?}; allowed are names of .safetensors files beside it",
                shown(name)
            );
            return Err(LoadFault::defect(index, what));
        }
    }
    Ok((names, weight_map))
}

/// The JSON at the head of a safetensors file. Written by hand for two things a map would lose: a name that stands
/// there twice, and what exactly is wrong with one tensor.
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
                    return Err(A::Error::custom(format!("tensor {name} stands there twice")));
                }
                Ok(Header(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn header(path: &Path, file: &mut File, size: u64, shard: usize) -> Loaded<Vec<(String, Entry)>> {
    let unreadable = |source: io::Error| LoadFault::Unreadable { path: path.to_owned(), source };
    let defect = |what: String| LoadFault::defect(path, what);
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
        .map_err(|source| LoadFault::malformed(path, "its header is malformed", source))?;
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

/// The format allows neither holes nor overlaps: each byte belongs to one tensor.
fn contiguous(entries: &[(String, Entry)], data: u64, size: u64) -> Result<(), String> {
    let mut by_offset: Vec<&(String, Entry)> = entries.iter().collect();
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

/// One tensor's line of the header, against the bytes there are.
fn entry(value: &Value, data: u64) -> Result<Entry, String> {
    let field = |key: &str| value.get(key).unwrap_or(&Value::Null);
    let dtype = match field("dtype").as_str() {
        Some("F32") => DType::F32,
        Some("F16") => DType::F16,
        Some("BF16") => DType::BF16,
        _ => {
            let found = shown(field("dtype"));
            return Err(format!("dtype is {found}; allowed are F32, F16 and BF16"));
        }
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
    let bytes = elements.and_then(|count| count.checked_mul(dtype.size_in_bytes() as u64));
    if bytes != Some(end - begin) {
        return Err(format!(
            "data_offsets is {offsets:?}, {} bytes; that does not make shape {shape:?} of {dtype:?}",
            end - begin
        ));
    }
    let shape = shape.iter().map(|side| *side as usize).collect();
    Ok(Entry { shard: 0, dtype, shape, offset: begin, bytes: end - begin })
}
