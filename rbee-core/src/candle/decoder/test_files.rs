//! Model files that the tests write.

use std::{fs, path::Path};

use rbee_decoder::matrix::WeightType;
use serde_json::{Map, Value, json};

use super::plan::{Plan, TensorRef};
use crate::{
    model_info::gguf,
    test_gguf::{GgufFile, GgufValue},
};

/// A tensor to write: its name, its type, its shape (the outermost dimension first) and its bytes.
#[derive(Clone)]
pub(in crate::candle) struct Written {
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

/// The values of a GGUF file: integers, fractions, texts, truth values and lists of integers.
pub(super) fn values(values: &Value) -> Vec<(String, gguf::Value)> {
    let value = |value: &Value| match value {
        Value::Bool(is) => gguf::Value::Bool(*is),
        Value::String(text) => gguf::Value::Text(text.clone()),
        Value::Array(list) => gguf::Value::List(list.iter().filter_map(Value::as_u64).collect()),
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
    let mut file = GgufFile::empty();
    for (key, value) in values {
        let value: GgufValue = match value {
            gguf::Value::Whole(number) => (*number as u32).into(),
            gguf::Value::Number(number) => (*number as f32).into(),
            gguf::Value::Bool(is) => (*is).into(),
            gguf::Value::Text(value) => value.as_str().into(),
            other => panic!("{other}"),
        };
        file = file.with(key, value);
    }
    with_tensors(file, tensors).to_bytes()
}

/// Adds tensors to a GGUF file.
pub(in crate::candle) fn with_tensors(mut file: GgufFile, tensors: &[Written]) -> GgufFile {
    for Written { name, kind, shape, bytes } in tensors {
        let named = |number: &u32| {
            gguf::types::tensor_type(*number).is_some_and(|it| it.name == kind.name())
        };
        let number = (0..40).find(named).unwrap();
        file = file.tensor_of_number(name, shape, number, bytes.clone());
    }
    file
}

/// Writes bytes to a file, and returns its directory.
pub(in crate::candle) fn file(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    dir
}

/// The path of a file in a directory.
pub(super) fn path(dir: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    Path::join(dir.path(), name)
}
