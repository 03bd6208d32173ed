//! The public API: a listing of every item that other crates can name. It is compared, so that a change shows in
//! review. It is read from the sources, through `pub mod` and `pub use`. Implementations of traits are not included.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use quote::ToTokens;
use syn::{Attribute, Fields, ImplItem, Item, Meta, TraitItem, Type, Visibility};

use crate::{
    source::{Crate, ModuleId, OnDisk, attributes, imports, is_test},
    steps::{Failure, root},
};

/// The crates: name, sources, listing.
const CRATES: [(&str, &str, &str); 4] = [
    ("rbee_core", "rbee-core/src", "docs/api/rbee-core.txt"),
    ("rbee_decoder", "rbee-core/decoder/src", "docs/api/rbee-decoder.txt"),
    ("rbee_transport_http", "rbee-transport-http/src", "docs/api/rbee-transport-http.txt"),
    ("rbee_transport_ssh", "rbee-transport-ssh/src", "docs/api/rbee-transport-ssh.txt"),
];

/// The maximum number of items at the root of `rbee_core`, without its public modules.
const MOST_AT_ROOT: usize = 45;
/// The maximum number of methods of a public trait.
const MOST_TRAIT_METHODS: usize = 7;
/// A trait that may have more: it has a method for each operation of a device, and applications do not implement it.
const OPERATIONS: &str = "rbee_decoder::backend::Backend";
/// The maximum number of public methods of `Queen`.
const MOST_QUEEN_METHODS: usize = 19;

/// The maximum number of lines of a difference that are shown.
const SHOWN: usize = 40;

/// Writes the listings.
pub(crate) fn write() -> Result<(), Failure> {
    for (name, source, page) in CRATES {
        let api = Api::read(&Crate::read(&OnDisk(root()), name, source)?);
        let path = root().join(page);
        let failed = |cause| format!("{page}: {cause}");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&path, api.text()).map_err(failed)?;
        println!("{page}: {} lines", api.lines.len());
    }
    Ok(())
}

/// Compares the listings.
pub(crate) fn check() -> Result<(), Failure> {
    for (name, source, page) in CRATES {
        let api = Api::read(&Crate::read(&OnDisk(root()), name, source)?);
        let listed = fs::read_to_string(root().join(page)).unwrap_or_default();
        let changed = difference(&listed, &api.lines);
        if !changed.is_empty() {
            let (count, shown) = (changed.len(), changed[..changed.len().min(SHOWN)].join("\n"));
            return Err(format!(
                "the public API of {name} differs from {page} in {count} lines:\n{shown}\n\
                 If this is meant, `cargo xtask api` updates the listing."
            ));
        }
        println!("{name}: {} lines as in {page}", listed.lines().count());
    }
    Ok(())
}

/// Checks the size of the API.
pub(crate) fn check_size() -> Result<(), Failure> {
    let mut findings = Vec::new();
    for (name, source, _) in CRATES {
        let api = Api::read(&Crate::read(&OnDisk(root()), name, source)?);
        findings.extend(api.too_large(name));
    }
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

/// Removed lines with `-`, added lines with `+`.
fn difference(listed: &str, lines: &BTreeSet<String>) -> Vec<String> {
    let listed: BTreeSet<String> = listed.lines().map(ToOwned::to_owned).collect();
    let removed = listed.difference(lines).map(|line| format!("- {line}"));
    removed.chain(lines.difference(&listed).map(|line| format!("+ {line}"))).collect()
}

#[derive(Default)]
struct Api {
    lines: BTreeSet<String>,
    /// Names at the crate's root.
    at_root: BTreeSet<String>,
    /// Methods of traits, and public methods of types, by public path.
    traits: BTreeMap<String, usize>,
    types: BTreeMap<String, usize>,
}

/// Methods of a type, from all of its `impl` blocks.
type Methods<'a> = BTreeMap<(ModuleId, String), Vec<(&'a syn::ItemImpl, &'a ImplItem)>>;

struct Walk<'a> {
    source: &'a Crate,
    methods: Methods<'a>,
    api: Api,
    /// Modules on the path so far, so that circular imports end.
    inside: Vec<ModuleId>,
}

impl Api {
    fn read(source: &Crate) -> Self {
        let mut methods = Methods::new();
        for (id, module) in source.modules.iter().enumerate().filter(|(_, module)| !module.test) {
            for item in &module.items {
                let Item::Impl(block) = item else { continue };
                let (None, Type::Path(own)) = (&block.trait_, &*block.self_ty) else { continue };
                let path: Vec<String> =
                    own.path.segments.iter().map(|part| part.ident.to_string()).collect();
                if let Some(target) = source.resolve(id, &path)
                    && let Some(name) = target.item
                    && !is_test(&block.attrs)
                {
                    let found = methods.entry((target.module, name)).or_default();
                    found.extend(block.items.iter().map(|item| (block, item)));
                }
            }
        }
        let mut walk = Walk { source, methods, api: Self::default(), inside: Vec::new() };
        walk.module(0, &source.name, "", None);
        walk.api
    }

    fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn too_large(&self, name: &str) -> Vec<String> {
        let mut findings = Vec::new();
        let count = self.at_root.len();
        if name == "rbee_core" && count > MOST_AT_ROOT {
            findings.push(format!(
                "{name} has {count} items at its root; at most {MOST_AT_ROOT} are allowed: name others in a public module"
            ));
        }
        for (path, count) in &self.traits {
            if *count <= MOST_TRAIT_METHODS || path == OPERATIONS {
                continue;
            }
            findings.push(format!(
                "trait {path} has {count} methods; at most {MOST_TRAIT_METHODS} are allowed"
            ));
        }
        for (path, count) in &self.types {
            if path.ends_with("::Queen") && *count > MOST_QUEEN_METHODS {
                findings.push(format!(
                    "{path} has {count} public methods; at most {MOST_QUEEN_METHODS} are allowed: put others on a handle"
                ));
            }
        }
        findings
    }
}

impl Walk<'_> {
    /// All public items of a module, or only the one with this name.
    fn module(&mut self, id: ModuleId, path: &str, needs: &str, only: Option<(&str, &str)>) {
        if self.inside.contains(&id) && only.is_none() {
            return;
        }
        self.inside.push(id);
        let source = self.source;
        for item in &source.modules[id].items {
            if is_test(attributes(item)) {
                continue;
            }
            let needs = needed(needs, attributes(item));
            match item {
                Item::Use(item) if only.is_none() && is_public(&item.vis) => {
                    for import in imports(&item.tree) {
                        self.import(id, path, &needs, &import.path, import.name.as_deref());
                    }
                }
                Item::Mod(item) if only.is_none() && is_public(&item.vis) => {
                    let name = item.ident.to_string();
                    if let Some(child) = source.modules[id].children.get(&name) {
                        let path = format!("{path}::{name}");
                        self.line(&path, &needs, "mod");
                        self.module(*child, &path, &needs, None);
                    }
                }
                _ => self.item(id, item, path, &needs, only),
            }
        }
        self.inside.pop();
    }

    fn import(&mut self, id: ModuleId, path: &str, needs: &str, of: &[String], name: Option<&str>) {
        let target = self.source.resolve(id, of);
        match (target, name) {
            (None, _) => {
                let shown = name.unwrap_or("*");
                self.line(&format!("{path}::{shown}"), needs, &format!("use {}", of.join("::")));
            }
            (Some(target), None) => self.module(target.module, path, needs, None),
            (Some(target), Some(name)) => match target.item {
                Some(item) => self.module(target.module, path, needs, Some((&item, name))),
                None => {
                    let path = format!("{path}::{name}");
                    self.line(&path, needs, "mod");
                    self.module(target.module, &path, needs, None);
                }
            },
        }
    }

    fn line(&mut self, path: &str, needs: &str, signature: &str) {
        let root = path.strip_prefix(&self.source.name).and_then(|rest| rest.strip_prefix("::"));
        let is_item =
            |name: &&str| !name.contains("::") && !name.contains('.') && signature != "mod";
        if let Some(name) = root.filter(is_item) {
            self.api.at_root.insert(name.into());
        }
        self.api.lines.insert(format!("{path}: {signature}{needs}"));
    }

    fn item(
        &mut self,
        id: ModuleId,
        item: &Item,
        path: &str,
        needs: &str,
        only: Option<(&str, &str)>,
    ) {
        let (visibility, name) = match item {
            Item::Const(item) => (&item.vis, &item.ident),
            Item::Enum(item) => (&item.vis, &item.ident),
            Item::Fn(item) => (&item.vis, &item.sig.ident),
            Item::Static(item) => (&item.vis, &item.ident),
            Item::Struct(item) => (&item.vis, &item.ident),
            Item::Trait(item) => (&item.vis, &item.ident),
            Item::Type(item) => (&item.vis, &item.ident),
            _ => return,
        };
        let own = name.to_string();
        let public = match only {
            Some((wanted, name)) if wanted == own => name,
            None => &own,
            Some(_) => return,
        };
        if !is_public(visibility) {
            return;
        }
        let path = format!("{path}::{public}");
        let open = match attributes(item).iter().any(|one| one.path().is_ident("non_exhaustive")) {
            true => "#[non_exhaustive] ",
            false => "",
        };
        match item {
            Item::Const(item) => self.line(&path, needs, &format!("const {}", shown(&item.ty))),
            Item::Static(item) => self.line(&path, needs, &format!("static {}", shown(&item.ty))),
            Item::Type(item) => {
                let text = format!("type{} = {}", shown(&item.generics), shown(&item.ty));
                self.line(&path, needs, &text);
            }
            Item::Fn(item) => self.line(&path, needs, &shown(&item.sig)),
            Item::Struct(item) => {
                self.line(&path, needs, &format!("{open}struct{}", shown(&item.generics)));
                self.fields(&path, needs, &item.fields, true);
            }
            Item::Enum(item) => {
                self.line(&path, needs, &format!("{open}enum{}", shown(&item.generics)));
                for variant in &item.variants {
                    let path = format!("{path}::{}", variant.ident);
                    self.line(&path, needs, "variant");
                    self.fields(&path, needs, &variant.fields, false);
                }
            }
            Item::Trait(item) => {
                let bounds = shown(&item.supertraits);
                self.line(&path, needs, &format!("trait{} {bounds}", shown(&item.generics)));
                let mut count = 0;
                for part in &item.items {
                    let (name, text) = match part {
                        TraitItem::Fn(function) => {
                            count += 1;
                            let given = if function.default.is_some() { "provided " } else { "" };
                            (&function.sig.ident, format!("{given}{}", shown(&function.sig)))
                        }
                        TraitItem::Type(part) => (&part.ident, "associated type".into()),
                        TraitItem::Const(part) => (&part.ident, shown(&part.ty)),
                        _ => continue,
                    };
                    self.line(&format!("{path}::{name}"), needs, &text);
                }
                self.api.traits.insert(path.clone(), count);
            }
            _ => {}
        }
        self.methods(id, &own, &path, needs);
    }

    fn fields(&mut self, path: &str, needs: &str, fields: &Fields, marked: bool) {
        for (index, field) in fields.iter().enumerate() {
            if marked && !is_public(&field.vis) {
                continue;
            }
            let name = field.ident.as_ref().map_or(index.to_string(), ToString::to_string);
            self.line(&format!("{path}.{name}"), needs, &shown(&field.ty));
        }
    }

    fn methods(&mut self, id: ModuleId, name: &str, path: &str, needs: &str) {
        let methods = self.methods.get(&(id, name.to_owned())).cloned().unwrap_or_default();
        for (block, item) in methods {
            let needs = needed(needs, &block.attrs);
            match item {
                ImplItem::Fn(method) if is_public(&method.vis) && !is_test(&method.attrs) => {
                    let needs = needed(&needs, &method.attrs);
                    // Methods for tests only are not counted.
                    if !needs.contains("test-util") {
                        *self.api.types.entry(path.into()).or_default() += 1;
                    }
                    let path = format!("{path}::{}", method.sig.ident);
                    self.line(&path, &needs, &shown(&method.sig));
                }
                ImplItem::Const(constant) if is_public(&constant.vis) => {
                    let text = format!("const {}", shown(&constant.ty));
                    self.line(&format!("{path}::{}", constant.ident), &needs, &text);
                }
                _ => {}
            }
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The condition of the item, added to that of its parents: ` [feature = "x"]`.
fn needed(before: &str, attributes: &[Attribute]) -> String {
    let mut needs = before.to_owned();
    for attribute in attributes {
        if let Meta::List(list) = &attribute.meta
            && list.path.is_ident("cfg")
        {
            let condition = format!(" [{}]", shown(&list.tokens));
            if !needs.contains(&condition) {
                needs += &condition;
            }
        }
    }
    needs
}

/// Tokens in about the usual formatting.
fn shown(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (from, to) in [
        (" :: ", "::"),
        (" < ", "<"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" ;", ";"),
        (" :", ":"),
        ("& ", "&"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        ("-> (", "-> ("),
        (",)", ")"),
        (" -&gt;", " ->"),
        (":: ", "::"),
        ("- >", "->"),
        ("# [", "#["),
        ("->(", "-> ("),
        ("(mut self", "(self"),
    ] {
        text = text.replace(from, to);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::InMemory;

    fn api() -> Api {
        let files = InMemory(&[
            (
                "src/lib.rs",
                "mod a; pub mod b;\n#[cfg(feature = \"x\")] pub use a::{Thing, Way as Road};",
            ),
            (
                "src/a.rs",
                "#[non_exhaustive] pub struct Thing { pub size: Option<u64>, hidden: u8 }\n\
                 pub enum Way { In, Out(u8) }\npub struct Unreachable;\n\
                 impl Thing { pub fn new(size: &str) -> Self { todo!() } pub(crate) fn own(&self) {} }",
            ),
            (
                "src/b.rs",
                "use super::a::Thing; impl Thing { pub fn more(self) {} }\npub trait T: Send { fn f(&self); }",
            ),
        ]);
        Api::read(&Crate::read(&files, "k", "src").unwrap())
    }

    #[test]
    fn what_others_can_name_is_listed_with_its_signature_and_feature() {
        let lines: Vec<String> = api().lines.into_iter().collect();
        assert_eq!(
            lines,
            [
                "k::Road: enum [feature = \"x\"]",
                "k::Road::In: variant [feature = \"x\"]",
                "k::Road::Out.0: u8 [feature = \"x\"]",
                "k::Road::Out: variant [feature = \"x\"]",
                "k::Thing.size: Option<u64> [feature = \"x\"]",
                "k::Thing: #[non_exhaustive] struct [feature = \"x\"]",
                "k::Thing::more: fn more(self) [feature = \"x\"]",
                "k::Thing::new: fn new(size: &str) -> Self [feature = \"x\"]",
                "k::b: mod",
                "k::b::T: trait Send",
                "k::b::T::f: fn f(&self)",
            ]
        );
    }

    #[test]
    fn a_change_is_shown_as_removed_and_added_lines() {
        let lines = BTreeSet::from(["a".to_owned(), "c".to_owned()]);
        assert_eq!(difference("a\nb\n", &lines), ["- b", "+ c"]);
    }

    #[test]
    fn an_api_that_is_too_large_is_told() {
        let mut api = api();
        assert_eq!(Vec::from_iter(&api.at_root), ["Road", "Thing"]);
        api.traits.insert("k::Big".into(), 8);
        api.traits.insert(OPERATIONS.into(), 16);
        api.types.insert("k::Queen".into(), 20);
        let found = api.too_large("k");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("trait k::Big has 8 methods; at most 7"), "{found:?}");
    }
}
