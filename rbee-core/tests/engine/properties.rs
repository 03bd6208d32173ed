//! The engine under random inputs, valid and invalid: late, duplicate, unknown and contradictory answers, cancels at
//! any time, records that fail, clock jumps. A small model checks the invariants at every step. At the end everything
//! outstanding is answered correctly, and the engine must come to rest.

mod world;

use crate::parts;
use proptest::{collection::vec, prelude::*};
use world::World;

/// One input. Numbers choose among what exists at that time.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Submit {
        model: usize,
        batch: bool,
        tenant: usize,
        deadline: Option<u64>,
    },
    /// A job that was submitted already is submitted again.
    SubmitAgain {
        which: usize,
        /// The same key, if it has one, but a different request.
        other: bool,
    },
    /// This many jobs are submitted together, each for another model.
    SubmitAll {
        models: usize,
        tenant: usize,
    },
    /// The caller of a submission no longer waits for the answer.
    Withdraw(usize),
    /// Another policy is activated.
    PolicyChanged {
        admits: bool,
    },
    Cancel(usize),
    /// An unknown job is cancelled.
    CancelUnknown,
    Recorded {
        which: usize,
        how: u8,
        again: bool,
    },
    Placed {
        which: usize,
        how: u8,
        pick: usize,
        again: bool,
    },
    AttemptEnded {
        which: usize,
        how: u8,
        produced: u32,
        resumable: bool,
        again: bool,
    },
    /// The stream of an attempt stalls.
    Silent {
        which: usize,
        is_evident: bool,
        produced: u32,
    },
    /// The stream of an attempt delivers again, whether it had stalled or not.
    Heard {
        which: usize,
    },
    Spawned {
        which: usize,
        how: u8,
        again: bool,
    },
    Stopped {
        which: usize,
        any: bool,
    },
    Connected {
        which: usize,
        ok: bool,
    },
    Probed {
        which: usize,
        ok: bool,
    },
    Provisioned {
        which: usize,
        how: u8,
    },
    Report {
        hive: usize,
        how: u8,
        pick: usize,
    },
    Exited {
        which: usize,
    },
    Hive {
        hive: usize,
        how: u8,
    },
    Command {
        how: u8,
        pick: usize,
        hive: usize,
    },
    /// The policy chooses where a model is loaded for an operator.
    Chosen {
        which: usize,
        how: u8,
        pick: usize,
        again: bool,
    },
    /// A model is verified.
    Verified {
        which: usize,
        ok: bool,
    },
    /// A model is removed.
    Removed {
        which: usize,
        ok: bool,
    },
    Restore {
        jobs: u8,
    },
    /// Inputs about things that do not exist.
    Unknown(u8),
    Wait {
        millis: u64,
    },
    /// The clock moves to the engine's next timer.
    WaitForTimer,
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..64_usize;
    let often = any::<bool>();
    let seldom = || prop::bool::weighted(0.1);
    prop_oneof![
        12 => (0..3_usize, often, 0..3_usize, prop::option::weighted(0.1, 1..20_000_u64))
            .prop_map(|(model, batch, tenant, deadline)| Op::Submit { model, batch, tenant, deadline }),
        2 => (n.clone(), seldom()).prop_map(|(which, other)| Op::SubmitAgain { which, other }),
        2 => (1..4_usize, 0..3_usize).prop_map(|(models, tenant)| Op::SubmitAll { models, tenant }),
        1 => n.clone().prop_map(Op::Withdraw),
        2 => often.prop_map(|admits| Op::PolicyChanged { admits }),
        3 => n.clone().prop_map(Op::Cancel),
        1 => Just(Op::CancelUnknown),
        14 => (n.clone(), 0..12_u8, seldom()).prop_map(|(which, how, again)| Op::Recorded { which, how, again }),
        24 => (n.clone(), 0..16_u8, n.clone(), seldom())
            .prop_map(|(which, how, pick, again)| Op::Placed { which, how, pick, again }),
        12 => (n.clone(), 0..9_u8, 0..3_u32, prop::bool::weighted(0.8), seldom())
            .prop_map(|(which, how, produced, resumable, again)| Op::AttemptEnded { which, how, produced, resumable, again }),
        4 => (n.clone(), any::<bool>(), 0..3_u32)
            .prop_map(|(which, is_evident, produced)| Op::Silent { which, is_evident, produced }),
        2 => n.clone().prop_map(|which| Op::Heard { which }),
        6 => (n.clone(), 0..10_u8, seldom()).prop_map(|(which, how, again)| Op::Spawned { which, how, again }),
        3 => (n.clone(), seldom()).prop_map(|(which, any)| Op::Stopped { which, any }),
        4 => (n.clone(), prop::bool::weighted(0.9)).prop_map(|(which, ok)| Op::Connected { which, ok }),
        3 => (n.clone(), any::<bool>()).prop_map(|(which, ok)| Op::Probed { which, ok }),
        3 => (n.clone(), 0..4_u8).prop_map(|(which, how)| Op::Provisioned { which, how }),
        5 => (0..3_usize, 0..8_u8, n.clone()).prop_map(|(hive, how, pick)| Op::Report { hive, how, pick }),
        1 => n.clone().prop_map(|which| Op::Exited { which }),
        2 => (0..3_usize, 0..6_u8).prop_map(|(hive, how)| Op::Hive { hive, how }),
        5 => (0..14_u8, n.clone(), 0..3_usize).prop_map(|(how, pick, hive)| Op::Command { how, pick, hive }),
        3 => (n.clone(), 0..8_u8, n.clone(), seldom())
            .prop_map(|(which, how, pick, again)| Op::Chosen { which, how, pick, again }),
        1 => (n.clone(), any::<bool>()).prop_map(|(which, ok)| Op::Verified { which, ok }),
        2 => (n.clone(), prop::bool::weighted(0.7)).prop_map(|(which, ok)| Op::Removed { which, ok }),
        1 => (1..4_u8).prop_map(|jobs| Op::Restore { jobs }),
        1 => (0..8_u8).prop_map(Op::Unknown),
        5 => prop_oneof![0..50_u64, 100..3_000_u64, 10_000..100_000_u64].prop_map(|millis| Op::Wait { millis }),
        3 => Just(Op::WaitForTimer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_in_the_invariants_hold_and_the_engine_comes_to_rest(ops in vec(op(), 1..250)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_inputs_give_the_same_effects(ops in vec(op(), 1..250)) {
        let run = || {
            let mut world = World::new();
            world.keep_trace();
            ops.iter().for_each(|op| world.apply(op));
            world.settle();
            world.trace()
        };
        prop_assert_eq!(run(), run());
    }
}
