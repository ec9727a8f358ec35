//! A changelog as upserts: what each key's row is at the end of an epoch.
//!
//! An update arrives as −old and +new, a deletion as −old alone, an insertion as +new alone. In one epoch they may come in
//! several deltas and in any order, so the changes of the running epoch are summed by key and row: the row whose weight is
//! positive is the key's, and a key that only lost its row has a tombstone. A delta that changes what an earlier one of
//! the epoch said is followed by a further record of that key, so that the last record of a key is always its state.

use hashbrown::HashMap;

use super::key::Keys;
use crate::error::{Error, ErrorKind, Result};
use crate::format::encoder::EncodedRows;
use crate::time::Epoch;

/// What to write for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upsert {
    pub(super) key: Vec<u8>,
    /// The row that readers know, as far as this epoch says.
    pub(super) before: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub(super) value: Option<Vec<u8>>,
}

/// The changes of the running epoch.
#[derive(Debug, Default)]
pub(super) struct Upserts {
    epoch: Option<Epoch>,
    keys: HashMap<Vec<u8>, KeyChanges>,
}

#[derive(Debug, Default)]
struct KeyChanges {
    /// Rows with their weights in this epoch; nearly always one or two.
    rows: Vec<RowChange>,
    /// What was written of this key in this epoch.
    written: Option<Option<Vec<u8>>>,
}

#[derive(Debug)]
struct RowChange {
    value: Vec<u8>,
    weight: i64,
    /// Its first change was a retraction: the row was there when the epoch began.
    was_there: bool,
}

impl KeyChanges {
    fn add(&mut self, value: &[u8], weight: i64) {
        match self.rows.iter().position(|row| row.value == value) {
            Some(index) => {
                let mut row = self.rows.remove(index);
                row.weight += weight;
                self.rows.push(row);
            }
            None => self.rows.push(RowChange { value: value.to_vec(), weight, was_there: weight < 0 }),
        }
    }

    /// The row that was written last, or was there when the epoch began.
    fn before(&self) -> Option<&[u8]> {
        match &self.written {
            Some(written) => written.as_deref(),
            None => self.rows.iter().find(|row| row.was_there).map(|row| row.value.as_slice()),
        }
    }

    /// The key's row as far as this epoch knows; `None` when it has changed nothing.
    fn state(&self) -> Option<Option<&[u8]>> {
        if let Some(row) = self.rows.iter().rev().find(|row| row.weight > 0) {
            return Some(Some(&row.value));
        }
        if self.rows.iter().any(|row| row.weight < 0) {
            return Some(None);
        }
        // All cancelled: as it was before the epoch, which matters only if something else was written meanwhile.
        self.written.as_ref()?;
        Some(self.rows.iter().find(|row| row.was_there).map(|row| row.value.as_slice()))
    }
}

impl Upserts {
    /// Takes the rows of one delta and answers what to write, in the order of the keys' first rows.
    pub(super) fn take(
        &mut self,
        epoch: Epoch,
        keys: &Keys,
        values: &EncodedRows,
        weight: impl Fn(usize) -> i64,
    ) -> Result<Vec<Upsert>> {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.keys.clear();
        }
        let mut touched: Vec<&[u8]> = Vec::new();
        let mut seen = hashbrown::HashSet::new();
        for row in 0..values.len() {
            let Some(key) = keys.get(row) else {
                return Err(Error::new(
                    ErrorKind::Data,
                    "a row has no key (its key column is NULL), and upsert needs one",
                )
                .with_hint("Filter such rows out, or write the key with key_format = 'json'."));
            };
            self.keys.entry_ref(key).or_default().add(values.row(row), weight(row));
            if seen.insert(key) {
                touched.push(key);
            }
        }
        let mut upserts = Vec::with_capacity(touched.len());
        for key in touched {
            let Some(changes) = self.keys.get_mut(key) else { continue };
            let Some(state) = changes.state().map(|value| value.map(<[u8]>::to_vec)) else { continue };
            if changes.written.as_ref() != Some(&state) {
                let before = changes.before().map(<[u8]>::to_vec);
                changes.written = Some(state.clone());
                upserts.push(Upsert { key: key.to_vec(), before, value: state });
            }
        }
        Ok(upserts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::kafka::key::KeyEncoder;
    use arrow::array::{RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn take(upserts: &mut Upserts, epoch: Epoch, rows: &[(&str, &str, i64)]) -> Vec<(String, Option<String>)> {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, false)]));
        let column = StringArray::from_iter_values(rows.iter().map(|(key, _, _)| key));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
        let keys = KeyEncoder::Text(0).encode(&batch).unwrap();
        let mut values = EncodedRows::default();
        for (_, value, _) in rows {
            values.buffer().extend_from_slice(value.as_bytes());
            values.end_row();
        }
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let upserts = upserts.take(epoch, &keys, &values, |row| rows[row].2).unwrap();
        upserts.into_iter().map(|upsert| (text(upsert.key), upsert.value.map(text))).collect()
    }

    fn record(key: &str, value: Option<&str>) -> (String, Option<String>) {
        (key.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn inserts_updates_and_deletes() {
        let mut upserts = Upserts::default();
        assert_eq!(take(&mut upserts, 1, &[("a", "1", 1)]), [record("a", Some("1"))]);
        assert_eq!(
            take(&mut upserts, 2, &[("b", "5", 1), ("a", "1", -1), ("a", "2", 1)]),
            [record("b", Some("5")), record("a", Some("2"))]
        );
        assert_eq!(take(&mut upserts, 3, &[("a", "3", 1), ("a", "2", -1)]), [record("a", Some("3"))]);
        assert_eq!(take(&mut upserts, 4, &[("a", "3", -1)]), [record("a", None)]);
    }

    #[test]
    fn the_row_before_is_the_one_that_readers_know() {
        let mut upserts = Upserts::default();
        let mut before = |epoch, rows: &[(&str, &str, i64)]| -> Vec<Option<String>> {
            let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, false)]));
            let column = StringArray::from_iter_values(rows.iter().map(|(key, _, _)| key));
            let batch = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
            let keys = KeyEncoder::Text(0).encode(&batch).unwrap();
            let mut values = EncodedRows::default();
            for (_, value, _) in rows {
                values.buffer().extend_from_slice(value.as_bytes());
                values.end_row();
            }
            let upserts = upserts.take(epoch, &keys, &values, |row| rows[row].2).unwrap();
            upserts.into_iter().map(|upsert| upsert.before.map(|bytes| String::from_utf8(bytes).unwrap())).collect()
        };
        assert_eq!(before(1, &[("a", "1", 1)]), [None]);
        assert_eq!(before(2, &[("a", "2", 1), ("a", "1", -1)]), [Some("1".to_owned())]);
        // In two deltas: the second is a change of what the first has said.
        assert_eq!(before(3, &[("a", "3", 1)]), [None]);
        assert_eq!(before(3, &[("a", "4", 1), ("a", "3", -1)]), [Some("3".to_owned())]);
        assert_eq!(before(4, &[("a", "4", -1)]), [Some("4".to_owned())]);
    }

    #[test]
    fn what_cancels_in_one_delta_is_not_written() {
        let mut upserts = Upserts::default();
        assert!(take(&mut upserts, 1, &[("a", "1", 1), ("a", "1", -1)]).is_empty());
    }

    #[test]
    fn an_update_in_two_deltas_ends_with_the_new_row() {
        let mut upserts = Upserts::default();
        assert_eq!(take(&mut upserts, 1, &[("a", "2", 1)]), [record("a", Some("2"))]);
        assert!(take(&mut upserts, 1, &[("a", "1", -1)]).is_empty(), "no tombstone after the new row");
        let mut upserts = Upserts::default();
        assert_eq!(take(&mut upserts, 1, &[("a", "1", -1)]), [record("a", None)]);
        assert_eq!(take(&mut upserts, 1, &[("a", "2", 1)]), [record("a", Some("2"))]);
    }

    #[test]
    fn a_change_taken_back_within_the_epoch_restores_the_row() {
        let mut upserts = Upserts::default();
        take(&mut upserts, 1, &[("a", "1", -1), ("a", "2", 1)]);
        assert_eq!(take(&mut upserts, 1, &[("a", "2", -1), ("a", "1", 1)]), [record("a", Some("1"))]);
        assert_eq!(take(&mut upserts, 2, &[("b", "1", 1)]), [record("b", Some("1"))]);
        assert_eq!(take(&mut upserts, 2, &[("b", "1", -1)]), [record("b", None)]);
    }
}
