//! The connections that a server has open: how many, from whom, and which of them is closed to make room.
//!
//! When there is no room for a new connection, one that serves nobody is closed for it, in this order:
//!
//! 1. the oldest that has not asked for anything yet, if it is older than `FIRST_GRACE`;
//! 2. the one that has been idle longest between two requests;
//! 3. the one whose client has read nothing for longest, or sends nothing of a body that it has announced, if that is
//!    longer than `STALL_GRACE`;
//! 4. the oldest that has not asked for anything yet, if it is older than `YOUNG_GRACE`.
//!
//! A request that is served is never broken off. So a flood of silent connections only closes itself, and a client that
//! asks at once is served. If nothing can be closed, the new connection waits. Only a peer that has its share of all
//! connections never waits, because others would wait with it: its own are closed without step 4's grace, or the new
//! one is refused.

mod spare;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time::Instant};

pub(super) use spare::Spare;
use spare::{Activity, Member, STALL_GRACE, SpareSet, YOUNG_GRACE};

/// Between two looks at all connections for bodies that do not come.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// Whose connection it is. Whoever has an IPv6 address has 2^64 of them, so those count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// This machine.
    Loopback,
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6([u16; 4]),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caps {
    pub(super) all: usize,
    /// From this machine.
    pub(super) loopback: usize,
    /// From each other address.
    pub(super) peer: usize,
}

impl Caps {
    /// How many may hold a descriptor beyond all that are open, because they are just being closed.
    fn closing(&self) -> usize {
        (self.all / 16).min(64)
    }

    fn of(&self, peer: Peer) -> usize {
        match peer {
            Peer::Loopback => self.loopback,
            Peer::V4(_) | Peer::V6(_) => self.peer,
        }
    }
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Its peer has as many connections as it may have, and all are used.
    Peer,
    /// All connections are used.
    All,
}

/// The connections of one server.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    caps: Caps,
    /// What [`Shared::body_awaited`] counts from.
    epoch: Instant,
    state: Mutex<State>,
    /// Notified, once, after [`State::is_awaited`] was set, when a connection has ended or can be closed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Connections that hold a descriptor, those that are being closed among them.
    held: usize,
    /// Connections that are not being closed.
    open: usize,
    slots: HashMap<u64, Slot>,
    spare: SpareSet,
    peers: HashMap<Peer, PeerState>,
    is_awaited: bool,
    next_scan: Option<Instant>,
}

#[derive(Debug, Default)]
struct PeerState {
    open: usize,
    spare: SpareSet,
}

#[derive(Debug)]
struct Slot {
    peer: Peer,
    activity: Activity,
    /// Where it stands in the sets of those that can be closed.
    spare: Option<(Spare, u64)>,
    entry: Arc<Shared>,
    task: Option<AbortHandle>,
    is_closing: bool,
}

/// A connection that was chosen to be closed.
struct Closing {
    why: Spare,
    task: Option<AbortHandle>,
}

impl Closing {
    /// Ends its task. Not under the lock of the table, which the end of the task takes.
    fn close(self) -> Spare {
        if let Some(task) = self.task {
            task.abort();
        }
        self.why
    }
}

impl ConnectionTable {
    pub(super) fn new(caps: Caps) -> Arc<Self> {
        let epoch = Instant::now();
        Arc::new(Self { caps, epoch, state: Mutex::default(), changed: Notify::new() })
    }

    pub(super) fn caps(&self) -> Caps {
        self.caps
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    /// Takes in a connection from this peer; what it was that was closed for it, if anything.
    ///
    /// # Errors
    /// If there is no room, and none can be made.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: Peer,
        now: Instant,
    ) -> Result<(Arc<Connected>, Option<Spare>), Full> {
        let mut state = self.lock();
        let mut closing = None;
        let share = self.caps.of(peer);
        let has_its_share = state.peers.get(&peer).is_some_and(|peer| peer.open >= share);
        if has_its_share && share < self.caps.all {
            closing = Some(state.close_one(self.epoch, Some(peer), now).ok_or(Full::Peer)?);
        } else if state.open >= self.caps.all {
            closing = Some(state.close_one(self.epoch, None, now).ok_or(Full::All)?);
        }
        state.next += 1;
        let id = state.next;
        let entry = Arc::new(Shared::default());
        let slot = Slot {
            peer,
            activity: Activity::default(),
            spare: None,
            entry: entry.clone(),
            task: None,
            is_closing: false,
        };
        state.slots.insert(id, slot);
        state.held += 1;
        state.open += 1;
        state.peers.entry(peer).or_default().open += 1;
        state.place(id, now);
        drop(state);
        let connected = Arc::new(Connected { table: self.clone(), id, entry });
        Ok((connected, closing.map(Closing::close)))
    }

    /// Waits until those that were told to close have given back their descriptors, but for a few: so a flood is worked
    /// off at the speed of its acceptance.
    pub(super) async fn settled(&self) {
        loop {
            {
                let mut state = self.lock();
                if state.held <= self.caps.all + self.caps.closing() {
                    return;
                }
                state.is_awaited = true;
            }
            self.changed.notified().await;
        }
    }

    /// Waits until it may be worthwhile to ask for room again.
    pub(super) async fn changed(&self) {
        self.lock().is_awaited = true;
        // After a while more can be closed, which is no event.
        let _ = tokio::time::timeout(YOUNG_GRACE, self.changed.notified()).await;
    }

    /// Closes the connection that is of the least use, for its descriptor.
    pub(super) fn close_one(&self, now: Instant) -> Option<Spare> {
        let closing = self.lock().close_one(self.epoch, None, now);
        closing.map(Closing::close)
    }

    /// The task that serves a connection: it is aborted when the connection is closed to make room.
    pub(super) fn served_by(&self, connection: &Id, task: AbortHandle) {
        let mut state = self.lock();
        // It may have ended already.
        let Some(slot) = state.slots.get_mut(&connection.0) else { return };
        let is_closing = slot.is_closing;
        slot.task = Some(task.clone());
        drop(state);
        if is_closing {
            task.abort();
        }
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut Slot)) -> bool {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&id).filter(|slot| !slot.is_closing) else {
            return false;
        };
        change(slot);
        let now_spare = slot.activity.spare();
        if now_spare != slot.spare.map(|(spare, _)| spare) {
            state.displace(id);
            state.place(id, Instant::now());
            if now_spare.is_some() {
                self.tell(&mut state);
            }
        }
        true
    }

    fn remove(&self, id: u64) {
        let mut state = self.lock();
        state.displace(id);
        let Some(slot) = state.slots.remove(&id) else { return };
        state.held -= 1;
        if !slot.is_closing {
            state.leave(slot.peer);
        }
        self.tell(&mut state);
        drop(state);
        // Only now: it may be the last to hold the task.
        drop(slot);
    }

    fn tell(&self, state: &mut State) {
        if std::mem::take(&mut state.is_awaited) {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts a connection into the sets of those that can be closed, if it can be.
    fn place(&mut self, id: u64, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(spare) = slot.activity.spare() else { return };
        self.next += 1;
        let (turn, member) = (self.next, Member { connection: id, since: now });
        slot.spare = Some((spare, turn));
        self.spare.of(spare).insert(turn, member);
        if let Some(peer) = self.peers.get_mut(&slot.peer) {
            peer.spare.of(spare).insert(turn, member);
        }
    }

    /// Takes it out of them.
    fn displace(&mut self, id: u64) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some((spare, turn)) = slot.spare.take() else { return };
        self.spare.of(spare).remove(&turn);
        if let Some(peer) = self.peers.get_mut(&slot.peer) {
            peer.spare.of(spare).remove(&turn);
        }
    }

    /// Chooses the connection of this peer, or of any, that is closed to make room.
    fn close_one(&mut self, epoch: Instant, peer: Option<Peer>, now: Instant) -> Option<Closing> {
        let found = match peer {
            None => self.spare.first(now, YOUNG_GRACE),
            Some(peer) => self.peers.get(&peer)?.spare.first(now, Duration::ZERO),
        };
        let (id, why) =
            found.or_else(|| Some((self.bodiless(epoch, peer, now)?, Spare::Stalled)))?;
        self.displace(id);
        let slot = self.slots.get_mut(&id)?;
        slot.is_closing = true;
        let (peer, task) = (slot.peer, slot.task.clone());
        self.leave(peer);
        Some(Closing { why, task })
    }

    /// A connection whose request has been waiting for more of its body for long. All are looked at, but not often: this
    /// is for when nothing else can be closed.
    fn bodiless(&mut self, epoch: Instant, peer: Option<Peer>, now: Instant) -> Option<u64> {
        if self.next_scan.is_some_and(|next| now < next) {
            return None;
        }
        let (now_millis, grace) =
            (millis(now.saturating_duration_since(epoch)), millis(STALL_GRACE));
        let awaited_since = |slot: &Slot| {
            let is_asked_about = peer.is_none_or(|peer| slot.peer == peer);
            let since = slot.entry.body_awaited.load(Ordering::Relaxed);
            let is_long = since > 0 && now_millis >= since.saturating_add(grace);
            let is_held_up = slot.activity.is_in_request && is_long;
            (!slot.is_closing && is_asked_about && is_held_up).then_some(since)
        };
        let held_up = self.slots.iter().filter_map(|(id, slot)| Some((awaited_since(slot)?, *id)));
        let found = held_up.min().map(|(_, id)| id);
        if found.is_none() {
            self.next_scan = Some(now + SCAN_INTERVAL);
        }
        found
    }

    /// One of this peer's is not open any more.
    fn leave(&mut self, peer: Peer) {
        self.open -= 1;
        if let Some(state) = self.peers.get_mut(&peer) {
            state.open -= 1;
            if state.open == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

/// Names a connection of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(u64);

/// What the table and the connection tell each other without a lock.
#[derive(Debug, Default)]
struct Shared {
    has_asked: AtomicBool,
    /// Since when more of a body has been waited for, in milliseconds from the table's epoch; 0 if none is.
    body_awaited: AtomicU64,
}

/// Never 0, which means none.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// How many connections the server has at most: an extension of every request, for rules on what one client may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionCap(pub(super) usize);

/// A place in the table. It is given back when this is dropped: after the connection's descriptor.
#[derive(Debug)]
pub(super) struct Connected {
    table: Arc<ConnectionTable>,
    id: u64,
    entry: Arc<Shared>,
}

impl Connected {
    pub(super) fn id(&self) -> Id {
        Id(self.id)
    }

    /// How many connections there may be beside it, with it.
    pub(super) fn cap(&self) -> ConnectionCap {
        ConnectionCap(self.table.caps.all)
    }

    /// Has the client asked for anything yet?
    pub(super) fn has_asked(&self) -> bool {
        self.entry.has_asked.load(Ordering::Relaxed)
    }

    /// A request begins; it is over when the result is dropped. `None` if the connection is being closed.
    pub(super) fn begin(self: &Arc<Self>) -> Option<InRequest> {
        self.entry.has_asked.store(true, Ordering::Relaxed);
        self.got_body();
        let began = self.table.update(self.id, |slot| {
            slot.activity.has_asked = true;
            slot.activity.is_in_request = true;
        });
        began.then(|| InRequest(self.clone()))
    }

    /// The client takes nothing of what there is for it, or takes something again.
    pub(super) fn write_blocked(&self, is_blocked: bool) {
        self.table.update(self.id, |slot| slot.activity.is_write_blocked = is_blocked);
    }

    /// More of a body is waited for from now on, if it was not before.
    pub(super) fn awaits_body(&self) {
        if self.entry.body_awaited.load(Ordering::Relaxed) == 0 {
            let now = millis(self.table.epoch.elapsed());
            self.entry.body_awaited.store(now, Ordering::Relaxed);
        }
    }

    /// More of a body has come, or none is wanted any more.
    pub(super) fn got_body(&self) {
        self.entry.body_awaited.store(0, Ordering::Relaxed);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.table.remove(self.id);
    }
}

/// A request under way on a connection.
#[derive(Debug)]
pub(super) struct InRequest(Arc<Connected>);

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.table.update(self.0.id, |slot| slot.activity.is_in_request = false);
    }
}

#[cfg(test)]
mod tests;
