//! The paths that the code of a module names, and their lines.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, ItemUse, Macro, Path, TraitItem, Visibility,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::{Crate, ModuleId, Target, attributes, is_test, resolve::imports};

/// A path in the code.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    /// True for `a::b::*`.
    pub(crate) glob: bool,
    /// What it names. `None` if that is in another crate.
    pub(crate) target: Option<Target>,
}

impl Crate {
    /// Every path that this module's code imports or names through a module, without documentation and test code.
    pub(crate) fn references(&self, module: ModuleId) -> Vec<Reference> {
        self.read_references(module, false)
    }

    /// The same, and all other paths too: those of imported and of built-in items.
    pub(crate) fn all_references(&self, module: ModuleId) -> Vec<Reference> {
        self.read_references(module, true)
    }

    fn read_references(&self, module: ModuleId, all: bool) -> Vec<Reference> {
        let mut reader = Reader { source: self, module, all, found: Vec::new() };
        for item in &self.modules[module].items {
            reader.visit_item(item);
        }
        reader.found
    }
}

struct Reader<'a> {
    source: &'a Crate,
    module: ModuleId,
    all: bool,
    found: Vec<Reference>,
}

impl Reader<'_> {
    fn add(&mut self, line: usize, path: Vec<String>, glob: bool) {
        let target = self.source.resolve(self.module, &path);
        self.found.push(Reference { line, path, glob, target });
    }

    /// A path within code. One that begins with an imported item adds nothing to the import.
    fn path(&mut self, line: usize, path: Vec<String>) {
        if self.all && !path.is_empty() {
            return self.add(line, path, false);
        }
        let [first, _, ..] = &path[..] else { return };
        let anchored = matches!(first.as_str(), "crate" | "super" | "self");
        let module = || self.source.resolve(self.module, &path[..1]);
        if anchored || module().is_none_or(|target| target.item.is_none()) {
            self.add(line, path, false);
        }
    }

    /// The paths among the tokens of a macro call.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.path(line, std::mem::take(&mut path));
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                }
                other => {
                    self.path(line, std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.path(line, path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(function) if is_test(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !matches!(item, TraitItem::Fn(function) if is_test(&function.attrs)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_some() {
            return;
        }
        for import in imports(&item.tree) {
            self.add(import.line, import.path, import.name.is_none());
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.path(path.span().start().line, names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

#[cfg(test)]
mod tests {
    use super::{super::tests::InMemory, *};

    /// `line: path -> the defining module and item`, for what is in this crate.
    fn seen(files: &InMemory, module: &str) -> Vec<String> {
        let source = Crate::read(files, "k", "src").unwrap();
        let id = source.modules.iter().position(|found| found.shown() == module).unwrap();
        source
            .references(id)
            .iter()
            .filter_map(|reference| {
                let target = reference.target.as_ref()?;
                let item = target.item.as_deref().unwrap_or("(module)");
                let module = source.modules[target.module].shown();
                Some(format!(
                    "{}: {} -> {module} {item}",
                    reference.line,
                    reference.path.join("::")
                ))
            })
            .collect()
    }

    #[test]
    fn paths_lead_to_the_module_that_defines_an_item() {
        let files = InMemory(&[
            ("src/lib.rs", "mod a; mod b;\npub use a::Thing;\npub use b::*;"),
            ("src/a.rs", "mod deep; pub use deep::{Thing, Other as Renamed};"),
            ("src/a/deep.rs", "pub struct Thing; pub struct Other;"),
            (
                "src/b.rs",
                "use std::fmt;\nuse crate::{Thing, a::Renamed};\nuse super::a;\npub struct Own;\n\
                 fn f() -> fmt::Result { a::Renamed::new(); format!(\"{}\", crate::Own::X) }\n\
                 /// [`crate::a::Docs`]\nfn g(own: Own, thing: Thing) { use crate::a::Thing; }\n\
                 #[cfg(test)] mod tests { use crate::a::Thing; }\n#[cfg(test)] use crate::a::Gone;",
            ),
        ]);
        assert_eq!(
            seen(&files, "crate::b"),
            [
                "2: crate::Thing -> crate::a::deep Thing",
                "2: crate::a::Renamed -> crate::a::deep Other",
                "3: super::a -> crate::a (module)",
                "5: a::Renamed::new -> crate::a::deep Other",
                "5: crate::Own::X -> crate::b Own",
                "7: crate::a::Thing -> crate::a::deep Thing",
            ]
        );
    }

    #[test]
    fn a_path_knows_the_modules_that_only_pass_an_item_on() {
        let files = InMemory(&[
            ("src/lib.rs", "mod a; mod b; pub use a::Thing;"),
            ("src/a.rs", "pub struct Thing;"),
            ("src/b.rs", "use crate::Thing;\nuse crate::a::Thing as Same;"),
        ]);
        let source = Crate::read(&files, "k", "src").unwrap();
        let through: Vec<_> =
            source.references(2).into_iter().map(|found| found.target.unwrap().through).collect();
        assert_eq!(through, [vec![0], vec![]]);
    }
}
