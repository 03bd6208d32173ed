//! The error about a name that is no known model, with what may have been meant.

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
/// The longest name that is compared with others, in bytes.
const MOST_COMPARED: usize = 64;

impl Models<'_> {
    /// The error about a name that is no known model: what is known under a similar name, and the reference that the
    /// name looks like. A tenant reads only names that it may use. The names of the workers' models are those of
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
            told += &self.near(name, cluster, may_use);
        }
        if may_refer {
            told += &of_hub;
        }
        message += ": no worker serves it, no hive has it, and it is no alias";
        let mut meant = self.near(name, cluster, |_| true);
        meant += &of_hub;
        if let Some(file) = ModelRef::file_suggestion(name) {
            meant += &format!("; to load a file: {file}");
        }
        if meant.is_empty() {
            meant += "; allowed are also hf:org/repo and file:/absolute/path";
        }
        message += &meant;
        Error::new(ErrorKind::ModelNotFound, message).with_client_message(told).with_param("model")
    }

    /// A similar name that fulfills the condition.
    fn near(
        self,
        name: &str,
        cluster: Option<&ClusterView>,
        may_use: impl Fn(&&str) -> bool,
    ) -> String {
        if name.len() > MOST_COMPARED {
            return String::new();
        }
        let served = cluster.into_iter().flat_map(|cluster| cluster.workers());
        let served = served.map(|worker| &worker.info.model);
        let served = served.filter(|model| matches!(model.source(), ModelSource::Alias(_)));
        let known = self.aliases().keys().map(String::as_str).chain(served.map(ModelRef::as_str));
        let near = similar::names(name, known.take(COMPARED)).into_iter().find(may_use);
        near.map(|near| format!("; did you mean {near}?")).unwrap_or_default()
    }
}
