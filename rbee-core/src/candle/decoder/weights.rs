//! The weight files of a model, checked before anything is loaded, and loaded without a copy.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use memmap2::MmapMut;
use rbee_decoder::matrix::{StoredMatrix, WeightType};

use super::{
    map,
    plan::{Plan, TensorRef},
};
use crate::{
    candle::files::{FileFault, LoadFault, Loaded, shown},
    model_info::{
        gguf,
        safetensors::{TensorEntry, WeightFiles},
    },
};

/// The bytes that are read between two checks whether the load was cancelled.
const CHUNK_BYTES: usize = 4 << 20;
/// Every page of a mapping is touched; no system has smaller pages.
const PAGE_BYTES: usize = 4_096;
/// The types in safetensors files that are supported.
const PLAIN: [WeightType; 3] = [WeightType::F32, WeightType::F16, WeightType::Bf16];

/// A tensor in the files.
#[derive(Clone, Debug)]
struct Stored {
    /// The index of its file.
    file: usize,
    /// `Err` with the name of a type that is not supported.
    kind: Result<WeightType, Box<str>>,
    /// The outermost dimension first.
    shape: Vec<usize>,
    /// From the beginning of the file, in bytes.
    offset: u64,
    /// `None` if the type has no known size.
    bytes: Option<u64>,
}

/// The opened weight files of a model, and the tensors in them. Nothing is loaded yet.
#[derive(Debug)]
pub(in crate::candle) struct StoredWeights {
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Stored>,
    /// The types that the format can have.
    allowed: &'static [WeightType],
}

/// How weights get into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::candle) enum Residence {
    /// The files are mapped: their pages are shared with the cache of the operating system. The files must not be
    /// changed in place while the model is loaded.
    #[default]
    Mapped,
    /// The weights are copied, so that changes of the files have no effect.
    Copied,
}

impl StoredWeights {
    /// Opens the named safetensors file, or the files in the directory.
    pub(in crate::candle) fn safetensors(dir: &Path, file: Option<&Path>) -> Loaded<Self> {
        let WeightFiles { shards, tensors } = WeightFiles::open(dir, file)?;
        let stored = |entry: TensorEntry| Stored {
            file: entry.shard,
            kind: WeightType::of(&entry.dtype)
                .filter(|kind| PLAIN.contains(kind))
                .ok_or(entry.dtype),
            shape: entry.shape,
            offset: entry.offset,
            bytes: Some(entry.bytes),
        };
        let tensors = tensors.into_iter().map(|(name, entry)| (name, stored(entry))).collect();
        Ok(Self { files: shards, tensors, allowed: &PLAIN })
    }

    /// Takes the parts of a GGUF model.
    pub(in crate::candle) fn gguf(parts: Vec<gguf::Part>) -> Loaded<Self> {
        let mut files = Vec::with_capacity(parts.len());
        let mut tensors = BTreeMap::new();
        for (file, part) in parts.into_iter().enumerate() {
            for tensor in part.header.tensors {
                let kind = match tensor.stored {
                    Some(stored) => WeightType::of(stored.name).ok_or(stored.name.into()),
                    None => Err(format!("number {}", tensor.kind).into()),
                };
                let mut shape = Vec::with_capacity(tensor.shape.len());
                for side in tensor.shape.iter().rev() {
                    shape.push(usize::try_from(*side).unwrap_or(usize::MAX));
                }
                // The format has no dimensions of length 1 at the end, and so none here at the beginning.
                let offset = part.header.data_start.saturating_add(tensor.offset);
                let stored = Stored { file, kind, shape, offset, bytes: tensor.bytes };
                if tensors.insert(tensor.name.clone(), stored).is_some() {
                    let what = format!("tensor {} is listed twice", shown(&tensor.name));
                    return Err(LoadFault::defect(&part.path, what));
                }
            }
            files.push((part.path, part.file));
        }
        Ok(Self { files, tensors, allowed: &WeightType::ALL })
    }

    /// Tensors without files.
    #[cfg(test)]
    pub(in crate::candle) fn listed(tensors: &[(&str, &[usize])]) -> Self {
        let stored = |shape: &[usize]| Stored {
            file: 0,
            kind: Ok(WeightType::F32),
            shape: shape.to_vec(),
            offset: 0,
            bytes: Some(4 * shape.iter().product::<usize>() as u64),
        };
        let tensors =
            tensors.iter().map(|(name, shape)| ((*name).to_owned(), stored(shape))).collect();
        Self { files: Vec::new(), tensors, allowed: &WeightType::ALL }
    }

    /// True if there is a tensor with this name.
    pub(in crate::candle) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names of all tensors.
    pub(in crate::candle) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, the outermost dimension first.
    pub(in crate::candle) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|stored| &*stored.shape)
    }

    /// The type of a tensor, if it is supported.
    pub(in crate::candle) fn kind(&self, name: &str) -> Option<WeightType> {
        self.tensors.get(name)?.kind.clone().ok()
    }

    /// The file of a tensor; the first file if there is no such tensor.
    pub(in crate::candle) fn path(&self, name: &str) -> &Path {
        let file = self.tensors.get(name).map_or(0, |stored| stored.file);
        self.files.get(file).map_or(Path::new(""), |(path, _)| path)
    }

    /// A short vector that is needed before the load, read now; `None` if there is no such tensor.
    pub(in crate::candle) fn read_vector(
        &self,
        name: &str,
        length: usize,
    ) -> Loaded<Option<Vec<f32>>> {
        let Some(stored) = self.tensors.get(name) else {
            return Ok(None);
        };
        let wanted = TensorRef { name: name.to_owned(), shape: vec![length], rows: 0..length };
        let kind = self.check_tensor(&wanted, stored, &PLAIN)?;
        let Some((path, file)) = self.files.get(stored.file) else {
            return Ok(None);
        };
        let mut bytes = vec![0; kind.bytes(length)];
        read_at(file, stored.offset, &mut bytes)
            .map_err(|source| FileFault::unreadable(path, source))?;
        Ok(Some(to_f32(kind, &bytes)))
    }

    /// Compares the tensors in the files with those that a model of this `family` has by its configuration.
    ///
    /// An additional tensor could change the results, so `idle` must know that it has no effect.
    pub(in crate::candle) fn check(
        &self,
        plan: &Plan,
        family: &str,
        idle: impl Fn(&str) -> bool,
    ) -> Loaded<()> {
        let mut expected = HashSet::new();
        for wanted in plan.tensors() {
            let Some(stored) = self.tensors.get(&wanted.name) else {
                let what = format!(
                    "tensor {} is missing; its shape must be {:?}",
                    wanted.name, wanted.shape
                );
                return Err(LoadFault::defect(self.path(""), what));
            };
            let allowed = if wanted.shape.len() == 1 { &PLAIN } else { self.allowed };
            self.check_tensor(wanted, stored, allowed)?;
            expected.insert(&*wanted.name);
        }
        match self.names().find(|name| !expected.contains(name) && !idle(name)) {
            None => Ok(()),
            Some(name) => {
                let what = format!(
                    "tensor {} is not part of a {family} model of this configuration; allowed are those that are",
                    shown(name)
                );
                Err(LoadFault::defect(self.path(name), what))
            }
        }
    }

    fn check_tensor(
        &self,
        wanted: &TensorRef,
        stored: &Stored,
        allowed: &[WeightType],
    ) -> Loaded<WeightType> {
        let TensorRef { name, shape, .. } = wanted;
        let defect = |what: String| Err(LoadFault::defect(self.path(name), what));
        if stored.shape != *shape {
            let what = format!(
                "tensor {name} has shape {:?}; by the configuration it must be {shape:?}",
                stored.shape
            );
            return defect(what);
        }
        let supported = stored.kind.as_ref().ok().filter(|kind| allowed.contains(kind));
        let Some(kind) = supported.copied() else {
            let found = match &stored.kind {
                Ok(kind) => kind.name(),
                Err(other) => other,
            };
            let names: Vec<_> = allowed.iter().map(|kind| kind.name()).collect();
            let what = format!(
                "tensor {name} has type {}; allowed are {}",
                shown(found),
                names.join(", ")
            );
            return defect(what);
        };
        let cols = shape.last().copied().unwrap_or(0);
        let numbers = shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
        let fits = cols.is_multiple_of(kind.block())
            && numbers.is_some_and(|numbers| {
                let bytes = (numbers / kind.block()).checked_mul(kind.block_bytes());
                bytes.map(|bytes| bytes as u64) == stored.bytes
            });
        if !fits {
            let what = format!(
                "tensor {name} of type {} has rows of {cols} numbers in {} bytes; allowed are whole blocks of {} \
                 numbers in {} bytes",
                kind.name(),
                stored.bytes.unwrap_or(0),
                kind.block(),
                kind.block_bytes()
            );
            return defect(what);
        }
        Ok(kind)
    }

    /// The bytes of the tensors in a plan.
    pub(in crate::candle) fn bytes(&self, plan: &Plan) -> u64 {
        self.in_file_order(plan).iter().filter_map(|(_, stored)| stored.bytes).sum()
    }

    /// The tensors of a plan, each once.
    fn in_file_order<'a>(&'a self, plan: &'a Plan) -> Vec<(&'a str, &'a Stored)> {
        let names: HashSet<&str> = plan.tensors().map(|wanted| &*wanted.name).collect();
        let mut tensors: Vec<(&str, &Stored)> =
            names.into_iter().filter_map(|name| Some((name, self.tensors.get(name)?))).collect();
        tensors.sort_by_key(|(_, stored)| (stored.file, stored.offset));
        tensors
    }

    /// Brings the tensors of a plan, which must have been [checked](Self::check), into memory, in their order on the
    /// disk. `progress` gets the bytes done and in total, and returns true if the load must continue.
    pub(in crate::candle) fn load(
        &self,
        plan: &Plan,
        residence: Residence,
        mut progress: impl FnMut(u64, u64) -> bool,
    ) -> Loaded<LoadedWeights> {
        let wanted = self.in_file_order(plan);
        let total = wanted.iter().filter_map(|(_, stored)| stored.bytes).sum();
        let mut done = 0;
        let mut scratch = vec![0; CHUNK_BYTES];
        let mut mapped: Option<(usize, Bytes)> = None;
        let mut tensors = HashMap::with_capacity(wanted.len());
        for (name, stored) in wanted {
            let (Ok(kind), Some(length), Some((path, file))) =
                (&stored.kind, stored.bytes, self.files.get(stored.file))
            else {
                continue;
            };
            let unreadable = |source: io::Error| FileFault::unreadable(path, source);
            let cut = || {
                LoadFault::defect(path, format!("became shorter during the load, in tensor {name}"))
            };
            let length = usize::try_from(length).map_err(|_| cut())?;
            let mut place = match residence {
                // The header was checked against the size of the file, so this is never more than that.
                Residence::Copied => Place::Copy(map::zeroed(length).map_err(unreadable)?),
                Residence::Mapped => {
                    if mapped.as_ref().is_none_or(|(file, _)| *file != stored.file) {
                        mapped = Some((stored.file, map::map(file).map_err(unreadable)?));
                    }
                    let start = usize::try_from(stored.offset).map_err(|_| cut())?;
                    let end = start.checked_add(length).ok_or_else(cut)?;
                    let whole = mapped.as_ref().map(|(_, whole)| whole);
                    let whole = whole.filter(|whole| end <= whole.len()).ok_or_else(cut)?;
                    Place::Mapped(whole.slice(start..end))
                }
            };
            let mut at = 0;
            while at < length {
                let size = CHUNK_BYTES.min(length - at);
                let offset = stored.offset + at as u64;
                // Reading brings the pages into the system's cache with an error, not a signal, if the disk has one.
                let chunk = match &mut place {
                    Place::Copy(copy) => copy.get_mut(at..at + size),
                    Place::Mapped(_) => scratch.get_mut(..size),
                };
                if let Some(chunk) = chunk {
                    read_at(file, offset, chunk).map_err(unreadable)?;
                }
                if let Place::Mapped(bytes) = &place
                    && let Some(mapped) = bytes.get(at..at + size)
                {
                    let sum = mapped.iter().step_by(PAGE_BYTES).fold(0_u8, |sum, byte| sum ^ byte);
                    std::hint::black_box(sum);
                }
                at += size;
                done += size as u64;
                if !progress(done, total) {
                    return Err(LoadFault::GivenUp);
                }
            }
            let bytes = match place {
                Place::Mapped(bytes) => bytes,
                Place::Copy(copy) => Bytes::from_owner(copy).slice(..length),
            };
            let loaded = LoadedTensor { kind: *kind, shape: stored.shape.clone(), bytes };
            tensors.insert(name.to_owned(), loaded);
        }
        Ok(LoadedWeights { path: self.path("").to_owned(), tensors })
    }
}

/// Where the bytes of a tensor are.
enum Place {
    Mapped(Bytes),
    Copy(MmapMut),
}

/// Reads bytes at a place in a file.
fn read_at(mut file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}

/// Numbers of one of the plain types.
fn to_f32(kind: WeightType, bytes: &[u8]) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
    }
    match kind {
        WeightType::F16 => each(bytes, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
        WeightType::Bf16 => each(bytes, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
        _ => each(bytes, f32::from_le_bytes),
    }
}

struct LoadedTensor {
    kind: WeightType,
    shape: Vec<usize>,
    bytes: Bytes,
}

/// Weights in memory.
pub(in crate::candle) struct LoadedWeights {
    path: PathBuf,
    tensors: HashMap<String, LoadedTensor>,
}

impl fmt::Debug for LoadedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedWeights").field("path", &self.path).finish_non_exhaustive()
    }
}

impl LoadedWeights {
    fn find(&self, wanted: &TensorRef) -> Loaded<&LoadedTensor> {
        self.tensors.get(&wanted.name).filter(|loaded| loaded.shape == wanted.shape).ok_or_else(
            || {
                let what =
                    format!("tensor {} of shape {:?} was not loaded", wanted.name, wanted.shape);
                LoadFault::defect(&self.path, what)
            },
        )
    }

    /// A matrix of the plan that was loaded, without a copy.
    pub(in crate::candle) fn matrix(&self, wanted: &TensorRef) -> Loaded<StoredMatrix> {
        let LoadedTensor { kind, shape, bytes } = self.find(wanted)?;
        let (cols, outer) = match shape.split_last() {
            Some((cols, outer)) if !outer.is_empty() => (*cols, outer.iter().product()),
            _ => (shape.first().copied().unwrap_or(0), 1),
        };
        let whole = StoredMatrix { kind: *kind, rows: outer, cols, bytes: bytes.clone() };
        Ok(whole.slice(wanted.rows.clone()))
    }

    /// A vector of the plan that was loaded.
    pub(in crate::candle) fn vector(&self, wanted: &TensorRef) -> Loaded<Vec<f32>> {
        let LoadedTensor { kind, bytes, .. } = self.find(wanted)?;
        let rows = &wanted.rows;
        let part = bytes.get(kind.bytes(rows.start)..kind.bytes(rows.end)).unwrap_or_default();
        Ok(to_f32(*kind, part))
    }
}
