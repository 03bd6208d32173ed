//! Compiled grammars that were used lately.

use std::collections::HashMap;

use super::{Grammar, limits};

/// Keeps the grammars that were used last, limited by number and by bytes.
#[derive(Debug)]
pub(super) struct Cache<C> {
    entries: HashMap<Grammar, CachedGrammar<C>>,
    /// Counts the uses; a higher number is a later use.
    clock: u64,
    bytes: usize,
}

#[derive(Debug)]
struct CachedGrammar<C> {
    grammar: C,
    bytes: usize,
    used: u64,
}

impl<C> Default for Cache<C> {
    fn default() -> Self {
        Self { entries: HashMap::new(), clock: 0, bytes: 0 }
    }
}

impl<C: Clone> Cache<C> {
    pub(super) fn get(&mut self, grammar: &Grammar) -> Option<C> {
        self.clock += 1;
        let entry = self.entries.get_mut(grammar)?;
        entry.used = self.clock;
        Some(entry.grammar.clone())
    }

    /// Keeps a compiled grammar of about this size, and drops the least recently used ones that have no more room. One
    /// that is larger than the whole cache is not kept.
    pub(super) fn insert(&mut self, grammar: Grammar, compiled: C, bytes: usize) {
        if bytes > limits::CACHED_BYTES {
            return;
        }
        self.clock += 1;
        let entry = CachedGrammar { grammar: compiled, bytes, used: self.clock };
        self.bytes += bytes;
        if let Some(old) = self.entries.insert(grammar, entry) {
            self.bytes -= old.bytes;
        }
        while self.entries.len() > limits::CACHED_GRAMMARS || self.bytes > limits::CACHED_BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            if let Some(old) = self.entries.remove(&key) {
                self.bytes -= old.bytes;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}
