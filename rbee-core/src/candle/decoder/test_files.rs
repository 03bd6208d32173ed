//! Model files that the tests write.

use std::{fs, path::Path};

use rbee_decoder::matrix::WeightType;
use serde_json::{Map, Value, json};

use super::plan::{Plan, TensorRef};
use crate::model_info::gguf;

/// A tensor to write: its name, its type, its shape (the outermost dimension first) and its bytes.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) kind: WeightType,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Written {
    /// A tensor of this shape, with bytes that differ everywhere.
    pub(super) fn new(name: &str, kind: WeightType, shape: &[usize]) -> Self {
        let numbers = shape.iter().product::<usize>();
        let seed = name.bytes().fold(7_u32, |seed, byte| seed.wrapping_mul(31) + u32::from(byte));
        let bytes = match kind {
            WeightType::F32 => (0..numbers as u32)
                .flat_map(|at| ((seed.wrapping_add(at) % 1_000) as f32 / 512.0).to_le_bytes())
                .collect(),
            _ => (0..kind.bytes(numbers) as u32)
                .map(|at| seed.wrapping_add(at.wrapping_mul(97)) as u8)
                .collect(),
        };
        Self { name: name.to_owned(), kind, shape: shape.to_vec(), bytes }
    }

    pub(super) fn of_numbers(name: &str, numbers: &[f32]) -> Self {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self { name: name.to_owned(), kind: WeightType::F32, shape: vec![numbers.len()], bytes }
    }
}

/// The tensors of a plan, each once: matrices of this type, and vectors of 32-bit floats.
pub(super) fn tensors(plan: &Plan, kind: WeightType) -> Vec<Written> {
    let mut tensors: Vec<Written> = Vec::new();
    for TensorRef { name, shape, .. } in plan.tensors() {
        if tensors.iter().all(|other| other.name != *name) {
            let kind = if shape.len() == 1 { WeightType::F32 } else { kind };
            tensors.push(Written::new(name, kind, shape));
        }
    }
    tensors
}

/// The bytes of a safetensors file.
pub(super) fn safetensors(tensors: &[Written]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in tensors {
        let start = data.len();
        data.extend(&tensor.bytes);
        let entry = json!({
            "dtype": tensor.kind.name(), "shape": tensor.shape, "data_offsets": [start, data.len()],
        });
        header.insert(tensor.name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// A directory with these files for a model.
pub(super) fn directory(config: &Value, tensors: &[Written]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::write(dir.path().join("model.safetensors"), safetensors(tensors)).unwrap();
    dir
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The values of a GGUF file: integers, fractions, texts and truth values.
pub(super) fn values(values: &Value) -> Vec<(String, gguf::Value)> {
    let value = |value: &Value| match value {
        Value::Bool(is) => gguf::Value::Bool(*is),
        Value::String(text) => gguf::Value::Text(text.clone()),
        other => match other.as_u64() {
            Some(whole) => gguf::Value::Whole(whole),
            None => gguf::Value::Number(other.as_f64().unwrap_or(f64::NAN)),
        },
    };
    let object = values.as_object().unwrap().iter();
    object.map(|(key, it)| (key.clone(), value(it))).collect()
}

/// The bytes of a GGUF file.
pub(super) fn gguf(values: &[(String, gguf::Value)], tensors: &[Written]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((values.len() as u64).to_le_bytes());
    for (key, value) in values {
        file.extend(text(key));
        let (kind, bytes) = match value {
            gguf::Value::Whole(number) => (4_u32, (*number as u32).to_le_bytes().to_vec()),
            gguf::Value::Number(number) => (6, (*number as f32).to_le_bytes().to_vec()),
            gguf::Value::Bool(is) => (7, vec![u8::from(*is)]),
            gguf::Value::Text(value) => (8, text(value)),
            other => panic!("{other}"),
        };
        file.extend(kind.to_le_bytes());
        file.extend(bytes);
    }
    let mut data = Vec::new();
    for tensor in tensors {
        file.extend(text(&tensor.name));
        file.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|side| file.extend((*side as u64).to_le_bytes()));
        let kind = (0..40).find(|kind| {
            gguf::types::tensor_type(*kind).is_some_and(|it| it.name == tensor.kind.name())
        });
        file.extend(kind.unwrap().to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(&tensor.bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file
}

/// Writes bytes to a file, and returns its directory.
pub(super) fn file(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    dir
}

/// The path of a file in a directory.
pub(super) fn path(dir: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    Path::join(dir.path(), name)
}
