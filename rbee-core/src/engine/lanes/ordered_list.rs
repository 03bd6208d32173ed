//! Jobs in queue order, in blocks of bounded length, so that the position of a key is known without counting all jobs
//! ahead of it.

use std::collections::VecDeque;

use super::QueueKey;
use crate::time::Time;

/// Jobs in a block; a block that grows to twice as many is split.
const BLOCK: usize = 512;

/// Jobs by their key, each with the time since when it waits. No block is empty.
#[derive(Debug, Default)]
pub(super) struct OrderedList {
    blocks: VecDeque<VecDeque<(QueueKey, Time)>>,
    len: usize,
}

impl OrderedList {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first job, and since when it waits.
    pub(super) fn first(&self) -> Option<&(QueueKey, Time)> {
        self.blocks.front()?.front()
    }

    /// The number of jobs ahead of this key.
    pub(super) fn before(&self, key: &QueueKey) -> usize {
        let (block, within) = self.find(key);
        self.blocks.range(..block).map(VecDeque::len).sum::<usize>() + within
    }

    pub(super) fn contains(&self, key: &QueueKey) -> bool {
        let (block, within) = self.find(key);
        self.is_at(block, within, key)
    }

    pub(super) fn insert(&mut self, key: QueueKey, since: Time) {
        let (mut block, mut within) = self.find(&key);
        // At the end, like most keys.
        if block == self.blocks.len()
            && let Some(last) = self.blocks.back()
        {
            (block, within) = (block - 1, last.len());
        }
        let Some(jobs) = self.blocks.get_mut(block) else {
            self.blocks.push_back([(key, since)].into());
            self.len += 1;
            return;
        };
        jobs.insert(within, (key, since));
        self.len += 1;
        if jobs.len() >= 2 * BLOCK {
            let rest = jobs.split_off(BLOCK);
            self.blocks.insert(block + 1, rest);
        }
    }

    /// Removes the key. Returns true if it was there.
    pub(super) fn remove(&mut self, key: &QueueKey) -> bool {
        let (block, within) = self.find(key);
        if !self.is_at(block, within, key) {
            return false;
        }
        let jobs = &mut self.blocks[block];
        jobs.remove(within);
        if jobs.is_empty() {
            self.blocks.remove(block);
        }
        self.len -= 1;
        true
    }

    /// The first block that ends at or after this key, and the key's index in it.
    fn find(&self, key: &QueueKey) -> (usize, usize) {
        let block = self.blocks.partition_point(|jobs| jobs.back().is_none_or(|(p, _)| p < key));
        let jobs = self.blocks.get(block);
        (block, jobs.map_or(0, |jobs| jobs.partition_point(|(p, _)| p < key)))
    }

    fn is_at(&self, block: usize, within: usize, key: &QueueKey) -> bool {
        let job = self.blocks.get(block).and_then(|jobs| jobs.get(within));
        job.is_some_and(|(p, _)| p == key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{id::JobId, rng::Rng};

    #[test]
    fn the_place_of_each_is_what_counting_gives_however_they_come_and_go() {
        let mut rng = Rng::new(3);
        for ranks in [1, 5, 1_000_000] {
            let (mut line, mut counted) = (OrderedList::default(), BTreeSet::new());
            for n in 0..4_000_u64 {
                let rank = (rng.next() % ranks) as i64 - 2;
                let key = (rank, n, JobId::from_random_bits(n.into()));
                line.insert(key, Time::default());
                counted.insert(key);
                // First more jobs come than go, then more go than come.
                for _ in 0..rng.next() % if n < 3_000 { 2 } else { 4 } {
                    let nth = rng.next() as usize % counted.len().max(1);
                    let Some(gone) = counted.iter().nth(nth).copied() else { continue };
                    assert!(line.remove(&gone) && !line.remove(&gone));
                    counted.remove(&gone);
                }
                assert_eq!(line.len(), counted.len());
                assert_eq!(line.first().map(|(key, _)| key), counted.first());
                if n % 64 == 0 {
                    for (before, key) in counted.iter().enumerate().step_by(37) {
                        assert!(line.contains(key));
                        assert_eq!(line.before(key), before);
                    }
                }
            }
            counted.iter().for_each(|key| assert!(line.remove(key)));
            assert!(line.is_empty() && line.blocks.is_empty());
        }
    }
}
