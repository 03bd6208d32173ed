//! The order of layers, as the documentation defines it.

use std::collections::BTreeMap;

/// The layer of each top-level module: 0 is the lowest.
#[derive(Debug)]
pub(super) struct Order {
    layers: BTreeMap<String, usize>,
    twice: Vec<String>,
}

impl Order {
    /// Reads the block of a crate.
    pub(super) fn read(page: &str, name: &str) -> Result<Self, String> {
        let begin = format!("```layers {name}");
        let mut lines = page.lines().skip_while(|line| line.trim_end() != begin).skip(1).peekable();
        if lines.peek().is_none() {
            return Err(format!(
                "the layers of {name} are missing; write a block that begins with {begin} and has one layer in each \
                 line, the lowest first"
            ));
        }
        let mut order = Self { layers: BTreeMap::new(), twice: Vec::new() };
        for (layer, line) in lines.take_while(|line| !line.starts_with("```")).enumerate() {
            for module in line.split_whitespace() {
                if order.layers.insert(module.into(), layer).is_some() {
                    order.twice.push(module.into());
                }
            }
        }
        Ok(order)
    }

    /// Modules without a layer or with two, and names that are not modules.
    pub(super) fn misfits(&self, modules: &[&str]) -> Vec<String> {
        let missing = modules
            .iter()
            .filter(|module| !self.layers.contains_key(**module))
            .map(|module| format!("module {module} is in no layer; add it above all that it uses"));
        let gone = self
            .layers
            .keys()
            .filter(|name| !modules.contains(&name.as_str()))
            .map(|name| format!("{name} is in a layer and is no module; remove it"));
        let twice = self.twice.iter().map(|name| format!("{name} is in two layers; keep one"));
        missing.chain(gone).chain(twice).collect()
    }

    /// Why the first module must not use the second. `None` if it may.
    pub(super) fn forbids(&self, from: &str, to: &str) -> Option<String> {
        let (ours, theirs) = (self.layers.get(from)?, self.layers.get(to)?);
        if ours == theirs {
            return Some(format!("{from} and {to} are in one layer, and must not use each other"));
        }
        (ours < theirs).then(|| format!("{from} is in a layer below {to}, and must not use it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# Title\n```layers a-b\nx\n```\n```layers a\nlow other\n\nhigh low\n```\nend";

    #[test]
    fn the_block_of_a_crate_is_read() {
        let order = Order::read(PAGE, "a").unwrap();
        assert_eq!(order.forbids("high", "other"), None);
        assert!(order.forbids("other", "high").unwrap().contains("other is in a layer below high"));
        let why = Order::read(PAGE, "b").unwrap_err();
        assert!(why.contains("```layers b"), "{why}");
    }

    #[test]
    fn modules_that_are_missing_unknown_or_named_twice_are_told() {
        let order = Order::read(PAGE, "a").unwrap();
        assert_eq!(
            order.misfits(&["high", "low", "new"]),
            [
                "module new is in no layer; add it above all that it uses",
                "other is in a layer and is no module; remove it",
                "low is in two layers; keep one",
            ]
        );
    }
}
