//! The blocks of the KV cache: which are free, and how many sequences use each of the others.

/// Reference counts of all blocks, and a list of the free ones.
///
/// A block is *free*, or it is *used* by at least one sequence, or it is *idle*: no sequence uses it, but it is cached.
#[derive(Debug)]
pub(super) struct BlockPool {
    free: Vec<u32>,
    users: Vec<u32>,
    cached: Vec<bool>,
    idle: usize,
}

impl BlockPool {
    pub(super) fn new(blocks: usize) -> Self {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        Self {
            // The lowest number is taken first.
            free: (0..blocks).rev().collect(),
            users: vec![0; blocks as usize],
            cached: vec![false; blocks as usize],
            idle: 0,
        }
    }

    /// The number of blocks that no sequence uses.
    pub(super) fn available(&self) -> usize {
        self.free.len() + self.idle
    }

    /// The number of sequences that use this block.
    pub(super) fn users(&self, block: u32) -> u32 {
        self.users[block as usize]
    }

    /// A free block, for one user.
    pub(super) fn take(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.users[block as usize] = 1;
        Some(block)
    }

    /// One more sequence uses this block, which is cached.
    pub(super) fn share(&mut self, block: u32) {
        let at = block as usize;
        debug_assert!(self.cached[at], "block {block} is not cached");
        self.idle -= usize::from(self.users[at] == 0);
        self.users[at] += 1;
    }

    /// A sequence does not use this block any more.
    pub(super) fn release(&mut self, block: u32) {
        let at = block as usize;
        debug_assert!(self.users[at] > 0, "block {block} is not used");
        self.users[at] -= 1;
        if self.users[at] > 0 {
            return;
        }
        if self.cached[at] {
            self.idle += 1;
        } else {
            self.free.push(block);
        }
    }

    /// A block in use is cached from now on.
    pub(super) fn cache(&mut self, block: u32) {
        let at = block as usize;
        debug_assert!(self.users[at] > 0 && !self.cached[at], "block {block} cannot be cached");
        self.cached[at] = true;
    }

    /// A block is not cached any more; it is free if no sequence uses it.
    pub(super) fn uncache(&mut self, block: u32) {
        let at = block as usize;
        debug_assert!(self.cached[at], "block {block} is not cached");
        self.cached[at] = false;
        if self.users[at] == 0 {
            self.idle -= 1;
            self.free.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Change {
        Take,
        Share(usize),
        Release(usize),
        Cache(usize),
        Uncache(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let block = 0..6_usize;
        prop_oneof![
            3 => Just(Change::Take),
            2 => block.clone().prop_map(Change::Share),
            3 => block.clone().prop_map(Change::Release),
            2 => block.clone().prop_map(Change::Cache),
            1 => block.prop_map(Change::Uncache),
        ]
    }

    proptest! {
        /// The simple model is a list of (users, cached).
        #[test]
        fn a_block_is_given_out_only_if_nobody_uses_it_and_it_is_not_cached(
            changes in proptest::collection::vec(change(), 0..80),
        ) {
            let mut pool = BlockPool::new(6);
            let mut model = [(0_u32, false); 6];
            for change in changes {
                match change {
                    Change::Take => match pool.take() {
                        Some(block) => {
                            prop_assert_eq!(model[block as usize], (0, false));
                            model[block as usize].0 = 1;
                        }
                        None => prop_assert!(!model.contains(&(0, false))),
                    },
                    Change::Share(at) if model[at].1 => {
                        pool.share(at as u32);
                        model[at].0 += 1;
                    }
                    Change::Release(at) if model[at].0 > 0 => {
                        pool.release(at as u32);
                        model[at].0 -= 1;
                    }
                    Change::Cache(at) if model[at].0 > 0 && !model[at].1 => {
                        pool.cache(at as u32);
                        model[at].1 = true;
                    }
                    Change::Uncache(at) if model[at].1 => {
                        pool.uncache(at as u32);
                        model[at].1 = false;
                    }
                    _ => {}
                }
                let available = model.iter().filter(|(users, _)| *users == 0).count();
                prop_assert_eq!(pool.available(), available);
                for (at, (users, _)) in model.iter().enumerate() {
                    prop_assert_eq!(pool.users(at as u32), *users);
                }
            }
        }
    }
}
