//! The sandbox: what the language may do here, and how much of it.
//!
//! A script has no files, no network, no clock, no output, no other script, and no way to make code out of text. What it
//! may use is bounded: time by the clock that is read as it goes, and by helpers that look at much; memory by the size
//! of every value, the number of variables and the depth of calls. A closure is no value that can be kept: how much it
//! holds is not known of it.

use std::sync::{Arc, OnceLock};

use rhai::{
    Engine, EvalAltResult, FLOAT, INT, Position, def_package,
    packages::{
        ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage,
        BasicMapPackage, BasicMathPackage, BasicStringPackage, LanguageCorePackage, LogicPackage,
        MoreStringPackage, Package,
    },
};

use super::{
    budget, clock, decisions,
    error::Res,
    hives, job, memory,
    natives::{self, MOST_ELEMENTS, MOST_KEYS, MOST_TEXT},
    queue,
    registry::{HelperIndex, HelperRegistry},
    tenants, workers,
};

/// With expressions as deep as they may be in each, they stay within the stack that threads have, which is 2 MiB.
const MOST_CALLS: usize = 10;
const MOST_DEPTH: usize = 64;
const MOST_VARIABLES: usize = 64;
pub(super) const MOST_FUNCTIONS: usize = 64;

/// Words of the language that a policy cannot use, and why.
pub(super) const FORBIDDEN: &[(&str, &str)] = &[
    ("eval", "a policy makes no code out of text"),
    ("Fn", "a policy makes no code out of text; write a closure, |w| ..."),
    ("call", "a closure stands where it is used, and a function is called by its name"),
    ("curry", "a closure stands where it is used"),
    ("import", "a policy is one file"),
    ("export", "a policy is one file"),
    ("this", "give the value to the function as a parameter"),
    ("print", "a policy has no output; note(\"...\") adds a line to the decision's explanation"),
    ("debug", "a policy has no output; note(\"...\") adds a line to the decision's explanation"),
    ("sleep", "a policy decides at once; wait() makes the job wait"),
    ("exit", "return a decision instead"),
];

def_package! {
    /// What of the language's own a policy can use, in one module: a name is looked for in each there is, in every
    /// decision anew.
    Words(_module):
        LanguageCorePackage,
        ArithmeticPackage,
        BasicStringPackage,
        BasicIteratorPackage,
        BasicFnPackage,
        LogicPackage,
        BasicMathPackage,
        BasicArrayPackage,
        BasicMapPackage,
        MoreStringPackage
    {}
}

/// The one engine of this process, with the helpers, and the registry of them. Scripts do not change it.
pub(super) fn shared() -> (Arc<Engine>, Arc<HelperIndex>) {
    static SHARED: OnceLock<(Arc<Engine>, Arc<HelperIndex>)> = OnceLock::new();
    let made = SHARED.get_or_init(|| {
        let (engine, contents) = build();
        (Arc::new(engine), Arc::new(contents))
    });
    made.clone()
}

fn build() -> (Engine, HelperIndex) {
    let mut engine = Engine::new_raw();
    Words::new().register_into_engine(&mut engine);
    confine(&mut engine);
    let mut registry = HelperRegistry::new(engine);
    workers::helpers::register(&mut registry);
    hives::register(&mut registry);
    job::register(&mut registry);
    tenants::register(&mut registry);
    queue::register(&mut registry);
    memory::register(&mut registry);
    clock::register(&mut registry);
    decisions::register(&mut registry);
    registry.close()
}

fn confine(engine: &mut Engine) {
    engine
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
    engine.on_progress(|_| budget::operation().map(rhai::Dynamic::from));
    natives::register(engine);
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
