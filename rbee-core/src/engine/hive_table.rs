//! The hives of the fleet: the address and status of each, and what the store has of it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    hive::HiveInfo,
    registry::{HiveRecord, HiveStatus},
    time::WallTime,
};

/// A hive, as known to the queen.
#[derive(Clone, Debug, PartialEq)]
pub struct HiveSummary {
    /// Its id.
    pub id: HiveId,
    /// The machine's own name, or the name in its address.
    pub hostname: String,
    /// The port of its HTTP API; 0 if it has none.
    pub port: u16,
    /// Its address.
    pub address: crate::hive_address::HiveAddress,
    /// Whether it is reachable.
    pub status: HiveStatus,
    /// When it last answered this queen since the queen was started; `None` if it never did.
    pub last_seen: Option<WallTime>,
    /// Why it is not reachable.
    pub error: Option<Error>,
    /// The labels given by its owner: see [`HiveView::labels`](crate::cluster::HiveView::labels).
    pub labels: BTreeMap<String, String>,
}

/// What is known of the hives besides their [views](crate::cluster::HiveView).
#[derive(Debug, Default)]
pub(super) struct HiveTable {
    members: BTreeMap<HiveId, Member>,
    /// Models that the store has a row for, by hive; also of hives that an earlier run of the queen had and that are
    /// not members yet.
    recorded_models: BTreeMap<HiveId, BTreeSet<ModelRef>>,
}

/// A hive of the fleet.
#[derive(Debug)]
struct Member {
    info: HiveInfo,
    is_online: bool,
    last_seen: Option<WallTime>,
    error: Option<Error>,
    /// An operator has stopped it: what still arrives from it is out of date.
    is_stopped: bool,
    /// The revision of its last report.
    revision: Option<u64>,
    /// Its status in the store.
    recorded: Option<HiveStatus>,
}

impl Member {
    fn status(&self) -> HiveStatus {
        match (self.is_online, self.last_seen, &self.error) {
            (true, ..) => HiveStatus::Online,
            // It has never answered, and the reason is known.
            (false, None, Some(_)) => HiveStatus::Error,
            _ => HiveStatus::Offline,
        }
    }

    /// The change to record if the store has another status of it, or none yet.
    fn record(&mut self, id: &HiveId, now: Now, capabilities: serde_json::Value) -> Option<Change> {
        let status = self.status();
        if self.recorded.replace(status) == Some(status) {
            return None;
        }
        let info = self.info.clone();
        Some(Change::HivePut(Box::new(HiveRecord {
            id: id.clone(),
            hostname: info.hostname,
            port: info.port,
            address: info.address,
            capabilities,
            last_seen: self.last_seen.unwrap_or(now.wall),
            status,
            labels: info.labels,
        })))
    }
}

impl HiveTable {
    /// Adds a hive. Returns false if it is a member already.
    pub(super) fn add(&mut self, id: &HiveId, info: HiveInfo) -> bool {
        if self.members.contains_key(id) {
            return false;
        }
        let member = Member {
            info,
            is_online: false,
            last_seen: None,
            error: None,
            is_stopped: false,
            revision: None,
            recorded: None,
        };
        self.members.insert(id.clone(), member);
        true
    }

    /// Removes a hive, and what is known of its models. Returns the change to record.
    pub(super) fn remove(&mut self, id: &HiveId) -> Option<Change> {
        self.recorded_models.remove(id);
        self.members.remove(id).map(|_| Change::HiveGone(id.clone()))
    }

    /// True if it is a member that no operator has stopped.
    pub(super) fn is_heard(&self, id: &HiveId) -> bool {
        self.members.get(id).is_some_and(|member| !member.is_stopped)
    }

    /// True if the store has a row for it.
    pub(super) fn is_recorded(&self, id: &HiveId) -> bool {
        self.members.get(id).is_some_and(|member| member.recorded.is_some())
    }

    /// Notes that it has answered, with these capabilities. Returns the change to record.
    pub(super) fn answered(
        &mut self,
        id: &HiveId,
        now: Now,
        capabilities: impl FnOnce() -> serde_json::Value,
    ) -> Option<Change> {
        let member = self.members.get_mut(id)?;
        (member.last_seen, member.error) = (Some(now.wall), None);
        if std::mem::replace(&mut member.is_online, true) {
            return None;
        }
        member.record(id, now, capabilities())
    }

    /// Notes that it does not answer. Returns the change to record.
    pub(super) fn is_away(&mut self, id: &HiveId, now: Now, why: Error) -> Option<Change> {
        let member = self.members.get_mut(id)?;
        (member.is_online, member.error) = (false, Some(why));
        member.record(id, now, serde_json::Value::Null)
    }

    /// Notes that an operator has stopped it. Its next report counts from the beginning.
    pub(super) fn stopped(&mut self, id: &HiveId, now: Now) -> Option<Change> {
        if let Some(member) = self.members.get_mut(id) {
            member.is_stopped = true;
        }
        self.forget_revision(id);
        self.is_away(id, now, Error::new(ErrorKind::HiveUnreachable, "the hive was stopped"))
    }

    /// Notes that an operator has started it again; any earlier reason for not answering is gone.
    pub(super) fn started(&mut self, id: &HiveId) {
        if let Some(member) = self.members.get_mut(id).filter(|member| !member.is_online) {
            (member.is_stopped, member.error) = (false, None);
        }
    }

    pub(super) fn revision(&self, id: &HiveId) -> Option<u64> {
        self.members.get(id)?.revision
    }

    pub(super) fn set_revision(&mut self, id: &HiveId, revision: u64) {
        if let Some(member) = self.members.get_mut(id) {
            member.revision = Some(revision);
        }
    }

    pub(super) fn forget_revision(&mut self, id: &HiveId) {
        if let Some(member) = self.members.get_mut(id) {
            member.revision = None;
        }
    }

    /// Notes that the store has a row for this model on that hive.
    pub(super) fn model_recorded(&mut self, hive: HiveId, model: ModelRef) {
        self.recorded_models.entry(hive).or_default().insert(model);
    }

    /// Removes and returns the models that the store has a row for and that the hive does not have.
    pub(super) fn take_gone_models(
        &mut self,
        hive: &HiveId,
        is_there: impl Fn(&ModelRef) -> bool,
    ) -> Vec<ModelRef> {
        let Some(recorded) = self.recorded_models.get_mut(hive) else { return Vec::new() };
        let gone: Vec<_> = recorded.iter().filter(|model| !is_there(model)).cloned().collect();
        for model in &gone {
            recorded.remove(model);
        }
        gone
    }

    fn summaries(&self) -> impl Iterator<Item = HiveSummary> {
        self.members.iter().map(|(id, member)| {
            let info = member.info.clone();
            HiveSummary {
                id: id.clone(),
                hostname: info.hostname,
                port: info.port,
                address: info.address,
                status: member.status(),
                last_seen: member.last_seen,
                error: member.error.clone(),
                labels: info.labels,
            }
        })
    }
}

impl Engine {
    /// Every hive of the fleet, by name.
    pub fn hives(&self) -> Vec<HiveSummary> {
        self.hives.summaries().collect()
    }
}
