//! The sections of one key group, and when it pays to put them together.
//!
//! Each key that is looked for is looked for in every section: a few blocks' first orders and marks in memory, and on disk a
//! block of each section that has rows of it. Putting sections together reads and writes all their bytes. So it is done once
//! looking them up has cost about as much (the rule for whoever can rent or buy, as for links in a join's index): then what
//! is spent on both is never more than a few times what the better of them would have cost, whatever is looked up. A stream
//! that hardly anybody looks up is written once and left alone, but for sections that are so small that what is known of
//! them in memory counts.

use super::merging::BLOCK_BYTES;
use super::{Section, SpilledSize};

/// From so many sections on those that have less than a block are put together, however little is looked for.
const SECTIONS_MOST: usize = 8;
/// At least so many are put together.
const MERGED_LEAST: usize = 4;

/// Bytes that are put together in the time in which a key is looked for in one section that does not have it: 33 ns and
/// 2.5 ns a byte were measured (bids of Nexmark's query 20, 30 sections).
const BYTES_OF_A_LOOK: u64 = 16;
/// A block that is read to take a row out of it costs about half of what it costs to put it together with others.
const PARTS_OF_A_READ: u64 = 2;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) sections: Vec<Section>,
    /// What looking up has cost since sections were put together, in bytes that could have been put together instead.
    paid: u64,
    /// Which sections would be put together, and their bytes.
    choice: Vec<usize>,
    price: u64,
    /// A section most of whose rows are gone.
    hollow: Option<usize>,
    pub(super) size: SpilledSize,
    /// Bytes of memory.
    pub(super) memory: usize,
}

impl Shelf {
    /// Sections have come or gone. `most`: those that are larger stay as they are.
    pub(super) fn recount(&mut self, most: usize) {
        self.recount_rows(most);
        self.choice = small(&self.sections, most);
        self.price = self.choice.iter().map(|at| self.sections[*at].bytes()).sum();
    }

    /// Rows have gone.
    pub(super) fn recount_rows(&mut self, most: usize) {
        let is_hollow = |section: &Section| section.live() * 2 < section.rows() && section.bytes() as usize <= most;
        self.hollow = self.sections.iter().position(is_hollow);
        self.size.rows = self.sections.iter().map(Section::live).sum();
        self.size.bytes = self.sections.iter().map(Section::bytes).sum();
        self.memory = self.sections.iter().map(Section::memory_size).sum();
    }

    /// So many keys were looked for, and blocks of so many bytes were read that need not have been, had the rows of each key
    /// lain together.
    pub(super) fn note_looks(&mut self, keys: usize, read: u64) {
        let looks = keys as u64 * self.sections.len().saturating_sub(1) as u64;
        self.paid = self.paid.saturating_add(looks * BYTES_OF_A_LOOK + read / PARTS_OF_A_READ);
    }

    /// Whether sections are to be put together now.
    pub(super) fn is_due(&self) -> bool {
        self.pays(1) || self.hollow.is_some()
    }

    /// Which sections are to be put together, now that some of some key group are: the other groups' come with them when they
    /// are halfway there, so that they share a file.
    pub(super) fn due(&mut self, most: usize) -> Vec<usize> {
        // How large they may be changes with what the job may hold.
        self.recount(most);
        match self.pays(2) {
            true => self.choice.clone(),
            false => self.hollow.into_iter().collect(),
        }
    }

    /// Whether looking up has cost as much as putting together would, or an `nth` of it.
    fn pays(&self, nth: u64) -> bool {
        let are_small = self.sections.len() > SECTIONS_MOST && self.price < (self.choice.len() * BLOCK_BYTES) as u64;
        !self.choice.is_empty() && (are_small || self.paid.saturating_mul(nth) >= self.price)
    }

    /// Puts what has become of some sections in their place.
    pub(super) fn replace(&mut self, gone: &[usize], new: Option<Section>, most: usize) {
        let mut number = 0;
        self.sections.retain(|_| {
            number += 1;
            !gone.contains(&(number - 1))
        });
        self.sections.extend(new);
        if gone.len() > 1 {
            self.paid = 0;
        }
        self.recount(most);
    }
}

/// Which sections would be put together: small ones first, and no large one for the sake of a few small ones. Together they
/// have about `most` bytes at most.
fn small(sections: &[Section], most: usize) -> Vec<usize> {
    let mut by_size: Vec<usize> = (0..sections.len()).filter(|at| sections[*at].bytes() as usize <= most).collect();
    by_size.sort_by_key(|at| sections[*at].bytes());
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    for at in by_size {
        let own = sections[at].bytes() as usize;
        if bytes + own > most || (chosen.len() >= MERGED_LEAST && own > 2 * bytes) {
            break;
        }
        bytes += own;
        chosen.push(at);
    }
    if chosen.len() > 1 { chosen } else { Vec::new() }
}
