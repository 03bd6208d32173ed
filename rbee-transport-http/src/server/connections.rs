//! The open connections of a server: how many, from whom, and which of them is closed to make room.
//!
//! If there is no room for a new connection, an unused one is closed for it, in this order:
//!
//! 1. the oldest that has not sent a request yet, if it is older than `FIRST_GRACE`;
//! 2. the one that has been idle longest between two requests;
//! 3. the one whose client has read nothing for longest, or sends nothing of a body that it has announced, if that is
//!    longer than `STALL_GRACE`;
//! 4. the oldest that has not sent a request yet, if it is older than `YOUNG_GRACE`.
//!
//! A request that is being served is never aborted. So a flood of silent connections only closes itself, and a client
//! that sends a request at once is served. If nothing can be closed, the new connection waits. Only a peer that has
//! reached its own share of the connections never waits, because others would wait with it: its own connections are
//! closed without the grace time of step 4, or the new one is refused.
//!
//! While the last sixteenth of the connections of a peer, or of all, is in use, each response ends its connection
//! (`Connection: close`). So most clients learn in time that they must open a new one, and few are closed unasked.

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

use super::request_metrics::OpenConnection;

pub(super) use spare::Spare;
use spare::{Activity, Member, STALL_GRACE, SpareSet, YOUNG_GRACE};

/// The interval between two scans of all connections for bodies that do not arrive.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// The peer of a connection. An IPv6 client has 2^64 addresses, so those count as one.
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

/// The limits on the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caps {
    pub(super) all: usize,
    /// From this machine.
    pub(super) loopback: usize,
    /// From each other address.
    pub(super) peer: usize,
}

impl Caps {
    /// How many may hold a descriptor in addition to the open ones, because they are just being closed.
    fn closing(&self) -> usize {
        (self.all / 16).min(64)
    }

    /// True if only the last sixteenth is left of this limit. A small limit is not divided.
    fn is_scarce(open: usize, limit: usize) -> bool {
        let last = limit / 16;
        last > 0 && open + last >= limit
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
    /// The peer has reached its limit, and all its connections are in use.
    Peer,
    /// All connections are in use.
    All,
}

/// The connections of one server.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    caps: Caps,
    /// The start of the times in [`Shared::body_awaited`].
    epoch: Instant,
    state: Mutex<State>,
    /// Notified, once, after [`State::is_awaited`] was set, when a connection has ended or can be closed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Connections that hold a descriptor, including those that are being closed.
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
    /// Its position in the sets of those that can be closed.
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
    /// Aborts its task. Must not run under the lock of the table, which the end of the task takes.
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

    /// The number of open connections.
    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    /// Admits a connection from this peer; also returns what was closed for it, if anything.
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
        let connected =
            Arc::new(Connected { table: self.clone(), id, entry, _counted: OpenConnection::new() });
        Ok((connected, closing.map(Closing::close)))
    }

    /// Waits until the connections that are being closed have released their descriptors, except for a few: so a
    /// flood is handled at the speed of its acceptance.
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

    /// Waits until a new attempt to find room may succeed.
    pub(super) async fn changed(&self) {
        self.lock().is_awaited = true;
        // After a while more connections can be closed; no event reports that.
        let _ = tokio::time::timeout(YOUNG_GRACE, self.changed.notified()).await;
    }

    /// Closes the least useful connection, to free its descriptor.
    pub(super) fn close_one(&self, now: Instant) -> Option<Spare> {
        let closing = self.lock().close_one(self.epoch, None, now);
        closing.map(Closing::close)
    }

    /// Sets the task that serves a connection: it is aborted if the connection is closed to make room.
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

    /// Changes a connection that is not being closed, and returns the state with the change.
    fn update(&self, id: u64, change: impl FnOnce(&mut Slot)) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        let slot = state.slots.get_mut(&id).filter(|slot| !slot.is_closing)?;
        change(slot);
        let now_spare = slot.activity.spare();
        if now_spare != slot.spare.map(|(spare, _)| spare) {
            state.displace(id);
            state.place(id, Instant::now());
            if now_spare.is_some() {
                self.tell(&mut state);
            }
        }
        Some(state)
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
        // Only now: this may be the last reference to the task.
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
    /// True if there is little room for more connections of this one's peer.
    fn is_crowded(&self, caps: Caps, id: u64) -> bool {
        let Some(slot) = self.slots.get(&id) else { return false };
        let of_peer = self.peers.get(&slot.peer).map_or(0, |peer| peer.open);
        Caps::is_scarce(self.open, caps.all) || Caps::is_scarce(of_peer, caps.of(slot.peer))
    }

    /// Adds a connection to the sets of those that can be closed, if it can be.
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

    /// Removes it from these sets.
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

    /// A connection whose request has waited long for more of its body. Scans all connections, but not often: only if
    /// nothing else can be closed.
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

    /// Counts one open connection less for this peer.
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

/// Identifies a connection in a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(u64);

/// State that the table and the connection share without a lock.
#[derive(Debug, Default)]
struct Shared {
    has_asked: AtomicBool,
    /// Since when more of a body is awaited, in milliseconds from the table's epoch; 0 if none is.
    body_awaited: AtomicU64,
}

/// Never 0, which stands for "not awaited".
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The connection limit of the server: an extension of every request, for limits on a single client.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionCap(pub(super) usize);

/// An entry of the table. It is released when this is dropped, after the connection's descriptor.
#[derive(Debug)]
pub(super) struct Connected {
    table: Arc<ConnectionTable>,
    id: u64,
    entry: Arc<Shared>,
    _counted: OpenConnection,
}

impl Connected {
    pub(super) fn id(&self) -> Id {
        Id(self.id)
    }

    /// The connection limit of its table.
    pub(super) fn cap(&self) -> ConnectionCap {
        ConnectionCap(self.table.caps.all)
    }

    /// True if the client has sent a request.
    pub(super) fn has_asked(&self) -> bool {
        self.entry.has_asked.load(Ordering::Relaxed)
    }

    /// Begins a request, which ends when the result is dropped. `None` if the connection is being closed.
    pub(super) fn begin(self: &Arc<Self>) -> Option<InRequest> {
        self.entry.has_asked.store(true, Ordering::Relaxed);
        self.got_body();
        let state = self.table.update(self.id, |slot| {
            slot.activity.has_asked = true;
            slot.activity.is_in_request = true;
        })?;
        let is_crowded = state.is_crowded(self.table.caps, self.id);
        drop(state);
        Some(InRequest { connected: self.clone(), is_crowded })
    }

    /// Records that the client does not read what is sent, or reads again.
    pub(super) fn write_blocked(&self, is_blocked: bool) {
        self.table.update(self.id, |slot| slot.activity.is_write_blocked = is_blocked);
    }

    /// Records that more of a body is awaited from now on, if it was not before.
    pub(super) fn awaits_body(&self) {
        if self.entry.body_awaited.load(Ordering::Relaxed) == 0 {
            let now = millis(self.table.epoch.elapsed());
            self.entry.body_awaited.store(now, Ordering::Relaxed);
        }
    }

    /// Records that more of a body has arrived, or no more is needed.
    pub(super) fn got_body(&self) {
        self.entry.body_awaited.store(0, Ordering::Relaxed);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.table.remove(self.id);
    }
}

/// A request in progress on a connection.
#[derive(Debug)]
pub(super) struct InRequest {
    connected: Arc<Connected>,
    is_crowded: bool,
}

impl InRequest {
    /// True if the connection should end with the response, because there is little room for others.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        let Connected { table, id, .. } = &*self.connected;
        table.update(*id, |slot| slot.activity.is_in_request = false);
    }
}

#[cfg(test)]
mod tests;
