//! The order in which lanes are asked about.

use super::*;

fn lane(priority: Priority, tenant: &str) -> LaneId {
    let tenant = (!tenant.is_empty()).then(|| tenant.parse().unwrap());
    LaneId { model: "m".parse().unwrap(), priority, tenant }
}

fn place(n: u64) -> Place {
    (0, n, JobId::from_random_bits(n.into()))
}

/// Serves everything, one slot at a time, and says in which order.
fn drain(lanes: &mut Lanes, per_batch: u32) -> Vec<u64> {
    let model = "m".parse().unwrap();
    let mut order = Vec::new();
    while let Some((lane, job)) = lanes.ask(&model, per_batch, Ticket(order.len() as u64 + 1)) {
        let n = (0..1000).find(|n| place(*n).2 == job).unwrap();
        lanes.remove(&lane, &place(n), true);
        order.push(n);
    }
    assert_eq!((lanes.waiting(), lanes.questions(), lanes.models.len()), (0, 0, 0));
    order
}

#[test]
fn interactive_goes_first_and_batch_is_not_starved() {
    let mut lanes = Lanes::default();
    (0..3).for_each(|n| lanes.push(&lane(Priority::Batch, ""), place(n), Time::default()));
    (10..16).for_each(|n| lanes.push(&lane(Priority::Interactive, ""), place(n), Time::default()));
    assert_eq!(drain(&mut lanes, 2), [10, 11, 0, 12, 13, 1, 14, 15, 2]);
}

#[test]
fn tenants_take_turns_however_long_ones_queue_is() {
    let mut lanes = Lanes::default();
    (0..4).for_each(|n| lanes.push(&lane(Priority::Interactive, "a"), place(n), Time::default()));
    (10..12).for_each(|n| lanes.push(&lane(Priority::Interactive, "b"), place(n), Time::default()));
    assert_eq!(drain(&mut lanes, 8), [0, 10, 1, 11, 2, 3]);
}

#[test]
fn a_free_slot_is_offered_to_each_parked_lane_once() {
    let (mut lanes, model) = (Lanes::default(), "m".parse().unwrap());
    for tenant in ["a", "b", "c"] {
        lanes.push(&lane(Priority::Interactive, tenant), place(1), Time::default());
    }
    for n in 0..3 {
        let (asked, _) = lanes.ask(&model, 8, Ticket(n)).unwrap();
        lanes.answered(Ticket(n));
        lanes.park(&asked);
    }
    assert_eq!(lanes.ask(&model, 8, Ticket(9)), None, "parked lanes are left alone");
    let mut seen = Vec::new();
    let mut more = lanes.offer(&model, None, 8);
    while more {
        let (asked, _) = lanes.ask(&model, 8, Ticket(10)).unwrap();
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
    lanes.push(&lane, place(1), Time::default());
    lanes.push(&lane, place(2), Time::default());
    lanes.ask(&model, 8, Ticket(1)).unwrap();
    lanes.remove(&lane, &place(1), false);
    assert_eq!(lanes.answered(Ticket(1)), None);
    assert_eq!(lanes.ask(&model, 8, Ticket(2)).unwrap().1, place(2).2);
}
