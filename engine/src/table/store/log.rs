//! The form of a table's log: what came and went, by LSN.

use crate::table::Lsn;
use crate::table::change::Bytes;

pub(super) const ADDED: u8 = 1;
pub(super) const REMOVED: u8 = 2;

/// A change in a table's log.
pub(crate) struct LogEntry {
    /// Whether the row came, or went.
    pub(crate) is_added: bool,
    /// Its key.
    pub(crate) key: Bytes,
    /// The row.
    pub(crate) row: Bytes,
}

/// An entry's key: the LSN, and its place in the transaction.
pub(super) fn log_key(lsn: Lsn, sequence: u32) -> Vec<u8> {
    [lsn.to_be_bytes().as_slice(), &sequence.to_be_bytes()].concat()
}

/// The kind, the key's length, the key, the row.
pub(super) fn log_value(kind: u8, key: &[u8], row: &[u8]) -> Vec<u8> {
    let length = (key.len() as u32).to_be_bytes();
    [&[kind], length.as_slice(), key, row].concat()
}

pub(super) fn read_log_value(value: &[u8]) -> Option<LogEntry> {
    let (kind, rest) = value.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (key, row) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some(LogEntry { is_added: *kind == ADDED, key: key.to_vec(), row: row.to_vec() })
}
