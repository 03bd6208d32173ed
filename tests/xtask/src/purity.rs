//! Purity: the modules that decide do not read a clock, do no input or output, do not wait and draw no random numbers.
//! Time and random bits are passed to them, so the same inputs give the same decisions.

use syn::{
    ExprAsync, ExprAwait, ImplItemFn, Item, ItemFn, Signature,
    visit::{self, Visit},
};

use crate::{
    source::{Crate, ModuleId, OnDisk, attributes, is_test},
    steps::{Failure, root},
};

/// Top-level modules of `rbee-core` that are pure, with everything below them.
const PURE: &[&str] = &[
    "cluster",
    "engine",
    "event",
    "job",
    "load_request",
    "model_ref",
    "prefix",
    "rng",
    "scheduler",
    "settings",
    "sim",
    "sizing",
    "task",
    "tenant",
    "yaml",
];

/// Exceptions: what a pure module may name, and why.
const EXCEPTIONS: &[Exception] = &[
    Exception {
        module: "scheduler::rhai::budget",
        names: &["Instant"],
        reason: "a script is stopped at its time limit, and that counts as a fault",
    },
    Exception {
        module: "scheduler::rhai::context",
        names: &["Instant"],
        reason: "it holds the end of the time budget of a call",
    },
    Exception {
        module: "scheduler::rhai::program",
        names: &["Instant"],
        reason: "the time budget starts with each call of a script",
    },
    Exception {
        module: "scheduler::rhai::script",
        names: &["Instant"],
        reason: "it passes the time budget of a script on",
    },
    Exception {
        module: "scheduler::rhai::dry_run",
        names: &["Instant"],
        reason: "a script is tried once when it is loaded, within a time budget",
    },
    Exception {
        module: "scheduler::rhai",
        names: &["Instant", "std::fs", "std::thread"],
        reason: "a policy is read from its file when it is loaded, its calls have a time budget, and on a machine with \
                 few processors a longer one",
    },
];

struct Exception {
    /// The module below `crate`. Its children are not excepted.
    module: &'static str,
    /// As in [`IMPURE`].
    names: &'static [&'static str],
    reason: &'static str,
}

/// Names that no pure module uses: the name in messages, the pattern of a path, and what to do instead.
const IMPURE: &[(&str, Shape, &str)] = &[
    ("tokio", Shape::Begins(&["tokio"]), EFFECT),
    ("tokio_util", Shape::Begins(&["tokio_util"]), EFFECT),
    ("futures", Shape::Begins(&["futures"]), EFFECT),
    ("futures_util", Shape::Begins(&["futures_util"]), EFFECT),
    ("tracing", Shape::Begins(&["tracing"]), "return a note, which the caller logs"),
    ("metrics", Shape::Begins(&["metrics"]), "return a note, which the caller counts"),
    ("Instant", Shape::Has("Instant"), TIME),
    ("SystemTime", Shape::Has("SystemTime"), TIME),
    ("a clock", Shape::Ends(&["WallTime", "now"]), TIME),
    ("std::fs", Shape::Begins(&["std", "fs"]), EFFECT),
    ("std::net", Shape::Begins(&["std", "net"]), EFFECT),
    ("std::thread", Shape::Begins(&["std", "thread"]), EFFECT),
    ("std::process", Shape::Begins(&["std", "process"]), EFFECT),
    ("std::env", Shape::Begins(&["std", "env"]), "take the value as an argument"),
    ("getrandom", Shape::Begins(&["getrandom"]), RANDOM),
    ("rand", Shape::Begins(&["rand"]), RANDOM),
    ("RandomState", Shape::Has("RandomState"), RANDOM),
    ("a random id", Shape::Has("new_v4"), RANDOM),
    ("a random id", Shape::Ends(&["*", "random"]), RANDOM),
    ("async", Shape::Async, EFFECT),
];

const EFFECT: &str = "return an effect, which the caller carries out";
const TIME: &str = "take the time as an argument";
const RANDOM: &str = "take the random bits as an argument";

/// The pattern of a path without imports.
enum Shape {
    Begins(&'static [&'static str]),
    Has(&'static str),
    /// `*` stands for any one name.
    Ends(&'static [&'static str]),
    /// Not a path: an `async` function or block, or an `await`.
    Async,
}

impl Shape {
    fn fits(&self, path: &[String]) -> bool {
        let same = |(pattern, name): (&&str, &String)| *pattern == "*" || *pattern == name;
        match self {
            Self::Begins(names) => {
                // `metrics` alone is a variable, not a crate.
                path.len() >= names.len().max(2) && names.iter().zip(path).all(same)
            }
            Self::Ends(names) => {
                path.len() >= names.len() && names.iter().rev().zip(path.iter().rev()).all(same)
            }
            Self::Has(name) => path.iter().any(|part| part == name),
            Self::Async => false,
        }
    }
}

/// Checks `rbee-core`.
pub(crate) fn check() -> Result<(), Failure> {
    let source = Crate::read(&OnDisk(root()), "rbee_core", "rbee-core/src")?;
    let findings = findings(&source, PURE, EXCEPTIONS);
    if findings.is_empty() {
        println!("rbee-core: {} modules are pure, {} exceptions", PURE.len(), EXCEPTIONS.len());
        return Ok(());
    }
    Err(format!("pure modules name what is not pure\n{}", findings.join("\n")))
}

fn findings(source: &Crate, pure: &[&str], exceptions: &[Exception]) -> Vec<String> {
    let mut findings: Vec<String> = pure
        .iter()
        .filter(|name| !source.modules[0].children.contains_key(**name))
        .map(|name| format!("{name} is listed as pure and is no module; correct the list"))
        .collect();
    let mut used = vec![false; exceptions.len()];
    for (id, module) in source.modules.iter().enumerate() {
        if module.test || !module.top().is_some_and(|top| pure.contains(&top)) {
            continue;
        }
        let path = module.path.join("::");
        let exception = exceptions.iter().position(|exception| exception.module == path);
        for (line, written, name, instead) in impure(source, id) {
            if let Some(exception) = exception
                && exceptions[exception].names.contains(&name)
            {
                used[exception] = true;
                continue;
            }
            let top = module.top().unwrap_or_default();
            let what = if written == name { String::new() } else { format!(" ({name})") };
            findings.push(format!(
                "{}:{line} names {written}{what}: {top} is pure; {instead}",
                module.file
            ));
        }
    }
    for (exception, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        let Exception { module, names, reason } = exception;
        findings.push(format!(
            "the exception of {module} for {} ({reason}) is not needed; remove it",
            names.join(", ")
        ));
    }
    findings
}

/// Line, text, name and advice of each impure use in a module.
fn impure(source: &Crate, module: ModuleId) -> Vec<(usize, String, &'static str, &'static str)> {
    let mut found = Vec::new();
    for reference in source.all_references(module) {
        let whole = source.without_imports(module, &reference.path);
        // A path that begins with a name of this crate does not belong to another crate.
        if let Some((name, _, instead)) = IMPURE.iter().find(|(_, shape, _)| match shape {
            Shape::Begins(_) => reference.target.is_none() && shape.fits(&whole),
            _ => shape.fits(&whole),
        }) {
            found.push((reference.line, reference.path.join("::"), *name, *instead));
        }
    }
    let mut asynchronous = Asynchronous::default();
    for item in &source.modules[module].items {
        asynchronous.visit_item(item);
    }
    found
        .extend(asynchronous.lines.into_iter().map(|line| (line, "async".into(), "async", EFFECT)));
    found
}

#[derive(Default)]
struct Asynchronous {
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for Asynchronous {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        self.lines.extend(signature.asyncness.map(|token| token.span.start().line));
    }

    fn visit_expr_async(&mut self, block: &'ast ExprAsync) {
        self.lines.push(block.async_token.span.start().line);
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, expression: &'ast ExprAwait) {
        self.lines.push(expression.await_token.span.start().line);
        visit::visit_expr_await(self, expression);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::InMemory;

    fn found(text: &'static str, exceptions: &[Exception]) -> Vec<String> {
        let files = [("src/lib.rs", "mod pure; mod other;"), ("src/pure.rs", text), OTHER];
        let files = InMemory(Box::leak(Box::new(files)));
        findings(&Crate::read(&files, "k", "src").unwrap(), &["pure"], exceptions)
    }

    const OTHER: (&str, &str) = ("src/other.rs", "use std::time::Instant;");

    #[test]
    fn clocks_io_and_chance_are_found_however_they_are_imported() {
        let text = "use std::{fs, time::{self, Duration}};\nfn f() { time::SystemTime::now(); }\n\
            fn g() { let id = crate::id::WorkerId::random(); assert!(std::thread::panicking()); }\n\
            async fn h() {}\nuse uuid::Uuid;\nconst A: fn() = Uuid::new_v4;";
        assert_eq!(
            found(text, &[]),
            [
                "src/pure.rs:1 names std::fs: pure is pure; return an effect, which the caller carries out",
                "src/pure.rs:2 names time::SystemTime::now (SystemTime): pure is pure; take the time as an argument",
                "src/pure.rs:3 names crate::id::WorkerId::random (a random id): pure is pure; take the random bits as an argument",
                "src/pure.rs:3 names std::thread::panicking (std::thread): pure is pure; return an effect, which the caller carries out",
                "src/pure.rs:6 names Uuid::new_v4 (a random id): pure is pure; take the random bits as an argument",
                "src/pure.rs:4 names async: pure is pure; return an effect, which the caller carries out",
            ]
        );
    }

    #[test]
    fn tests_documentation_and_plain_data_are_free() {
        let text = "//! Not `std::time::Instant`.\nuse std::time::Duration;\nmod tokio { pub fn f() {} }\n\
            fn f(metrics: u8) { tokio::f(); g(metrics); }\n#[cfg(test)] mod tests { use std::time::Instant; }";
        assert_eq!(found(text, &[]), [""; 0]);
    }

    #[test]
    fn an_exception_holds_for_its_names_and_must_be_needed() {
        let exceptions = |module| [Exception { module, names: &["Instant"], reason: "budget" }];
        let text = "use std::time::Instant;\nuse std::net::IpAddr;";
        let left = found(text, &exceptions("pure"));
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].starts_with("src/pure.rs:2 names std::net::IpAddr"), "{left:?}");
        let left = found("", &exceptions("pure"));
        assert_eq!(left, ["the exception of pure for Instant (budget) is not needed; remove it"]);
    }
}
