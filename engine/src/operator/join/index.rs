//! The hash index of a join's side: from a key's hash to the chain of stored rows that have it.
//!
//! The table holds one entry per distinct hash; rows of one hash form a doubly linked chain, so that a row is added and
//! taken out in constant time however many rows share its key. Links lie in pages beside the blocks, eight bytes a row.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;

use super::store::{Address, NOWHERE, block_of, row_of};

/// Marks the link of a row that is in no chain.
const DEAD: Address = u32::MAX - 1;

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

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    table: HashTable<Entry>,
    pages: Vec<Vec<Link>>,
}

impl KeyIndex {
    /// The first stored row of a hash, or [`NOWHERE`].
    pub(super) fn head(&self, hash: u64) -> Address {
        self.table.find(hash, |entry| entry.hash == hash).map_or(NOWHERE, |entry| entry.head)
    }

    /// The row after `address` in its chain, or [`NOWHERE`].
    pub(super) fn next(&self, address: Address) -> Address {
        self.pages[block_of(address)][row_of(address)].next
    }

    /// Whether the row is still in its chain.
    pub(super) fn is_live(&self, address: Address) -> bool {
        self.pages[block_of(address)][row_of(address)].previous != DEAD
    }

    /// Adds the next row of its block: addresses of a block come in order.
    pub(super) fn insert(&mut self, address: Address, hash: u64) {
        let next = match self.table.entry(hash, |entry| entry.hash == hash, |entry| entry.hash) {
            TableEntry::Occupied(mut entry) => std::mem::replace(&mut entry.get_mut().head, address),
            TableEntry::Vacant(entry) => {
                entry.insert(Entry { hash, head: address });
                NOWHERE
            }
        };
        if next != NOWHERE {
            self.pages[block_of(next)][row_of(next)].previous = address;
        }
        let block = block_of(address);
        if self.pages.len() <= block {
            self.pages.resize_with(block + 1, Vec::new);
        }
        debug_assert_eq!(self.pages[block].len(), row_of(address));
        self.pages[block].push(Link { previous: NOWHERE, next });
    }

    /// Takes a row out of its chain; `hash` is its key's.
    pub(super) fn remove(&mut self, address: Address, hash: u64) {
        let link = &mut self.pages[block_of(address)][row_of(address)];
        let Link { previous, next } = *link;
        debug_assert_ne!(previous, DEAD);
        *link = Link { previous: DEAD, next: NOWHERE };
        if next != NOWHERE {
            self.pages[block_of(next)][row_of(next)].previous = previous;
        }
        if previous != NOWHERE {
            self.pages[block_of(previous)][row_of(previous)].next = next;
        } else if let Ok(mut entry) = self.table.find_entry(hash, |entry| entry.hash == hash) {
            debug_assert_eq!(entry.get().head, address);
            if next == NOWHERE {
                entry.remove();
            } else {
                entry.get_mut().head = next;
            }
        }
    }

    /// Forgets the links of a block whose rows were all taken out.
    pub(super) fn free(&mut self, block: usize) {
        if let Some(page) = self.pages.get_mut(block) {
            *page = Vec::new();
        }
    }

    /// Gives back memory when most of the table is empty.
    pub(super) fn shrink(&mut self) {
        if self.table.capacity() > 1024 && self.table.len() * 4 < self.table.capacity() {
            self.table.shrink_to(self.table.len() * 2, |entry| entry.hash);
        }
    }

    /// Bytes of memory.
    pub(super) fn memory_size(&self) -> usize {
        let links: usize = self.pages.iter().map(|page| page.capacity() * size_of::<Link>()).sum();
        self.table.allocation_size() + links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(index: &KeyIndex, hash: u64) -> Vec<Address> {
        let mut at = index.head(hash);
        let mut chain = Vec::new();
        while at != NOWHERE {
            chain.push(at);
            at = index.next(at);
        }
        chain
    }

    #[test]
    fn rows_leave_a_chain_at_its_head_middle_and_end() {
        let mut index = KeyIndex::default();
        for address in 0..5 {
            index.insert(address, 7);
        }
        index.insert(5, 8);
        assert_eq!(chain(&index, 7), [4, 3, 2, 1, 0]);
        index.remove(2, 7);
        index.remove(4, 7);
        index.remove(0, 7);
        assert_eq!(chain(&index, 7), [3, 1]);
        assert!(!index.is_live(2) && index.is_live(3));
        index.remove(3, 7);
        index.remove(1, 7);
        assert_eq!(index.head(7), NOWHERE);
        assert_eq!(chain(&index, 8), [5]);
    }
}
