//! Choosing one worker of several.

use super::{Base, Worker, Workers};
use crate::{
    id::WorkerId,
    prefix,
    scheduler::rhai::{collection::whole_index, context::DecisionContext, error::Res},
    time::Time,
};

/// The most load of a warm worker, in units of the average load.
pub(super) const BOUND: f64 = 1.25;

/// The worker as an explanation names it.
pub(super) fn described(worker: &Worker) -> String {
    let view = &worker.0;
    format!(
        "worker {} on hive {}, {} of {} slots taken",
        view.info.id, view.info.hive, view.leased, view.info.slots
    )
}

/// The share of its slots that is in use, in the same unit as the view's index; of equal ones, the one used longest ago
/// is first.
fn load(worker: &Worker) -> (u64, Time, WorkerId) {
    let view = &worker.0;
    let taken = (u64::from(view.leased) << 16) / u64::from(view.info.slots.max(1));
    (taken, view.last_used, view.info.id)
}

pub(super) fn least_loaded(set: &Workers, context: &DecisionContext) -> Res<Option<Worker>> {
    if let Some(Base::Available(_)) = set.base() {
        return set.first(context);
    }
    set.least(context, |worker| Ok(load(worker)))
}

pub(super) fn most_loaded(set: &Workers, context: &DecisionContext) -> Res<Option<Worker>> {
    let key = |worker: &Worker| {
        let (taken, used, id) = load(worker);
        (worker.0.free_slots() == 0, u64::MAX - taken, used, id)
    };
    let found = set.least(context, |worker| Ok(key(worker)))?;
    Ok(found.filter(|worker| worker.0.free_slots() > 0))
}

pub(super) fn most_vram_free(set: &Workers, context: &DecisionContext) -> Res<Option<Worker>> {
    set.least(context, |worker| Ok((u64::MAX - worker.device_memory_free(context), load(worker))))
}

pub(super) fn round_robin(set: &Workers, context: &DecisionContext) -> Res<Option<Worker>> {
    set.least(context, |worker| Ok((worker.0.last_used, worker.0.info.id)))
}

pub(super) fn power_of_two(set: &Workers, context: &DecisionContext) -> Res<Option<Worker>> {
    let items = set.list(context)?;
    let count = items.len() as u64;
    if count < 2 {
        return Ok(items.into_iter().next());
    }
    let random = context.ask.random;
    let one = random % count;
    // One of the others, so many steps further round.
    let two = (one + 1 + (random >> 32) % (count - 1)) % count;
    let pair = [one, two].map(|index| items.get(whole_index(index)).cloned());
    Ok(pair.into_iter().flatten().min_by_key(load))
}

/// The number of parts of the prompt, from its beginning, that the worker has computed.
pub(super) fn matched(context: &DecisionContext, worker: &Worker) -> usize {
    let warm = &worker.0.warm;
    if warm.is_empty() {
        return 0;
    }
    let mut keys = context.ask.job.prefix.iter();
    keys.rposition(|key| warm.contains(key)).map_or(0, |last| last + 1)
}

pub(super) fn prefix_affinity(
    set: &Workers,
    context: &DecisionContext,
    bound: f64,
) -> Res<Option<Worker>> {
    let items = set.list(context)?;
    let running: u64 = items.iter().map(|worker| u64::from(worker.0.leased)).sum();
    let slots: u64 = items.iter().map(|worker| u64::from(worker.0.info.slots)).sum();
    // The share of each, with this job, if all had the same load; one job is always allowed.
    let allows = |worker: &Worker| {
        let share = f64::from(worker.0.info.slots) / slots.max(1) as f64;
        let most = ((running + 1) as f64 * share * bound).ceil();
        f64::from(worker.0.leased + 1) <= most
    };
    let key = |worker: &Worker| (usize::MAX - matched(context, worker), load(worker));
    let warm = items.iter().filter(|worker| matched(context, worker) > 0 && allows(worker));
    if let Some(worker) = warm.min_by_key(|worker| key(worker)) {
        return Ok(Some(worker.clone()));
    }
    // The first two parts stay the same over the turns of a conversation: the system message and the first user
    // message.
    let prefix = &context.ask.job.prefix;
    let Some(conversation) = prefix.get(1).or(prefix.first()) else {
        return Ok(items.into_iter().min_by_key(load));
    };
    let key = conversation.to_le_bytes();
    let allowed = items.iter().filter(|worker| allows(worker));
    let chosen = allowed.max_by_key(|worker| score(&key, worker)).cloned();
    Ok(chosen.or_else(|| items.into_iter().min_by_key(load)))
}

/// The same key finds the same worker while it exists (rendezvous hashing).
pub(super) fn sticky(set: &Workers, context: &DecisionContext, key: &[u8]) -> Res<Option<Worker>> {
    set.least(context, |worker| {
        let (hash, id) = score(key, worker);
        Ok((u64::MAX - hash, id))
    })
}

fn score(key: &[u8], worker: &Worker) -> (u64, WorkerId) {
    let id = worker.0.info.id;
    let mixed = prefix::hash(prefix::hash(prefix::START, key), id.to_string().as_bytes());
    // The last bytes of a name change little of an FNV hash.
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29), id)
}
