//! Ages: which keys nobody has touched for a time.
//!
//! Time is counted in grains, a sixty-fourth of the time to live, so that a key that is touched all the time is noted a few
//! times only; it is forgotten up to a grain late.

use std::collections::VecDeque;

use super::slots::Slot;

/// Grains of a time to live.
const GRAINS: i64 = 64;

/// A grain's number of a key that has none.
const NONE: i64 = i64::MIN;

/// A time to live, and the grains that time is counted in.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    ttl_micros: i64,
    grain_micros: i64,
}

impl Lifetime {
    /// So many microseconds.
    pub fn new(ttl_micros: i64) -> Self {
        Self { ttl_micros, grain_micros: (ttl_micros / GRAINS).max(1) }
    }

    /// The grain that a moment lies in.
    pub fn grain(&self, now_micros: i64) -> i64 {
        now_micros.div_euclid(self.grain_micros)
    }

    /// When what was touched in a grain, for the last time, is over.
    pub fn end(&self, grain: i64) -> i64 {
        grain.saturating_add(1).saturating_mul(self.grain_micros).saturating_add(self.ttl_micros)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Ages {
    lifetime: Lifetime,
    /// By slot: the grain in which it was touched last.
    touched: Vec<i64>,
    /// By grain, ascending: the slots that were touched in it, and maybe later too.
    grains: VecDeque<(i64, Vec<Slot>)>,
}

impl Ages {
    /// No keys yet.
    pub fn new(ttl_micros: i64) -> Self {
        Self { lifetime: Lifetime::new(ttl_micros), touched: Vec::new(), grains: VecDeque::new() }
    }

    /// Keys were touched. Time does not go back.
    pub fn touch(&mut self, slots: &[Slot], now_micros: i64) {
        let now = self.lifetime.grain(now_micros);
        let bound = slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        if self.touched.len() < bound {
            self.touched.resize(bound, NONE);
        }
        let mut fresh = Vec::new();
        for slot in slots {
            let touched = &mut self.touched[*slot as usize];
            if *touched != now {
                *touched = now;
                fresh.push(*slot);
            }
        }
        if fresh.is_empty() {
            return;
        }
        match self.grains.back_mut() {
            Some((grain, slots)) if *grain == now => slots.extend(fresh),
            _ => self.grains.push_back((now, fresh)),
        }
    }

    /// Takes out the keys whose time is over.
    pub fn expired(&mut self, now_micros: i64) -> Vec<Slot> {
        let mut expired = Vec::new();
        while let Some((grain, _)) = self.grains.front()
            && self.lifetime.end(*grain) <= now_micros
            && let Some((grain, slots)) = self.grains.pop_front()
        {
            for slot in slots {
                let touched = &mut self.touched[slot as usize];
                if *touched == grain {
                    *touched = NONE;
                    expired.push(slot);
                }
            }
        }
        expired
    }

    /// When the first may be over.
    pub fn next(&self) -> Option<i64> {
        self.grains.front().map(|(grain, _)| self.lifetime.end(*grain))
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let noted: usize = self.grains.iter().map(|(_, slots)| slots.capacity() * size_of::<Slot>()).sum();
        noted + self.touched.capacity() * size_of::<i64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lives_until_nobody_has_touched_it_for_so_long() {
        let mut ages = Ages::new(6_400);
        ages.touch(&[0, 1, 2], 0);
        ages.touch(&[1], 3_000);
        assert_eq!(ages.expired(6_400), [] as [Slot; 0]);
        assert_eq!(ages.next(), Some(6_500));
        assert_eq!(ages.expired(6_500), [0, 2]);
        ages.touch(&[0], 6_600);
        assert_eq!(ages.expired(9_499), [] as [Slot; 0]);
        assert_eq!(ages.expired(9_500), [1]);
        assert_eq!(ages.expired(100_000), [0]);
        assert_eq!(ages.next(), None);
    }

    #[test]
    fn a_key_that_is_touched_all_the_time_costs_no_more_than_its_grains() {
        let mut ages = Ages::new(1_000_000);
        for now in 0..1_000_000 {
            ages.touch(&[7], now);
            assert!(ages.expired(now).is_empty());
        }
        assert!(ages.bytes() < 4096, "{}", ages.bytes());
    }
}
