//! The labels of models and tenants: a bounded number of them, and never a path.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};

use crate::{
    id::TenantId,
    model_ref::{ModelRef, ModelSource},
};

/// Models without an alias that have a label of their own. Aliases are named by the operator, so they always have one:
/// tenants that name models by reference cannot use up theirs.
const MODELS: usize = 100;
/// Tenants that have a label of their own.
const TENANTS: usize = 100;
/// The label of all others.
pub(super) const OTHER: &str = "other";

static MODEL_LABELS: Mutex<ModelLabels> = Mutex::new(ModelLabels::new());
static TENANT_LABELS: Mutex<BTreeSet<TenantId>> = Mutex::new(BTreeSet::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave a map half changed: every change under a lock is one call on one map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a model with one of these aliases has it as its label.
pub(crate) fn name_models(aliases: &BTreeMap<String, ModelRef>) {
    lock(&MODEL_LABELS).name(aliases);
}

pub(super) fn model_label(model: &ModelRef) -> String {
    lock(&MODEL_LABELS).of(model)
}

pub(super) fn tenant_label(tenant: &TenantId) -> String {
    bounded(&mut lock(&TENANT_LABELS), tenant)
}

/// The label of a tenant that has one already, or `is_active` and gets one now.
pub(super) fn tenant_label_if_any(tenant: &TenantId, is_active: bool) -> Option<String> {
    let mut seen = lock(&TENANT_LABELS);
    (is_active || seen.contains(tenant)).then(|| bounded(&mut seen, tenant))
}

fn bounded(seen: &mut BTreeSet<TenantId>, tenant: &TenantId) -> String {
    if !seen.contains(tenant) {
        if seen.len() >= TENANTS {
            return OTHER.to_owned();
        }
        seen.insert(tenant.clone());
    }
    tenant.as_str().to_owned()
}

/// The labels of models that were given out, and the aliases from which they are made.
#[derive(Debug)]
struct ModelLabels {
    aliases: BTreeMap<String, ModelRef>,
    /// The labels of models without an alias.
    given: BTreeMap<ModelRef, String>,
    /// Models whose aliases were looked up.
    named: BTreeMap<ModelRef, String>,
}

impl ModelLabels {
    const fn new() -> Self {
        Self { aliases: BTreeMap::new(), given: BTreeMap::new(), named: BTreeMap::new() }
    }

    fn name(&mut self, aliases: &BTreeMap<String, ModelRef>) {
        self.aliases.extend(aliases.iter().map(|(name, model)| (name.clone(), model.clone())));
        self.given.clear();
        self.named.clear();
    }

    fn of(&mut self, model: &ModelRef) -> String {
        if let Some(label) = self.given.get(model).or_else(|| self.named.get(model)) {
            return label.clone();
        }
        if let Some((alias, _)) = self.aliases.iter().find(|(_, aliased)| model.is_of(aliased)) {
            // A repository has many commits and files, so this is bounded too. The others are looked up each time.
            if self.named.len() < self.aliases.len() + MODELS {
                self.named.insert(model.clone(), alias.clone());
            }
            return alias.clone();
        }
        if self.given.len() >= MODELS {
            return OTHER.to_owned();
        }
        let label = label(model);
        self.given.insert(model.clone(), label.clone());
        label
    }
}

/// The reference, or for a file its name and the beginning of the hash of its reference, because files in several
/// directories may have the same name.
fn label(model: &ModelRef) -> String {
    match model.source() {
        ModelSource::File(path) => file_label(path, model),
        ModelSource::Hub { .. } | ModelSource::Alias(_) => model.as_str().to_owned(),
    }
}

fn file_label(path: &Path, model: &ModelRef) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hash = Sha256::digest(model.as_str().as_bytes());
    let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}~{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> ModelRef {
        text.parse().unwrap()
    }

    #[test]
    fn models_beyond_the_bound_share_one_label() {
        let mut labels = ModelLabels::new();
        for n in 0..MODELS {
            assert_eq!(labels.of(&model(&format!("m{n}"))), format!("m{n}"));
        }
        assert_eq!(labels.of(&model("one-more")), OTHER);
        assert_eq!(labels.of(&model("m0")), "m0");
        assert_eq!(labels.given.len(), MODELS);
    }

    #[test]
    fn an_alias_keeps_its_label_however_many_references_were_named_before() {
        let mut labels = ModelLabels::new();
        let aliases =
            (0..2 * MODELS).map(|n| (format!("alias{n}"), model(&format!("hf:org/r{n}"))));
        labels.name(&aliases.collect());
        for n in 0..2 * MODELS {
            labels.of(&model(&format!("hf:other/r{n}")));
        }
        assert_eq!(labels.of(&model("hf:other/one-more")), OTHER);
        for n in 0..2 * MODELS {
            assert_eq!(labels.of(&model(&format!("hf:org/r{n}"))), format!("alias{n}"));
        }
        // Nor do the aliased ones leave less room for the others, or fill the memory.
        for n in 0..4 * MODELS {
            let commit = model(&format!("hf:org/r0@{n:040x}"));
            assert_eq!(labels.of(&commit), "alias0");
        }
        assert_eq!(labels.given.len(), MODELS);
        assert_eq!(labels.named.len(), 3 * MODELS);
    }

    #[test]
    fn tenants_beyond_the_bound_share_one_label() {
        let mut seen = BTreeSet::new();
        let tenant = |n: usize| TenantId::new(format!("t{n}")).unwrap();
        for n in 0..TENANTS {
            assert_eq!(bounded(&mut seen, &tenant(n)), format!("t{n}"));
        }
        assert_eq!(bounded(&mut seen, &tenant(TENANTS)), OTHER);
        assert_eq!(bounded(&mut seen, &tenant(0)), "t0");
        assert_eq!(seen.len(), TENANTS);
    }

    #[test]
    fn a_model_is_labeled_by_its_alias_or_its_reference_and_never_by_a_path() {
        let mut labels = ModelLabels::new();
        let file = model("file:/home/lily/models/bee.gguf");
        let (unnamed, same_name) = (labels.of(&file), labels.of(&model("file:/srv/bee.gguf")));
        assert_ne!(unnamed, same_name);
        for label in [&unnamed, &same_name] {
            assert!(label.starts_with("bee.gguf~") && !label.contains('/'), "{label}");
        }
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let hub = model(&format!("hf:org/repo@{commit}::file=a.gguf"));
        assert_eq!(labels.of(&hub), hub.as_str());
        let aliases = [("bee", file.clone()), ("repo", model("hf:org/repo"))];
        labels.name(&aliases.map(|(name, model)| (name.to_owned(), model)).into());
        assert_eq!(labels.of(&file), "bee");
        assert_eq!(labels.of(&hub), "repo");
    }
}
