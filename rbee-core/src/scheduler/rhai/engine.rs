//! The sandbox: what a script may do, and how much of it.
//!
//! A script has no files, no network, no clock, no output and no other scripts, and cannot make code out of text. Its
//! time is limited by the clock, which is read while it runs and by helpers that look at many things. Its memory is
//! limited by the size of every value, the number of variables and the depth of calls. It cannot keep a closure in a
//! variable, because the size of a closure is not known.

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
    hives, job, models,
    natives::{self, MOST_ELEMENTS, MOST_KEYS, MOST_TEXT},
    queue,
    registry::{HelperIndex, HelperRegistry},
    tenants, workers,
};

/// Calls inside one another. With expressions of the greatest depth in each, they fit into the stack of a thread, which
/// is 2 MiB.
const MOST_CALLS: usize = 10;
const MOST_DEPTH: usize = 64;
const MOST_VARIABLES: usize = 64;
pub(super) const MOST_FUNCTIONS: usize = 64;

/// Words of the language that a policy cannot use, each with the reason.
pub(super) const FORBIDDEN: &[(&str, &str)] = &[
    ("eval", "a policy cannot make code out of text"),
    ("Fn", "a policy cannot make code out of text; write a closure, |w| ..."),
    ("call", "write the closure where it is used, and call a function by its name"),
    ("curry", "write the closure where it is used"),
    ("import", "a policy is one file"),
    ("export", "a policy is one file"),
    ("this", "give the value to the function as a parameter"),
    ("print", "a policy has no output; note(\"...\") adds a line to the decision's explanation"),
    ("debug", "a policy has no output; note(\"...\") adds a line to the decision's explanation"),
    ("sleep", "a policy decides at once; wait() makes the job wait"),
    ("exit", "return a decision instead"),
];

def_package! {
    /// The functions of the language that a policy can use, in one module: every decision looks a name up in each
    /// module.
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

/// The engine of this process with the helpers, and their index. Scripts do not change it.
pub(super) fn shared() -> (Arc<Engine>, Arc<HelperIndex>) {
    static SHARED: OnceLock<(Arc<Engine>, Arc<HelperIndex>)> = OnceLock::new();
    let made = SHARED.get_or_init(|| {
        let (engine, index) = build();
        (Arc::new(engine), Arc::new(index))
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
    models::register(&mut registry);
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
    // It blocks without counting as an operation, so it must not exist under any name.
    engine.register_fn("sleep", |_: INT| -> Res<()> { Err(refused("sleep")) });
    engine.register_fn("sleep", |_: FLOAT| -> Res<()> { Err(refused("sleep")) });
}

fn refused(name: &str) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorFunctionNotFound(name.into(), Position::NONE))
}
