//! Rows of which no checkpoint has been told when they go to disk: those that never change are written to files of their own
//! then, which the next checkpoint has as they are. So they count as told, are not read again for it, and not written twice.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use super::super::super::deferred::{DeferredPart, WholeRows};
use super::super::super::expression::Expression;
use super::super::state::lie_as_written;
use super::super::store::{Address, row_of};
use super::Side;
use crate::error::Result;
use crate::state::spill::{WholeFile, has_dictionaries};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Pledged {
    /// Files that the next checkpoint is to have.
    files: Vec<WholeFile>,
    /// Rows were told, or read back: files and what has changed are not all that there is.
    was_told: bool,
}

impl Side {
    /// From now on files are pledged to checkpoints, if its rows can be in such. To be called when there are no rows yet.
    pub(super) fn pledge(&mut self) {
        let field = |key: &Expression| Ok(Field::new("key", key.data_type(&self.schema)?, true));
        let computed: Result<Vec<Field>> = self.computed.iter().map(field).collect();
        let are_plain =
            !has_dictionaries(&self.schema) && computed.is_ok_and(|keys| !has_dictionaries(&Schema::new(keys)));
        if are_plain && lie_as_written(self) {
            self.pledged = Some(Pledged::default());
            self.note_changes();
        }
    }

    /// Whether files are pledged.
    pub(in crate::operator::join) fn pledges(&self) -> bool {
        self.pledged.is_some()
    }

    /// The next checkpoint is to have these files.
    pub(super) fn pledge_files(&mut self, files: Vec<WholeFile>) {
        if let Some(pledged) = &mut self.pledged {
            pledged.files.extend(files);
        }
    }

    /// Rows of which no checkpoint has been told, and the others.
    pub(super) fn untold(&self, rows: Vec<Address>) -> (Vec<Address>, Vec<Address>) {
        let is_changed = |at: &Address| self.of(*at).is_some_and(|block| block.changed[row_of(*at)]);
        if self.pledges() { rows.into_iter().partition(is_changed) } else { (Vec::new(), rows) }
    }

    /// Whether what has changed, and is pledged, is all that there is: no checkpoint has been told of anything.
    pub(in crate::operator::join) fn is_untold(&self) -> bool {
        self.pledged.as_ref().is_some_and(|pledged| !pledged.was_told)
    }

    /// Rows were told or read back.
    pub(in crate::operator::join) fn note_told(&mut self) {
        if let Some(pledged) = &mut self.pledged {
            pledged.was_told = true;
        }
    }

    /// All rows are told otherwise.
    pub(in crate::operator::join) fn take_back_pledges(&mut self) {
        if let Some(pledged) = &mut self.pledged {
            pledged.files.clear();
        }
    }

    /// The files that a checkpoint is to have now.
    pub(in crate::operator::join) fn take_pledged(&mut self, name: &str, schema: &SchemaRef) -> Vec<DeferredPart> {
        let files = self.pledged.as_mut().map(|pledged| std::mem::take(&mut pledged.files)).unwrap_or_default();
        let rows = files.into_iter().map(|file| Arc::new(WholeRows { file, schema: Arc::clone(schema) }));
        rows.map(|rows| DeferredPart { name: name.to_owned(), rows }).collect()
    }
}
