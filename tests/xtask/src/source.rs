//! The sources of a crate, read without compiling: its modules, what each one defines, and what a path names.

mod expand;
mod references;
mod resolve;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, Meta};

pub(crate) use references::Reference;
pub(crate) use resolve::{Target, imports};

use crate::steps::Failure;

/// The number of a module in [`Crate::modules`]. The crate's root is 0.
pub(crate) type ModuleId = usize;

/// A crate according to its sources.
pub(crate) struct Crate {
    /// The name that other crates use: `rbee_core`.
    pub(crate) name: String,
    pub(crate) modules: Vec<Module>,
}

/// One module, in a file of its own or inline.
pub(crate) struct Module {
    /// The names from the root. Empty for the root.
    pub(crate) path: Vec<String>,
    pub(crate) parent: Option<ModuleId>,
    /// Its file, relative to the workspace's root.
    pub(crate) file: String,
    /// True if it is compiled only for tests.
    pub(crate) test: bool,
    pub(crate) children: BTreeMap<String, ModuleId>,
    /// Its items. An inline module has its content in an entry of its own.
    pub(crate) items: Vec<Item>,
    names: resolve::Names,
}

impl Module {
    /// `crate::a::b`
    pub(crate) fn shown(&self) -> String {
        let mut shown = String::from("crate");
        for name in &self.path {
            shown += "::";
            shown += name;
        }
        shown
    }

    /// The top-level module it belongs to. `None` for the root.
    pub(crate) fn top(&self) -> Option<&str> {
        self.path.first().map(String::as_str)
    }
}

/// The source of a module's text.
pub(crate) trait Files {
    /// The text of this file, if there is one.
    fn read(&self, path: &Path) -> Option<String>;
}

/// The files of the workspace.
#[derive(Debug)]
pub(crate) struct OnDisk(pub(crate) &'static Path);

impl Files for OnDisk {
    fn read(&self, path: &Path) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok()
    }
}

/// What a module declaration says about the module's file.
struct Declared {
    parent: Option<ModuleId>,
    name: Option<String>,
    test: bool,
}

impl Crate {
    /// Reads the crate whose sources are in the directory `source`, from `lib.rs` on.
    pub(crate) fn read(files: &dyn Files, name: &str, source: &str) -> Result<Self, Failure> {
        let mut found = Self { name: name.into(), modules: Vec::new() };
        let declared = Declared { parent: None, name: None, test: false };
        let source = Path::new(source);
        found.file(files, &source.join("lib.rs"), source, declared)?;
        found.index();
        Ok(found)
    }

    /// Reads one file. Files of its child modules are in `below`.
    fn file(
        &mut self,
        files: &dyn Files,
        path: &Path,
        below: &Path,
        declared: Declared,
    ) -> Result<ModuleId, Failure> {
        let text = files.read(path).ok_or_else(|| format!("{} cannot be read", path.display()))?;
        let parsed = syn::parse_file(&text).map_err(|cause| {
            let at = cause.span().start();
            format!("{}:{}: {cause}", path.display(), at.line)
        })?;
        self.module(files, path, below, declared, parsed.items)
    }

    fn module(
        &mut self,
        files: &dyn Files,
        path: &Path,
        below: &Path,
        declared: Declared,
        mut items: Vec<Item>,
    ) -> Result<ModuleId, Failure> {
        let id = self.modules.len();
        let mut names =
            declared.parent.map(|parent| self.modules[parent].path.clone()).unwrap_or_default();
        names.extend(declared.name.clone());
        let test = declared.test;
        self.modules.push(Module {
            path: names,
            parent: declared.parent,
            file: path.display().to_string(),
            test,
            children: BTreeMap::new(),
            items: Vec::new(),
            names: resolve::Names::default(),
        });
        if let (Some(parent), Some(name)) = (declared.parent, declared.name) {
            self.modules[parent].children.insert(name, id);
        }
        for item in &mut items {
            let Item::Mod(child) = item else { continue };
            let name = child.ident.to_string();
            let declared = Declared {
                parent: Some(id),
                name: Some(name.clone()),
                test: test || is_test(&child.attrs),
            };
            let inside = below.join(&name);
            if let Some((_, content)) = &mut child.content {
                let content = std::mem::take(content);
                self.module(files, path, &inside, declared, content)?;
                continue;
            }
            let file = match path_attribute(&child.attrs) {
                Some(named) => normal(&path.parent().unwrap_or(Path::new("")).join(named)),
                None => below.join(format!("{name}.rs")),
            };
            let file = match files.read(&file) {
                Some(_) => file,
                None => inside.join("mod.rs"),
            };
            let inside = match file.file_name() {
                Some(name) if name == "mod.rs" => file.with_file_name(""),
                _ => file.with_extension(""),
            };
            self.file(files, &file, &inside, declared)?;
        }
        items.extend(expand::expand(&items));
        self.modules[id].items = items;
        Ok(id)
    }
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

/// The file that `#[path = "..."]` names.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

/// True for what is compiled for tests only: `#[cfg(test)]`, `#[cfg(all(test, ...))]`, `#[test]`.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition: String =
                list.tokens.to_string().chars().filter(|c| !c.is_whitespace()).collect();
            let mut all = condition
                .strip_prefix("all(")
                .and_then(|inner| inner.strip_suffix(')'))
                .unwrap_or(&condition)
                .split(',');
            all.any(|part| part == "test" || part == "doctest")
        }
        _ => false,
    })
}

/// The attributes of an item.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Files that only a test has.
    pub(crate) struct InMemory(pub(crate) &'static [(&'static str, &'static str)]);

    impl Files for InMemory {
        fn read(&self, path: &Path) -> Option<String> {
            let found = self.0.iter().find(|(name, _)| Path::new(name) == path)?;
            Some(found.1.into())
        }
    }

    #[test]
    fn modules_are_found_in_files_and_inside_of_them() {
        let files = InMemory(&[
            ("src/lib.rs", "mod a;\nmod b { mod c; }\n#[cfg(test)]\n#[path = \"x/y.rs\"]\nmod t;"),
            ("src/a.rs", "mod d;"),
            ("src/a/d.rs", ""),
            ("src/b/c.rs", ""),
            ("src/x/y.rs", "mod inner {}"),
        ]);
        let found = Crate::read(&files, "k", "src").unwrap();
        let seen: Vec<_> = found
            .modules
            .iter()
            .map(|module| (module.shown(), module.file.as_str(), module.test))
            .collect();
        let of = |path: &str, file, test| (path.to_owned(), file, test);
        assert_eq!(
            seen,
            [
                of("crate", "src/lib.rs", false),
                of("crate::a", "src/a.rs", false),
                of("crate::a::d", "src/a/d.rs", false),
                of("crate::b", "src/lib.rs", false),
                of("crate::b::c", "src/b/c.rs", false),
                of("crate::t", "src/x/y.rs", true),
                of("crate::t::inner", "src/x/y.rs", true),
            ]
        );
    }

    #[test]
    fn a_file_that_is_missing_or_cannot_be_parsed_is_named() {
        let missing = InMemory(&[("src/lib.rs", "mod a;")]);
        let why = Crate::read(&missing, "k", "src").err().unwrap();
        assert!(why.contains("src/a/mod.rs cannot be read"), "{why}");
        let broken = InMemory(&[("src/lib.rs", "fn a() {}\nfn {")]);
        let why = Crate::read(&broken, "k", "src").err().unwrap();
        assert!(why.starts_with("src/lib.rs:2: "), "{why}");
    }
}
