//! Jobs in the order in which they wait, in blocks of bounded length: so that the place of one is known without counting
//! all that stand before it.

use std::collections::VecDeque;

use super::Place;
use crate::Time;

/// Jobs in a block; one that grows to twice as many is cut in two.
const BLOCK: usize = 512;

/// Jobs by their place, each with the time since when it waits. No block is empty.
#[derive(Debug, Default)]
pub(super) struct Line {
    blocks: VecDeque<VecDeque<(Place, Time)>>,
    len: usize,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first job, and since when it waits.
    pub(super) fn first(&self) -> Option<&(Place, Time)> {
        self.blocks.front()?.front()
    }

    /// How many go before this place.
    pub(super) fn before(&self, place: &Place) -> usize {
        let (block, within) = self.find(place);
        self.blocks.range(..block).map(VecDeque::len).sum::<usize>() + within
    }

    pub(super) fn contains(&self, place: &Place) -> bool {
        let (block, within) = self.find(place);
        self.is_at(block, within, place)
    }

    pub(super) fn insert(&mut self, place: Place, since: Time) {
        let (mut block, mut within) = self.find(&place);
        // Behind all others: as most do.
        if block == self.blocks.len()
            && let Some(last) = self.blocks.back()
        {
            (block, within) = (block - 1, last.len());
        }
        let Some(jobs) = self.blocks.get_mut(block) else {
            self.blocks.push_back([(place, since)].into());
            self.len += 1;
            return;
        };
        jobs.insert(within, (place, since));
        self.len += 1;
        if jobs.len() >= 2 * BLOCK {
            let rest = jobs.split_off(BLOCK);
            self.blocks.insert(block + 1, rest);
        }
    }

    /// Says whether it was there.
    pub(super) fn remove(&mut self, place: &Place) -> bool {
        let (block, within) = self.find(place);
        if !self.is_at(block, within, place) {
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

    /// The first block that ends at this place or behind it, and where in it the place is.
    fn find(&self, place: &Place) -> (usize, usize) {
        let block = self.blocks.partition_point(|jobs| jobs.back().is_none_or(|(p, _)| p < place));
        let jobs = self.blocks.get(block);
        (block, jobs.map_or(0, |jobs| jobs.partition_point(|(p, _)| p < place)))
    }

    fn is_at(&self, block: usize, within: usize, place: &Place) -> bool {
        let job = self.blocks.get(block).and_then(|jobs| jobs.get(within));
        job.is_some_and(|(p, _)| p == place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{JobId, rng::Rng};

    #[test]
    fn the_place_of_each_is_what_counting_gives_however_they_come_and_go() {
        let mut rng = Rng::new(3);
        for ranks in [1, 5, 1_000_000] {
            let (mut line, mut counted) = (Line::default(), BTreeSet::new());
            for n in 0..4_000_u64 {
                let rank = (rng.next() % ranks) as i64 - 2;
                let place = (rank, n, JobId::from_random_bits(n.into()));
                line.insert(place, Time::default());
                counted.insert(place);
                // More come than go, and then more go than come.
                for _ in 0..rng.next() % if n < 3_000 { 2 } else { 4 } {
                    let nth = rng.next() as usize % counted.len().max(1);
                    let Some(gone) = counted.iter().nth(nth).copied() else { continue };
                    assert!(line.remove(&gone) && !line.remove(&gone));
                    counted.remove(&gone);
                }
                assert_eq!(line.len(), counted.len());
                assert_eq!(line.first().map(|(place, _)| place), counted.first());
                if n % 64 == 0 {
                    for (before, place) in counted.iter().enumerate().step_by(37) {
                        assert!(line.contains(place));
                        assert_eq!(line.before(place), before);
                    }
                }
            }
            counted.iter().for_each(|place| assert!(line.remove(place)));
            assert!(line.is_empty() && line.blocks.is_empty());
        }
    }
}
