//! What each caller may read. This is the one place that decides it: an operator reads everything, a tenant nothing
//! of hives, devices, workers and paths. Every error, job and event that leaves the queen over HTTP passes through
//! it.

use std::borrow::Cow;

use rbee_core::{Error, ErrorKind, HiveId, ModelRef, Queen, WorkerId, models::ModelSource};

use super::caller::Caller;

/// The name that a tenant reads for a model without a visible name, for example the file of an alias that was
/// removed.
const UNNAMED: &str = "file:(not shown)";

impl Caller {
    /// True if it may know the machines, and what is on them.
    pub(super) fn sees_machines(&self) -> bool {
        matches!(self, Self::Operator)
    }

    /// The error of the work on a request, as it may read it. It is never [`ErrorKind::Unauthorized`]: the caller was
    /// admitted, so a token that somebody refuses is not the caller's. It is the one that the queen has for a hive.
    pub(super) fn error<'a>(&self, error: &'a Error) -> Cow<'a, Error> {
        match error.kind() {
            ErrorKind::Unauthorized => Cow::Owned(self.refusal(&of_a_hive(error)).into_owned()),
            _ => self.refusal(error),
        }
    }

    /// The error of the admission of a request, as its sender may read it.
    pub(super) fn refusal<'a>(&self, error: &'a Error) -> Cow<'a, Error> {
        match self {
            Self::Operator => Cow::Borrowed(error),
            Self::Tenant(_) => Cow::Owned(error.redacted()),
        }
    }

    /// The worker of a job. A tenant gets none: it could count workers, and learn which tenants share one.
    pub(super) fn worker(&self, worker: Option<WorkerId>) -> Option<WorkerId> {
        worker.filter(|_| self.sees_machines())
    }

    /// The hive, if the caller may know it.
    pub(super) fn hive(&self, hive: HiveId) -> Option<HiveId> {
        self.sees_machines().then_some(hive)
    }

    /// The name of the model: an alias, if it has one. For a tenant this is an alias that it may use, or the
    /// reference in its limits, or the reference to a hub; a path is not shown.
    pub(super) fn model<'a>(&self, queen: &'a Queen, model: &'a ModelRef) -> Cow<'a, str> {
        let aliases = || {
            let all = queen.models().aliases().iter().filter(|(_, aliased)| model.is_of(aliased));
            all.map(|(alias, _)| alias.as_str())
        };
        let Self::Tenant(tenant) = self else {
            return aliases().next().unwrap_or(model.as_str()).into();
        };
        let listed = queen.tenants().limits_of(tenant).models.unwrap_or_default();
        let own = aliases().find(|alias| listed.contains(*alias));
        let own =
            own.or_else(|| aliases().find(|alias| queen.tenants().may_use(tenant, alias).is_ok()));
        if let Some(alias) = own {
            return alias.into();
        }
        let mut references = listed.into_iter();
        let listed = references.find(|one| one.parse().is_ok_and(|one| model.is_of(&one)));
        match (listed, model.source()) {
            (Some(name), _) => name.into(),
            (None, ModelSource::File(_)) => UNNAMED.into(),
            (None, _) => model.as_str().into(),
        }
    }
}

/// The error of a hive that refuses the queen's token.
fn of_a_hive(error: &Error) -> Error {
    let mut told = Error::new(ErrorKind::HiveUnreachable, error.message().to_owned());
    if let Some(message) = error.client_message() {
        told = told.with_client_message(message.to_owned());
    }
    if let Some(param) = error.param() {
        told = told.with_param(param.to_owned());
    }
    if let Some(after) = error.retry_after() {
        told = told.with_retry_after(after);
    }
    told.with_source(error.clone())
}

#[cfg(test)]
mod tests {
    use rbee_core::{TenantId, tenant::TenantLimits};

    use super::*;

    #[test]
    fn only_the_admission_of_a_request_finds_its_token_wrong() {
        let tenant = Caller::Tenant(TenantId::new("acme").unwrap());
        for caller in [Caller::Operator, tenant] {
            for kind in ErrorKind::ALL {
                let error = Error::for_client(*kind, "the reason").with_param("model");
                let expected = match kind {
                    ErrorKind::Unauthorized => ErrorKind::HiveUnreachable,
                    kind => *kind,
                };
                assert_eq!(caller.error(&error).kind(), expected, "{kind}");
                assert_eq!(caller.refusal(&error).kind(), *kind);
            }
        }
        let error = Error::new(ErrorKind::Unauthorized, "the hive wants its token");
        let told = Caller::Operator.error(&error.with_param("model")).into_owned();
        assert_eq!((told.message(), told.param()), ("the hive wants its token", Some("model")));
    }

    #[tokio::test]
    async fn a_tenant_reads_the_name_that_it_may_use_and_never_a_path_that_it_was_not_given() {
        let queen = Queen::builder()
            .alias("another", "file:/secret/bee")
            .alias("ours", "file:/secret/bee")
            .build()
            .await
            .unwrap();
        let tenant = TenantId::new("acme").unwrap();
        let models = ["ours".to_owned(), "file:/given".to_owned()].into();
        let limits = TenantLimits { models: Some(models), ..TenantLimits::default() };
        queen.tenants().put(tenant.clone(), limits).await.unwrap();
        let tenant = Caller::Tenant(tenant);
        for (model, told, all) in [
            ("file:/secret/bee", "ours", "another"),
            ("file:/secret/wasp", UNNAMED, "file:/secret/wasp"),
            ("file:/given", "file:/given", "file:/given"),
            ("hf:org/repo", "hf:org/repo", "hf:org/repo"),
        ] {
            let model = model.parse().unwrap();
            assert_eq!(tenant.model(&queen, &model), told);
            assert_eq!(Caller::Operator.model(&queen, &model), all);
        }
    }
}
