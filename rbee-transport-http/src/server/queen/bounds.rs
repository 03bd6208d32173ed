//! Limits on what clients can hold at once: requests of a tenant, followers of a job, and the memory of bodies that
//! are not jobs yet.
//!
//! The queue and the tenant's limits bound a job in the queue. These limits bound what comes before and outside it.
//! Everything taken is released when its guard is dropped, also if the client disconnects in between.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{extract::Request, response::Response};
use rbee_core::{Error, ErrorKind, JobId, Result, TenantId};
use serde::de::DeserializeOwned;

use super::{Inner, QueenLimits, caller::Caller};
use crate::{
    server::{body_budget::BodyBudget, connections::ConnectionCap, held_body::HeldBody, response},
    wire,
};

/// When to try again: requests and bodies end all the time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The state that all requests to one queen share.
#[derive(Debug)]
pub(super) struct Bounds {
    limits: QueenLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The tenants that hold something.
    tenants: HashMap<TenantId, Held>,
    /// What all tenants hold together.
    all_tenants: Held,
    /// Bytes of bodies, including the operator's.
    body_bytes: usize,
    followers: HashMap<(JobId, Side), usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    requests: usize,
    body_bytes: usize,
}

/// The followers of a job. The operator can follow it whatever its tenant does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Operator,
    Tenant,
}

impl Bounds {
    pub(super) fn new(mut limits: QueenLimits) -> Arc<Self> {
        // The largest body must fit, also while its buffer is moved to a larger one.
        let least = limits.body_bytes.saturating_mul(2);
        limits.tenant_body_bytes = limits.tenant_body_bytes.max(least);
        limits.total_body_bytes = limits.total_body_bytes.max(least.saturating_mul(2));
        Arc::new(Self { limits, state: Mutex::default() })
    }

    pub(super) fn limits(&self) -> &QueenLimits {
        &self.limits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request. The operator's requests need no slot, nor do the health checks of load balancers.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] if the tenant has too many open, [`ErrorKind::SystemAtCapacity`] if all tenants
    /// together have.
    pub(super) fn begin(
        self: &Arc<Self>,
        caller: &Caller,
        path: &str,
        cap: Option<ConnectionCap>,
    ) -> Result<Option<RequestSlot>> {
        let Some(tenant) =
            caller.tenant().filter(|_| path != wire::HEALTH && path != wire::METRICS)
        else {
            return Ok(None);
        };
        let connections = cap.map_or(usize::MAX, |ConnectionCap(cap)| cap);
        let share = self.limits.tenant_requests.min((connections / 4).max(1));
        let share_of_all = (connections - connections.div_ceil(8)).max(1);
        let mut state = self.lock();
        let State { tenants, all_tenants, .. } = &mut *state;
        let open = tenants.get(tenant).map_or(0, |held| held.requests);
        if open >= share {
            let message = format!(
                "tenant {tenant} has {open} requests open at once; allowed are {share}. Wait until some have been \
                 answered, or close streams"
            );
            return refuse(ErrorKind::RateLimited, message);
        }
        if all_tenants.requests >= share_of_all {
            let message = "too many requests are open at once; try again later";
            return refuse(ErrorKind::SystemAtCapacity, message.into());
        }
        tenants.entry(tenant.clone()).or_default().requests += 1;
        all_tenants.requests += 1;
        drop(state);
        Ok(Some(RequestSlot { bounds: self.clone(), tenant: tenant.clone() }))
    }

    /// Adds a follower of the events of a job.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] if there are too many.
    pub(super) fn follow(self: &Arc<Self>, caller: &Caller, job: JobId) -> Result<FollowerPlace> {
        let side = if caller.tenant().is_some() { Side::Tenant } else { Side::Operator };
        let most = self.limits.job_followers;
        let mut state = self.lock();
        let count = state.followers.get(&(job, side)).copied().unwrap_or_default();
        if count >= most {
            let message = format!(
                "the events of job {job} are followed by {count} clients; allowed are {most} at once. Close one of these \
                 streams"
            );
            return refuse(ErrorKind::RateLimited, message);
        }
        state.followers.insert((job, side), count + 1);
        drop(state);
        Ok(FollowerPlace { bounds: self.clone(), job, side })
    }

    fn check_body(&self, state: &State, tenant: Option<&TenantId>, bytes: usize) -> Result<()> {
        let total = self.limits.total_body_bytes;
        if let Some(tenant) = tenant {
            let most = self.limits.tenant_body_bytes;
            let held = state.tenants.get(tenant).map_or(0, |held| held.body_bytes);
            if held.saturating_add(bytes) > most {
                let message = format!(
                    "tenant {tenant} sends {held} bytes of request bodies at once, and this one has {bytes} more; allowed \
                     are {most}"
                );
                return refuse(ErrorKind::RateLimited, message);
            }
            if state.all_tenants.body_bytes.saturating_add(bytes) > total - total / 4 {
                return refuse_body();
            }
        }
        if state.body_bytes.saturating_add(bytes) > total { refuse_body() } else { Ok(()) }
    }
}

fn refuse<T>(kind: ErrorKind, message: String) -> Result<T> {
    Err(Error::for_client(kind, message).with_retry_after(RETRY_AFTER))
}

fn refuse_body<T>() -> Result<T> {
    let message = "too many request bodies arrive at once; try again later, or send a smaller one";
    refuse(ErrorKind::SystemAtCapacity, message.into())
}

impl State {
    /// Changes what a tenant holds. A tenant that holds nothing is removed.
    fn change(&mut self, tenant: &TenantId, change: impl Fn(&mut Held)) {
        change(&mut self.all_tenants);
        if let Some(held) = self.tenants.get_mut(tenant) {
            change(held);
            if *held == Held::default() {
                self.tenants.remove(tenant);
            }
        }
    }
}

/// An open request of a tenant.
#[derive(Debug)]
pub(super) struct RequestSlot {
    bounds: Arc<Bounds>,
    tenant: TenantId,
}

impl RequestSlot {
    /// Keeps the request open until the body of its response is dropped.
    pub(super) fn hold_with_body(self, response: Response) -> Response {
        response.map(|body| HeldBody::hold(body, self))
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.bounds.lock().change(&self.tenant, |held| held.requests -= 1);
    }
}

/// A follower of the events of a job.
#[derive(Debug)]
pub(super) struct FollowerPlace {
    bounds: Arc<Bounds>,
    job: JobId,
    side: Side,
}

impl Drop for FollowerPlace {
    fn drop(&mut self) {
        let (mut state, key) = (self.bounds.lock(), (self.job, self.side));
        if let Some(count) = state.followers.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                state.followers.remove(&key);
            }
        }
    }
}

/// The memory of one body, and of what was parsed from it.
#[derive(Debug)]
pub(super) struct BodyPermit {
    bounds: Arc<Bounds>,
    /// `None` for the operator.
    tenant: Option<TenantId>,
    bytes: usize,
}

impl BodyBudget for BodyPermit {
    fn check(&self, bytes: usize) -> Result<()> {
        self.bounds.check_body(&self.bounds.lock(), self.tenant.as_ref(), bytes)
    }

    fn take(&mut self, bytes: usize) -> Result<()> {
        let mut state = self.bounds.lock();
        self.bounds.check_body(&state, self.tenant.as_ref(), bytes)?;
        state.body_bytes += bytes;
        if let Some(tenant) = &self.tenant {
            state.tenants.entry(tenant.clone()).or_default();
            state.change(tenant, |held| held.body_bytes += bytes);
        }
        self.bytes += bytes;
        Ok(())
    }

    fn give_back(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        let mut state = self.bounds.lock();
        state.body_bytes -= bytes;
        if let Some(tenant) = &self.tenant {
            state.change(tenant, |held| held.body_bytes -= bytes);
        }
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// A body that was read, with its permit.
#[derive(Debug)]
pub(super) struct ReadBody {
    // Dropped first.
    bytes: Vec<u8>,
    permit: BodyPermit,
}

impl ReadBody {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Drops the bytes, and returns the permit for what was parsed from them.
    pub(super) fn into_permit(self) -> BodyPermit {
        self.permit
    }
}

impl Inner {
    /// Reads the whole body of a request of content type JSON.
    ///
    /// # Errors
    /// As [`response::read_body`]; [`ErrorKind::RateLimited`] or [`ErrorKind::SystemAtCapacity`] if there is no room for it.
    pub(super) async fn read_body(&self, request: Request) -> Result<ReadBody> {
        // The middleware has set the caller.
        let caller = request.extensions().get::<Caller>().cloned();
        let tenant = caller.unwrap_or_else(super::caller::nobody).tenant().cloned();
        let mut permit = BodyPermit { bounds: self.bounds.clone(), tenant, bytes: 0 };
        let most = self.bounds.limits.body_bytes;
        let bytes = response::read_body(request, most, &mut permit).await?;
        Ok(ReadBody { bytes, permit })
    }

    /// Reads the body of a request as JSON.
    ///
    /// # Errors
    /// As [`read_body`](Self::read_body), and [`ErrorKind::InvalidRequest`] with the place at which it is not as
    /// expected.
    pub(super) async fn read_json<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        response::parse(self.read_body(request).await?.bytes())
    }
}
