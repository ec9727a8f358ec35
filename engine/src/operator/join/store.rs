//! Stored rows: blocks of Arrow columns that own their bytes.
//!
//! A row's [`Address`] is its block and its row in it, and never changes. The last block takes new rows: they come as
//! chunks; small ones are merged two by two when the younger one is as large (so a row is copied about as often as a large
//! chunk has binary digits).

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat, interleave, take};

use super::super::columns::{compact, kept, owned};
use super::kept::{Keeper, Kept};
use crate::error::{Error, ErrorKind, Result};

/// Where a stored row is: block number and row in the block.
pub(super) type Address = u32;

/// No row.
pub(super) const NOWHERE: Address = u32::MAX;

/// Rows of a full block: 16,384.
pub(super) const BLOCK_ROWS: usize = 1 << BLOCK_BITS;
const BLOCK_BITS: u32 = 14;

/// Rows of a chunk that is not merged any more.
const LARGE_CHUNK: usize = 2048;

/// Blocks that addresses have room for; the last number is left out, since markers live there.
const MOST_BLOCKS: usize = (1 << (32 - BLOCK_BITS)) - 1;

pub(super) fn address(block: usize, row: usize) -> Address {
    ((block as u32) << BLOCK_BITS) | row as u32
}

pub(super) fn block_of(address: Address) -> usize {
    (address >> BLOCK_BITS) as usize
}

pub(super) fn row_of(address: Address) -> usize {
    address as usize & (BLOCK_ROWS - 1)
}

/// Rows that came together or were merged.
#[derive(Debug)]
struct Chunk {
    /// Its first row in the block.
    start: usize,
    rows: usize,
    columns: Vec<ArrayRef>,
    bytes: usize,
    /// Of those whose rows somebody else has, too, or had.
    keeper: OnceLock<Arc<Keeper>>,
}

impl Chunk {
    fn new(start: usize, rows: usize, columns: Vec<ArrayRef>) -> Self {
        let bytes = columns.iter().map(|column| column.get_array_memory_size()).sum();
        Self { start, rows, columns, bytes, keeper: OnceLock::new() }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.leave();
        }
    }
}

/// Up to [`BLOCK_ROWS`] rows.
#[derive(Debug, Default)]
pub(super) struct Block {
    chunks: Vec<Chunk>,
    rows: usize,
    /// The greater, the later it was begun.
    pub(super) born: u64,
    /// Rows that were not taken out; kept by the side.
    pub(super) live: usize,
    /// Of a changelog: each row's weight, 0 when it is gone. Otherwise empty.
    pub(super) weights: Vec<i64>,
    /// Of a changelog: each row's hash over all its columns. Otherwise empty.
    pub(super) identities: Vec<u64>,
    /// Of a counted side: how many rows of the other side each row meets, weights summed up. Otherwise empty.
    pub(super) matches: Vec<i64>,
    /// Of a counted side: whether the row was touched in this epoch. Otherwise empty.
    pub(super) touched: Vec<bool>,
    /// Of a numbered side: by which each row is written down. Otherwise empty.
    pub(super) numbers: Vec<u64>,
    /// Whether the row has changed since the side was last written down; empty while that is not noted.
    pub(super) changed: Vec<bool>,
    /// No live row's time (in ticks of its column) lies below; kept by the side.
    pub(super) earliest: i64,
    /// No row's time lies above; kept by the side.
    pub(super) latest: i64,
}

impl Block {
    /// Rows, dead ones included.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether any row has changed since the side was last written down.
    pub(super) fn has_changes(&self) -> bool {
        self.changed.contains(&true)
    }

    /// One column, piece by piece: each piece's first row and its values.
    pub(super) fn pieces(&self, column: usize) -> impl Iterator<Item = (usize, &ArrayRef)> {
        self.chunks.iter().map(move |chunk| (chunk.start, &chunk.columns[column]))
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let words =
            self.weights.capacity() + self.identities.capacity() + self.matches.capacity() + self.numbers.capacity();
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.bytes).sum();
        chunks + words * size_of::<u64>() + self.touched.capacity() + self.changed.capacity()
    }

    /// Adds a chunk and merges its predecessors into it while they are small and not larger.
    fn push(&mut self, rows: usize, columns: Vec<ArrayRef>) -> Result<()> {
        self.chunks.push(Chunk::new(self.rows, rows, columns));
        self.rows += rows;
        let mut merged = rows;
        let mut first = self.chunks.len() - 1;
        let full = self.rows == BLOCK_ROWS;
        let is_small = |chunk: &Chunk| chunk.rows < LARGE_CHUNK;
        while first > 0 && is_small(&self.chunks[first - 1]) && (full || self.chunks[first - 1].rows <= merged) {
            first -= 1;
            merged += self.chunks[first].rows;
        }
        if first + 1 < self.chunks.len() {
            let parts = self.chunks.split_off(first);
            let columns = (0..parts[0].columns.len())
                .map(|column| {
                    let pieces: Vec<&dyn Array> = parts.iter().map(|part| part.columns[column].as_ref()).collect();
                    let whole = concat(&pieces)?;
                    // Views of many small chunks keep as many small buffers: one buffer once the chunk is large.
                    if merged >= LARGE_CHUNK { owned_views(&whole) } else { Ok(whole) }
                })
                .collect::<Result<Vec<_>>>()?;
            self.chunks.push(Chunk::new(parts[0].start, merged, columns));
        }
        Ok(())
    }

    fn chunk_of(&self, row: usize) -> usize {
        self.chunks.partition_point(|chunk| chunk.start <= row) - 1
    }
}

fn owned_views(column: &ArrayRef) -> Result<ArrayRef> {
    use arrow::datatypes::DataType;
    match column.data_type() {
        DataType::Utf8View | DataType::BinaryView => owned(column),
        _ => Ok(Arc::clone(column)),
    }
}

/// Rows as they lie in a chunk.
#[derive(Debug)]
pub(super) struct SharedRows {
    /// The columns from the first of the rows to the last.
    columns: Vec<ArrayRef>,
    /// Which of these rows are meant, where not all are.
    some: Option<UInt32Array>,
    /// About how many bytes of memory they keep.
    pub(super) bytes: usize,
    /// Goes after the columns: only then is their memory free.
    _keeper: Arc<Keeper>,
}

impl SharedRows {
    /// The columns, of the rows that are meant.
    pub(super) fn columns(&self) -> Result<Vec<ArrayRef>> {
        match &self.some {
            None => Ok(self.columns.clone()),
            Some(some) => self.columns.iter().map(|column| compact(&take(column, some, None)?)).collect(),
        }
    }
}

/// All blocks of a side.
#[derive(Debug, Default)]
pub(super) struct Store {
    blocks: Vec<Option<Block>>,
    free: Vec<usize>,
    tail: Option<usize>,
    /// Blocks that were begun.
    begun: u64,
    kept: Kept,
}

impl Store {
    /// Block numbers run from 0 to below this; some may be free.
    pub(super) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn block(&self, number: usize) -> Option<&Block> {
        self.blocks.get(number).and_then(Option::as_ref)
    }

    pub(super) fn block_mut(&mut self, number: usize) -> Option<&mut Block> {
        self.blocks.get_mut(number).and_then(Option::as_mut)
    }

    /// The weight of a row of a changelog.
    pub(super) fn weight(&self, address: Address) -> i64 {
        self.block(block_of(address)).map_or(0, |block| block.weights[row_of(address)])
    }

    /// The hash over all columns of a row of a changelog.
    pub(super) fn identity(&self, address: Address) -> u64 {
        self.block(block_of(address)).map_or(0, |block| block.identities[row_of(address)])
    }

    /// How many rows of the other side a row of a counted side meets.
    pub(super) fn matches(&self, address: Address) -> i64 {
        self.block(block_of(address)).map_or(0, |block| block.matches[row_of(address)])
    }

    /// The number of a row of a numbered side.
    pub(super) fn number(&self, address: Address) -> u64 {
        self.block(block_of(address)).map_or(0, |block| block.numbers[row_of(address)])
    }

    /// Whether new rows go to this block.
    pub(super) fn is_tail(&self, block: usize) -> bool {
        self.tail == Some(block)
    }

    /// Takes no more rows into the last block.
    pub(super) fn seal(&mut self) {
        self.tail = None;
    }

    /// Drops a block.
    pub(super) fn release(&mut self, block: usize) {
        if self.blocks[block].take().is_some() {
            self.free.push(block);
            if self.tail == Some(block) {
                self.tail = None;
            }
        }
    }

    /// Takes in as many of the rows `from .. rows` as the last block has room for (at least one); answers the first one's
    /// address and how many. The caller counts them as live.
    pub(super) fn append(&mut self, columns: &[ArrayRef], from: usize, rows: usize) -> Result<(Address, usize)> {
        let number = self.tail_with_room()?;
        let Some(block) = self.blocks[number].as_mut() else {
            return Err(Error::internal("a join's last block is gone"));
        };
        let count = (rows - from).min(BLOCK_ROWS - block.rows);
        let first = address(number, block.rows);
        let copies = columns.iter().map(|column| kept(&column.slice(from, count))).collect::<Result<Vec<_>>>()?;
        block.push(count, copies)?;
        Ok((first, count))
    }

    fn tail_with_room(&mut self) -> Result<usize> {
        if let Some(number) = self.tail
            && self.block(number).is_some_and(|block| block.rows < BLOCK_ROWS)
        {
            return Ok(number);
        }
        self.begun += 1;
        let block = Block { born: self.begun, earliest: i64::MAX, latest: i64::MIN, ..Block::default() };
        let number = match self.free.pop() {
            Some(number) => {
                self.blocks[number] = Some(block);
                number
            }
            None if self.blocks.len() < MOST_BLOCKS => {
                self.blocks.push(Some(block));
                self.blocks.len() - 1
            }
            None => {
                return Err(Error::new(ErrorKind::ResourceExhausted, "one side of a join holds 4 billion rows")
                    .with_hint("Bound its state: join on a window's bounds, or filter before the join."));
            }
        };
        self.tail = Some(number);
        Ok(number)
    }

    /// Prepares to read columns of the rows at `addresses`.
    pub(super) fn gather(&self, addresses: &[Address]) -> Gather<'_> {
        // Only the blocks that are touched take part, so that a few rows out of many blocks stay cheap.
        let mut first_source = vec![u32::MAX; self.blocks.len()];
        let mut sources: Vec<&Chunk> = Vec::new();
        let mut places = Vec::with_capacity(addresses.len());
        for address in addresses {
            let number = block_of(*address);
            let Some(block) = self.block(number) else { continue };
            if first_source[number] == u32::MAX {
                first_source[number] = sources.len() as u32;
                sources.extend(&block.chunks);
            }
            let row = row_of(*address);
            let chunk = if block.chunks.len() == 1 { 0 } else { block.chunk_of(row) };
            places.push((first_source[number] as usize + chunk, row - block.chunks[chunk].start));
        }
        Gather { sources, places }
    }

    /// Rows of one block without a copy, chunk by chunk; `rows` ascend. They stay as they are, whatever becomes of the block.
    pub(super) fn shared(&self, rows: &[Address]) -> Vec<SharedRows> {
        let block = rows.first().and_then(|first| self.block(block_of(*first)));
        let mut rows = rows;
        let mut shared = Vec::new();
        for chunk in block.into_iter().flat_map(|block| &block.chunks) {
            let (own, others) = rows.split_at(rows.partition_point(|at| row_of(*at) < chunk.start + chunk.rows));
            rows = others;
            let (Some(first), Some(last)) = (own.first(), own.last()) else { continue };
            let (first, length) = (row_of(*first), (last - first) as usize + 1);
            let place = |at: &Address| (row_of(*at) - first) as u32;
            shared.push(SharedRows {
                columns: chunk.columns.iter().map(|column| column.slice(first - chunk.start, length)).collect(),
                some: (own.len() < length).then(|| UInt32Array::from_iter_values(own.iter().map(place))),
                bytes: chunk.bytes,
                _keeper: Arc::clone(chunk.keeper.get_or_init(|| self.kept.keeper(chunk.bytes))),
            });
        }
        shared
    }

    /// Bytes of memory of rows that are gone, and that somebody else still has.
    pub(super) fn kept(&self) -> usize {
        self.kept.bytes()
    }

    /// Bytes of memory of the rows that are here.
    pub(super) fn memory_size(&self) -> usize {
        self.blocks.iter().flatten().map(Block::bytes).sum()
    }
}

/// Rows of a store, ready to be read column by column.
pub(super) struct Gather<'a> {
    sources: Vec<&'a Chunk>,
    places: Vec<(usize, usize)>,
}

impl Gather<'_> {
    /// One column of the rows, copied.
    pub(super) fn column(&self, column: usize) -> Result<ArrayRef> {
        let values = match self.sources.as_slice() {
            [one] => {
                let rows = UInt32Array::from_iter_values(self.places.iter().map(|(_, row)| *row as u32));
                take(&one.columns[column], &rows, None)?
            }
            many => {
                let arrays: Vec<&dyn Array> = many.iter().map(|chunk| chunk.columns[column].as_ref()).collect();
                interleave(&arrays, &self.places)?
            }
        };
        compact(&values)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn append_all(store: &mut Store, values: std::ops::Range<i64>) -> Vec<Address> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        let (mut from, mut addresses) = (0, Vec::new());
        while from < column.len() {
            let (first, count) = store.append(&[Arc::clone(&column)], from, column.len()).unwrap();
            addresses.extend((0..count as u32).map(|row| first + row));
            from += count;
        }
        addresses
    }

    #[test]
    fn single_rows_keep_their_addresses_while_chunks_merge() {
        let mut store = Store::default();
        let mut addresses = Vec::new();
        for value in 0..20_000 {
            addresses.extend(append_all(&mut store, value..value + 1));
        }
        let block = store.block(0).unwrap();
        assert_eq!((block.rows(), block.chunks.len()), (BLOCK_ROWS, BLOCK_ROWS / LARGE_CHUNK));
        assert!(store.block(1).unwrap().chunks.len() <= 14);
        let wanted: Vec<Address> = addresses.iter().copied().step_by(37).rev().collect();
        let column = store.gather(&wanted).column(0).unwrap();
        let mut expected: Vec<i64> = (0..20_000).step_by(37).collect();
        expected.reverse();
        assert_eq!(column.as_primitive::<Int64Type>().values(), &expected);
    }

    #[test]
    fn a_large_append_fills_blocks_and_free_ones_are_used_again() {
        let mut store = Store::default();
        let addresses = append_all(&mut store, 0..40_000);
        assert_eq!(store.block_count(), 3);
        assert_eq!(addresses[BLOCK_ROWS], address(1, 0));
        store.release(0);
        store.seal();
        let again = append_all(&mut store, 0..10);
        assert_eq!(again[0], address(0, 0));
        assert!(store.memory_size() < 40_000 * 16);
    }

    #[test]
    fn shared_rows_stay_when_their_block_goes_on_or_goes() {
        let mut store = Store::default();
        let mut addresses = Vec::new();
        for from in (0..30_000).step_by(1_000) {
            addresses.extend(append_all(&mut store, from..from + 1_000));
        }
        let in_a_row = store.shared(&addresses[5..BLOCK_ROWS]);
        let some: Vec<Address> = addresses[BLOCK_ROWS..].iter().copied().step_by(3).collect();
        let some = store.shared(&some);
        assert!(in_a_row.len() > 1 && some.len() > 1, "of several chunks");
        assert_eq!(store.kept(), 0, "they are the store's");
        store.release(0);
        let kept = store.kept();
        assert!(kept > BLOCK_ROWS * 8, "{kept}");
        let again = store.shared(&addresses[BLOCK_ROWS..]);
        append_all(&mut store, 30_000..31_000);
        let values = |rows: &SharedRows| rows.columns().unwrap()[0].as_primitive::<Int64Type>().values().to_vec();
        let values = |rows: &[SharedRows]| rows.iter().flat_map(values).collect::<Vec<_>>();
        assert_eq!(values(&in_a_row), (5..BLOCK_ROWS as i64).collect::<Vec<_>>());
        assert_eq!(values(&some), (BLOCK_ROWS as i64..30_000).step_by(3).collect::<Vec<_>>());
        assert!(store.shared(&[]).is_empty());
        drop((in_a_row, some));
        assert_eq!(store.kept(), 0);
        store.release(1);
        assert!(store.kept() > 0, "the other has them still");
        drop(again);
        assert_eq!(store.kept(), 0);
    }
}
