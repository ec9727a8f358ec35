//! A section: rows on disk, of one key group, sorted by the hash of their key.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;

use super::blocks::{BlockWriter, Layout, Place};
use super::{SpillFile, SpillReader, group_of};
use crate::error::{Error, ErrorKind, Result};
use crate::state::alone::alone;

/// The mark of a row that was taken out.
const GONE: u16 = 0;

/// What is kept in memory of a row's hash.
fn mark_of(order: u64) -> u16 {
    (order as u16).max(1)
}

/// Rows, and what is known of each.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The columns.
    pub rows: RecordBatch,
    /// The hash of each row's key as an [`order`](super::order).
    pub orders: Vec<u64>,
    /// Whether the row has changed since the operator was last written down.
    pub changed: Vec<bool>,
}

impl Rows {
    /// Some of the rows, copied: one row of a block would pin the block, where its columns are views.
    pub fn take(&self, rows: &[u32]) -> Result<Self> {
        let pick = |row: &u32| *row as usize;
        Ok(Self {
            rows: alone(&take_record_batch(&self.rows, &UInt32Array::from(rows.to_vec()))?)?,
            orders: rows.iter().map(|row| self.orders[pick(row)]).collect(),
            changed: rows.iter().map(|row| self.changed[pick(row)]).collect(),
        })
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        Self {
            rows: self.rows.slice(rows.start, rows.len()),
            orders: self.orders[rows.clone()].to_vec(),
            changed: self.changed[rows].to_vec(),
        }
    }

    /// The rows in pieces of so many.
    pub(super) fn blocks(&self, of_a_block: usize) -> impl Iterator<Item = Self> {
        let (count, of_a_block) = (self.orders.len(), of_a_block.max(1));
        (0..count).step_by(of_a_block).map(move |from| self.slice(from..count.min(from + of_a_block)))
    }
}

/// Files that were opened for one piece of work.
#[derive(Default)]
pub(super) struct Readers {
    open: HashMap<*const (), Box<dyn SpillReader>>,
    /// Bytes of blocks that were read.
    pub(super) bytes: u64,
}

impl Readers {
    fn of(&mut self, file: &Arc<dyn SpillFile>) -> Result<&mut dyn SpillReader> {
        use std::collections::hash_map::Entry;
        let reader = match self.open.entry(Arc::as_ptr(file).cast::<()>()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(file.open()?),
        };
        Ok(reader.as_mut())
    }
}

/// Some rows of a section, read together.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// The least order in it.
    first: u64,
    /// Its first row in the section.
    start: u32,
    place: Place,
}

/// See the [module](super).
#[derive(Debug, Clone)]
pub struct Section {
    file: Arc<dyn SpillFile>,
    layout: Arc<Layout>,
    blocks: Arc<[Block]>,
    /// Of each row, from its hash; [`GONE`] when it was taken out.
    marks: Arc<Vec<u16>>,
    live: usize,
    /// Bytes on disk.
    bytes: u64,
    /// Rows may count as changed.
    noted: bool,
    /// No row's time lies above.
    latest: i64,
}

/// Some sections, each with its key group.
pub type Sections = Vec<(u8, Section)>;

/// A block that is being looked at, and which of its rows are wanted.
pub(super) struct Opened {
    block: usize,
    rows: Rows,
    picked: Vec<u32>,
}

impl Opened {
    /// The rows that were wanted.
    pub(super) fn picked(&self) -> Result<Rows> {
        self.rows.take(&self.picked)
    }
}

impl Section {
    /// Rows that were not taken out.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Rows, those that were taken out included.
    pub(super) fn rows(&self) -> usize {
        self.marks.len()
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Where its blocks are.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.blocks.iter().map(|block| block.place)
    }

    /// No row's time lies above.
    pub(super) fn latest(&self) -> i64 {
        self.latest
    }

    /// Bytes of memory.
    pub(super) fn memory_size(&self) -> usize {
        size_of::<Self>() + self.blocks.len() * size_of::<Block>() + self.marks.capacity() * size_of::<u16>()
    }

    /// The section as it is now. What has changed is told by that, and counts as unchanged from now on.
    pub(super) fn told(&mut self, only_changed: bool) -> Option<SectionView> {
        let noted = std::mem::replace(&mut self.noted, false);
        (noted || !only_changed).then(|| SectionView { section: Self { noted, ..self.clone() }, only_changed })
    }

    fn rows_of(&self, block: usize) -> Range<usize> {
        let end = self.blocks.get(block + 1).map_or(self.marks.len(), |next| next.start as usize);
        self.blocks[block].start as usize..end
    }

    /// The blocks that may have rows of an order.
    fn blocks_of(&self, order: u64) -> Range<usize> {
        let end = self.blocks.partition_point(|block| block.first <= order);
        let begin = self.blocks[..end].partition_point(|block| block.first < order);
        begin.saturating_sub(1)..end
    }

    fn read(&self, number: usize, readers: &mut Readers) -> Result<Rows> {
        let place = self.blocks[number].place;
        readers.bytes += u64::from(place.length);
        let mut rows = self.layout.read(place, self.file.as_ref(), readers.of(&self.file)?)?;
        if !self.noted {
            rows.changed.fill(false);
        }
        Ok(rows)
    }

    /// Takes out the rows of an order: they are picked in `open`; blocks that were open before go to `done`. Answers about
    /// how many bytes they are.
    pub(super) fn pick(
        &mut self,
        order: u64,
        open: &mut Option<Opened>,
        readers: &mut Readers,
        done: &mut Vec<Rows>,
    ) -> Result<usize> {
        let mut bytes = 0;
        for number in self.blocks_of(order) {
            let place = self.rows_of(number);
            if !self.marks[place.clone()].contains(&mark_of(order)) {
                continue;
            }
            if open.as_ref().is_none_or(|open| open.block != number) {
                let rows = self.read(number, readers)?;
                if let Some(before) = open.replace(Opened { block: number, rows, picked: Vec::new() }) {
                    done.push(before.picked()?);
                }
            }
            let Some(open) = open.as_mut() else { continue };
            let first = open.rows.orders.partition_point(|other| *other < order);
            let same = open.rows.orders[first..].iter().take_while(|other| **other == order).count();
            let marks = &mut Arc::make_mut(&mut self.marks)[place];
            let before = open.picked.len();
            for (row, mark) in marks.iter_mut().enumerate().skip(first).take(same) {
                if std::mem::replace(mark, GONE) != GONE {
                    open.picked.push(row as u32);
                }
            }
            let taken = open.picked.len() - before;
            self.live -= taken;
            bytes += self.blocks[number].place.length as usize * taken / marks.len();
        }
        Ok(bytes)
    }

    /// The rows of the next block that were not taken out; `next`: the block to begin with, which becomes the one after it.
    pub(super) fn read_on(&self, next: &mut usize, readers: &mut Readers) -> Result<Option<Rows>> {
        while *next < self.blocks.len() {
            let number = *next;
            *next += 1;
            let marks = &self.marks[self.rows_of(number)];
            let live: Vec<u32> = (0..marks.len() as u32).filter(|row| marks[*row as usize] != GONE).collect();
            if live.is_empty() {
                continue;
            }
            let rows = self.read(number, readers)?;
            return Ok(Some(if live.len() == marks.len() { rows } else { rows.take(&live)? }));
        }
        Ok(None)
    }
}

/// A section as it was at one moment, for whoever writes it down: rows that are taken out later are still there.
#[derive(Debug)]
pub struct SectionView {
    section: Section,
    only_changed: bool,
}

impl SectionView {
    /// A section that nobody else has, all of which is told.
    pub fn all(section: Section) -> Self {
        Self { section, only_changed: false }
    }

    /// Hands over the rows, or those that had changed, some at a time.
    pub fn read(&self, mut give: impl FnMut(Rows) -> Result<()>) -> Result<()> {
        let (mut next, mut readers) = (0, Readers::default());
        while let Some(rows) = self.section.read_on(&mut next, &mut readers)? {
            if !self.only_changed || rows.changed.iter().all(|changed| *changed) {
                give(rows)?;
                continue;
            }
            let changed: Vec<u32> = (0..rows.changed.len() as u32).filter(|row| rows.changed[*row as usize]).collect();
            if !changed.is_empty() {
                give(rows.take(&changed)?)?;
            }
        }
        Ok(())
    }
}

/// Writes sections into a file, one for each key group of the rows that are given.
pub struct SectionWriter {
    file: Arc<dyn SpillFile>,
    is_whole: bool,
    /// From the first block on.
    writer: Option<BlockWriter>,
    /// No row's time lies above.
    latest: i64,
    done: Vec<(u8, Section)>,
    /// The section that is being written.
    group: u8,
    blocks: Vec<Block>,
    marks: Vec<u16>,
    bytes: u64,
    noted: bool,
}

impl SectionWriter {
    /// To the end of a file; `latest`: no row's time lies above.
    pub fn new(file: Arc<dyn SpillFile>, latest: i64) -> Self {
        let (writer, done, blocks, marks) = Default::default();
        Self { file, is_whole: false, writer, latest, done, group: 0, blocks, marks, bytes: 0, noted: false }
    }

    /// As a whole file, which is empty.
    pub(super) fn whole(file: Arc<dyn SpillFile>, latest: i64) -> Self {
        Self { is_whole: true, ..Self::new(file, latest) }
    }

    /// Bytes that were written.
    pub(super) fn bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, BlockWriter::bytes)
    }

    /// Adds rows that are sorted by their order and do not lie before those that were added. They become a block, or one
    /// in each of their key groups.
    pub fn push(&mut self, rows: &Rows) -> Result<()> {
        let mut from = 0;
        while let Some(order) = rows.orders.get(from) {
            let group = group_of(*order);
            let to = from + rows.orders[from..].partition_point(|order| group_of(*order) == group);
            if group != self.group {
                self.close();
                self.group = group;
            }
            self.block(&rows.slice(from..to))?;
            from = to;
        }
        Ok(())
    }

    /// As [`Self::push`], of more rows than a block should have.
    pub fn push_blocks(&mut self, rows: &Rows, of_a_block: usize) -> Result<()> {
        rows.blocks(of_a_block).try_for_each(|block| self.push(&block))
    }

    fn block(&mut self, rows: &Rows) -> Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let (file, schema) = (Arc::clone(&self.file), rows.rows.schema());
                self.writer.insert(BlockWriter::new(file, schema, self.is_whole)?)
            }
        };
        let too_large = |_| Error::new(ErrorKind::ResourceExhausted, "a section of state has 4 billion rows");
        let start = u32::try_from(self.marks.len()).map_err(too_large)?;
        let place = writer.write(self.group, rows)?;
        self.blocks.push(Block { first: rows.orders.first().copied().unwrap_or_default(), start, place });
        self.bytes += u64::from(place.length);
        self.marks.extend(rows.orders.iter().map(|order| mark_of(*order)));
        self.noted |= rows.changed.contains(&true);
        Ok(())
    }

    fn close(&mut self) {
        let (mut marks, blocks) = (std::mem::take(&mut self.marks), std::mem::take(&mut self.blocks));
        let Some(writer) = self.writer.as_ref().filter(|_| !marks.is_empty()) else { return };
        marks.shrink_to_fit();
        let section = Section {
            file: Arc::clone(&self.file),
            layout: Arc::clone(writer.layout()),
            blocks: blocks.into(),
            live: marks.len(),
            marks: Arc::new(marks),
            bytes: std::mem::take(&mut self.bytes),
            noted: std::mem::take(&mut self.noted),
            latest: self.latest,
        };
        self.done.push((self.group, section));
    }

    /// The sections that were written, by key group.
    pub fn finish(mut self) -> Vec<(u8, Section)> {
        self.close();
        self.done
    }

    /// As [`Self::finish`], of a whole file: and the `xxh3_128` of its bytes, and how many they are.
    pub(super) fn finish_whole(mut self) -> Result<(Sections, u128, u64)> {
        self.close();
        let (hash, bytes) = self.writer.map_or(Ok((0, 0)), BlockWriter::finish)?;
        Ok((self.done, hash, bytes))
    }
}
