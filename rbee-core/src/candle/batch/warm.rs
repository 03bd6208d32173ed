//! The prefix keys that a worker reports as computed and still in memory.

use std::collections::{HashMap, VecDeque};

use super::prefix::{NodeId, PrefixCache};

/// The most keys that are remembered: a health report contains all that are warm.
const MAX_KEYS: usize = 512;

/// Prefix keys of prompts ([`Job::prefix`](crate::job::Job::prefix)), and the cached block that each needs.
///
/// The queen computes keys from text, so the number of tokens of a key is unknown. All prompts with a key begin with its
/// text, so the blocks that they have in common contain at least the whole blocks of that text. A key needs these; the
/// first prompt with it needs all of its own. So a key is never reported if a whole block of its text is not cached.
#[derive(Debug, Default)]
pub(super) struct WarmKeys {
    needs: HashMap<u64, NodeId>,
    /// All keys of `needs`, the oldest first.
    order: VecDeque<u64>,
    /// True if keys were recorded since the last report.
    is_new: bool,
    /// The blocks that the cache had lost at the last report.
    lost: u64,
}

impl WarmKeys {
    /// Remembers the keys of a prompt whose last full block is `end`.
    pub(super) fn record(&mut self, keys: &[u64], end: NodeId, cache: &PrefixCache) {
        self.is_new = true;
        for key in keys {
            let need = match self.needs.get(key) {
                // Without a block in common there is nothing that a later prompt could use for certain.
                Some(known) if cache.contains(*known) => cache.common(*known, end),
                _ => Some(end),
            };
            let known = match need {
                Some(need) => self.needs.insert(*key, need).is_some(),
                None => {
                    self.needs.remove(key);
                    self.order.retain(|other| other != key);
                    continue;
                }
            };
            if !known {
                self.order.push_back(*key);
            }
        }
        while self.order.len() > MAX_KEYS {
            if let Some(oldest) = self.order.pop_front() {
                self.needs.remove(&oldest);
            }
        }
    }

    /// The keys whose blocks are cached, in ascending order; `None` if nothing has changed since the last report.
    pub(super) fn report(&mut self, cache: &PrefixCache) -> Option<Vec<u64>> {
        if !self.is_new && self.lost == cache.lost() {
            return None;
        }
        (self.is_new, self.lost) = (false, cache.lost());
        self.needs.retain(|_, need| cache.contains(*need));
        let needs = &self.needs;
        self.order.retain(|key| needs.contains_key(key));
        let mut keys: Vec<u64> = self.order.iter().copied().collect();
        keys.sort_unstable();
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use rbee_decoder::backend::BLOCK;

    use super::{super::prefix::Chain, *};

    /// Caches the blocks of a prompt, and returns the last one.
    fn cached(cache: &mut PrefixCache, blocks: &[u32]) -> NodeId {
        let tokens: Vec<u32> = blocks.iter().flat_map(|block| [*block; BLOCK]).collect();
        let mut chain = Chain::default();
        cache.extend(None, &mut chain, &tokens, 0);
        assert!(cache.reserve(&mut chain, tokens.len()));
        cache.publish(None, &mut chain, &tokens, tokens.len());
        let end = *chain.nodes.last().unwrap();
        cache.release(&mut chain);
        end
    }

    #[test]
    fn the_newest_512_keys_are_reported_in_ascending_order() {
        let (mut cache, mut warm) = (PrefixCache::new(4), WarmKeys::default());
        let end = cached(&mut cache, &[1]);
        let keys: Vec<u64> = (0..600).rev().collect();
        warm.record(&keys, end, &cache);
        assert_eq!(warm.report(&cache), Some((0..512).collect()));
    }

    #[test]
    fn a_key_of_prompts_with_nothing_in_common_is_not_reported_until_it_comes_again() {
        let (mut cache, mut warm) = (PrefixCache::new(4), WarmKeys::default());
        let (one, other) = (cached(&mut cache, &[1]), cached(&mut cache, &[2]));
        warm.record(&[7], one, &cache);
        warm.record(&[7], other, &cache);
        assert_eq!(warm.report(&cache), Some(vec![]));
        for end in [one, other, one] {
            warm.record(&[7], end, &cache);
        }
        assert_eq!(warm.report(&cache), Some(vec![7]), "once");
    }
}
