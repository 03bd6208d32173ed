//! A compiled script.
//!
//! Each function that the queen calls is compiled as a program of its own, with the function's parameters as variables:
//! if a limit ends a function call, the language loses the line; if it ends a program, it keeps it. The rest of the
//! text is replaced by spaces, so that lines and columns stay the same.

use std::{ops::Range, time::Instant};

use rhai::{AST, Dynamic, Engine, Scope};

use super::{
    budget,
    error::{Res, fault},
    syntax::{Function, functions},
    tokens::Token,
};

/// The functions of a policy that the queen calls.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) schedule: ScriptFunction,
    pub(super) admit: Option<ScriptFunction>,
    pub(super) order: Option<ScriptFunction>,
    pub(super) evict: Option<ScriptFunction>,
}

/// A function that the queen calls.
#[derive(Debug)]
pub(super) struct ScriptFunction {
    program: AST,
    parameters: Vec<String>,
    constants: Scope<'static>,
}

impl Script {
    /// Compiles a text whose `tokens` have been checked. Its constants must be computed before `until`.
    pub(super) fn compile(
        engine: &Engine,
        text: &str,
        tokens: &[Token<'_>],
        until: Instant,
    ) -> Res<Self> {
        let functions = functions(tokens);
        let constants = budget::grant(until, || constants(engine, text, &functions))?;
        // The whole text first, so that errors refer to what was written.
        engine.compile_with_scope(&constants, text)?;
        let entry = |name: &str| -> Res<Option<ScriptFunction>> {
            let Some(own) = functions.iter().find(|function| function.name == name) else {
                return Ok(None);
            };
            let kept = functions.iter().map(|function| match function.name == name {
                true => function.body.clone(),
                false => function.range.clone(),
            });
            let mut scope = constants.clone();
            for parameter in &own.parameters {
                scope.push(*parameter, ());
            }
            let program = engine.compile_with_scope(&scope, blanked(text, kept))?;
            let parameters = own.parameters.iter().map(ToString::to_string).collect();
            Ok(Some(ScriptFunction { program, parameters, constants: constants.clone() }))
        };
        let Some(schedule) = entry("schedule")? else {
            return Err(fault("there is no fn schedule(job, workers, hives)"));
        };
        Ok(Self {
            schedule,
            admit: entry("admit")?,
            order: entry("order")?,
            evict: entry("evict")?,
        })
    }
}

impl ScriptFunction {
    pub(super) fn call<const N: usize>(
        &self,
        engine: &Engine,
        values: [Dynamic; N],
    ) -> Res<Dynamic> {
        let mut scope = self.constants.clone();
        for (name, value) in self.parameters.iter().zip(values) {
            scope.push_dynamic(name.as_str(), value);
        }
        engine.eval_ast_with_scope(&mut scope, &self.program)
    }
}

/// Runs the constants outside of functions, once; functions can then use them by name.
fn constants(engine: &Engine, text: &str, functions: &[Function<'_>]) -> Res<Scope<'static>> {
    let mut scope = Scope::new();
    let mut from = 0;
    let mut kept = Vec::new();
    for function in functions {
        kept.push(from..function.range.start);
        from = function.range.end;
    }
    kept.push(from..text.len());
    engine.run_with_scope(&mut scope, &blanked(text, kept.into_iter()))?;
    Ok(scope)
}

/// The text, with spaces in place of everything that is not kept.
fn blanked(text: &str, kept: impl Iterator<Item = Range<usize>>) -> String {
    let mut blanked = String::with_capacity(text.len());
    let space = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut from = 0;
    for range in kept {
        blanked.extend(text[from..range.start.max(from)].chars().map(space));
        blanked.push_str(&text[range.start.max(from)..range.end]);
        from = range.end;
    }
    blanked.extend(text[from..].chars().map(space));
    blanked
}
