//! State that is larger than memory: written as it is read from the operator's own files, and read back in pieces by
//! whoever goes on from it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt8Type;
use arrow::record_batch::RecordBatch;

use super::layers::{self, Layers};
use super::manifest::{Expired, Manifest, StateFile};
use super::state_file::{self, ByGroup, cut, pieces};
use super::store::{JobStore, PUT_FILES, Put};
use crate::dataflow::column_bytes;
use crate::error::Result;
use crate::operator::change::{Layer, merged};
use crate::operator::deferred::{DeferredPart, DeferredRows};
use crate::state::key_group::KEY_GROUPS;

/// Bytes of rows that are put together into a file: whoever puts layers together holds one of each.
pub(super) const FILE_BYTES: usize = 2 << 20;

/// The same of rows that lie in no order: such files are read one at a time.
const UNORDERED_FILE_BYTES: usize = 8 << 20;

/// Parts with more bytes of files are cut into as many pieces as can be.
const PIECES_FROM: u64 = 64 << 20;

/// Parts up to so many bytes of files are read at once.
pub(super) const LARGE: u64 = 32 << 20;

impl Put<'_> {
    /// Adds what of a snapshot is not in memory, a file after the other.
    pub(super) fn deferred(
        &mut self,
        deferred: Vec<(String, DeferredPart)>,
        layers: &Layers,
        files: &mut Vec<StateFile>,
    ) -> Result<()> {
        let is_file = |(_, part): &(String, DeferredPart)| part.rows.whole_file().is_some();
        let (mut there, others): (Vec<_>, Vec<_>) = deferred.into_iter().partition(is_file);
        // Each goes when it is written: it may hold what the operator has let go meanwhile.
        for (operator, part) in others {
            let most = if part.rows.is_by_group() { FILE_BYTES } else { UNORDERED_FILE_BYTES };
            let mut held: Vec<RecordBatch> = Vec::new();
            let mut bytes = 0;
            let mut write = |held: &mut Vec<RecordBatch>| -> Result<()> {
                let (named, below) = layers.named(&operator, &part.name);
                match state_file::file(&std::mem::take(held), below, &self.spare)? {
                    Some(file) => self.add(named, file, files),
                    None => Ok(()),
                }
            };
            part.rows.read(0..=u8::MAX, &mut |rows| {
                bytes += rows.columns().iter().map(column_bytes).sum::<usize>();
                held.push(rows);
                if bytes >= most {
                    bytes = 0;
                    write(&mut held)?;
                }
                Ok(())
            })?;
            write(&mut held)?;
        }
        while !there.is_empty() {
            let some = there.split_off(there.len().saturating_sub(PUT_FILES));
            let whole = some.iter().filter_map(|(operator, part)| {
                let (file, columns) = part.rows.whole_file()?;
                Some((layers.named(operator, &part.name).0, file, columns))
            });
            self.keep(whole.collect(), files)?;
        }
        Ok(())
    }
}

/// The files of one part, read a range of key groups after the other.
pub(super) struct Pieces<'a> {
    store: &'a JobStore,
    manifest: &'a Manifest,
    files: Vec<&'a StateFile>,
    count: usize,
    /// Files that reach over several pieces are read once.
    read: BTreeMap<&'a str, Vec<ByGroup>>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(store: &'a JobStore, manifest: &'a Manifest, files: Vec<&'a StateFile>) -> Self {
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let count = if bytes > PIECES_FROM { KEY_GROUPS } else { pieces(rows as usize) };
        Self { store, manifest, files, count, read: BTreeMap::new() }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The layers of one.
    pub(super) fn layers(&mut self, piece: usize) -> Result<Vec<Layer>> {
        let count = self.count;
        let here: Vec<&'a StateFile> = self.files.iter().copied().filter(|file| meets(file, piece, count)).collect();
        self.read.retain(|path, _| here.iter().any(|file| file.path == *path));
        layers::read(&here, |file| {
            if let Some(rows) = self.read.get(file.path.as_str()) {
                return cut(rows, piece, count);
            }
            let rows = self.store.rows(self.manifest, file)?;
            let rows = rows.into_iter().map(ByGroup::of).collect::<Result<Vec<_>>>()?;
            let of_piece = cut(&rows, piece, count)?;
            if let Some(file) = here.iter().find(|here| here.path == file.path) {
                self.read.insert(&file.path, rows);
            }
            Ok(of_piece)
        })
    }
}

/// Whether a file may have rows of one of several ranges of key groups.
fn meets(file: &StateFile, piece: usize, pieces: usize) -> bool {
    let [least, greatest] = file.groups.unwrap_or([0, u8::MAX]).map(usize::from);
    least * pieces / KEY_GROUPS <= piece && piece <= greatest * pieces / KEY_GROUPS
}

/// A part of a checkpoint that is read when it is wanted.
pub(super) struct StoredPart {
    store: JobStore,
    manifest: Arc<Manifest>,
    operator: String,
    part: String,
}

impl std::fmt::Debug for StoredPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { manifest, operator, part, .. } = self;
        write!(f, "{part} of {operator} in the checkpoint of epoch {}", manifest.epoch)
    }
}

impl StoredPart {
    /// A part whose files were looked at.
    pub(super) fn new(store: &JobStore, manifest: &Arc<Manifest>, operator: &str, part: &str) -> Self {
        let (operator, part) = (operator.to_owned(), part.to_owned());
        Self { store: store.to_read(), manifest: Arc::clone(manifest), operator, part }
    }
}

impl DeferredRows for StoredPart {
    fn read(&self, groups: RangeInclusive<u8>, give: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let Self { store, manifest, operator, part } = self;
        let is_here = |of: &str, name: &str| of == operator && name == part;
        let files: Vec<_> = manifest.files.iter().filter(|file| is_here(&file.operator, &file.part)).collect();
        let below = manifest.expired.iter().find(|of| is_here(&of.operator, &of.part)).map(Expired::below);
        let mut give_own = |rows: RecordBatch| -> Result<()> {
            let own = rows.column(0).as_primitive::<UInt8Type>().values().iter();
            let own: BooleanArray = own.map(|group| Some(groups.contains(group))).collect();
            let rows = if own.true_count() < rows.num_rows() { filter_record_batch(&rows, &own)? } else { rows };
            if rows.num_rows() > 0 { give(rows) } else { Ok(()) }
        };
        if files.iter().all(|file| file.only_come()) {
            // No file says anything about the rows of another.
            let [least, greatest] = [*groups.start(), *groups.end()];
            let is_own = |file: &&&StateFile| file.groups.is_none_or(|[from, to]| from <= greatest && least <= to);
            for file in files.iter().filter(is_own) {
                for rows in store.rows(manifest, file)? {
                    give_own(if let Some(below) = below { below.staying(rows)? } else { rows })?;
                }
            }
            return Ok(());
        }
        let mut pieces = Pieces::new(store, manifest, files);
        for piece in 0..pieces.count() {
            let groups_here = piece * KEY_GROUPS / pieces.count()..=((piece + 1) * KEY_GROUPS / pieces.count() - 1);
            if *groups_here.end() < usize::from(*groups.start()) || *groups_here.start() > usize::from(*groups.end()) {
                continue;
            }
            for rows in merged(&pieces.layers(piece)?, below)? {
                give_own(rows)?;
            }
        }
        Ok(())
    }
}
