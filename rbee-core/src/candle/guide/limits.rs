//! The limits of grammars, and of the work for them.
//!
//! The numbers were measured: with a vocabulary of 152,000 tokens, the worst grammar found that passes all of them
//! compiles in about one second.

use llguidance::api::ParserLimits;

/// The longest text of a schema or a regular expression, in bytes.
pub(super) const MAX_GRAMMAR_BYTES: usize = 64 * 1024;

/// The longest text of a Lark grammar, in bytes.
pub(super) const MAX_LARK_BYTES: usize = 32 * 1024;

/// The deepest nesting of parentheses, brackets and braces in a Lark grammar.
pub(super) const MAX_LARK_DEPTH: usize = 24;

/// The most levels of all definitions of a Lark grammar together: each definition is one, and its brackets add the
/// depth of their nesting. The library recurses from definition to definition.
pub(super) const MAX_LARK_LEVELS: usize = 2_000;

/// The deepest nesting of schemas, without references.
pub(super) const MAX_SCHEMA_DEPTH: usize = 32;

/// The most levels of nesting of the root and all targets of references together. The library recurses from reference
/// to reference.
pub(super) const MAX_SCHEMA_LEVELS: usize = 1_000;

/// The most schemas in a schema, each with all its parts.
pub(super) const MAX_SCHEMAS: usize = 2_000;

/// The most different targets of references.
pub(super) const MAX_DEFINITIONS: usize = 200;

/// The most properties of all objects together.
pub(super) const MAX_PROPERTIES: usize = 1_000;

/// The most properties that one object may leave out.
pub(super) const MAX_OPTIONAL: usize = 250;

/// The most patterns of `patternProperties` of all objects together. Each two are compared.
pub(super) const MAX_NAME_PATTERNS: usize = 100;

/// The most patterns and formats that one string must match at once.
pub(super) const MAX_MEETING_PATTERNS: usize = 8;

/// The most `&` of a Lark grammar: the same limit for terminals.
pub(super) const MAX_LARK_CONJUNCTIONS: usize = 8;

/// The largest number in `multipleOf` without its decimal point. Each remainder is a state, and no limit of the library
/// counts the work for it.
pub(super) const MAX_MULTIPLE: f64 = 1_000.0;

/// The largest sum of these numbers, and their largest common multiple: several in one place need a state for each
/// remainder of it.
pub(super) const MAX_MULTIPLES: f64 = 10_000.0;

/// The most decimal places in `multipleOf`.
pub(super) const MAX_DECIMALS: i32 = 9;

/// The most values of all `enum` together.
pub(super) const MAX_ENUM_VALUES: usize = 1_000;

/// The largest number in `minLength`, `maxItems` and their like.
pub(super) const MAX_COUNT: u64 = 10_000;

/// The largest magnitude of a number in a schema. Up to it each integer has a float of its own.
pub(super) const MAX_NUMBER: f64 = 9_007_199_254_740_992.0;

/// The most tags, and the most triggers, of structural tags.
pub(super) const MAX_TAGS: usize = 128;

/// The longest name, begin or end of structural tags, in bytes.
pub(super) const MAX_TAG_BYTES: usize = 1_024;

/// The most values of the parameters of one tool, each alternative counted. A definition counts in each place where it
/// is used.
pub(super) const MAX_PARAMETER_VALUES: usize = 5_000;

/// The most bytes of the schemas of the parameters of one tool, each with all definitions.
pub(super) const MAX_PARAMETER_BYTES: usize = 512 * 1024;

/// The most tokens that the trie of the library can number.
pub(super) const MAX_VOCAB: usize = 4_000_000;

/// The longest token that the trie can have, in bytes. Longer ones are never allowed.
pub(super) const MAX_TOKEN_BYTES: usize = 1_000;

/// The most bytes of all tokens together that are sure to fit in the trie.
pub(super) const MAX_TABLE_BYTES: usize = 4_000_000;

/// The most compiled grammars that a factory keeps.
pub(super) const CACHED_GRAMMARS: usize = 64;

/// The most bytes, by estimate, of the compiled grammars that a factory keeps.
pub(super) const CACHED_BYTES: usize = 64 * 1024 * 1024;

/// The stack of the thread that compiles. The library recurses with the nesting of a grammar, and the limits above keep
/// that below half of this even without optimization. Only the pages that are used take memory.
pub(super) const COMPILE_STACK: usize = 64 * 1024 * 1024;

/// The limits of the library.
pub(super) fn parser_limits() -> ParserLimits {
    ParserLimits {
        // Real schemas stay below a fifth of these.
        initial_lexer_fuel: 500_000,
        max_grammar_size: 100_000,
        // One mask: at most about 15 ms of lexing and 2.5 ms of parsing.
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_items_in_row: 2_000,
        // About 1.5 kB each, for each answer.
        max_lexer_states: 20_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}
