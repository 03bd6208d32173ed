//! What is recorded of hives, and what an operator sees of them.

use rbee_core::{
    ErrorKind, Settings,
    engine::{Effect, HiveFact, Input},
    hive::HiveInfo,
    queen::HiveSummary,
    registry::{Change, HiveRecord, HiveStatus},
    time::WallTime,
};

use super::{
    hand::{Hand, error, worker},
    parts,
};

/// A hive that has joined at 5 s past the epoch, with nothing else known.
fn joined() -> Hand {
    let mut hand = Hand::new(Settings::default());
    hand.wall_ahead = 5_000;
    let labels = [("region".to_owned(), "eu".to_owned())].into();
    let mut info = HiveInfo::http(parts::hive(0), "attic", 7601);
    info.labels = labels;
    hand.hive(0, HiveFact::Added(Box::new(info)));
    hand
}

fn unreachable(hand: &mut Hand) {
    hand.hive(0, HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)));
}

/// Hive records that the last input caused.
fn recorded(hand: &Hand) -> Vec<HiveRecord> {
    hand.all(|effect| match effect {
        Effect::Record { n: None, changes } => match &changes[..] {
            [Change::HivePut(record)] => Some((**record).clone()),
            _ => None,
        },
        _ => None,
    })
}

fn summary(hand: &Hand) -> HiveSummary {
    let [summary] = <[_; 1]>::try_from(hand.engine.hives()).expect("one hive");
    summary
}

#[test]
fn a_hive_is_recorded_once_when_it_comes_and_once_when_it_goes() {
    let mut hand = joined();
    assert_eq!(recorded(&hand), []);
    hand.report(0, 1, &[]);
    let [record] = &recorded(&hand)[..] else { panic!("{:?}", hand.effects) };
    assert_eq!((record.hostname.as_str(), record.port), ("attic", 7601));
    assert_eq!((record.status, record.last_seen.as_millis()), (HiveStatus::Online, 5_000));
    assert_eq!(record.labels["region"], "eu");
    let models = serde_json::json!(["hf:org/model-0", "hf:org/model-1"]);
    assert_eq!(record.capabilities["models"], models);
    assert_eq!(record.capabilities["devices"][0]["kind"], "cpu");

    hand.wall_ahead = 6_000;
    hand.report(0, 2, &[]);
    assert_eq!(recorded(&hand), []);
    unreachable(&mut hand);
    let [record] = &recorded(&hand)[..] else { panic!("{:?}", hand.effects) };
    assert_eq!((record.status, record.last_seen.as_millis()), (HiveStatus::Offline, 6_000));
    unreachable(&mut hand);
    assert_eq!(recorded(&hand), []);
    hand.report(0, 3, &[]);
    assert_eq!(recorded(&hand).len(), 1);
}

#[test]
fn a_hive_is_shown_with_when_it_answered_last_and_why_it_does_not() {
    let mut hand = joined();
    let seen = |hand: &Hand| {
        let summary = summary(hand);
        (summary.status, summary.last_seen, summary.error)
    };
    assert_eq!(seen(&hand), (HiveStatus::Offline, None, None));
    unreachable(&mut hand);
    let why = Some(error(ErrorKind::HiveUnreachable));
    assert_eq!(seen(&hand), (HiveStatus::Error, None, why.clone()));
    hand.report(0, 1, &[]);
    let at = Some(WallTime::from_millis(5_000));
    assert_eq!(seen(&hand), (HiveStatus::Online, at, None));
    hand.wall_ahead = 9_000;
    unreachable(&mut hand);
    assert_eq!(seen(&hand), (HiveStatus::Offline, at, why));
    // It was away too long: its workers are lost, and nothing else changes.
    hand.wait(Settings::default().hive_lost_after);
    assert_eq!((seen(&hand).0, recorded(&hand).len()), (HiveStatus::Offline, 0));
}

#[test]
fn a_hive_that_was_stopped_is_not_heard_until_it_is_started() {
    let mut hand = joined();
    hand.report(0, 7, &[worker(1, 0, 1)]);
    hand.connect(&[worker(1, 0, 1)]);
    hand.hive(0, HiveFact::Stopped);
    let [record] = &recorded(&hand)[..] else { panic!("{:?}", hand.effects) };
    assert_eq!((record.status, record.labels["region"].as_str()), (HiveStatus::Offline, "eu"));
    assert_eq!(summary(&hand).error.unwrap().message(), "the hive was stopped");
    let view = hand.engine.view();
    assert_eq!((view.worker_count(), view.hive(&parts::hive(0)).unwrap().labels.len()), (0, 1));
    // These were pending when it was stopped.
    hand.report(0, 8, &[worker(1, 0, 1)]);
    unreachable(&mut hand);
    assert_eq!((recorded(&hand).len(), hand.engine.view().worker_count()), (0, 0));
    assert_eq!(summary(&hand).error.unwrap().message(), "the hive was stopped");

    hand.hive(0, HiveFact::Started);
    let summary_now = summary(&hand);
    assert_eq!((summary_now.status, summary_now.error), (HiveStatus::Offline, None));
    // The count starts again.
    hand.report(0, 1, &[]);
    assert_eq!((recorded(&hand).len(), summary(&hand).status), (1, HiveStatus::Online));
}

#[test]
fn a_hive_that_is_removed_is_forgotten_by_the_store_and_nothing_is_heard_of_it() {
    let mut hand = joined();
    hand.report(0, 1, &[]);
    hand.hive(0, HiveFact::Removed);
    let gone = |effect: &Effect| match effect {
        Effect::Record { changes, .. } => Some(changes.clone()),
        _ => None,
    };
    assert_eq!(hand.find(gone), Some(vec![Change::HiveGone(parts::hive(0))]));
    for fact in [
        HiveFact::Removed,
        HiveFact::Stopped,
        HiveFact::Started,
        HiveFact::Unreachable(error(ErrorKind::HiveUnreachable)),
    ] {
        hand.feed(Input::Hive { hive: parts::hive(0), fact });
        assert_eq!(hand.find(gone), None);
    }
    hand.report(0, 2, &[]);
    assert_eq!((hand.find(gone), hand.engine.hives()), (None, Vec::new()));
}
