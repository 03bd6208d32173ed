//! Tenants in scripts.

use rhai::{Dynamic, ImmutableString};

use super::{
    collection::{or_unit, whole},
    context::with,
    error::{Res, fault},
    registry::{Helper, HelperRegistry},
};
use crate::{id::TenantId, tenant::TenantView};

/// Looks at the tenant; `None` if nothing is known of it, or if the job has none.
fn ask<T>(tenant: Dynamic, look: impl FnOnce(Option<&TenantView>) -> T) -> Res<T> {
    ask_with(tenant, |_, view| look(view))
}

/// The same, with whether the job is about to join the queue.
fn ask_with<T>(tenant: Dynamic, look: impl FnOnce(bool, Option<&TenantView>) -> T) -> Res<T> {
    if tenant.is_unit() {
        return Ok(look(false, None));
    }
    let kind = tenant.type_name();
    let name: ImmutableString = tenant
        .into_immutable_string()
        .map_err(|_| fault(format!("a tenant is a text or (), not a value of type {kind}")))?;
    let id = TenantId::new(name.as_str()).map_err(|error| fault(error.message()))?;
    with(|context| {
        let view = context.cluster.tenant(&id).map(|view| &**view);
        Ok(look(context.is_admitting, view))
    })
}

pub(super) fn register(registry: &mut HelperRegistry) {
    registry.section(
        "Tenants",
        "A tenant is given by its name, as in `job.tenant`. A tenant of which nothing is known has no limits, and neither \
         have jobs without a tenant, whose `job.tenant` is `()`. The queue itself shares the slots among tenants.",
    );
    let f = |name, signature, doc, example| Helper { on: "", name, signature, doc, example };
    registry.function(
        f(
            "tenant_over_quota",
            "tenant_over_quota(tenant) -> bool",
            "True if its tokens of today are used up, or if it has more jobs than it may have. In `admit`, also if one \
             more would be too many.",
            "tenant_over_quota(\"bob\")",
        ),
        |tenant: Dynamic| {
            ask_with(tenant, |is_admitting, view| {
                view.is_some_and(|view| match is_admitting {
                    true => view.is_at_quota(),
                    false => view.is_over_quota(),
                })
            })
        },
    );
    registry.function(
        f(
            "tenant_remaining_quota",
            "tenant_remaining_quota(tenant) -> int or ()",
            "Tokens that it may still use today; `()` if there is no limit.",
            "tenant_remaining_quota(\"alice\")",
        ),
        |tenant: Dynamic| {
            ask(tenant, |view| or_unit(view.and_then(TenantView::remaining_today).map(whole)))
        },
    );
    registry.function(
        f(
            "tenant_usage",
            "tenant_usage(tenant) -> int",
            "Tokens that it has used today (UTC).",
            "tenant_usage(job.tenant)",
        ),
        |tenant: Dynamic| ask(tenant, |view| whole(view.map_or(0, |view| view.used_today))),
    );
    registry.function(
        f(
            "tenant_jobs",
            "tenant_jobs(tenant) -> int",
            "The number of its jobs, waiting and running.",
            "tenant_jobs(\"alice\")",
        ),
        |tenant: Dynamic| ask(tenant, |view| whole(view.map_or(0, |view| view.live_jobs))),
    );
    registry.function(
        f(
            "tenant_weight",
            "tenant_weight(tenant) -> int",
            "Its weight when slots are shared among tenants.",
            "tenant_weight(\"alice\")",
        ),
        |tenant: Dynamic| ask(tenant, |view| whole(view.map_or(1, |view| view.limits.weight))),
    );
}
