//! Text on its way to tokens and back: chat templates, the tokenizer, and the text of an answer.

pub(super) mod added_tokens;
#[cfg(test)]
mod control_tests;
mod conversation;
pub(super) mod detokenizer;
#[allow(dead_code)]
pub(super) mod gguf;
pub(super) mod infill;
mod jinja;
mod late_instructions;
pub(super) mod prompt;
mod scored;
mod single_calls;
mod stop;
mod strftime;
pub(super) mod template;
mod text_model;
pub(super) mod tokenizer;
mod tools;
