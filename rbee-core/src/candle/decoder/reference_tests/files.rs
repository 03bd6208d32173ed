//! The fixture's models as files, and loaded from them.

use std::{fs, path::Path};

use rbee_decoder::{architecture::Architecture, matrix::WeightType, weights::DecoderWeights};
use serde_json::{Map, Value, json};

use super::{
    super::{
        assemble::assemble,
        checkpoint::Checkpoint,
        test_files::{self, Written},
        weights::Residence,
    },
    cases::Case,
    gguf,
};

/// What a file says, without its weights, and the weights.
pub(super) type LoadedCase = (Architecture, DecoderWeights);

/// Loads the model in a directory as the engine does.
fn load(dir: &Path) -> LoadedCase {
    let checkpoint = Checkpoint::open(dir, None).unwrap();
    let loaded = checkpoint.load(Residence::Mapped, |_, _| true).unwrap();
    let weights = assemble(&checkpoint.plan, &loaded).unwrap();
    (checkpoint.architecture, weights)
}

/// The tensors as files of the transformers library have them, all in this type.
fn tensors(case: &Case, kind: WeightType) -> Vec<Written> {
    let tensor = |(name, shape): (&String, &Vec<usize>)| {
        let bytes = gguf::quantize(case.tensor(name), shape, kind);
        Written { name: name.clone(), kind, shape: shape.clone(), bytes }
    };
    case.tensors.iter().map(tensor).collect()
}

/// Loads a case from one safetensors file.
pub(super) fn safetensors(case: &Case, kind: WeightType) -> LoadedCase {
    load(test_files::directory(&case.config, &tensors(case, kind)).path())
}

/// Loads a case from a safetensors file for every few tensors.
pub(super) fn shards(case: &Case, kind: WeightType) -> LoadedCase {
    let dir = tempfile::tempdir().unwrap();
    let tensors = tensors(case, kind);
    let shards = tensors.chunks(7);
    let mut index = Map::new();
    for (number, shard) in shards.clone().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        fs::write(dir.path().join(&name), test_files::safetensors(shard)).unwrap();
        index.extend(shard.iter().map(|tensor| (tensor.name.clone(), Value::from(&*name))));
    }
    let index = json!({"metadata": {}, "weight_map": index}).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    fs::write(dir.path().join("config.json"), case.config.to_string()).unwrap();
    load(dir.path())
}

/// Loads a case from one GGUF file.
pub(super) fn whole_gguf(case: &Case, kind: WeightType) -> LoadedCase {
    let (file, tensors) = gguf::parts(case, kind);
    let file = test_files::with_tensors(file, &tensors);
    load(test_files::file("bee.gguf", &file.to_bytes()).path())
}

/// Loads a case from a GGUF file that is split after every few tensors.
pub(super) fn split_gguf(case: &Case, kind: WeightType) -> LoadedCase {
    let dir = tempfile::tempdir().unwrap();
    let (first, tensors) = gguf::parts(case, kind);
    let parts = tensors.chunks(9);
    for (number, part) in parts.clone().enumerate() {
        let file = if number == 0 { first.clone() } else { crate::test_gguf::GgufFile::empty() };
        let file = file
            .with("split.no", number as u32)
            .with("split.count", parts.len() as u32)
            .with("split.tensors.count", tensors.len() as u32);
        let name = format!("bee-{:05}-of-{:05}.gguf", number + 1, parts.len());
        let bytes = test_files::with_tensors(file, part).to_bytes();
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    load(dir.path())
}
