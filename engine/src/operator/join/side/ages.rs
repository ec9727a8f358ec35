//! How old the rows of each block are, for sides whose rows are let go a time after they came.

use crate::state::ages::Lifetime;

/// A block that was filled before the first epoch: from a snapshot.
const RESTORED: i64 = i64::MIN;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct BlockAges {
    lifetime: Lifetime,
    now: i64,
    /// The grain of time that new rows are of.
    grain: i64,
    /// By block: the grain in which its rows came.
    born: Vec<i64>,
    /// Grains with rows, ascending.
    grains: std::collections::VecDeque<i64>,
    /// Blocks up to this grain are over.
    over: i64,
}

impl BlockAges {
    pub(super) fn new(ttl_micros: i64) -> Self {
        let grains = std::collections::VecDeque::new();
        Self {
            lifetime: Lifetime::new(ttl_micros),
            now: i64::MIN,
            grain: RESTORED,
            born: Vec::new(),
            grains,
            over: i64::MIN,
        }
    }

    /// Answers whether rows that come now are of another age than those before.
    pub(super) fn begin_epoch(&mut self, now_micros: i64) -> bool {
        self.now = now_micros;
        let before = std::mem::replace(&mut self.grain, self.lifetime.grain(now_micros));
        if before == RESTORED {
            // Rows of a snapshot are as good as new.
            self.born.iter_mut().filter(|born| **born == RESTORED).for_each(|born| *born = self.grain);
            self.grains.iter_mut().for_each(|grain| *grain = self.grain);
        }
        before != self.grain
    }

    /// Rows were put into a block.
    pub(super) fn note(&mut self, block: usize) {
        if self.born.len() <= block {
            self.born.resize(block + 1, self.grain);
        }
        self.born[block] = self.grain;
        if self.grains.back() != Some(&self.grain) {
            self.grains.push_back(self.grain);
        }
    }

    /// Moves on to now. Answers whether rows are over.
    pub(super) fn advance(&mut self) -> bool {
        let before = self.over;
        while let Some(grain) = self.grains.front()
            && self.lifetime.end(*grain) <= self.now
        {
            self.over = *grain;
            self.grains.pop_front();
        }
        self.over > before
    }

    /// When the oldest rows are over.
    pub(super) fn next(&self) -> Option<i64> {
        self.grains.front().map(|grain| self.lifetime.end(*grain))
    }

    /// Whether a block's rows are over.
    pub(super) fn is_over(&self, block: usize) -> bool {
        self.over > RESTORED && self.born.get(block).is_some_and(|born| *born <= self.over)
    }
}
