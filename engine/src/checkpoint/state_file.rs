//! What an operator remembers, as files: Arrow IPC, the rows sorted by key group.
//!
//! A file is named by its content, so that state that has not changed since the last checkpoint is the same file. Large
//! states are cut by key group, that what has changed in one group is not all written again. Some are files of operators,
//! who have put rows to disk that never change: these have columns of the operator's own behind those of the part.

use std::collections::BTreeMap;
use std::io::Cursor;

use arrow::array::{AsArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::UInt8Type;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::pages::{Pages, Spare};
use crate::error::{Error, ErrorKind, Result};
use crate::operator::StatePart;
use crate::operator::change::Below;
use crate::state::alone::mostly_alone;
use crate::state::key_group::KEY_GROUPS;
use crate::state::spill::has_dictionaries;

/// Rows from which on a state is cut into pieces, and into how many.
const PIECES: [(usize, usize); 2] = [(1 << 20, KEY_GROUPS), (1 << 14, 16)];
/// Rows that are put together into one batch.
const BATCH_ROWS: usize = 1 << 16;
/// Batches of so many rows and more are written as they are.
const LARGE_BATCH: usize = 1 << 10;

/// A file that is about to be written.
pub(super) struct NewFile {
    pub(super) rows: usize,
    pub(super) hash: String,
    pub(super) bytes: Bytes,
    /// The least and the greatest key group.
    pub(super) groups: [u8; 2],
    /// The greatest value of the column by which rows go, if they do.
    pub(super) until: Option<i64>,
}

/// The hash that names a file.
pub(super) fn hash(bytes: &[u8]) -> String {
    shown(xxh3_128(bytes))
}

/// A hash as names have it.
pub(super) fn shown(hash: u128) -> String {
    format!("{hash:032x}")
}

/// The rows of each part of each operator.
pub(super) type Parts = BTreeMap<(String, String), Vec<RecordBatch>>;

/// Parts by operator and name.
pub(super) fn by_part(parts: impl Iterator<Item = (String, StatePart)>) -> Parts {
    let mut by_part = Parts::new();
    for (operator, part) in parts {
        by_part.entry((operator, part.name)).or_default().push(part.rows);
    }
    by_part
}

/// Into how many files so many rows are cut.
pub(super) fn pieces(rows: usize) -> usize {
    PIECES.iter().find(|(from, _)| rows >= *from).map_or(1, |(_, pieces)| *pieces)
}

/// Makes the files of one part, one after the other.
pub(super) fn each_file(
    mut batches: Vec<RecordBatch>,
    below: Option<Below>,
    spare: &Spare,
    give: &mut dyn FnMut(NewFile) -> Result<()>,
) -> Result<()> {
    batches.retain(|rows| rows.num_rows() > 0);
    // Workers give theirs in any order.
    batches.sort_by_key(|rows| groups(rows).map_or(0, |groups| groups.value(0)));
    let pieces = pieces(batches.iter().map(RecordBatch::num_rows).sum());
    let batches = batches.into_iter().map(ByGroup::of).collect::<Result<Vec<_>>>()?;
    for piece in 0..pieces {
        if let Some(file) = file(&cut(&batches, piece, pieces)?, below, spare)? {
            give(file)?;
        }
    }
    Ok(())
}

/// One file of some rows, if there are any.
pub(super) fn file(batches: &[RecordBatch], below: Option<Below>, spare: &Spare) -> Result<Option<NewFile>> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows == 0 {
        return Ok(None);
    }
    let mut range = [u8::MAX, 0];
    let mut until: Option<i64> = None;
    for rows in batches {
        let groups = groups(rows)?.values();
        range[0] = groups.iter().copied().fold(range[0], u8::min);
        range[1] = groups.iter().copied().fold(range[1], u8::max);
        if let Some(below) = below {
            until = until.max(Some(below.greatest(rows)?));
        }
    }
    let bytes = written(batches, spare)?;
    let hash = hash(&bytes);
    Ok(Some(NewFile { rows, hash, bytes, groups: range, until }))
}

fn groups(rows: &RecordBatch) -> Result<&arrow::array::UInt8Array> {
    let groups = rows.columns().first().and_then(|column| column.as_primitive_opt::<UInt8Type>());
    groups.ok_or_else(|| Error::internal("a state has no key groups"))
}

/// Rows that are to be cut by key group.
pub(super) struct ByGroup {
    rows: RecordBatch,
    /// The rows by group, in their order within each; `None`: as they lie.
    order: Option<Vec<u32>>,
    /// Where each group begins, and the last one ends.
    starts: Vec<u32>,
}

impl ByGroup {
    /// Looks at each row once, however many pieces they are cut into.
    pub(super) fn of(rows: RecordBatch) -> Result<Self> {
        let groups = groups(&rows)?.values();
        let mut starts = vec![0; KEY_GROUPS + 1];
        groups.iter().for_each(|group| starts[usize::from(*group) + 1] += 1);
        (0..KEY_GROUPS).for_each(|group| starts[group + 1] += starts[group]);
        let order = (!groups.is_sorted()).then(|| {
            let mut next = starts.clone();
            let mut order = vec![0; groups.len()];
            for (row, group) in groups.iter().enumerate() {
                let place = &mut next[usize::from(*group)];
                order[*place as usize] = row as u32;
                *place += 1;
            }
            order
        });
        Ok(Self { rows, order, starts })
    }

    /// The rows of one of several ranges of key groups, by group.
    fn piece(&self, piece: usize, pieces: usize) -> Result<Option<RecordBatch>> {
        let start_of = |piece: usize| self.starts[piece * KEY_GROUPS / pieces] as usize;
        let (from, to) = (start_of(piece), start_of(piece + 1));
        if from == to {
            return Ok(None);
        }
        // Taken also where they lie together already: equal rows are equal bytes, and a slice would keep what is not its own.
        let rows = match &self.order {
            Some(order) => UInt32Array::from(order[from..to].to_vec()),
            None => (from as u32..to as u32).collect(),
        };
        Ok(Some(take_record_batch(&self.rows, &rows)?))
    }
}

/// The rows of one of several ranges of key groups.
pub(super) fn cut(batches: &[ByGroup], piece: usize, pieces: usize) -> Result<Vec<RecordBatch>> {
    batches.iter().filter_map(|rows| rows.piece(piece, pieces).transpose()).collect()
}

fn written(batches: &[RecordBatch], spare: &Spare) -> Result<Bytes> {
    let Some(first) = batches.first() else { return Ok(Bytes::new()) };
    let schema = first.schema();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut writer = FileWriter::try_new(Pages::new(spare), &schema)?;
    // Texts are views: each batch would be written with those of all rows from which it was taken. A dictionary is one for
    // all batches of a file.
    let are_small = rows <= BATCH_ROWS && batches.len() > 1 && rows < batches.len() * LARGE_BATCH;
    if are_small || has_dictionaries(&schema) {
        writer.write(&mostly_alone(&concat_batches(&schema, batches)?)?)?;
    } else {
        for batch in batches {
            writer.write(&mostly_alone(&RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?)?)?;
        }
    }
    Ok(writer.into_inner()?.finish())
}

/// The rows of a file; `columns`: the first so many of its columns, if not all.
pub(super) fn read(bytes: Bytes, columns: Option<usize>) -> Result<Vec<RecordBatch>> {
    let unreadable =
        |error: arrow::error::ArrowError| Error::new(ErrorKind::External, format!("it is no file of rows: {error}"));
    let columns = columns.map(|columns| (0..columns).collect());
    let reader = FileReader::try_new(Cursor::new(bytes), columns).map_err(unreadable)?;
    reader.map(|batch| batch.map_err(unreadable)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray, StringViewArray, UInt8Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn files(batches: Vec<RecordBatch>, below: Option<Below>) -> Result<Vec<NewFile>> {
        let mut files = Vec::new();
        each_file(batches, below, &Spare::default(), &mut |file| {
            files.push(file);
            Ok(())
        })?;
        Ok(files)
    }

    fn part(rows: impl Iterator<Item = (u8, i64)>) -> RecordBatch {
        let (groups, values): (Vec<u8>, Vec<i64>) = rows.unzip();
        let texts = StringArray::from_iter_values(values.iter().map(|value| format!("text {value}")));
        let columns: [(&str, ArrayRef); 3] = [
            ("_group", Arc::new(UInt8Array::from(groups))),
            ("n", Arc::new(Int64Array::from(values))),
            ("text", Arc::new(texts)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn equal_state_is_an_equal_file_whoever_gave_it_first() {
        let one = part([(7, 1), (3, 2), (7, 3)].into_iter());
        let two = part([(200, 4)].into_iter());
        let below = Some(Below { column: 1, at: 0 });
        let files_of = |parts: &[RecordBatch]| files(parts.to_vec(), below).unwrap();
        let (first, second) = (files_of(&[one.clone(), two.clone()]), files_of(&[two, one]));
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].groups, first[0].until), ([3, 200], Some(4)));
        assert_eq!((&first[0].hash, first[0].rows), (&second[0].hash, 4));
        let rows = read(first[0].bytes.clone(), None).unwrap();
        assert_eq!(rows[0].column(1).as_primitive::<arrow::datatypes::Int64Type>().values(), &[2, 1, 3, 4]);
    }

    #[test]
    fn pieces_are_the_rows_by_group_whatever_their_order() {
        let row = |n: i64| ((n * 7919 % 251) as u8, n);
        for pieces in [1, 16, KEY_GROUPS] {
            let mut rows: Vec<(u8, i64)> = (0..3_000).map(row).collect();
            let mixed = [ByGroup::of(part(rows.iter().copied())).unwrap()];
            rows.sort_by_key(|(group, _)| *group);
            let sorted = [ByGroup::of(part(rows.iter().copied())).unwrap()];
            let mut all = Vec::new();
            for piece in 0..pieces {
                let of_mixed = cut(&mixed, piece, pieces).unwrap();
                assert_eq!(of_mixed, cut(&sorted, piece, pieces).unwrap());
                for rows in of_mixed {
                    let groups = groups(&rows).unwrap().values().to_vec();
                    assert!(groups.iter().all(|group| usize::from(*group) * pieces / KEY_GROUPS == piece));
                    let values = rows.column(1).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
                    all.extend(groups.into_iter().zip(values));
                }
            }
            assert_eq!(all, rows);
        }
    }

    #[test]
    fn each_file_has_the_texts_of_its_own_rows() {
        let groups = UInt8Array::from_iter_values((0..40_000).map(|n| (n % 256) as u8));
        let texts = StringViewArray::from_iter_values((0..40_000).map(|n| format!("a text of many bytes, {n:0100}")));
        let columns: [(&str, ArrayRef); 2] = [("_group", Arc::new(groups)), ("text", Arc::new(texts))];
        let files = files(vec![RecordBatch::try_from_iter(columns).unwrap()], None).unwrap();
        let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
        assert_eq!(files.len(), 16);
        assert!(bytes < 40_000 * 160, "{bytes}");
    }

    /// Those of two batches differ, and a file has one.
    #[test]
    fn rows_with_dictionaries_are_a_file() {
        let rows = |words: [&str; 2]| {
            let words = (0..40_000).map(|n| Some(words[n % 2])).collect::<DictionaryArray<Int32Type>>();
            let groups = UInt8Array::from_iter_values((0..40_000).map(|n| (n % 256) as u8));
            let columns: [(&str, ArrayRef); 2] = [("_group", Arc::new(groups)), ("word", Arc::new(words))];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let files = files(vec![rows(["one", "two"]), rows(["three", "four"])], None).unwrap();
        let mut counts = BTreeMap::<String, usize>::new();
        for rows in files.iter().flat_map(|file| read(file.bytes.clone(), None).unwrap()) {
            let words = arrow::compute::cast(rows.column(1), &arrow::datatypes::DataType::Utf8).unwrap();
            words.as_string::<i32>().iter().for_each(|word| *counts.entry(word.unwrap().to_owned()).or_default() += 1);
        }
        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [20_000; 4], "{counts:?}");
    }

    #[test]
    fn a_large_state_is_cut_and_only_what_has_changed_is_new() {
        let state = |changed: i64| part((0..40_000).map(move |n| ((n % 256) as u8, if n == 3 { changed } else { n })));
        let (before, after) = (files(vec![state(3)], None).unwrap(), files(vec![state(-3)], None).unwrap());
        assert_eq!(before.len(), 16);
        assert_eq!(before.iter().map(|file| file.rows).sum::<usize>(), 40_000);
        let changed = before.iter().zip(&after).filter(|(before, after)| before.hash != after.hash).count();
        assert_eq!(changed, 1);
        assert!(files(vec![part(std::iter::empty())], None).unwrap().is_empty());
        assert!(read(Bytes::from_static(b"nonsense"), None).is_err());
    }
}
