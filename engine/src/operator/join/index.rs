//! The hash index of a join's side: from a key's hash to the stored rows that have it.
//!
//! The table holds one entry per distinct hash; rows of one hash form a doubly linked chain, so that a row is added and
//! taken out in constant time however many rows share its key. Hashes and links lie in pages beside the blocks.
//!
//! Rows are linked only when that pays. A row that has just come *waits*: it is known by its hash alone, and a few look-ups
//! scan the hashes of the rows that wait. A page that has been scanned [`SCANS_MOST`] times, or is looked up by many rows
//! at once, is linked. So a stream that is joined with a row or two a window pays for no table, and what is spent on
//! scanning never exceeds what linking would have cost by much.

use std::collections::VecDeque;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;

use super::store::{Address, NOWHERE, address, block_of, row_of};

/// Marks the link of a row that is in no chain.
const DEAD: Address = u32::MAX - 1;

/// Stands for the hash of a row that was taken out while it waited.
const GONE: u64 = u64::MAX;

/// How often a page is scanned before it is linked: linking a row costs as much as scanning it so often, or more.
const SCANS_MOST: usize = 32;

/// Hashes that the look-ups of one delta scan together: a few milliseconds.
const SCANNED_MOST: usize = 8 << 20;

/// Hashes that are compared at once.
const STRIDE: usize = 32;

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u64,
    head: Address,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: Address,
    next: Address,
}

/// What is known of a block's rows: of the first ones hash and link, of those that wait the hash.
#[derive(Debug, Default)]
struct Page {
    hashes: Vec<u64>,
    links: Vec<Link>,
    /// How often the rows that wait were scanned.
    scans: usize,
}

impl Page {
    fn waiting(&self) -> usize {
        self.hashes.len() - self.links.len()
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    table: HashTable<Entry>,
    pages: Vec<Page>,
    /// Blocks with rows that wait.
    waiting: VecDeque<usize>,
    waiting_rows: usize,
}

/// How far a scan of the rows that wait has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    /// Which of the waiting blocks.
    place: usize,
    row: usize,
}

/// A hash that is none of the marks.
fn unmarked(hash: u64) -> u64 {
    if hash == GONE { GONE - 1 } else { hash }
}

impl KeyIndex {
    /// How many different keys are linked. Rows that nobody has looked for yet wait, and are not counted.
    pub(super) fn keys(&self) -> usize {
        self.table.len()
    }

    /// Makes ready for `lookups` look-ups, linking rows where that pays; at most about `limit` of them. Answers whether
    /// all is ready: if not, it is to be called again.
    pub(super) fn prepare(&mut self, lookups: usize, limit: usize) -> bool {
        if lookups == 0 {
            return true;
        }
        let (mut place, mut linked) = (0, 0);
        while let Some(block) = self.waiting.get(place).copied() {
            let many = lookups.saturating_mul(self.waiting_rows) > SCANNED_MOST;
            if !many && self.pages[block].scans + lookups <= SCANS_MOST {
                place += 1;
                continue;
            }
            if linked >= limit {
                return false;
            }
            self.waiting.remove(place);
            linked += self.link(block);
        }
        for block in &self.waiting {
            self.pages[*block].scans += lookups;
        }
        true
    }

    /// Links a block's rows. Answers how many.
    fn link(&mut self, block: usize) -> usize {
        let from = self.pages[block].links.len();
        let to = self.pages[block].hashes.len();
        self.pages[block].links.reserve(to - from);
        for row in from..to {
            let hash = self.pages[block].hashes[row];
            if hash == GONE {
                self.pages[block].links.push(Link { previous: DEAD, next: NOWHERE });
                continue;
            }
            let own = address(block, row);
            let next = match self.table.entry(hash, |entry| entry.hash == hash, |entry| entry.hash) {
                TableEntry::Occupied(mut entry) => std::mem::replace(&mut entry.get_mut().head, own),
                TableEntry::Vacant(entry) => {
                    entry.insert(Entry { hash, head: own });
                    NOWHERE
                }
            };
            if next != NOWHERE {
                self.pages[block_of(next)].links[row_of(next)].previous = own;
            }
            self.pages[block].links.push(Link { previous: NOWHERE, next });
        }
        self.pages[block].scans = 0;
        self.waiting_rows -= to - from;
        to - from
    }

    /// The first linked row of a hash, or [`NOWHERE`]. Rows that wait are found by [`KeyIndex::scan`].
    pub(super) fn head(&self, hash: u64) -> Address {
        let hash = unmarked(hash);
        self.table.find(hash, |entry| entry.hash == hash).map_or(NOWHERE, |entry| entry.head)
    }

    /// The row after `address` in its chain, or [`NOWHERE`].
    pub(super) fn next(&self, address: Address) -> Address {
        self.pages[block_of(address)].links[row_of(address)].next
    }

    /// The next row of a hash among those that wait.
    pub(super) fn scan(&self, hash: u64, cursor: &mut Cursor) -> Option<Address> {
        let hash = unmarked(hash);
        while let Some(block) = self.waiting.get(cursor.place) {
            let page = &self.pages[*block];
            let from = cursor.row.max(page.links.len());
            if let Some(row) = position(&page.hashes[from..], hash) {
                cursor.row = from + row + 1;
                return Some(address(*block, from + row));
            }
            *cursor = Cursor { place: cursor.place + 1, row: 0 };
        }
        None
    }

    /// Whether the row is still there.
    pub(super) fn is_live(&self, address: Address) -> bool {
        let page = &self.pages[block_of(address)];
        match page.links.get(row_of(address)) {
            Some(link) => link.previous != DEAD,
            None => page.hashes[row_of(address)] != GONE,
        }
    }

    /// Whether none of a block's rows is linked, so that they can be forgotten together.
    pub(super) fn is_unlinked(&self, block: usize) -> bool {
        self.pages.get(block).is_none_or(|page| page.links.is_empty())
    }

    /// Adds the next row of its block: addresses of a block come in order.
    pub(super) fn insert(&mut self, address: Address, hash: u64) {
        let block = block_of(address);
        if self.pages.len() <= block {
            self.pages.resize_with(block + 1, Page::default);
        }
        let page = &mut self.pages[block];
        debug_assert_eq!(page.hashes.len(), row_of(address));
        if page.waiting() == 0 {
            self.waiting.push_back(block);
        }
        page.hashes.push(unmarked(hash));
        self.waiting_rows += 1;
    }

    /// Takes a row out; `hash` is its key's.
    pub(super) fn remove(&mut self, address: Address, hash: u64) {
        let hash = unmarked(hash);
        let page = &mut self.pages[block_of(address)];
        let Some(link) = page.links.get_mut(row_of(address)) else {
            page.hashes[row_of(address)] = GONE;
            return;
        };
        let Link { previous, next } = *link;
        debug_assert_ne!(previous, DEAD);
        *link = Link { previous: DEAD, next: NOWHERE };
        if next != NOWHERE {
            self.pages[block_of(next)].links[row_of(next)].previous = previous;
        }
        if previous != NOWHERE {
            self.pages[block_of(previous)].links[row_of(previous)].next = next;
        } else if let Ok(mut entry) = self.table.find_entry(hash, |entry| entry.hash == hash) {
            debug_assert_eq!(entry.get().head, address);
            if next == NOWHERE {
                entry.remove();
            } else {
                entry.get_mut().head = next;
            }
        }
    }

    /// Forgets a block whose rows were all taken out, or of which none is linked.
    pub(super) fn free(&mut self, block: usize) {
        let Some(page) = self.pages.get_mut(block) else { return };
        let waiting = std::mem::take(page).waiting();
        if waiting > 0 {
            self.waiting_rows -= waiting;
            self.waiting.retain(|other| *other != block);
        }
    }

    /// Gives back memory when most of the table is empty.
    pub(super) fn shrink(&mut self) {
        if self.table.capacity() > 1024 && self.table.len() * 4 < self.table.capacity() {
            self.table.shrink_to(self.table.len() * 2, |entry| entry.hash);
        }
    }

    /// Gives back what is not needed, after many rows were taken out.
    pub(super) fn shrink_to_fit(&mut self) {
        if self.table.len() * 2 < self.table.capacity() {
            self.table.shrink_to(self.table.len(), |entry| entry.hash);
        }
    }

    /// Bytes of memory.
    pub(super) fn memory_size(&self) -> usize {
        let of_page =
            |page: &Page| page.hashes.capacity() * size_of::<u64>() + page.links.capacity() * size_of::<Link>();
        self.table.allocation_size() + self.pages.iter().map(of_page).sum::<usize>()
    }
}

/// The first place of a hash. Whole strides are compared without a branch.
fn position(hashes: &[u64], wanted: u64) -> Option<usize> {
    let mut from = 0;
    for stride in hashes.chunks_exact(STRIDE) {
        if stride.iter().fold(false, |found, hash| found | (*hash == wanted)) {
            break;
        }
        from += STRIDE;
    }
    hashes[from..].iter().position(|hash| *hash == wanted).map(|place| from + place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::join::store::BLOCK_ROWS;

    /// All rows of a hash: first those of its chain, then those that wait.
    fn found(index: &KeyIndex, hash: u64) -> Vec<Address> {
        let mut at = index.head(hash);
        let mut found = Vec::new();
        while at != NOWHERE {
            found.push(at);
            at = index.next(at);
        }
        let mut cursor = Cursor::default();
        found.extend(std::iter::from_fn(|| index.scan(hash, &mut cursor)));
        found
    }

    #[test]
    fn rows_leave_a_chain_at_its_head_middle_and_end() {
        let mut index = KeyIndex::default();
        for address in 0..5 {
            index.insert(address, 7);
        }
        index.insert(5, 8);
        assert_eq!(found(&index, 7), [0, 1, 2, 3, 4], "they wait");
        assert!(index.prepare(1000, 1000));
        assert_eq!(found(&index, 7), [4, 3, 2, 1, 0]);
        index.remove(2, 7);
        index.remove(4, 7);
        index.remove(0, 7);
        assert_eq!(found(&index, 7), [3, 1]);
        assert!(!index.is_live(2) && index.is_live(3));
        index.remove(3, 7);
        index.remove(1, 7);
        assert_eq!(index.head(7), NOWHERE);
        assert_eq!(found(&index, 8), [5]);
    }

    #[test]
    fn rows_are_linked_when_they_were_scanned_often() {
        let mut index = KeyIndex::default();
        for row in 0..100 {
            index.insert(row, u64::from(row % 10));
        }
        for _ in 0..SCANS_MOST / 2 {
            assert!(index.prepare(2, 1000));
            assert_eq!(index.head(3), NOWHERE);
        }
        assert!(index.prepare(1, 1000));
        assert_eq!(found(&index, 3).len(), 10);
        assert_ne!(index.head(3), NOWHERE);
        // New rows of the block wait again, beside those that are linked.
        index.insert(100, 3);
        assert_eq!(found(&index, 3).len(), 11);
        index.remove(100, 3);
        assert!(!index.is_live(100) && found(&index, 3).len() == 10);
        assert!(index.prepare(1000, 1000));
        assert!(!index.is_live(100) && found(&index, 3).len() == 10);
    }

    #[test]
    fn linking_comes_in_pieces_and_blocks_are_forgotten() {
        let mut index = KeyIndex::default();
        for block in 0..3 {
            (0..BLOCK_ROWS).for_each(|row| index.insert(address(block, row), row as u64));
        }
        assert!(!index.prepare(100, 1));
        assert!(!index.prepare(100, 1));
        assert!(index.prepare(100, 1));
        assert_eq!(found(&index, 5), [address(2, 5), address(1, 5), address(0, 5)]);
        (0..BLOCK_ROWS).for_each(|row| index.insert(address(3, row), row as u64));
        assert!(index.is_unlinked(3) && !index.is_unlinked(2));
        assert_eq!(found(&index, 5).len(), 4);
        index.free(3);
        assert_eq!(found(&index, 5).len(), 3);
        index.insert(address(3, 0), 5);
        assert_eq!(found(&index, 5).last(), Some(&address(3, 0)));
    }

    #[test]
    fn a_hash_that_looks_like_a_mark_is_found() {
        let mut index = KeyIndex::default();
        index.insert(0, u64::MAX);
        assert_eq!(found(&index, u64::MAX), [0]);
        assert!(index.is_live(0) && index.prepare(1000, 1000));
        assert_eq!(found(&index, u64::MAX), [0]);
        index.remove(0, u64::MAX);
        assert!(found(&index, u64::MAX).is_empty());
    }

    #[test]
    fn the_first_place_is_found_wherever_it_is() {
        let hashes: Vec<u64> = (0..100).collect();
        for wanted in 0..100 {
            assert_eq!(position(&hashes, wanted), Some(wanted as usize));
        }
        assert_eq!(position(&hashes, 100), None);
        assert_eq!(position(&[4, 9, 4], 4), Some(0));
    }
}
