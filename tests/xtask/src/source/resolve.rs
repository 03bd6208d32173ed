//! The meaning of a path, and the module that defines it.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, UseTree};

use super::{Crate, ModuleId};

/// What a module's sources say about names in it.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Defined here.
    items: BTreeSet<String>,
    /// Imported here, with the path of each.
    imports: BTreeMap<String, Vec<String>>,
    /// Modules that are imported with `*`.
    globs: Vec<Vec<String>>,
}

/// What a path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// The module that defines it, or the module itself if the path names one.
    pub(crate) module: ModuleId,
    /// The item's name. `None` if the path names a module.
    pub(crate) item: Option<String>,
    /// Modules that only re-export it, in the order of the path.
    pub(crate) through: Vec<ModuleId>,
}

/// The limit at which circular imports end.
const DEEPEST: usize = 32;

impl Crate {
    /// Collects the names that each module defines and imports.
    pub(super) fn index(&mut self) {
        for module in &mut self.modules {
            let mut names = Names::default();
            for item in &module.items {
                if let Item::Use(item) = item {
                    if item.leading_colon.is_some() {
                        continue;
                    }
                    for import in imports(&item.tree) {
                        match import.name {
                            Some(name) => drop(names.imports.insert(name, import.path)),
                            None => names.globs.push(import.path),
                        }
                    }
                } else if let Some(name) = defined(item) {
                    names.items.insert(name);
                }
            }
            module.names = names;
        }
    }

    /// What a path in this module names. `None` if that is in another crate, or is a local name of a function.
    pub(crate) fn resolve(&self, from: ModuleId, path: &[String]) -> Option<Target> {
        let mut target = Target { module: from, item: None, through: Vec::new() };
        self.follow(from, path, 0, &mut target)?;
        Some(target)
    }

    /// A path as it would be without imports: `Instant::now` as `std::time::Instant::now`. Only for items of another
    /// crate; any other path is unchanged.
    pub(crate) fn without_imports(&self, from: ModuleId, path: &[String]) -> Vec<String> {
        let mut whole = path.to_vec();
        for _ in 0..DEEPEST {
            let Some(first) = whole.first() else { break };
            match self.modules[from].names.imports.get(first) {
                Some(import) if import.first() != Some(first) => {
                    whole.splice(..1, import.iter().cloned());
                }
                _ => break,
            }
        }
        whole
    }

    fn follow(
        &self,
        from: ModuleId,
        path: &[String],
        depth: usize,
        target: &mut Target,
    ) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        let (mut at, mut rest) = (from, path);
        let mut anchored = false;
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" => at = 0,
                "self" => {}
                "super" => at = self.modules[at].parent?,
                _ => break,
            }
            anchored = true;
            rest = &rest[1..];
        }
        (target.module, target.item) = (at, None);
        while let Some((name, after)) = rest.split_first() {
            let module = &self.modules[at];
            let child = module.children.get(name).copied();
            let item = module.names.items.contains(name);
            if let Some(child) = child
                && !(item && after.is_empty())
            {
                (at, rest, anchored) = (child, after, true);
                target.module = at;
                continue;
            }
            if item {
                target.item = Some(name.clone());
                return Some(());
            }
            // An import that names itself (`use serde; `) is one of another crate.
            if let Some(import) = module.names.imports.get(name)
                && import.first() != Some(name)
            {
                let mut whole = import.clone();
                whole.extend_from_slice(after);
                let mut inner = target.clone();
                if anchored || depth > 0 {
                    inner.through.push(at);
                }
                if self.follow(at, &whole, depth + 1, &mut inner).is_some() {
                    *target = inner;
                    return Some(());
                }
                return None;
            }
            if module.names.imports.contains_key(name) {
                return None;
            }
            for glob in &module.names.globs {
                let mut inner = target.clone();
                if anchored || depth > 0 {
                    inner.through.push(at);
                }
                let mut whole = glob.clone();
                whole.push(name.clone());
                whole.extend_from_slice(after);
                if self.follow(at, &whole, depth + 1, &mut inner).is_some() && self.is_known(&inner)
                {
                    *target = inner;
                    return Some(());
                }
            }
            // A macro defines it, or it is a variant of an enum.
            return anchored.then(|| target.item = Some(name.clone()));
        }
        Some(())
    }

    fn is_known(&self, target: &Target) -> bool {
        target
            .item
            .as_ref()
            .is_none_or(|item| self.modules[target.module].names.items.contains(item))
    }
}

/// One name that a `use` imports. `name` is `None` for `*`.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) name: Option<String>,
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// All names of a `use`, with its groups expanded.
pub(crate) fn imports(tree: &UseTree) -> Vec<Import> {
    let mut found = Vec::new();
    take_apart(tree, &mut Vec::new(), &mut found);
    found
}

fn take_apart(tree: &UseTree, before: &mut Vec<String>, found: &mut Vec<Import>) {
    let mut add = |name: Option<String>, last: Option<&syn::Ident>, line| {
        let mut path = before.clone();
        path.extend(last.filter(|last| *last != "self").map(ToString::to_string));
        let name = name.map(|name| match name.as_str() {
            "self" => path.last().cloned().unwrap_or_default(),
            _ => name,
        });
        found.push(Import { name, path, line });
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            take_apart(&path.tree, before, found);
            before.pop();
        }
        UseTree::Name(name) => {
            let line = name.ident.span().start().line;
            add(Some(name.ident.to_string()), Some(&name.ident), line);
        }
        UseTree::Rename(rename) => {
            let line = rename.ident.span().start().line;
            add(Some(rename.rename.to_string()), Some(&rename.ident), line);
        }
        UseTree::Glob(glob) => add(None, None, glob.star_token.spans[0].start().line),
        UseTree::Group(group) => {
            for tree in &group.items {
                take_apart(tree, before, found);
            }
        }
    }
}

/// The name of a defined item.
pub(crate) fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
