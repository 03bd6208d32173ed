//! The sandbox: what the language may do here, and how much of it.
//!
//! A script has no files, no network, no clock, no output, no other script, and no way to make code out of text. What it
//! may use is bounded: time by the clock that is read as it goes, and by helpers that look at much; memory by the size
//! of every value, the number of variables and the depth of calls.

use std::sync::{Arc, OnceLock};

use rhai::{
    Engine, EvalAltResult, FLOAT, INT, Position,
    packages::{
        ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage,
        BasicMapPackage, BasicMathPackage, BasicStringPackage, LanguageCorePackage, LogicPackage,
        MoreStringPackage, Package,
    },
};

use super::{
    book::{Book, Contents},
    session::{Res, is_over},
};

/// Operations that one call may do.
pub(super) const MOST_OPERATIONS: u64 = 2_000_000;
/// Operations after which the clock is read.
const STRIDE: u64 = 128;
const MOST_CALLS: usize = 16;
const MOST_DEPTH: usize = 64;
/// Bytes. Replacing can square a text before its size is looked at, so 16 MiB are passed through at most.
const MOST_TEXT: usize = 4 * 1024;
const MOST_ELEMENTS: usize = 10_000;
const MOST_KEYS: usize = 1_000;
const MOST_VARIABLES: usize = 64;
const MOST_FUNCTIONS: usize = 64;

/// Words of the language that a policy cannot use, and why.
pub(super) const FORBIDDEN: &[(&str, &str)] = &[
    ("eval", "a policy makes no code out of text"),
    ("Fn", "a policy makes no code out of text; write a closure, |w| ..."),
    ("import", "a policy is one file"),
    ("export", "a policy is one file"),
    ("this", "give the value to the function as a parameter"),
    ("print", "a policy has no output; note(\"...\") adds a line to the decision's explanation"),
    ("debug", "a policy has no output; note(\"...\") adds a line to the decision's explanation"),
    ("sleep", "a policy decides at once; wait() makes the job wait"),
    ("exit", "return a decision instead"),
];

/// The one engine of this process, with the helpers, and the book of them. Scripts do not change it.
pub(super) fn shared() -> (Arc<Engine>, Arc<Contents>) {
    static SHARED: OnceLock<(Arc<Engine>, Arc<Contents>)> = OnceLock::new();
    let made = SHARED.get_or_init(|| {
        let (engine, contents) = build();
        (Arc::new(engine), Arc::new(contents))
    });
    made.clone()
}

fn build() -> (Engine, Contents) {
    let mut engine = Engine::new_raw();
    LanguageCorePackage::new().register_into_engine(&mut engine);
    ArithmeticPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    confine(&mut engine);
    let mut book = Book::new(engine);
    super::workers::register(&mut book);
    super::hives::register(&mut book);
    super::job::register(&mut book);
    super::tenants::register(&mut book);
    super::queue::register(&mut book);
    super::memory::register(&mut book);
    super::moment::register(&mut book);
    super::decisions::register(&mut book);
    book.close()
}

fn confine(engine: &mut Engine) {
    engine
        .set_max_operations(MOST_OPERATIONS)
        .set_max_call_levels(MOST_CALLS)
        .set_max_expr_depths(MOST_DEPTH, MOST_DEPTH)
        .set_max_string_size(MOST_TEXT)
        .set_max_array_size(MOST_ELEMENTS)
        .set_max_map_size(MOST_KEYS)
        .set_max_variables(MOST_VARIABLES)
        .set_max_functions(MOST_FUNCTIONS)
        .set_max_modules(0)
        .set_fail_on_invalid_map_property(true)
        .set_allow_shadowing(true);
    engine.on_progress(|operations| {
        (operations % STRIDE == 0 && is_over()).then_some(rhai::Dynamic::UNIT)
    });
    for (word, _) in FORBIDDEN {
        engine.disable_symbol(*word);
    }
    // It blocks without counting as an operation, so it must not be there under any name.
    engine.register_fn("sleep", |_: INT| -> Res<()> { Err(refused("sleep")) });
    engine.register_fn("sleep", |_: FLOAT| -> Res<()> { Err(refused("sleep")) });
}

fn refused(name: &str) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorFunctionNotFound(name.into(), Position::NONE))
}
