//! Parts of a state that are not in memory: they are read when they are wanted, some rows at a time.
//!
//! An operator whose rows are on disk gives them to a checkpoint so, and a checkpoint that is too large to be held at once
//! gives them so to the operator that goes on from it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt8Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::expression::batch;
use super::{StateChange, StatePart};
use crate::error::{Error, Result};
use crate::state::spill::{SectionView, WholeFile};

/// Rows of a part that are read when they are wanted.
pub trait DeferredRows: Debug + Send + Sync {
    /// Hands over the rows of some key groups, some at a time.
    fn read(&self, groups: RangeInclusive<u8>, give: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()>;

    /// Whether those of one key group come together, and groups in their order.
    fn is_by_group(&self) -> bool {
        true
    }

    /// The file that has the rows, and no others, as files of checkpoints have them; and how many of its columns are the
    /// part's, the first ones.
    fn whole_file(&self) -> Option<(&WholeFile, usize)> {
        None
    }
}

/// Rows of one part of a state, besides those that are in memory.
#[derive(Debug, Clone)]
pub struct DeferredPart {
    /// [`StatePart::name`].
    pub name: String,
    /// As [`StatePart::rows`].
    pub rows: Arc<dyn DeferredRows>,
}

impl DeferredPart {
    /// All rows of some key groups, in memory.
    pub fn in_memory(&self, groups: RangeInclusive<u8>) -> Result<Vec<StatePart>> {
        let mut parts = Vec::new();
        self.rows.read(groups, &mut |rows| {
            parts.push(StatePart { name: self.name.clone(), rows });
            Ok(())
        })?;
        Ok(parts)
    }
}

/// Rows of a part that are on disk.
#[derive(Debug)]
pub(in crate::operator) struct SectionRows {
    /// By key group.
    pub(in crate::operator) sections: Vec<(u8, SectionView)>,
    /// Which of their columns the part has, behind the key group.
    pub(in crate::operator) columns: Vec<usize>,
    /// The part's columns.
    pub(in crate::operator) schema: SchemaRef,
}

impl DeferredRows for SectionRows {
    fn read(&self, groups: RangeInclusive<u8>, give: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        for (group, view) in self.sections.iter().filter(|(group, _)| groups.contains(group)) {
            view.read(|rows| {
                let count = rows.rows.num_rows();
                let group: ArrayRef = Arc::new(UInt8Array::from(vec![*group; count]));
                let own = self.columns.iter().map(|at| Arc::clone(rows.rows.column(*at)));
                give(batch(&self.schema, std::iter::once(group).chain(own).collect(), count)?)
            })?;
        }
        Ok(())
    }
}

/// Rows of a part that are a file already.
#[derive(Debug)]
pub(in crate::operator) struct WholeRows {
    pub(in crate::operator) file: WholeFile,
    /// The part's columns.
    pub(in crate::operator) schema: SchemaRef,
}

impl DeferredRows for WholeRows {
    fn read(&self, groups: RangeInclusive<u8>, give: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        // The rows of a file may have columns of the operator's own behind those of the part.
        let width = self.schema.fields().len() - 1;
        self.file.read_rows(groups, &mut |group, rows| {
            let group: ArrayRef = Arc::new(UInt8Array::from(vec![group; rows.num_rows()]));
            let own = rows.columns().iter().take(width).cloned();
            give(batch(&self.schema, std::iter::once(group).chain(own).collect(), rows.num_rows())?)
        })
    }

    fn whole_file(&self) -> Option<(&WholeFile, usize)> {
        Some((&self.file, self.schema.fields().len()))
    }
}

/// Puts what an operator has deferred to what it gave with it: to a snapshot.
pub fn into_parts(deferred: Vec<DeferredPart>, parts: &mut Vec<StatePart>) -> Result<()> {
    for part in deferred {
        parts.extend(part.in_memory(0..=u8::MAX)?);
    }
    Ok(())
}

/// As [`into_parts`], to changes.
pub fn into_changes(deferred: Vec<DeferredPart>, changes: &mut [StateChange]) -> Result<()> {
    let mut rows: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
    for part in deferred {
        let more = part.in_memory(0..=u8::MAX)?;
        rows.entry(part.name).or_default().extend(more.into_iter().map(|part| part.rows));
    }
    for (name, more) in rows {
        let known = changes.iter_mut().find_map(|change| match change {
            StateChange::Whole { name: of, rows } if *of == name => Some(rows),
            StateChange::Rows(changed) if changed.name == name => Some(&mut changed.rows),
            _ => None,
        });
        known.ok_or_else(|| Error::internal(format!("nothing was told of part {name}")))?.extend(more);
    }
    Ok(())
}
