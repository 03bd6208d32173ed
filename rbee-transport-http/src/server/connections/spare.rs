//! The activity of a connection, and which unused connection is closed first.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// How long a new connection may be silent before it is the first to be closed.
pub(super) const FIRST_GRACE: Duration = Duration::from_secs(1);
/// How long a new connection may be silent at least: its first request may be on its way, or not read yet.
pub(super) const YOUNG_GRACE: Duration = Duration::from_millis(50);
/// How long a client may block its own request before its connection may be closed to make room.
pub(super) const STALL_GRACE: Duration = Duration::from_secs(10);
/// Why a connection can be closed to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Spare {
    /// It has not sent a request yet.
    Silent,
    /// It is between two requests.
    Idle,
    /// Its client blocks its own request: it reads nothing, or does not send the body.
    Stalled,
}

/// The activity of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    pub(super) has_asked: bool,
    pub(super) is_in_request: bool,
    pub(super) is_write_blocked: bool,
}

impl Activity {
    pub(super) fn spare(self) -> Option<Spare> {
        match self {
            Self { is_write_blocked: true, .. } => Some(Spare::Stalled),
            Self { is_in_request: true, .. } => None,
            Self { has_asked: true, .. } => Some(Spare::Idle),
            _ => Some(Spare::Silent),
        }
    }
}

/// The connections that can be closed, each kind in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct SpareSet {
    pub(super) silent: BTreeMap<u64, Member>,
    pub(super) idle: BTreeMap<u64, Member>,
    pub(super) stalled: BTreeMap<u64, Member>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) connection: u64,
    pub(super) since: Instant,
}

impl SpareSet {
    pub(super) fn of(&mut self, spare: Spare) -> &mut BTreeMap<u64, Member> {
        match spare {
            Spare::Silent => &mut self.silent,
            Spare::Idle => &mut self.idle,
            Spare::Stalled => &mut self.stalled,
        }
    }

    /// The connection to close first; a silent one only after this grace.
    pub(super) fn first(&self, now: Instant, young_grace: Duration) -> Option<(u64, Spare)> {
        let oldest = |set: &BTreeMap<u64, Member>, grace: Duration| {
            let (_, member) = set.first_key_value()?;
            (now.saturating_duration_since(member.since) >= grace).then_some(member.connection)
        };
        let silent = |grace| oldest(&self.silent, grace).map(|id| (id, Spare::Silent));
        silent(FIRST_GRACE)
            .or_else(|| oldest(&self.idle, Duration::ZERO).map(|id| (id, Spare::Idle)))
            .or_else(|| oldest(&self.stalled, STALL_GRACE).map(|id| (id, Spare::Stalled)))
            .or_else(|| silent(young_grace))
    }
}
