//! The indexes follow every change.

use super::*;
use crate::{time::Time, worker::WorkerInfo};

fn worker(id: u128, model: &str, slots: u32) -> WorkerView {
    let mut info = WorkerInfo::new(model.parse().unwrap(), "test");
    info.id = WorkerId::from_random_bits(id);
    info.slots = slots;
    WorkerView::ready(Arc::new(info), Time::default())
}

fn order(cluster: &ClusterView, model: &str) -> Vec<WorkerId> {
    cluster.available(&model.parse().unwrap()).map(|w| w.info.id).collect()
}

#[test]
fn the_index_lists_only_free_workers_and_the_least_loaded_first() {
    let mut cluster = ClusterView::default();
    let ids: Vec<_> = (1..=3).map(WorkerId::from_random_bits).collect();
    cluster.put_worker(worker(1, "m", 2));
    cluster.put_worker(worker(2, "m", 4));
    cluster.put_worker(worker(3, "other", 1));
    cluster.edit_worker(ids[0], |w| w.leased = 1);
    cluster.edit_worker(ids[1], |w| w.leased = 1);
    assert_eq!(order(&cluster, "m"), [ids[1], ids[0]], "1 of 4 is less loaded than 1 of 2");
    cluster.edit_worker(ids[0], |w| w.leased = 2);
    assert_eq!(order(&cluster, "m"), [ids[1]]);
    cluster.edit_worker(ids[1], |w| w.state = WorkerState::Draining);
    assert!(order(&cluster, "m").is_empty());
    cluster.remove_worker(ids[0]);
    cluster.remove_worker(ids[1]);
    assert!(!cluster.knows_model(&"m".parse().unwrap()));
    assert_eq!(order(&cluster, "other"), [ids[2]]);
}

#[test]
fn slots_are_counted_while_their_worker_has_or_loads_the_model() {
    let (mut cluster, model) = (ClusterView::default(), "m".parse().unwrap());
    let ids: Vec<_> = (1..=2).map(WorkerId::from_random_bits).collect();
    cluster.put_worker(worker(1, "m", 2));
    cluster.put_worker(WorkerView { state: WorkerState::Loading, ..worker(2, "m", 4) });
    assert_eq!(cluster.slots(&model), 6);
    cluster.edit_worker(ids[0], |w| w.leased = 2);
    assert_eq!(cluster.slots(&model), 6);
    cluster.edit_worker(ids[0], |w| w.state = WorkerState::Failed);
    cluster.put_worker(worker(2, "m", 3));
    assert_eq!(cluster.slots(&model), 3);
    cluster.remove_worker(ids[1]);
    cluster.edit_worker(ids[0], |w| w.state = WorkerState::Ready);
    assert_eq!(cluster.slots(&model), 2);
    cluster.remove_worker(ids[0]);
    assert_eq!(cluster.slots(&model), 0);
}

#[test]
fn a_clone_does_not_see_later_changes() {
    let mut cluster = ClusterView::default();
    cluster.put_worker(worker(1, "m", 2));
    let before = cluster.clone();
    cluster.edit_worker(WorkerId::from_random_bits(1), |w| w.leased = 2);
    assert_eq!(order(&before, "m").len(), 1);
    assert!(order(&cluster, "m").is_empty());
}

fn on_disk(hive: &str, models: &[&str]) -> HiveView {
    let models = models.iter().map(|model| {
        let model: ModelRef = model.parse().unwrap();
        (model.clone(), ModelOnDisk::new(model, 1))
    });
    HiveView {
        id: HiveId::new(hive).unwrap(),
        online: true,
        draining: false,
        devices: Arc::default(),
        memory_budget: None,
        labels: Arc::default(),
        models: Arc::new(models.collect()),
        engines: None,
        reserved: BTreeMap::new(),
    }
}

#[test]
fn what_hives_have_on_their_disks_is_found_by_model_whatever_changes() {
    let mut cluster = ClusterView::default();
    let holders = |cluster: &ClusterView, model: &str| -> Vec<String> {
        let model = model.parse().unwrap();
        cluster.with_model_on_disk(&model).map(|hive| hive.id.to_string()).collect()
    };
    cluster.put_hive(on_disk("a", &["m", "n"]));
    cluster.put_hive(on_disk("b", &["m"]));
    assert_eq!(holders(&cluster, "m"), ["a", "b"]);
    cluster.put_hive(on_disk("a", &["n"]));
    assert_eq!(
        (holders(&cluster, "m"), holders(&cluster, "n")),
        (vec!["b".into()], vec!["a".into()])
    );
    let added: ModelRef = "o".parse().unwrap();
    cluster.edit_hive(&HiveId::new("b").unwrap(), |hive| {
        let models = Arc::make_mut(&mut hive.models);
        models.clear();
        models.insert(added.clone(), ModelOnDisk::new(added.clone(), 1));
    });
    assert_eq!((holders(&cluster, "m").len(), holders(&cluster, "o")), (0, vec!["b".into()]));
    cluster.remove_hive(&HiveId::new("b").unwrap());
    assert!(!cluster.knows_model(&added) && cluster.knows_model(&"n".parse().unwrap()));
}

#[test]
fn what_the_workers_of_a_hive_take_and_would_give_back_follows_every_change() {
    let mut cluster = ClusterView::default();
    let (hive, first) = (HiveId::local(), worker(1, "m", 1).info.id);
    let totals = |cluster: &ClusterView| {
        let (on_device, in_all) = cluster.evictable(&hive, 2);
        (cluster.count_on_hive(&hive), cluster.memory_taken(&hive), on_device, in_all)
    };
    let mut wide = worker(1, "m", 1);
    wide.info = Arc::new(WorkerInfo { devices: vec![1, 2], ..(*wide.info).clone() });
    wide.memory_bytes = 10;
    cluster.put_worker(wide.clone());
    cluster.put_worker(WorkerView { memory_bytes: 7, ..worker(2, "m", 1) });
    assert_eq!(totals(&cluster), (2, 17, 5, 17));
    assert_eq!(cluster.evictable(&hive, 0), (7, 17), "one without a device is on the CPU");
    let before = cluster.clone();
    cluster.edit_worker(first, |worker| worker.leased = 1);
    assert_eq!(totals(&cluster), (2, 17, 0, 7));
    cluster.edit_worker(first, |worker| worker.memory_bytes = u64::MAX);
    assert_eq!(totals(&cluster), (2, u64::MAX, 0, 7));
    cluster.put_worker(wide);
    cluster.remove_worker(worker(2, "m", 1).info.id);
    assert_eq!(totals(&cluster), (1, 10, 5, 10));
    cluster.remove_worker(first);
    assert_eq!((totals(&cluster), totals(&before)), ((0, 0, 0, 0), (2, 17, 5, 17)));
}

#[test]
fn measured_memory_rises_at_once_and_comes_down_for_each_kind_of_device_alone() {
    let (mut cluster, model) = (ClusterView::default(), "m".parse().unwrap());
    cluster.note_measured(&model, DeviceKind::Cpu, 28_000);
    assert_eq!(cluster.measured(&model, DeviceKind::Cuda), None);
    cluster.note_measured(&model, DeviceKind::Cuda, 14_000);
    let mut last = 28_000;
    for _ in 0..60 {
        cluster.note_measured(&model, DeviceKind::Cpu, 20_000);
        let now = cluster.measured(&model, DeviceKind::Cpu).unwrap();
        assert!(now < last || now == 20_000);
        last = now;
    }
    assert_eq!((last, cluster.measured(&model, DeviceKind::Cuda)), (20_000, Some(14_000)));
    cluster.note_measured(&model, DeviceKind::Cpu, 21_000);
    assert_eq!(cluster.measured(&model, DeviceKind::Cpu), Some(21_000));
}
