//! Whole files: what is in one needs nothing else to be read, so that it can be given to whoever keeps it for longer.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::blocks::{Layout, Place};
use super::{Rows, SectionWriter, Sections, SpillFile, SpillSpace};
use crate::error::Result;

/// Bytes from which on the next rows go to another file: who reads one holds it in memory.
const FILE_BYTES: u64 = 8 << 20;

/// A file of Arrow's IPC format. Of its columns the first is the key group of each row (`_group`), those of the rows follow,
/// and two that concern nobody else.
#[derive(Debug)]
pub struct WholeFile {
    file: Arc<dyn SpillFile>,
    layout: Arc<Layout>,
    /// Where its rows are, by key group.
    blocks: Vec<(u8, Place)>,
    /// The least and the greatest key group of its rows.
    pub groups: [u8; 2],
    /// Its rows.
    pub rows: usize,
    /// Its length.
    pub bytes: u64,
    /// `xxh3_128` of its bytes.
    pub hash: u128,
}

impl WholeFile {
    /// Makes it stand at another path as well; `false`: it can't, and has to be copied.
    pub fn link(&self, path: &Path) -> bool {
        self.file.link(path)
    }

    /// Hands over the rows of some key groups, some of one at a time.
    pub fn read_rows(
        &self,
        groups: RangeInclusive<u8>,
        give: &mut dyn FnMut(u8, RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut reader = self.file.open()?;
        for (group, place) in self.blocks.iter().filter(|(group, _)| groups.contains(group)) {
            give(*group, self.layout.read(*place, self.file.as_ref(), reader.as_mut())?.rows)?;
        }
        Ok(())
    }

    /// Its bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        self.file.open()?.read(0, self.bytes as usize)
    }
}

/// Writes sections into whole files.
pub struct WholeWriter {
    space: Arc<dyn SpillSpace>,
    /// No row's time lies above.
    latest: i64,
    open: Option<(Arc<dyn SpillFile>, SectionWriter)>,
    sections: Sections,
    files: Vec<WholeFile>,
}

impl WholeWriter {
    /// Into new files; `latest`: no row's time lies above.
    pub fn new(space: Arc<dyn SpillSpace>, latest: i64) -> Self {
        Self { space, latest, open: None, sections: Vec::new(), files: Vec::new() }
    }

    /// As [`SectionWriter::push_blocks`].
    pub fn push_blocks(&mut self, rows: &Rows, of_a_block: usize) -> Result<()> {
        rows.blocks(of_a_block).try_for_each(|block| {
            let (_, writer) = match &mut self.open {
                Some(open) => open,
                None => {
                    let file = self.space.create()?;
                    self.open.insert((Arc::clone(&file), SectionWriter::whole(file, self.latest)))
                }
            };
            writer.push(&block)?;
            if writer.bytes() >= FILE_BYTES { self.close() } else { Ok(()) }
        })
    }

    fn close(&mut self) -> Result<()> {
        let Some((file, writer)) = self.open.take() else { return Ok(()) };
        let (sections, hash, bytes) = writer.finish_whole()?;
        if let (Some((first, section)), Some((last, _))) = (sections.first(), sections.last()) {
            let layout = Arc::clone(section.layout());
            let blocks = sections.iter().flat_map(|(group, section)| section.places().map(|place| (*group, place)));
            let blocks = blocks.collect();
            let rows = sections.iter().map(|(_, section)| section.rows()).sum();
            self.files.push(WholeFile { file, layout, blocks, groups: [*first, *last], rows, bytes, hash });
        }
        self.sections.extend(sections);
        Ok(())
    }

    /// The sections that were written, by key group, and their files.
    pub fn finish(mut self) -> Result<(Sections, Vec<WholeFile>)> {
        self.close()?;
        Ok((self.sections, self.files))
    }
}
