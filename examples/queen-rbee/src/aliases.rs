//! The aliases of models: what each stands for, through other aliases.

use std::{borrow::Cow, collections::BTreeMap};

use rbee_core::{Error, ErrorKind, ModelRef, Result, models::ModelSource};

use crate::{Config, bundled};

/// The most aliases that lead from one to the next.
const MOST_STEPS: usize = 16;

/// Every alias with its reference. One of the configuration overrides the bundled one, which stands for `bundled`. An
/// alias may stand for another one.
///
/// # Errors
/// [`ErrorKind::Config`] if an alias stands for something that is neither a reference nor an alias, or if aliases stand
/// for each other in a circle.
pub(crate) fn resolved(
    config: &Config,
    bundled: Option<ModelRef>,
) -> Result<Vec<(String, ModelRef)>> {
    let mut targets = BTreeMap::new();
    let mut all = Vec::new();
    if let Some(model) = bundled.filter(|_| is_bundled(config)) {
        targets.insert(bundled::NAME, model.clone());
        all.push((bundled::NAME.to_owned(), model));
    }
    for (name, model) in config.models.iter() {
        let parsed = model.parse::<ModelRef>();
        let parsed = parsed.map_err(|error| error.context(format_args!("models: {name}")))?;
        targets.insert(name, parsed);
    }
    for name in config.models.keys() {
        all.push((name.clone(), reference(name, &targets)?));
    }
    Ok(all)
}

/// True if the bundled model has its alias.
pub(crate) fn is_bundled(config: &Config) -> bool {
    config.bundled_model && bundled::is_there() && !config.models.contains_key(bundled::NAME)
}

/// The reference that the alias leads to.
fn reference(name: &str, targets: &BTreeMap<&str, ModelRef>) -> Result<ModelRef> {
    let mut path = vec![name];
    let mut at = &targets[name];
    while let ModelSource::Alias(next) = at.source() {
        if path.contains(&next) || path.len() >= MOST_STEPS {
            path.push(next);
            let message = format!(
                "models: {name}: the aliases lead in a circle or too far: {}; let one of them stand for a reference, \
                 such as hf:org/repo or file:/path",
                path.join(" -> ")
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        let Some((found, model)) = targets.get_key_value(next) else {
            let known: Vec<Cow<'_, str>> = targets
                .keys()
                .filter(|known| **known != name)
                .map(|known| (*known).into())
                .collect();
            let known = match known.is_empty() {
                true => String::new(),
                false => format!(", or one of the other aliases: {}", known.join(", ")),
            };
            let message = format!(
                "models: {name} stands for {next:?}, which is no alias; allowed is a reference, such as hf:org/repo or \
                 file:/path{known}"
            );
            return Err(Error::new(ErrorKind::Config, message));
        };
        path.push(found);
        at = model;
    }
    Ok(at.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(models: &[(&str, &str)]) -> Result<Vec<(String, ModelRef)>> {
        let mut config = Config::default();
        config.models.0 =
            models.iter().map(|(name, model)| ((*name).into(), (*model).into())).collect();
        resolved(&config, Some("file:/bundled".parse().unwrap()))
    }

    #[test]
    fn an_alias_may_stand_for_another_one() {
        let found = aliases(&[("a", "b"), ("b", "hf:org/repo"), ("small", "bee-tiny")]).unwrap();
        let found: BTreeMap<_, _> =
            found.iter().map(|(name, model)| (&**name, model.as_str())).collect();
        assert_eq!(
            found,
            [
                ("a", "hf:org/repo"),
                ("b", "hf:org/repo"),
                ("bee-tiny", "file:/bundled"),
                ("small", "file:/bundled")
            ]
            .into()
        );
    }

    #[test]
    fn a_circle_and_an_unknown_target_are_refused_by_name() {
        let circle = aliases(&[("a", "b"), ("b", "c"), ("c", "b")]).unwrap_err();
        assert!(
            circle.message().contains("models: a: ")
                && circle.message().contains("a -> b -> c -> b")
        );
        let itself = aliases(&[("a", "a")]).unwrap_err();
        assert!(itself.message().contains("a -> a"), "{itself}");
        let unknown = aliases(&[("fast", "quick"), ("slow", "hf:org/repo")]).unwrap_err();
        for part in ["models: fast stands for \"quick\"", "hf:org/repo or", "bee-tiny, slow"] {
            assert!(unknown.message().contains(part), "{part}: {unknown}");
        }
    }
}
