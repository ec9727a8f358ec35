//! Tables: rows that Rondel itself keeps, changed by INSERT, UPDATE, DELETE, TRUNCATE and COPY.
//!
//! A table's rows stand in an embedded store, by [key], in a [form](row) of our own that outlives changes of the table's columns.
//! Every transaction that changes something has a number, its LSN; all its changes are one write, in the store before the
//! statement is answered ([`store`]). What it changed is also in the table's log while a job reads the table, so that a
//! job goes on from the contents at one LSN with the changes after it.
//!
//! * `definition`: columns, key and constraints, as the catalog keeps them
//! * `change`: what a transaction has changed so far, and rows as it sees them
//! * `binding`: which LSNs belong to which epoch, once for the whole pool
//! * `scan`: stored rows as record batches
//! * `assign`: values made to fit a column's type, with PostgreSQL's errors

pub mod assign;
mod binding;
mod change;
mod definition;
mod key;
mod row;
mod scan;
mod store;

#[cfg(test)]
mod tests;

pub use definition::{CheckDefinition, ColumnDefinition, TableDefinition};

pub(crate) use change::TableView;
pub(crate) use key::can_be_key;
pub(crate) use row::{Decoder, can_be_stored, encode_value};
pub(crate) use scan::{RowBatches, key_of, lookup_keys};
pub(crate) use store::{LogEntry, Reading, Table, TableStore};

/// The number of a committed transaction; 0 is before the first.
pub type Lsn = u64;
