//! Layers: a module uses only modules of lower layers.
//!
//! The order is in `docs/architecture.md`, in one block for each crate:
//!
//! ````text
//! ```layers rbee-core
//! error id time
//! request
//! ```
//! ````
//!
//! Each line is a layer, the lowest first. It names top-level modules of the crate. Each module is in one line, and
//! modules in the same line do not use each other. Within a module, no two of its children use each other in a circle;
//! each child includes everything below it. A child may use its parent and a parent its children: together they are one
//! module. Test code may use everything.

mod cycles;
mod order;

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    source::{Crate, ModuleId, OnDisk, Reference},
    steps::{Failure, root},
};

use order::Order;

/// The page with the order.
const PAGE: &str = "docs/architecture.md";

/// The crates that have layers: name and sources.
const CRATES: [(&str, &str); 4] = [
    ("rbee-core", "rbee-core/src"),
    ("rbee-decoder", "rbee-core/decoder/src"),
    ("rbee-transport-http", "rbee-transport-http/src"),
    ("rbee-transport-ssh", "rbee-transport-ssh/src"),
];

/// The maximum number of references to print for each pair of modules.
const EXAMPLES: usize = 3;

/// Checks all crates.
pub(crate) fn check() -> Result<(), Failure> {
    let mut findings = Vec::new();
    for (name, source) in crates()? {
        let found = findings_of(&source, name, &page()?);
        if found.is_empty() {
            println!("{name}: {} modules in their layers, no circles", source.modules.len());
        }
        findings.extend(found);
    }
    if findings.is_empty() {
        return Ok(());
    }
    let count = findings.len();
    Err(format!("{count} references against the layers of {PAGE}\n{}", findings.join("\n")))
}

/// Which top-level modules use which others, with examples.
pub(crate) fn summary() -> Result<String, Failure> {
    let mut text = String::new();
    for (name, source) in crates()? {
        let uses = Uses::read(&source);
        let _ = writeln!(text, "== {name}: which top-level module uses which");
        for ((from, to), places) in &uses.between_tops {
            let count = places.len();
            let examples = places[..count.min(EXAMPLES)].join(", ");
            let _ = writeln!(text, "{from} -> {to}: {count} references ({examples})");
        }
    }
    Ok(text)
}

fn crates() -> Result<Vec<(&'static str, Crate)>, Failure> {
    let read = |(name, source): (&'static str, &str)| {
        Ok((name, Crate::read(&OnDisk(root()), &name.replace('-', "_"), source)?))
    };
    CRATES.into_iter().map(read).collect()
}

fn page() -> Result<String, Failure> {
    std::fs::read_to_string(root().join(PAGE)).map_err(|cause| format!("{PAGE}: {cause}"))
}

/// All findings of one crate.
fn findings_of(source: &Crate, name: &str, page: &str) -> Vec<String> {
    let uses = Uses::read(source);
    let mut findings = uses.through_root.clone();
    match Order::read(page, name) {
        Ok(order) => {
            let tops: Vec<&str> = source.modules[0].children.keys().map(String::as_str).collect();
            findings.extend(order.misfits(&tops).into_iter().map(|why| format!("{PAGE}: {why}")));
            for ((from, to), places) in &uses.between_tops {
                if let Some(why) = order.forbids(from, to) {
                    findings.extend(places.iter().map(|place| format!("{place}: {why}")));
                }
            }
        }
        Err(why) => findings.push(format!("{PAGE}: {why}")),
    }
    let edges = uses.between_siblings.iter().map(|(edge, places)| (*edge, places.len())).collect();
    findings.extend(cycles::find(edges).into_iter().map(|circle| {
        let mut text = String::from("modules use each other in a circle:");
        for (from, to) in &circle {
            let places = &uses.between_siblings[&(*from, *to)];
            let (from, to) = (source.modules[*from].shown(), source.modules[*to].shown());
            let (count, times) = (places.len(), if places.len() == 1 { "time" } else { "times" });
            let examples = places[..count.min(EXAMPLES)].join("\n      ");
            let _ = write!(text, "\n    {from} uses {to}, {count} {times}:\n      {examples}");
        }
        text + "\n    Move what both need into a module of its own, or make them one; the first is the thinnest link."
    }));
    findings
}

/// The uses among the modules of a crate.
#[derive(Default)]
struct Uses {
    /// Pairs of top-level modules, with the positions: `file:line names path`.
    between_tops: BTreeMap<(String, String), Vec<String>>,
    /// Pairs of children of one module below the crate's root, with the positions.
    between_siblings: BTreeMap<(ModuleId, ModuleId), Vec<String>>,
    /// Paths through the crate's root to items that it only re-exports.
    through_root: Vec<String>,
}

impl Uses {
    fn read(source: &Crate) -> Self {
        let mut uses = Self::default();
        for (from, module) in source.modules.iter().enumerate() {
            if module.test {
                continue;
            }
            for reference in source.references(from) {
                uses.add(source, from, &reference);
            }
        }
        uses
    }

    fn add(&mut self, source: &Crate, from: ModuleId, reference: &Reference) {
        let Some(target) = &reference.target else { return };
        let module = &source.modules[from];
        // The root is above all layers.
        let Some(top) = module.top() else { return };
        let path = reference.path.join("::");
        let star = if reference.glob { "::*" } else { "" };
        let place = format!("{}:{} names {path}{star}", module.file, reference.line);
        let root = target.through.iter().position(|through| *through == 0);
        if let Some(root) = root {
            let next = target.through.get(root + 1).copied().unwrap_or(target.module);
            let item = reference.path.iter().find(|name| !matches!(&name[..], "crate" | "super"));
            let item = item.map_or("", String::as_str);
            self.through_root.push(format!(
                "{place}: the crate's root only passes it on; name it by its module: {}::{item}",
                source.modules[next].shown()
            ));
        } else if target.module == 0 && reference.glob {
            self.through_root.push(format!(
                "{place}: the crate's root only passes these on; name each by its module"
            ));
        }
        for &used in target.through.iter().chain([&target.module]) {
            let Some(other) = source.modules[used].top() else { continue };
            if other == top {
                self.add_siblings(source, from, used, &place);
            } else {
                let key = (top.to_owned(), other.to_owned());
                let places = self.between_tops.entry(key).or_default();
                if places.last() != Some(&place) {
                    places.push(place.clone());
                }
            }
        }
    }

    /// Two modules below the same top-level one.
    fn add_siblings(&mut self, source: &Crate, from: ModuleId, used: ModuleId, place: &str) {
        let (ours, theirs) = (lineage(source, from), lineage(source, used));
        let common = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
        // One of them is the other, or contains it.
        let (Some(&ours), Some(&theirs)) = (ours.get(common), theirs.get(common)) else { return };
        let places = self.between_siblings.entry((ours, theirs)).or_default();
        if places.last().is_none_or(|last| last != place) {
            places.push(place.into());
        }
    }
}

/// The modules from the root to this one.
fn lineage(source: &Crate, module: ModuleId) -> Vec<ModuleId> {
    let mut lineage = vec![module];
    while let Some(parent) = source.modules[lineage[lineage.len() - 1]].parent {
        lineage.push(parent);
    }
    lineage.reverse();
    lineage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::InMemory;

    const PAGE: &str = "```layers k\nlow other\nhigh\n```\n";

    fn findings(files: &'static [(&'static str, &'static str)]) -> Vec<String> {
        findings_of(&Crate::read(&InMemory(files), "k", "src").unwrap(), "k", PAGE)
    }

    #[test]
    fn a_higher_module_uses_a_lower_one_and_tests_use_all() {
        let found = findings(&[
            ("src/lib.rs", "mod low; mod other; mod high;\npub use low::Low;"),
            ("src/low.rs", "pub struct Low;\n#[cfg(test)] mod tests { use crate::high::High; }"),
            ("src/other.rs", "/// [`crate::high::High`]\nfn f() {}"),
            ("src/high.rs", "use crate::{low::Low, other};\npub struct High;"),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_lower_module_that_uses_a_higher_one_is_found() {
        let found = findings(&[
            ("src/lib.rs", "mod low; mod other; mod high;"),
            ("src/low.rs", "fn f() {\n    vec![super::high::High::new()];\n}"),
            ("src/other.rs", "use crate::low::Low;"),
            ("src/high.rs", "pub struct High;"),
        ]);
        assert_eq!(
            found,
            [
                "src/low.rs:2 names super::high::High::new: low is in a layer below high, and must not use it",
                "src/other.rs:1 names crate::low::Low: other and low are in one layer, and must not use each other",
            ]
        );
    }

    #[test]
    fn a_path_through_the_root_is_found() {
        let found = findings(&[
            ("src/lib.rs", "mod low; mod other; mod high;\npub use low::Low;"),
            ("src/low.rs", "pub struct Low;"),
            ("src/other.rs", ""),
            ("src/high.rs", "use crate::Low;\nuse crate::*;"),
        ]);
        assert_eq!(
            found,
            [
                "src/high.rs:1 names crate::Low: the crate's root only passes it on; name it by its module: crate::low::Low",
                "src/high.rs:2 names crate::*: the crate's root only passes these on; name each by its module",
            ]
        );
    }

    #[test]
    fn children_that_use_each_other_are_a_circle_and_a_child_with_its_parent_is_none() {
        let found = findings(&[
            ("src/lib.rs", "mod low; mod other; mod high;"),
            ("src/low.rs", "mod a; mod b; mod c;\npub use a::A;\npub struct P;"),
            ("src/low/a.rs", "use super::{P, b::B};\npub struct A;"),
            ("src/low/b.rs", "use super::c::C;\npub struct B;"),
            ("src/low/c.rs", "use super::A;\npub struct C;"),
            ("src/other.rs", ""),
            ("src/high.rs", ""),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        for part in [
            "crate::low::a uses crate::low::b, 1 time:\n      src/low/a.rs:1 names super::b::B",
            "crate::low::b uses crate::low::c, 1 time:\n      src/low/b.rs:1 names super::c::C",
            "crate::low::c uses crate::low::a, 1 time:\n      src/low/c.rs:1 names super::A",
        ] {
            assert!(found[0].contains(part), "{found:?}");
        }
    }
}
