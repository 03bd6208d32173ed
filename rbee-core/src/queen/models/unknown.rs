//! The error about a name that is no known model, with what may have been meant.

use std::collections::BTreeSet;

use super::Models;
use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind},
    id::TenantId,
    model_ref::{self, ModelRef, ModelSource},
    settings::TenantReferences,
    similar,
};

/// The names that are compared with an unknown one: this is done for every request that names an unknown model.
const COMPARED: usize = 200;
/// The longest name that is compared, in bytes. Longer ones are not named either.
const MOST_COMPARED: usize = 64;
/// The words before the name that was probably meant.
const MEANT: &str = "; did you mean ";
/// The most known names in an error.
const MOST_LISTED: usize = 5;

impl Models<'_> {
    /// The error about a name that is no known model: the known names (of many the five most similar), the one that was
    /// probably meant, and the reference that the name looks like. A tenant reads only names that it may use. The names of the workers' models are those of
    /// `cluster`, if it is given.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> rbee_core::Result<()> {
    /// let queen = rbee_core::Queen::builder().alias("bee-tiny", "hf:org/bee").build().await?;
    /// let error = queen.models().unknown("bee-tyni", None, None);
    /// assert_eq!(
    ///     error.message(),
    ///     "the model bee-tyni is not known here: no worker serves it, no hive has it, and it is no alias; \
    ///      did you mean bee-tiny?"
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn unknown(
        self,
        name: &str,
        tenant: Option<&TenantId>,
        cluster: Option<&ClusterView>,
    ) -> Error {
        let shown = match ModelRef::alias(name) {
            Ok(_) => name.to_owned(),
            Err(_) => format!("{:?}", model_ref::shown(name)),
        };
        let of_hub = ModelRef::hub_suggestion(name)
            .map(|meant| format!("; to load it from the hub: {meant}"))
            .unwrap_or_default();
        let may_refer = self.queen.shared.settings.tenant_references != TenantReferences::Off;
        let mut message = format!("the model {shown} is not known here");
        // What a tenant reads. If the tenant is not known, this says nothing about other names.
        let mut told = message.clone();
        if let Some(tenant) = tenant {
            let may_use = |known: &&str| self.queen.tenants().may_use(tenant, known).is_ok();
            told += &self.known(name, cluster, may_use);
        }
        if may_refer {
            told += &of_hub;
        }
        message += ": no worker serves it, no hive has it, and it is no alias";
        let known = self.known(name, cluster, |_| true);
        let mut meant = String::new();
        meant += &of_hub;
        if let Some(file) = ModelRef::file_suggestion(name) {
            meant += &format!("; to load a file: {file}");
        }
        if meant.is_empty() && !known.contains(MEANT) {
            meant += "; allowed are also hf:org/repo and file:/absolute/path";
        }
        message += &known;
        message += &meant;
        Error::new(ErrorKind::ModelNotFound, message).with_client_message(told).with_param("model")
    }

    /// The known names that fulfill the condition, and which of them was probably meant.
    fn known(
        self,
        name: &str,
        cluster: Option<&ClusterView>,
        may_use: impl Fn(&&str) -> bool,
    ) -> String {
        let served = cluster.into_iter().flat_map(|cluster| cluster.workers());
        let served = served.map(|worker| &worker.info.model);
        let served = served.filter(|model| matches!(model.source(), ModelSource::Alias(_)));
        let known = self.aliases().keys().map(String::as_str).chain(served.map(ModelRef::as_str));
        let known = known.filter(|name| name.len() <= MOST_COMPARED).filter(may_use);
        let known: BTreeSet<&str> = known.take(COMPARED).collect();
        let compared = if name.len() > MOST_COMPARED { "" } else { name };
        let near = similar::names(compared, known.iter().copied()).into_iter().next();
        let near = near.filter(|_| !compared.is_empty());
        let more = known.len().saturating_sub(MOST_LISTED);
        let listed = match more {
            0 => Vec::from_iter(known),
            _ => similar::by_similarity(compared, known).into_iter().take(MOST_LISTED).collect(),
        };
        let mut told = match &listed[..] {
            [] => String::new(),
            [only] if near == Some(only) => String::new(),
            [only] => format!("; known is {only}"),
            all if more == 0 => format!("; known are {}", all.join(", ")),
            all => format!("; known are {} and {more} more", all.join(", ")),
        };
        if let Some(near) = near {
            told += &format!("{MEANT}{near}?");
        }
        told
    }
}
