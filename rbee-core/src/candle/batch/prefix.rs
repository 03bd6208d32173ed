//! The cache of prefixes: full blocks that later sequences with the same beginning use again.
//!
//! The blocks form a tree: the name of a block is the block before it and its own tokens. So equal names mean equal
//! tokens from the beginning on, without hashes that could collide. A cached block is never written again.

use std::collections::{BTreeSet, HashMap};

use rbee_decoder::backend::BLOCK;

use super::blocks::BlockPool;
use crate::id::TenantId;

/// A cached block. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

/// The position of a block in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Before {
    /// It is the first block of a tenant's sequence.
    Nothing(Option<TenantId>),
    Node(NodeId),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    before: Before,
    tokens: [u32; BLOCK],
}

#[derive(Debug)]
struct Node {
    key: Key,
    block: u32,
    /// Cached blocks that follow this one.
    children: usize,
    /// The blocks up to this one.
    depth: usize,
    /// When a sequence released it last.
    used: u64,
}

/// The blocks of one sequence.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// All blocks, in order.
    pub(super) blocks: Vec<u32>,
    /// The cached ones among them, which come first.
    pub(super) nodes: Vec<NodeId>,
}

/// All blocks, and the tree of the cached ones.
#[derive(Debug)]
pub(super) struct PrefixCache {
    pool: BlockPool,
    nodes: HashMap<NodeId, Node>,
    names: HashMap<Key, NodeId>,
    /// The cached blocks that none follows, by their last use.
    leaves: BTreeSet<(u64, NodeId)>,
    next: u64,
    uses: u64,
    lost: u64,
}

impl PrefixCache {
    /// A cache over this many blocks.
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            pool: BlockPool::new(blocks),
            nodes: HashMap::new(),
            names: HashMap::new(),
            leaves: BTreeSet::new(),
            next: 0,
            uses: 0,
            lost: 0,
        }
    }

    /// The number of blocks that were cached and are not any more.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// The number of blocks that no sequence uses.
    pub(super) fn available(&self) -> usize {
        self.pool.available()
    }

    /// The name of the block that follows the cached ones of a chain, if that many tokens exist.
    fn key(tenant: Option<&TenantId>, chain: &Chain, tokens: &[u32]) -> Option<Key> {
        let (tokens, _) = tokens.get(chain.nodes.len() * BLOCK..)?.split_first_chunk::<BLOCK>()?;
        let before = match chain.nodes.last() {
            Some(node) => Before::Node(*node),
            None => Before::Nothing(tenant.cloned()),
        };
        Some(Key { before, tokens: *tokens })
    }

    /// Continues the cached part of a chain with blocks of other sequences as far as there are any, and returns the
    /// number of their tokens. `computed` tokens are in the chain already. At least the last token is left.
    pub(super) fn extend(
        &mut self,
        tenant: Option<&TenantId>,
        chain: &mut Chain,
        tokens: &[u32],
        computed: usize,
    ) -> usize {
        let mut added = 0;
        while computed + added == chain.nodes.len() * BLOCK
            && computed + added + BLOCK < tokens.len()
        {
            let found =
                Self::key(tenant, chain, tokens).and_then(|key| self.names.get(&key).copied());
            let Some((id, block)) = found.and_then(|id| Some((id, self.nodes.get(&id)?.block)))
            else {
                break;
            };
            self.pool.share(block);
            // A block that was reserved for these tokens is not needed.
            match chain.blocks.get_mut(chain.nodes.len()) {
                Some(own) => self.pool.release(std::mem::replace(own, block)),
                None => chain.blocks.push(block),
            }
            chain.nodes.push(id);
            added += BLOCK;
        }
        added
    }

    /// Adds blocks to a chain until it has as many as these tokens need. False if that many are not available; then
    /// nothing has changed.
    pub(super) fn reserve(&mut self, chain: &mut Chain, tokens: usize) -> bool {
        let missing = tokens.div_ceil(BLOCK).saturating_sub(chain.blocks.len());
        if missing > self.available() {
            return false;
        }
        for _ in 0..missing {
            let block = self.pool.take().or_else(|| {
                self.evict();
                self.pool.take()
            });
            let Some(block) = block else {
                debug_assert!(false, "an idle block could not be evicted");
                return false;
            };
            chain.blocks.push(block);
        }
        true
    }

    /// Caches the full blocks of a chain, of which this many tokens are computed.
    pub(super) fn publish(
        &mut self,
        tenant: Option<&TenantId>,
        chain: &mut Chain,
        tokens: &[u32],
        computed: usize,
    ) {
        while (chain.nodes.len() + 1) * BLOCK <= computed {
            let at = chain.nodes.len();
            let (Some(key), Some(own)) =
                (Self::key(tenant, chain, tokens), chain.blocks.get_mut(at))
            else {
                return;
            };
            let known = self.names.get(&key).copied();
            let id = match known.and_then(|id| Some((id, self.nodes.get(&id)?.block))) {
                Some((id, block)) => {
                    // Another sequence has computed the same block, so this copy is not needed.
                    self.pool.share(block);
                    self.pool.release(std::mem::replace(own, block));
                    id
                }
                None => {
                    let own = *own;
                    self.insert(key, own)
                }
            };
            chain.nodes.push(id);
        }
    }

    fn insert(&mut self, key: Key, block: u32) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        self.pool.cache(block);
        let mut depth = 1;
        if let Before::Node(before) = key.before
            && let Some(parent) = self.nodes.get_mut(&before)
        {
            if parent.children == 0 {
                self.leaves.remove(&(parent.used, before));
            }
            parent.children += 1;
            depth = parent.depth + 1;
        }
        self.names.insert(key.clone(), id);
        self.leaves.insert((0, id));
        self.nodes.insert(id, Node { key, block, children: 0, depth, used: 0 });
        id
    }

    /// Records the end of a use.
    fn touch(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        self.uses += 1;
        let before = std::mem::replace(&mut node.used, self.uses);
        if node.children == 0 {
            self.leaves.remove(&(before, id));
            self.leaves.insert((self.uses, id));
        }
    }

    /// Makes the least recently used block free that no sequence uses and that no cached block follows.
    fn evict(&mut self) {
        let is_idle =
            |id: &NodeId| self.nodes.get(id).is_some_and(|node| self.pool.users(node.block) == 0);
        // At most one leaf of each sequence is in use, so this search is short.
        if let Some(id) = self.leaves.iter().map(|(_, id)| *id).find(is_idle) {
            self.remove(id);
        }
    }

    /// Removes a block that no cached one follows from the tree.
    fn remove(&mut self, id: NodeId) {
        let Some(node) = self.nodes.remove(&id) else {
            return;
        };
        debug_assert_eq!(node.children, 0);
        self.lost += 1;
        self.leaves.remove(&(node.used, id));
        self.names.remove(&node.key);
        self.pool.uncache(node.block);
        if let Before::Node(before) = node.key.before
            && let Some(parent) = self.nodes.get_mut(&before)
        {
            parent.children -= 1;
            if parent.children == 0 {
                self.leaves.insert((parent.used, before));
            }
        }
    }

    /// A sequence does not need its blocks any more. The cached ones are kept until their memory is needed.
    pub(super) fn release(&mut self, chain: &mut Chain) {
        for id in &chain.nodes {
            self.touch(*id);
        }
        for block in chain.blocks.drain(..) {
            self.pool.release(block);
        }
        chain.nodes.clear();
    }

    /// The same after a fault of the model: blocks that only this sequence has used are not kept.
    pub(super) fn discard(&mut self, chain: &mut Chain) {
        while let Some(id) = chain.nodes.pop() {
            let own = self.nodes.get(&id).filter(|node| node.children == 0);
            if own.is_none_or(|node| self.pool.users(node.block) != 1) {
                break;
            }
            self.remove(id);
        }
        self.release(chain);
    }

    /// True if this block is still cached, and so are all before it.
    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// The last block that is a beginning of both; `None` if they have none in common.
    pub(super) fn common(&self, a: NodeId, b: NodeId) -> Option<NodeId> {
        let (mut a, mut b) = (a, b);
        while a != b {
            let (first, second) = (self.nodes.get(&a)?, self.nodes.get(&b)?);
            let up = |node: &Node| match node.key.before {
                Before::Node(before) => Some(before),
                Before::Nothing(_) => None,
            };
            if first.depth >= second.depth {
                a = up(first)?;
            } else {
                b = up(second)?;
            }
        }
        Some(a)
    }
}

#[cfg(test)]
#[path = "prefix_tests.rs"]
mod tests;
