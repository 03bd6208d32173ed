//! Which connection is closed for which. The clock only moves when a test moves it.

use super::*;

fn caps(all: usize, loopback: usize, peer: usize) -> Caps {
    Caps { all, loopback, peer }
}

fn v4(last: u8) -> Peer {
    Peer::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// A table, and connections that are held by tasks that do nothing.
struct Hall {
    table: Arc<ConnectionTable>,
}

impl Hall {
    fn new(caps: Caps) -> Self {
        Self { table: ConnectionTable::new(caps) }
    }

    /// A connection of this peer, with a task of its own that never ends.
    fn enter(&self, peer: Peer) -> Result<(Arc<Connected>, Option<Spare>), Full> {
        let (connected, closed) = self.table.admit(peer, Instant::now())?;
        let id = connected.id();
        let task = tokio::spawn(std::future::pending::<()>());
        self.table.served_by(&id, task.abort_handle());
        Ok((connected, closed))
    }

    fn is_closing(&self, connected: &Connected) -> bool {
        self.table.lock().slots[&connected.id].is_closing
    }

    /// Checks the counts against the actual connections.
    #[track_caller]
    fn check(&self) {
        let state = self.table.lock();
        let open = state.slots.values().filter(|slot| !slot.is_closing).count();
        assert_eq!((state.open, state.held), (open, state.slots.len()));
        assert_eq!(state.peers.values().map(|peer| peer.open).sum::<usize>(), open);
        let spare = state.slots.values().filter(|slot| slot.spare.is_some()).count();
        let size = |set: &SpareSet| set.silent.len() + set.idle.len() + set.stalled.len();
        assert_eq!(size(&state.spare), spare);
        assert_eq!(state.peers.values().map(|peer| size(&peer.spare)).sum::<usize>(), spare);
        assert!(state.open <= self.table.caps.all);
    }
}

#[test]
fn an_ipv6_network_is_one_peer_and_so_is_this_machine() {
    let of = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:10.0.0.1"), v4(1));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    for own in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(of(own), Peer::Loopback, "{own}");
    }
}

#[tokio::test(start_paused = true)]
async fn room_is_made_by_old_silent_ones_then_by_idle_ones_then_by_stalled_ones() {
    let hall = Hall::new(caps(5, 5, 5));
    let busy = hall.enter(v4(1)).unwrap().0;
    let serving = busy.begin().unwrap();
    let stalled = hall.enter(v4(2)).unwrap().0;
    let answering = stalled.begin().unwrap();
    stalled.write_blocked(true);
    let idle = hall.enter(v4(3)).unwrap().0;
    drop(idle.begin().unwrap());
    let old = hall.enter(v4(4)).unwrap().0;
    tokio::time::advance(STALL_GRACE).await;
    let young = hall.enter(v4(5)).unwrap().0;
    hall.check();
    let mut order = Vec::new();
    let mut held = Vec::new();
    for victim in [&old, &idle, &stalled, &young] {
        assert!(!hall.is_closing(victim));
        if Arc::ptr_eq(victim, &young) {
            assert_eq!(
                hall.enter(v4(6)).unwrap_err(),
                Full::All,
                "it may be about to send a request"
            );
            tokio::time::advance(YOUNG_GRACE).await;
        }
        let (new, closed) = hall.enter(v4(6)).unwrap();
        assert!(hall.is_closing(victim), "{closed:?}");
        order.push(closed.unwrap());
        // The new one is used at once, so that it is not the next.
        held.push((new.begin().unwrap(), new));
        hall.check();
    }
    assert_eq!(order, [Spare::Silent, Spare::Idle, Spare::Stalled, Spare::Silent]);
    assert_eq!(hall.enter(v4(7)).unwrap_err(), Full::All, "a request in progress is not aborted");
    drop((serving, answering));
    hall.enter(v4(7)).unwrap();
    assert!(hall.is_closing(&busy), "it has become idle");
    hall.check();
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_and_the_oldest_silent_connection_goes_first() {
    let hall = Hall::new(caps(3, 3, 3));
    let mut all = Vec::new();
    for n in 0..3 {
        all.push(hall.enter(v4(n)).unwrap().0);
        drop(all[usize::from(n)].begin().unwrap());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // The first is used again, so that the second has been idle for longest.
    drop(all[0].begin().unwrap());
    let kept = hall.enter(v4(9)).unwrap().0;
    assert!(hall.is_closing(&all[1]) && !hall.is_closing(&all[0]) && !hall.is_closing(&all[2]));
    drop(kept);
    hall.check();
}

#[tokio::test(start_paused = true)]
async fn what_is_being_closed_takes_no_more_requests_and_gives_back_its_place_once() {
    let hall = Hall::new(caps(1, 1, 1));
    let first = hall.enter(v4(1)).unwrap().0;
    tokio::time::advance(YOUNG_GRACE).await;
    let second = hall.enter(v4(2)).unwrap().0;
    assert!(first.begin().is_none(), "nothing of it is done");
    first.write_blocked(true);
    hall.check();
    let settled = hall.table.settled();
    tokio::pin!(settled);
    let waits = tokio::time::timeout(Duration::from_secs(60), settled.as_mut()).await;
    assert!(waits.is_err(), "its descriptor is still in use");
    drop(first);
    settled.await;
    hall.check();
    assert!(second.begin().is_some());
    drop(second);
    hall.check();
    assert_eq!(hall.table.open(), 0);
    assert!(hall.table.lock().peers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_too_many_connections_makes_room_for_itself() {
    let hall = Hall::new(caps(10, 8, 4));
    let other = hall.enter(v4(2)).unwrap().0;
    tokio::time::advance(Duration::from_secs(5)).await;
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(hall.enter(v4(1)).unwrap().0);
        hall.check();
    }
    let open = flood.iter().filter(|connected| !hall.is_closing(connected)).count();
    assert_eq!(open, 4);
    assert!(flood[96..].iter().all(|connected| !hall.is_closing(connected)), "the last ones");
    assert!(!hall.is_closing(&other), "no other peer is affected");
    // All of them are in use: there is no room for more of this peer, but for another.
    let serving: Vec<_> = flood[96..].iter().map(|one| one.begin().unwrap()).collect();
    assert_eq!(hall.enter(v4(1)).unwrap_err(), Full::Peer);
    hall.enter(v4(3)).unwrap();
    drop(serving);
    hall.enter(v4(1)).unwrap();
    hall.check();
}

#[tokio::test(start_paused = true)]
async fn clients_that_keep_their_bodies_to_themselves_make_room_after_a_while() {
    let hall = Hall::new(caps(3, 3, 3));
    let [held_up, working, sending] = [1, 2, 3].map(|n| hall.enter(v4(n)).unwrap().0);
    let _requests = [&held_up, &working, &sending].map(|one| one.begin().unwrap());
    held_up.awaits_body();
    assert_eq!(hall.enter(v4(4)).unwrap_err(), Full::All);
    for _ in 0..10 {
        tokio::time::advance(STALL_GRACE / 10).await;
        // A slow body still arrives.
        sending.got_body();
        sending.awaits_body();
        held_up.awaits_body();
    }
    tokio::time::advance(Duration::from_millis(1)).await;
    let (_new, closed) = hall.enter(v4(4)).unwrap();
    assert_eq!(closed, Some(Spare::Stalled));
    assert!(hall.is_closing(&held_up) && !hall.is_closing(&working) && !hall.is_closing(&sending));
    hall.check();
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_is_told_when_there_is_some() {
    let hall = Hall::new(caps(1, 1, 1));
    let only = hall.enter(v4(1)).unwrap().0;
    let request = only.begin().unwrap();
    let table = hall.table.clone();
    let waiting = tokio::spawn(async move {
        let began = Instant::now();
        loop {
            if let Ok((connected, _)) = table.admit(v4(2), Instant::now()) {
                return (began.elapsed(), connected);
            }
            table.changed().await;
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(request);
    let (waited, _connected) = waiting.await.unwrap();
    assert_eq!(waited, Duration::from_millis(300), "at once");
    hall.check();
}

#[tokio::test(start_paused = true)]
async fn requests_in_the_last_sixteenth_of_a_limit_are_the_last_on_their_connections() {
    let hall = Hall::new(caps(64, 64, 32));
    let crowded = |connected: &Arc<Connected>| connected.begin().unwrap().is_crowded();
    let mut own: Vec<_> = (0..29).map(|_| hall.enter(v4(1)).unwrap().0).collect();
    assert!(!crowded(&own[0]));
    own.push(hall.enter(v4(1)).unwrap().0);
    assert!(crowded(&own[0]), "30 of 32 for one peer");
    let mut others: Vec<_> = (0..29).map(|_| hall.enter(v4(2)).unwrap().0).collect();
    assert!(!crowded(&others[0]), "59 of 64, and 29 of 32");
    let another = hall.enter(v4(3)).unwrap().0;
    assert!(crowded(&others[0]) && crowded(&another), "60 of 64");
    others.pop();
    assert!(!crowded(&another));
    own.pop();
    assert!(!crowded(&own[0]));
    hall.check();

    let small = Hall::new(caps(4, 4, 4));
    let all: Vec<_> = (0..4).map(|_| small.enter(Peer::Loopback).unwrap().0).collect();
    assert!(!crowded(&all[0]), "a small limit is not divided");
}
