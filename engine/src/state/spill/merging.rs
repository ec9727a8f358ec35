//! Sections put together, a block of each in memory at one time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::interleave_record_batch;
use arrow::record_batch::RecordBatch;

use super::section::Readers;
use super::{Rows, Section, SectionWriter, SpillFile};
use crate::error::Result;

/// Bytes of a block that is about to be written.
pub(super) const BLOCK_BYTES: usize = 32 << 10;
/// Rows of a block at most.
const BLOCK_ROWS: usize = 4096;

/// How many rows make a block if a row has so many bytes.
pub(crate) fn rows_of_a_block(bytes_of_a_row: usize) -> usize {
    (BLOCK_BYTES / bytes_of_a_row.max(1)).clamp(8, BLOCK_ROWS)
}

/// Writes the rows of some sections of one key group as one section, unless none of them are left. `keep`: rows that are
/// worth to be kept; `None` for all.
pub(super) fn merge(
    sections: &[&Section],
    file: Arc<dyn SpillFile>,
    keep: impl Fn(&RecordBatch) -> Result<Option<BooleanArray>>,
) -> Result<Option<Section>> {
    let latest = sections.iter().map(|section| section.latest()).max().unwrap_or(i64::MIN);
    let bytes: u64 = sections.iter().map(|section| section.bytes()).sum();
    let rows: usize = sections.iter().map(|section| section.rows()).sum();
    let of_a_block = rows_of_a_block(bytes as usize / rows.max(1));
    let mut readers = Readers::default();
    let mut runs: Vec<Run<'_>> =
        sections.iter().map(|section| Run { section, next: 0, block: usize::MAX, row: 0 }).collect();
    let mut written = Written { blocks: Vec::new(), rows: Vec::new(), writer: SectionWriter::new(file, latest) };
    let mut heap = BinaryHeap::with_capacity(runs.len());
    for (number, run) in runs.iter_mut().enumerate() {
        heap.extend(run.read_on(&mut written, &mut readers, &keep)?.map(|order| Reverse((order, number))));
    }
    while let Some(Reverse((_, number))) = heap.pop() {
        let run = &mut runs[number];
        written.rows.push((run.block, run.row));
        run.row += 1;
        let next = match written.blocks[run.block].orders.get(run.row) {
            Some(order) => Some(*order),
            None => run.read_on(&mut written, &mut readers, &keep)?,
        };
        match next {
            Some(order) => heap.push(Reverse((order, number))),
            None => run.block = usize::MAX,
        }
        if written.rows.len() >= of_a_block {
            written.write(&mut runs)?;
        }
    }
    written.write(&mut runs)?;
    Ok(written.writer.finish().pop().map(|(_, section)| section))
}

/// How far one of the sections was read.
struct Run<'a> {
    section: &'a Section,
    /// The block of the section that is read next.
    next: usize,
    /// Which of the blocks in memory is this section's, and its row that comes next.
    block: usize,
    row: usize,
}

impl Run<'_> {
    /// Reads the next block with rows; answers the first one's order.
    fn read_on(
        &mut self,
        written: &mut Written,
        readers: &mut Readers,
        keep: &impl Fn(&RecordBatch) -> Result<Option<BooleanArray>>,
    ) -> Result<Option<u64>> {
        while let Some(mut rows) = self.section.read_on(&mut self.next, readers)? {
            if let Some(mask) = keep(&rows.rows)? {
                let kept: Vec<u32> = (0..mask.len() as u32).filter(|row| mask.value(*row as usize)).collect();
                rows = rows.take(&kept)?;
            }
            if let Some(order) = rows.orders.first().copied() {
                (self.block, self.row) = (written.blocks.len(), 0);
                written.blocks.push(rows);
                return Ok(Some(order));
            }
        }
        Ok(None)
    }
}

/// The block that is about to be written.
struct Written {
    /// Blocks of the sections that have rows of it, or will have rows of the next.
    blocks: Vec<Rows>,
    /// Its rows: block and row.
    rows: Vec<(usize, usize)>,
    writer: SectionWriter,
}

impl Written {
    fn write(&mut self, runs: &mut [Run<'_>]) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let batches: Vec<&RecordBatch> = self.blocks.iter().map(|rows| &rows.rows).collect();
        self.writer.push(&Rows {
            rows: interleave_record_batch(&batches, &self.rows)?,
            orders: self.rows.iter().map(|(block, row)| self.blocks[*block].orders[*row]).collect(),
            changed: self.rows.iter().map(|(block, row)| self.blocks[*block].changed[*row]).collect(),
        })?;
        self.rows.clear();
        // What was read to its end goes.
        let mut before: Vec<Option<Rows>> = std::mem::take(&mut self.blocks).into_iter().map(Some).collect();
        for run in runs {
            if let Some(rows) = before.get_mut(run.block).and_then(Option::take) {
                run.block = self.blocks.len();
                self.blocks.push(rows);
            }
        }
        Ok(())
    }
}
