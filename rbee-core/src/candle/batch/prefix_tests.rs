//! The tree of cached blocks, against a simple model of it.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// A sequence of this many whole blocks of a family and a rest.
fn tokens(family: u32, blocks: usize, rest: usize) -> Vec<u32> {
    (0..(blocks * BLOCK + rest) as u32).map(|at| at / BLOCK as u32 * 10 + family).collect()
}

/// Computes a sequence, and leaves its blocks in the cache.
fn compute(cache: &mut PrefixCache, tokens: &[u32]) -> usize {
    let mut chain = Chain::default();
    let reused = cache.extend(None, &mut chain, tokens, 0);
    assert!(cache.reserve(&mut chain, tokens.len()));
    cache.publish(None, &mut chain, tokens, tokens.len());
    cache.release(&mut chain);
    reused
}

#[test]
fn the_prefix_that_was_used_last_is_kept_longest_and_a_block_never_without_those_before_it() {
    let mut cache = PrefixCache::new(6);
    let [a, b, c] = [1, 2, 3].map(|family| tokens(family, 2, 1));
    compute(&mut cache, &a);
    compute(&mut cache, &b);
    assert_eq!(compute(&mut cache, &a), 64, "a is now newer than b");
    // Three blocks are needed and two are free: the second block of b is evicted.
    compute(&mut cache, &c);
    assert_eq!(compute(&mut cache, &a), 64);
    assert_eq!(compute(&mut cache, &c), 64);
    assert_eq!(compute(&mut cache, &b), 32);
}

#[test]
fn at_least_the_last_token_is_left_to_compute() {
    let mut cache = PrefixCache::new(8);
    let all = tokens(1, 3, 1);
    compute(&mut cache, &all);
    for (length, reused) in [(97, 96), (96, 64), (65, 64), (64, 32), (33, 32), (32, 0), (1, 0)] {
        let mut chain = Chain::default();
        assert_eq!(cache.extend(None, &mut chain, &all[..length], 0), reused, "{length}");
        cache.release(&mut chain);
    }
}

#[test]
fn a_block_that_two_have_computed_is_kept_once() {
    let mut cache = PrefixCache::new(4);
    let same = tokens(1, 1, 1);
    let mut chains = [Chain::default(), Chain::default()];
    for chain in &mut chains {
        assert!(cache.reserve(chain, same.len()));
    }
    assert_eq!(cache.available(), 0);
    for chain in &mut chains {
        cache.publish(None, chain, &same, same.len());
    }
    assert_eq!(chains[0].blocks[0], chains[1].blocks[0]);
    assert_ne!(chains[0].blocks[1], chains[1].blocks[1]);
    assert_eq!(cache.available(), 1);
}

#[test]
fn nothing_changes_if_there_are_too_few_blocks() {
    let mut cache = PrefixCache::new(3);
    compute(&mut cache, &tokens(1, 2, 0));
    let mut chain = Chain::default();
    assert!(!cache.reserve(&mut chain, 4 * BLOCK));
    assert!(chain.blocks.is_empty());
    assert_eq!(compute(&mut cache, &tokens(1, 2, 1)), 64);
}

#[test]
fn what_a_faulty_run_has_computed_alone_is_not_used_again() {
    let mut cache = PrefixCache::new(8);
    compute(&mut cache, &tokens(1, 1, 0));
    let faulty = tokens(1, 3, 0);
    let mut chain = Chain::default();
    let reused = cache.extend(None, &mut chain, &faulty, 0);
    assert!(reused == 32 && cache.reserve(&mut chain, faulty.len()));
    cache.publish(None, &mut chain, &faulty, faulty.len());
    cache.discard(&mut chain);
    assert_eq!((cache.available(), cache.nodes.len(), cache.names.len()), (8, 0, 0));
}

#[test]
fn a_prefix_that_is_released_last_is_kept_longest_although_it_was_begun_first() {
    let mut cache = PrefixCache::new(4);
    let [long, short] = [1, 2].map(|family| tokens(family, 1, 1));
    let mut chain = Chain::default();
    assert!(cache.reserve(&mut chain, long.len()));
    cache.publish(None, &mut chain, &long, long.len());
    compute(&mut cache, &short);
    cache.release(&mut chain);
    // One block more than the free ones.
    compute(&mut cache, &tokens(3, 2, 1));
    assert_eq!(compute(&mut cache, &long), 32);
    assert_eq!(compute(&mut cache, &short), 0);
}

#[test]
fn a_block_that_is_computed_in_part_is_not_replaced_by_a_cached_one() {
    let mut cache = PrefixCache::new(8);
    let all = tokens(1, 3, 1);
    let mut chain = Chain::default();
    assert!(cache.reserve(&mut chain, all.len()));
    cache.publish(None, &mut chain, &all, 40);
    let own = chain.blocks.clone();
    compute(&mut cache, &all);
    assert_eq!(cache.extend(None, &mut chain, &all, 40), 0);
    assert_eq!(chain.blocks, own);
    cache.publish(None, &mut chain, &all, 64);
    assert_eq!(cache.extend(None, &mut chain, &all, 64), 32, "from the next whole block on");
}

#[test]
fn a_faulty_run_takes_nothing_from_those_that_share_its_blocks() {
    let mut cache = PrefixCache::new(8);
    let healthy = tokens(1, 2, 1);
    compute(&mut cache, &healthy);
    let mut faulty = tokens(1, 1, 0);
    faulty.extend(tokens(2, 2, 0));
    let run = |cache: &mut PrefixCache| {
        let mut chain = Chain::default();
        assert_eq!(cache.extend(None, &mut chain, &faulty, 0), 32);
        assert!(cache.reserve(&mut chain, faulty.len()));
        cache.publish(None, &mut chain, &faulty, faulty.len());
        chain
    };
    // The first block is also the beginning of a cached prefix.
    let mut chain = run(&mut cache);
    cache.discard(&mut chain);
    assert_eq!((cache.available(), cache.nodes.len()), (8, 2));
    // And of a run.
    let mut other = Chain::default();
    assert_eq!(cache.extend(None, &mut other, &healthy[..33], 0), 32);
    let mut chain = run(&mut cache);
    // Without what follows it: the block of the cached prefix is evicted.
    compute(&mut cache, &tokens(3, 5, 0));
    cache.discard(&mut chain);
    assert!(other.nodes.iter().all(|node| cache.contains(*node)));
    cache.release(&mut other);
    assert_eq!(compute(&mut cache, &healthy[..33]), 32);
}

proptest! {
    /// Sequences of three families begin, grow and end at random.
    #[test]
    fn blocks_are_shared_only_by_equal_beginnings_and_none_is_lost(
        events in proptest::collection::vec((0..4_usize, 1..4_u32, 1..5_usize, 0..32_usize), 1..60),
    ) {
        let mut cache = PrefixCache::new(9);
        let mut sequences: HashMap<usize, (Vec<u32>, Chain)> = HashMap::new();
        for (index, family, blocks, rest) in events {
            if let Some((_, mut chain)) = sequences.remove(&index) {
                cache.release(&mut chain);
            } else {
                let all = tokens(family, blocks, rest.max(1));
                let mut chain = Chain::default();
                let reused = cache.extend(None, &mut chain, &all, 0);
                prop_assert!(reused < all.len());
                if cache.reserve(&mut chain, all.len()) {
                    cache.publish(None, &mut chain, &all, all.len());
                    sequences.insert(index, (all, chain));
                } else {
                    cache.release(&mut chain);
                }
            }
            let mut holders: HashMap<u32, &[u32]> = HashMap::new();
            let mut used = HashSet::new();
            for (tokens, chain) in sequences.values() {
                prop_assert_eq!(chain.blocks.len(), tokens.len().div_ceil(BLOCK));
                prop_assert_eq!(chain.nodes.len(), tokens.len() / BLOCK);
                for (at, block) in chain.blocks.iter().enumerate() {
                    used.insert(*block);
                    let end = ((at + 1) * BLOCK).min(tokens.len());
                    let other = holders.insert(*block, &tokens[..end]);
                    let is_full = end == (at + 1) * BLOCK;
                    prop_assert!(other.is_none_or(|other| is_full && *other == tokens[..end]));
                }
            }
            prop_assert_eq!(cache.available(), 9 - used.len());
            prop_assert_eq!(cache.nodes.len(), cache.names.len());
        }
    }
}
