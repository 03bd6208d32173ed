//! The order in which lanes are asked about.

use super::*;

fn lane(priority: Priority, tenant: &str) -> LaneId {
    let tenant = (!tenant.is_empty()).then(|| tenant.parse().unwrap());
    LaneId { model: "m".parse().unwrap(), priority, tenant }
}

fn key(n: u64) -> QueueKey {
    (0, n, JobId::from_random_bits(n.into()))
}

/// Serves everything, one slot at a time, and returns the order.
fn drain(lanes: &mut Lanes, per_batch: u32) -> Vec<u64> {
    let model = "m".parse().unwrap();
    let mut order = Vec::new();
    while let Some((lane, job)) = lanes.ask(&model, per_batch, Ticket(order.len() as u64 + 1), None)
    {
        let n = (0..1000).find(|n| key(*n).2 == job).unwrap();
        lanes.remove(&lane, &key(n), Some(1));
        order.push(n);
    }
    assert_eq!((lanes.waiting(), lanes.questions(), lanes.models.len()), (0, 0, 0));
    order
}

#[test]
fn interactive_goes_first_and_batch_is_not_starved() {
    let mut lanes = Lanes::default();
    (0..3).for_each(|n| lanes.push(&lane(Priority::Batch, ""), key(n), Time::default()));
    (10..16).for_each(|n| lanes.push(&lane(Priority::Interactive, ""), key(n), Time::default()));
    assert_eq!(drain(&mut lanes, 2), [10, 11, 0, 12, 13, 1, 14, 15, 2]);
}

#[test]
fn tenants_take_turns_however_long_ones_queue_is() {
    let mut lanes = Lanes::default();
    (0..4).for_each(|n| lanes.push(&lane(Priority::Interactive, "a"), key(n), Time::default()));
    (10..12).for_each(|n| lanes.push(&lane(Priority::Interactive, "b"), key(n), Time::default()));
    assert_eq!(drain(&mut lanes, 8), [0, 10, 1, 11, 2, 3]);
}

#[test]
fn a_free_slot_is_offered_to_each_parked_lane_once() {
    let (mut lanes, model) = (Lanes::default(), "m".parse().unwrap());
    for tenant in ["a", "b", "c"] {
        lanes.push(&lane(Priority::Interactive, tenant), key(1), Time::default());
    }
    for n in 0..3 {
        let (asked, _) = lanes.ask(&model, 8, Ticket(n), None).unwrap();
        lanes.answered(Ticket(n));
        lanes.park(&asked);
    }
    assert_eq!(lanes.ask(&model, 8, Ticket(9), None), None, "parked lanes are left alone");
    let mut seen = Vec::new();
    let mut more = lanes.offer(&model, None, 8);
    while more {
        let (asked, _) = lanes.ask(&model, 8, Ticket(10), None).unwrap();
        lanes.answered(Ticket(10));
        lanes.park(&asked);
        seen.push(asked.tenant.clone().unwrap().to_string());
        more = lanes.offer(&model, Some(&asked), 8);
    }
    assert_eq!(seen, ["a", "b", "c"]);
}

#[test]
fn a_job_taken_out_while_it_is_asked_about_voids_the_question() {
    let (mut lanes, model) = (Lanes::default(), "m".parse().unwrap());
    let lane = lane(Priority::Interactive, "");
    lanes.push(&lane, key(1), Time::default());
    lanes.push(&lane, key(2), Time::default());
    lanes.ask(&model, 8, Ticket(1), None).unwrap();
    lanes.remove(&lane, &key(1), None);
    assert_eq!(lanes.answered(Ticket(1)), None);
    assert_eq!(lanes.ask(&model, 8, Ticket(2), None).unwrap().1, key(2).2);
}

/// Serves one slot at a time until `jobs` are served, each at the cost that `cost` returns. Returns how much each
/// tenant got.
fn shares(lanes: &mut Lanes, jobs: usize, cost: impl Fn(&str) -> u64) -> BTreeMap<String, u64> {
    let model = "m".parse().unwrap();
    let mut got = BTreeMap::new();
    for n in 0..jobs {
        let (lane, job) = lanes.ask(&model, 8, Ticket(n as u64 + 1), None).unwrap();
        let key = (0..1000).map(key).find(|key| key.2 == job).unwrap();
        let tenant = lane.tenant.clone().unwrap().to_string();
        let cost = cost(&tenant);
        lanes.remove(&lane, &key, Some(cost));
        *got.entry(tenant).or_default() += cost;
    }
    got
}

#[test]
fn tenants_get_equal_tokens_whatever_the_size_of_their_jobs() {
    let mut lanes = Lanes::default();
    for (tenant, from) in [("large", 0), ("small", 500)] {
        let lane = lane(Priority::Interactive, tenant);
        (from..from + 300).for_each(|n| lanes.push(&lane, key(n), Time::default()));
    }
    let got = shares(&mut lanes, 220, |tenant| if tenant == "large" { 1_000 } else { 100 });
    assert!(got["large"].abs_diff(got["small"]) <= 1_000, "{got:?}: within one job");
}

#[test]
fn a_tenant_of_three_times_the_weight_gets_three_times_the_tokens() {
    let mut lanes = Lanes::default();
    for (tenant, from) in [("heavy", 0), ("light", 500)] {
        let lane = lane(Priority::Interactive, tenant);
        (from..from + 400).for_each(|n| lanes.push(&lane, key(n), Time::default()));
    }
    // A job costs its tokens, divided by the weight.
    let got = shares(&mut lanes, 400, |tenant| if tenant == "heavy" { 100 } else { 300 });
    let jobs = (got["heavy"] / 100, got["light"] / 300);
    assert!(jobs.0.abs_diff(3 * jobs.1) <= 3, "{jobs:?}");
}

#[test]
fn a_batch_tenant_that_comes_later_has_its_turn_however_many_interactive_jobs_were_served() {
    let mut lanes = Lanes::default();
    let fill = |lanes: &mut Lanes, priority, tenant: &str, jobs: std::ops::Range<u64>| {
        jobs.for_each(|n| lanes.push(&lane(priority, tenant), key(n), Time::default()));
    };
    fill(&mut lanes, Priority::Interactive, "people", 0..600);
    fill(&mut lanes, Priority::Batch, "early", 600..700);
    shares(&mut lanes, 300, |_| 100);
    fill(&mut lanes, Priority::Batch, "late", 700..800);
    let got = shares(&mut lanes, 90, |_| 100);
    assert_eq!(got["early"] + got["late"], 1_000, "{got:?}: a ninth is for batch");
    assert!(got["early"].abs_diff(got["late"]) <= 100, "{got:?}");
}

#[test]
fn a_place_is_what_goes_before_it_by_rank_and_order_and_tenants_are_counted() {
    let mut lanes = Lanes::default();
    let (a, b) = (lane(Priority::Interactive, "a"), lane(Priority::Batch, "b"));
    let ranked = |rank, n| (rank, n, key(n).2);
    for (rank, n) in [(0, 1), (5, 2), (0, 3), (-1, 4)] {
        lanes.push(&a, ranked(rank, n), Time::default());
    }
    lanes.push(&b, key(5), Time::default());
    assert_eq!(lanes.ahead(&a, &ranked(0, 3)), Some(2));
    assert_eq!(lanes.ahead(&a, &ranked(0, 9)), None);
    let before_new = |rank| lanes.ahead_of_new(&a, rank);
    assert_eq!((before_new(-2), before_new(-1), before_new(0), before_new(9)), (0, 1, 3, 4));
    assert_eq!((lanes.held_by(&a.tenant), lanes.held_by(&None), lanes.holders()), (4, 0, 2));
    assert_eq!(
        (lanes.waiting_at(Priority::Interactive), lanes.waiting_at(Priority::Batch)),
        (4, 1)
    );
    lanes.remove(&b, &key(5), None);
    lanes.remove(&b, &key(5), None);
    assert_eq!((lanes.held_by(&b.tenant), lanes.holders(), lanes.waiting()), (0, 1, 4));
}

#[test]
fn a_tenant_that_was_idle_has_saved_up_nothing_and_one_that_left_in_debt_still_has_it() {
    let mut lanes = Lanes::default();
    let (a, b) = (lane(Priority::Interactive, "a"), lane(Priority::Interactive, "b"));
    (0..100).for_each(|n| lanes.push(&a, key(n), Time::default()));
    shares(&mut lanes, 50, |_| 100);
    (500..560).for_each(|n| lanes.push(&b, key(n), Time::default()));
    let got = shares(&mut lanes, 40, |_| 100);
    assert!(got["a"].abs_diff(got["b"]) <= 200, "{got:?}");

    // A job far larger than was expected empties the lane; the tenant comes back at once.
    lanes.remove(&b, &key(559), None);
    let mut lanes = Lanes::default();
    lanes.push(&a, key(1), Time::default());
    lanes.push(&b, key(501), Time::default());
    (502..520).for_each(|n| lanes.push(&b, key(n), Time::default()));
    let model = "m".parse().unwrap();
    let (first, _) = lanes.ask(&model, 8, Ticket(1), None).unwrap();
    assert_eq!(first, a);
    lanes.remove(&a, &key(1), Some(100));
    lanes.correct(&a, 100, 900);
    lanes.push(&a, key(2), Time::default());
    let order = drain(&mut lanes, 8);
    assert_eq!(order.iter().position(|n| *n == 2), Some(order.len() - 1), "{order:?}");
}
