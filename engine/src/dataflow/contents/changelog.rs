//! Rows that may be taken back: each distinct row once, with its weight.
//!
//! Rows lie in blocks of [`BLOCK_ROWS`]; a row's *slot* is its block and its place there. An index leads from a row's hash
//! to its slot. Two rows are the same row when 96 bits of hash are the same: two of a billion different rows collide with
//! a probability of about 10⁻¹¹. Beside its columns a row costs 12 bytes of hash, one of weight, and 6 to 11 of index.
//!
//! A block of which half the rows are gone is given up, and what is left of it moves to the last block. So no moment
//! costs more than what has changed in it, however large the view is.

mod changes;

use std::sync::Arc;

use arrow::array::{Int64Array, UInt32Array};
use arrow::datatypes::SchemaRef;
use hashbrown::{HashMap, HashTable};

use super::pieces::Pieces;
use super::weights::Weights;
use super::{Image, ImageBlock, live};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::state::key_group::hash_keys_seeded;

/// Rows of a full block.
pub(super) const BLOCK_ROWS: usize = 1 << BLOCK_BITS;
const BLOCK_BITS: u32 = 13;
/// Blocks that slots can name.
const MOST_BLOCKS: usize = 1 << (u32::BITS - BLOCK_BITS);
/// Tables of the index. Each grows by itself, so that no moment holds the whole index twice.
const TABLES: usize = 64;
/// The seed of the second hash.
const SECOND_SEED: u64 = 0x517c_c1b7_2722_0a95;

type Slot = u32;

fn slot(block: usize, row: usize) -> Slot {
    ((block << BLOCK_BITS) | row) as Slot
}

fn place(slot: Slot) -> (usize, usize) {
    ((slot >> BLOCK_BITS) as usize, slot as usize % BLOCK_ROWS)
}

/// 96 bits of a row's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    low: u64,
    high: u32,
}

impl Identity {
    fn table(self) -> usize {
        self.high as usize % TABLES
    }
}

#[derive(Debug, Default)]
struct Block {
    pieces: Pieces,
    low: Vec<u64>,
    high: Vec<u32>,
    weights: Arc<Weights>,
    /// Rows whose weight is 0.
    dead: usize,
    /// Rows that have changed since the contents were last written down, each with its weight then.
    before: HashMap<u32, i64>,
}

impl Block {
    fn rows(&self) -> usize {
        self.low.len()
    }

    fn identity(&self, row: usize) -> Identity {
        Identity { low: self.low[row], high: self.high[row] }
    }

    fn push(&mut self, identity: Identity, weight: i64) {
        self.low.push(identity.low);
        self.high.push(identity.high);
        Arc::make_mut(&mut self.weights).push(weight);
        self.dead += usize::from(weight == 0);
    }

    fn bytes(&self) -> usize {
        let hashes = self.low.capacity() * 8 + self.high.capacity() * 4;
        self.pieces.bytes() + hashes + self.weights.bytes() + self.before.allocation_size()
    }

    /// Takes no more rows.
    fn seal(&mut self, schema: &SchemaRef) -> Result<()> {
        self.low.shrink_to_fit();
        self.high.shrink_to_fit();
        Arc::make_mut(&mut self.weights).seal();
        self.pieces.seal(schema)
    }

    /// Some rows, with weights that are given.
    fn delta(&self, mut rows: Vec<(u32, i64)>, schema: &SchemaRef) -> Result<Option<Delta>> {
        if rows.is_empty() {
            return Ok(None);
        }
        rows.sort_unstable();
        let (rows, weights): (Vec<u32>, Vec<i64>) = rows.into_iter().unzip();
        Ok(Some(Delta::weighted(self.pieces.taken(&rows, schema)?, Int64Array::from(weights))))
    }

    fn is_wasteful(&self) -> bool {
        self.dead * 2 >= self.rows()
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Changelog {
    schema: SchemaRef,
    blocks: Vec<Option<Block>>,
    free: Vec<usize>,
    /// The block that takes new rows.
    last: usize,
    index: Vec<HashTable<Slot>>,
    live: usize,
    /// Full blocks that may have become wasteful.
    wasteful: Vec<usize>,
    written: Option<Written>,
}

/// What the contents were when they were last written down, as far as they have changed since.
#[derive(Debug, Default)]
struct Written {
    /// Rows that are gone since then, of blocks that are gone too, with what they weighed, negated.
    gone: Vec<Delta>,
    /// Rows of deltas that were written down before they were taken in, each with its weight then.
    ahead: HashMap<Identity, i64>,
}

/// The identities of a delta's rows.
fn identities(delta: &Delta) -> Result<impl Iterator<Item = Identity>> {
    let (mut low, mut high) = (Vec::new(), Vec::new());
    let columns = delta.rows().columns();
    hash_keys_seeded(columns, delta.num_rows(), 0, &mut low)?;
    hash_keys_seeded(columns, delta.num_rows(), SECOND_SEED, &mut high)?;
    Ok(low.into_iter().zip(high).map(|(low, high)| Identity { low, high: high as u32 }))
}

fn lost() -> Error {
    Error::internal("a block of a view is gone")
}

impl Changelog {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let index = (0..TABLES).map(|_| HashTable::new()).collect();
        let blocks = vec![Some(Block::default())];
        Self { schema, blocks, free: Vec::new(), last: 0, index, live: 0, wasteful: Vec::new(), written: None }
    }

    /// Rows with a weight.
    pub(super) fn live_rows(&self) -> usize {
        self.live
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let index: usize = self.index.iter().map(HashTable::allocation_size).sum();
        let written = self.written.as_ref().map_or(0, |written| {
            let gone = written.gone.iter().map(|delta| delta.rows().get_array_memory_size());
            gone.sum::<usize>() + written.ahead.allocation_size()
        });
        index + written + self.blocks.iter().flatten().map(Block::bytes).sum::<usize>()
    }

    fn find(&self, identity: Identity) -> Option<Slot> {
        let same = |slot: &Slot| {
            let (block, row) = place(*slot);
            self.blocks[block].as_ref().is_some_and(|block| block.identity(row) == identity)
        };
        self.index[identity.table()].find(identity.low, same).copied()
    }

    /// Enters a row into the last block, which has room; its columns are to follow.
    /// `before`: what the row weighed when the contents were last written down, if it weighs something else since.
    fn enter(&mut self, identity: Identity, weight: i64, before: Option<i64>) -> Result<()> {
        let last = self.last;
        let block = self.blocks[last].as_mut().ok_or_else(lost)?;
        let new = slot(last, block.rows());
        block.push(identity, weight);
        if let (Some(before), true) = (before, self.written.is_some()) {
            block.before.insert(block.rows() as u32 - 1, before);
        }
        self.live += usize::from(weight != 0);
        let blocks = &self.blocks;
        self.index[identity.table()].insert_unique(identity.low, new, |slot| {
            let (block, row) = place(*slot);
            blocks[block].as_ref().map_or(0, |block| block.low[row])
        });
        Ok(())
    }

    /// Makes room in the last block; `give` hands over the columns of the rows that were entered so far.
    fn make_room(&mut self, give: impl FnOnce(&mut Block, &SchemaRef) -> Result<()>) -> Result<()> {
        let schema = Arc::clone(&self.schema);
        let block = self.blocks[self.last].as_mut().ok_or_else(lost)?;
        if block.rows() < BLOCK_ROWS {
            return Ok(());
        }
        give(block, &schema)?;
        block.seal(&schema)?;
        if block.is_wasteful() {
            self.wasteful.push(self.last);
        }
        self.last = match self.free.pop() {
            Some(number) => number,
            None if self.blocks.len() < MOST_BLOCKS => {
                self.blocks.push(None);
                self.blocks.len() - 1
            }
            None => {
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    "a view holds more than 4 billion rows on one worker",
                ));
            }
        };
        self.blocks[self.last] = Some(Block::default());
        Ok(())
    }

    /// Takes in a delta.
    pub(super) fn apply(&mut self, delta: &Delta) -> Result<()> {
        let mut new: Vec<u32> = Vec::new();
        for (row, identity) in identities(delta)?.enumerate() {
            let weight = delta.weight(row);
            if let Some(slot) = self.find(identity) {
                self.change(slot, weight)?;
                continue;
            }
            let rows = &mut new;
            self.make_room(|block, schema| {
                block.pieces.push_taken(delta.rows(), std::mem::take(rows), schema, BLOCK_ROWS)
            })?;
            let before = self.written.as_mut().and_then(|written| written.ahead.remove(&identity));
            self.enter(identity, weight, Some(before.unwrap_or(0)))?;
            new.push(row as u32);
        }
        let block = self.blocks[self.last].as_mut().ok_or_else(lost)?;
        block.pieces.push_taken(delta.rows(), new, &self.schema, BLOCK_ROWS)?;
        self.give_up_blocks()
    }

    fn change(&mut self, slot: Slot, weight: i64) -> Result<()> {
        let (number, row) = place(slot);
        let block = self.blocks[number].as_mut().ok_or_else(lost)?;
        if let Some(written) = &mut self.written
            && !block.before.contains_key(&(row as u32))
        {
            let before = written.ahead.remove(&block.identity(row)).unwrap_or_else(|| block.weights.get(row));
            block.before.insert(row as u32, before);
        }
        let died = Arc::make_mut(&mut block.weights).add(row, weight)?;
        block.dead = block.dead.saturating_add_signed(died);
        self.live = self.live.saturating_add_signed(-died);
        if died > 0 && block.rows() == BLOCK_ROWS && block.is_wasteful() {
            self.wasteful.push(number);
        }
        Ok(())
    }

    /// Moves what is left of wasteful blocks to the last one.
    fn give_up_blocks(&mut self) -> Result<()> {
        let mut moved = 0;
        while let Some(number) = self.wasteful.pop() {
            // Rows may have come back meanwhile, and a block is named once for each row that went.
            let is_due = number != self.last
                && self.blocks[number].as_ref().is_some_and(|block| block.rows() == BLOCK_ROWS && block.is_wasteful());
            if is_due && let Some(block) = self.blocks[number].take() {
                self.move_rows(number, &block)?;
                self.free.push(number);
                moved += 1;
            }
        }
        if moved > 0 {
            self.shrink_index();
        }
        Ok(())
    }

    fn move_rows(&mut self, number: usize, block: &Block) -> Result<()> {
        let batch = block.pieces.batches().first().ok_or_else(lost)?;
        if let Some(written) = &mut self.written {
            let gone =
                block.before.iter().filter(|(row, before)| **before != 0 && block.weights.get(**row as usize) == 0);
            let gone = gone.map(|(row, before)| (*row, -before)).collect();
            written.gone.extend(block.delta(gone, &self.schema)?);
        }
        // All leave before one comes back: a table that grows asks its rows' blocks for their hashes.
        for row in 0..block.rows() {
            let (identity, old) = (block.identity(row), slot(number, row));
            if let Ok(entry) = self.index[identity.table()].find_entry(identity.low, |slot| *slot == old) {
                entry.remove();
            }
        }
        let mut kept: Vec<u32> = Vec::new();
        for (row, weight) in block.weights.iter().enumerate().filter(|(_, weight)| *weight != 0) {
            let rows = &mut kept;
            self.make_room(|last, schema| last.pieces.push_taken(batch, std::mem::take(rows), schema, BLOCK_ROWS))?;
            self.live -= 1;
            self.enter(block.identity(row), weight, block.before.get(&(row as u32)).copied())?;
            kept.push(row as u32);
        }
        let last = self.blocks[self.last].as_mut().ok_or_else(lost)?;
        last.pieces.push_taken(batch, kept, &self.schema, BLOCK_ROWS)
    }

    /// Gives back memory where most of a table is empty.
    fn shrink_index(&mut self) {
        let blocks = &self.blocks;
        for table in &mut self.index {
            if table.capacity() > 1024 && table.len() * 4 < table.capacity() {
                table.shrink_to(table.len() * 2, |slot| {
                    let (block, row) = place(*slot);
                    blocks[block].as_ref().map_or(0, |block| block.low[row])
                });
            }
        }
    }

    /// All rows with their weights as they would be after `later` deltas.
    pub(super) fn image<'a>(&self, later: impl Iterator<Item = &'a Delta>) -> Result<Image> {
        let mut weights: Vec<Arc<Weights>> = self
            .blocks
            .iter()
            .map(|block| block.as_ref().map(|block| Arc::clone(&block.weights)).unwrap_or_default())
            .collect();
        let mut rest = Self::new(Arc::clone(&self.schema));
        for delta in later {
            let mut unknown = Vec::new();
            for (row, identity) in identities(delta)?.enumerate() {
                match self.find(identity) {
                    Some(slot) => {
                        let (block, of_block) = place(slot);
                        Arc::make_mut(&mut weights[block]).add(of_block, delta.weight(row))?;
                    }
                    None => unknown.push(row as u32),
                }
            }
            if !unknown.is_empty() {
                rest.apply(&delta.take(&UInt32Array::from(unknown))?)?;
            }
        }
        let known = self.blocks.iter().zip(weights).filter_map(|(block, weights)| Some((block.as_ref()?, weights)));
        let others = rest.blocks.iter().flatten().map(|block| (block, Arc::clone(&block.weights)));
        let blocks = known
            .chain(others)
            .map(|(block, weights)| ImageBlock { batches: block.pieces.batches().to_vec(), weights: Some(weights) });
        Ok(Image { schema: Arc::clone(&self.schema), blocks: blocks.collect() })
    }

    /// At most `rows` rows from slot `from` on, and the slot to go on with; `None` at the end.
    pub(super) fn piece(&self, from: usize, rows: usize) -> Result<Option<(Delta, usize)>> {
        let (mut number, mut row) = (from >> BLOCK_BITS, from % BLOCK_ROWS);
        while number < self.blocks.len() {
            if let Some(block) = &self.blocks[number]
                && let Some(slice) = block.pieces.slice(row, rows)
            {
                let end = row + slice.num_rows();
                let weights: Vec<i64> = (row..end).map(|row| block.weights.get(row)).collect();
                let next = if end == block.rows() { (number + 1) << BLOCK_BITS } else { (number << BLOCK_BITS) + end };
                return Ok(Some((live(&slice, weights)?, next)));
            }
            (number, row) = (number + 1, 0);
        }
        Ok(None)
    }
}
