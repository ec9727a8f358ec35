//! Which rows of a side a worker answers for, where no keys say it.

use arrow::array::{ArrayRef, BooleanArray};

use super::super::super::columns::canonical;
use super::Side;
use crate::error::Result;
use crate::state::key_group::{hash_keys, key_group, worker_of};

/// Whose a row is, in a join without keys whose work is shared: it belongs to the key group of all its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator::join) enum Share {
    /// It is on the worker that owns its key group, and on no other.
    ByRow,
    /// It is on every worker; the one that owns its key group writes it down.
    Replicated,
}

/// The key group of each of some rows, by these of their columns.
pub(in crate::operator::join) fn key_groups(columns: &[ArrayRef], by: &[usize], rows: usize) -> Result<Vec<u8>> {
    let keys = by.iter().map(|key| canonical(&columns[*key])).collect::<Result<Vec<_>>>()?;
    let mut hashes = Vec::new();
    hash_keys(&keys, rows, &mut hashes)?;
    Ok(hashes.into_iter().map(key_group).collect())
}

impl Side {
    /// The key group of each row: `columns` are the input's, and the keys that had to be computed.
    pub(in crate::operator::join) fn key_groups(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u8>> {
        key_groups(columns, &self.grouped_by(), rows)
    }

    /// Which columns say to which key group a row belongs: places among the input's, and the keys that had to be computed.
    pub(in crate::operator::join) fn grouped_by(&self) -> Vec<usize> {
        if self.share.is_some() { (0..self.schema.fields().len()).collect() } else { self.keys.clone() }
    }

    /// Of rows that every worker has: which are this worker's to speak of. `None`: all.
    pub(in crate::operator::join) fn own_rows(
        &self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Option<BooleanArray>> {
        if !self.is_shared_out() {
            return Ok(None);
        }
        Ok(Some(self.owned(&self.key_groups(columns, rows)?)))
    }

    /// Whether others have the same rows.
    pub(in crate::operator::join) fn is_shared_out(&self) -> bool {
        self.share == Some(Share::Replicated) && self.place.1 > 1
    }

    /// Which key groups are this worker's.
    pub(in crate::operator::join) fn owned(&self, groups: &[u8]) -> BooleanArray {
        let (worker, workers) = self.place;
        groups.iter().map(|group| Some(worker_of(*group, workers) == worker)).collect()
    }
}
