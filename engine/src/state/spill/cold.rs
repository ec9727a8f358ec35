//! The sections of an operator's rows that are on disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;

use super::merging::merge;
use super::section::{Opened, Readers};
use super::shelf::Shelf;
use super::{Rows, Section, SectionView, SpillFile, SpillSpace, SpilledSize, group_of};
use crate::error::{Error, ErrorKind, Result};
use crate::state::alone::alone;
use crate::state::key_group::KEY_GROUPS;

/// Bytes that are put together at one time, if a portion is not more.
const MERGED_MOST: usize = 4 << 20;
/// Bytes that are brought back at one time, if a portion is not less: what comes back is held twice for a moment.
const TAKEN_MOST: usize = 2 << 20;

/// Sections that are being put together, a key group after the other.
#[derive(Debug)]
struct Merging {
    group: usize,
    /// What is written goes here.
    file: Option<Arc<dyn SpillFile>>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Cold {
    space: Arc<dyn SpillSpace>,
    groups: Vec<Shelf>,
    merging: Option<Merging>,
    size: SpilledSize,
    memory: usize,
}

impl Cold {
    /// Nothing yet.
    pub fn new(space: Arc<dyn SpillSpace>) -> Self {
        let groups = (0..KEY_GROUPS).map(|_| Shelf::default()).collect();
        Self { space, groups, merging: None, size: SpilledSize::default(), memory: 0 }
    }

    /// Where it puts its files.
    pub fn space(&self) -> &Arc<dyn SpillSpace> {
        &self.space
    }

    /// Whether no row is here.
    pub fn is_empty(&self) -> bool {
        self.size.rows == 0
    }

    /// How much is here.
    pub fn size(&self) -> SpilledSize {
        self.size
    }

    /// Bytes of memory.
    pub fn memory_size(&self) -> usize {
        self.memory
    }

    fn recount(&mut self) {
        (self.size, self.memory) = (SpilledSize::default(), 0);
        for shelf in &self.groups {
            self.size.rows += shelf.size.rows;
            self.size.bytes += shelf.size.bytes;
            self.memory += shelf.memory;
        }
    }

    /// Takes in sections, by key group.
    pub fn add(&mut self, sections: Vec<(u8, Section)>) {
        let (largest, groups) = (self.largest(), sections.iter().map(|(group, _)| *group).collect::<BTreeSet<u8>>());
        sections.into_iter().for_each(|(group, section)| self.groups[usize::from(group)].sections.push(section));
        groups.into_iter().for_each(|group| self.groups[usize::from(group)].recount(largest));
        self.recount();
        self.look_after_sections();
    }

    /// Sections that are larger are left as they are: it would take too long at one time.
    fn largest(&self) -> usize {
        self.space.portion().max(MERGED_MOST)
    }

    fn look_after_sections(&mut self) {
        if self.merging.is_none() && self.groups.iter().any(Shelf::is_due) {
            self.merging = Some(Merging { group: 0, file: None });
        }
    }

    /// Takes out all rows with these orders, which ascend and are different; no more when those that were taken out have
    /// about `most` bytes. Answers the rows, and for how many of the orders they are complete: at least one.
    pub fn take(&mut self, orders: &[u64], most: usize) -> Result<(Vec<Rows>, usize)> {
        if self.is_empty() {
            return Ok((Vec::new(), orders.len()));
        }
        let (most, largest) = (most.min(TAKEN_MOST), self.largest());
        let (mut taken, mut bytes, mut done) = (Vec::new(), 0, 0);
        let mut readers = Readers::default();
        while done < orders.len() && (done == 0 || bytes < most) {
            let group = group_of(orders[done]);
            let of_group = orders[done..].partition_point(|order| group_of(*order) == group);
            let shelf = &mut self.groups[usize::from(group)];
            let mut open: Vec<Option<Opened>> = shelf.sections.iter().map(|_| None).collect();
            let (first, mut scattered) = (done, 0);
            for order in &orders[done..done + of_group] {
                if done > 0 && bytes >= most {
                    break;
                }
                let (before, read_before, mut largest_read) = (bytes, readers.bytes, 0);
                for (section, open) in shelf.sections.iter_mut().zip(&mut open) {
                    let read = readers.bytes;
                    bytes += section.pick(*order, open, &mut readers, &mut taken)?;
                    largest_read = largest_read.max(readers.bytes - read);
                    check_key(bytes - before, self.space.limit())?;
                }
                scattered += readers.bytes - read_before - largest_read;
                done += 1;
            }
            shelf.note_looks(done - first, scattered);
            // Of most keys nothing is here.
            if open.iter().all(Option::is_none) {
                continue;
            }
            for open in open.into_iter().flatten() {
                taken.push(open.picked()?);
            }
            let sections = shelf.sections.len();
            shelf.sections.retain(|section| section.live() > 0);
            match shelf.sections.len() == sections {
                true => shelf.recount_rows(largest),
                false => shelf.recount(largest),
            }
        }
        if !taken.is_empty() {
            self.recount();
        }
        self.look_after_sections();
        taken.retain(|rows| !rows.orders.is_empty());
        Ok((taken, done))
    }

    /// All sections as they are now, or those with changes, by key group. What has changed is told by that.
    pub fn told(&mut self, only_changed: bool) -> Vec<(u8, SectionView)> {
        let mut views = Vec::new();
        for (group, shelf) in self.groups.iter_mut().enumerate() {
            views.extend(
                shelf.sections.iter_mut().filter_map(|section| Some((group as u8, section.told(only_changed)?))),
            );
        }
        views
    }

    /// Lets sections go whose times all lie below.
    pub fn drop_below(&mut self, below: i64) {
        let (is_over, largest) = (|section: &Section| section.latest() < below, self.largest());
        for shelf in self.groups.iter_mut().filter(|shelf| shelf.sections.iter().any(is_over)) {
            shelf.sections.retain(|section| !is_over(section));
            shelf.recount(largest);
        }
        self.recount();
    }

    /// Goes on putting sections together until about `most` bytes were read. `keep`: rows that are worth to be kept; `None`
    /// for all. Answers whether nothing is left to do.
    pub fn tidy(&mut self, most: usize, keep: impl Fn(&RecordBatch) -> Result<Option<BooleanArray>>) -> Result<bool> {
        let Some(Merging { mut group, mut file }) = self.merging.take() else { return Ok(true) };
        let mut read = 0;
        while group < self.groups.len() && read < most {
            let largest = self.largest();
            let chosen = self.groups[group].due(largest);
            if !chosen.is_empty() {
                read += self.merge(group, &chosen, &mut file, &keep)?;
            }
            group += 1;
        }
        self.recount();
        if group < self.groups.len() {
            self.merging = Some(Merging { group, file });
            return Ok(false);
        }
        if let Some(file) = file {
            file.seal()?;
        }
        self.look_after_sections();
        Ok(self.merging.is_none())
    }

    /// The most sections that a key group has.
    #[cfg(test)]
    pub(super) fn sections_most(&self) -> usize {
        self.groups.iter().map(|shelf| shelf.sections.len()).max().unwrap_or_default()
    }

    /// Puts some sections of a key group together. Answers how many bytes they had.
    fn merge(
        &mut self,
        group: usize,
        chosen: &[usize],
        file: &mut Option<Arc<dyn SpillFile>>,
        keep: impl Fn(&RecordBatch) -> Result<Option<BooleanArray>>,
    ) -> Result<usize> {
        let sections: Vec<&Section> = chosen.iter().map(|number| &self.groups[group].sections[*number]).collect();
        let bytes = sections.iter().map(|section| section.bytes() as usize).sum();
        let file = match file {
            Some(file) => file,
            None => file.insert(self.space.create()?),
        };
        let merged = merge(&sections, Arc::clone(file), keep)?;
        let largest = self.largest();
        self.groups[group].replace(chosen, merged, largest);
        Ok(bytes)
    }
}

/// Rows as one batch, in buffers of their own.
pub(crate) fn together(pieces: &[Rows]) -> Result<Option<Rows>> {
    let Some(first) = pieces.first() else { return Ok(None) };
    let batches = pieces.iter().map(|rows| &rows.rows);
    Ok(Some(Rows {
        rows: alone(&concat_batches(&first.rows.schema(), batches)?)?,
        orders: pieces.iter().flat_map(|rows| rows.orders.iter().copied()).collect(),
        changed: pieces.iter().flat_map(|rows| rows.changed.iter().copied()).collect(),
    }))
}

fn check_key(bytes: usize, limit: usize) -> Result<()> {
    if bytes <= limit {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::ResourceExhausted,
        format!(
            "the rows of one key take {} MiB, more than the limit of {} MiB: they have to be in memory together",
            bytes.div_ceil(1 << 20),
            limit >> 20
        ),
    )
    .with_hint(
        "raise the memory limit, or let the query forget: a window with a watermark, a key that tells rows apart",
    ))
}
