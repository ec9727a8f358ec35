//! Parts whose rows only come, and never go: written as they lie, read a file at a time, and not put together for their own sake.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, UInt8Array};
use arrow::datatypes::{Int64Type, UInt8Type};
use arrow::record_batch::RecordBatch;

use super::{manifest, opened, snapshot};
use crate::checkpoint::compaction::{self, plans};
use crate::checkpoint::deferred::StoredPart;
use crate::checkpoint::manifest::{Expired, Manifest, StateFile};
use crate::checkpoint::place::Place;
use crate::checkpoint::store::{JobStore, Written};
use crate::dataflow::JobSnapshot;
use crate::error::Result;
use crate::operator::StateChange;
use crate::operator::change::{Below, ChangedRows};
use crate::operator::deferred::{DeferredPart, DeferredRows};

/// Rows in no order.
#[derive(Debug)]
struct Scattered(RangeInclusive<i64>);

impl DeferredRows for Scattered {
    fn read(&self, _: RangeInclusive<u8>, give: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let all: Vec<i64> = self.0.clone().collect();
        for some in all.chunks(1_000) {
            let columns: [(&str, ArrayRef); 3] = [
                ("_group", Arc::new(UInt8Array::from_iter_values(some.iter().map(|n| group(*n))))),
                ("n", Arc::new(Int64Array::from(some.to_vec()))),
                ("text", Arc::new(StringArray::from_iter_values(some.iter().map(|n| format!("{n:01000}"))))),
            ];
            give(RecordBatch::try_from_iter(columns).unwrap())?;
        }
        Ok(())
    }

    fn is_by_group(&self) -> bool {
        false
    }
}

fn group(n: i64) -> u8 {
    (n * 37 % 256) as u8
}

/// All rows that there are, or those that have come.
fn come(epoch: u64, rows: RangeInclusive<i64>, below: Option<i64>) -> JobSnapshot {
    let mut snapshot = snapshot(epoch, Vec::new());
    snapshot.deferred =
        vec![("join".to_owned(), DeferredPart { name: "left".to_owned(), rows: Arc::new(Scattered(rows)) })];
    if let Some(at) = below {
        let below = Some(Below { column: 1, at });
        let change = ChangedRows { name: "left".to_owned(), below, ..ChangedRows::default() };
        snapshot.changes.insert("join".to_owned(), vec![StateChange::Rows(change)]);
    }
    snapshot
}

fn write(store: &JobStore, snapshot: JobSnapshot, last: Option<&Manifest>) -> Result<Written> {
    let manifest = manifest(store, &snapshot);
    store.write(snapshot, manifest, last, Vec::new(), (None, &|| false))
}

#[test]
fn each_reads_what_is_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = opened(&Arc::new(Place::Folder(directory.path().to_owned())));
    store.begin().unwrap();
    let first = write(&store, come(10, 0..=19_999, None), None).unwrap();
    let last = write(&store, come(20, 20_000..=39_999, Some(5_000)), Some(&first.manifest)).unwrap();
    assert_eq!(last.manifest.files.len(), 6, "of 8 MB and what is left, twice");
    let part = StoredPart::new(&store, &last.manifest, "join", "left");
    let mut read: BTreeMap<i64, usize> = BTreeMap::new();
    for groups in [0..=0, 1..=99, 100..=255] {
        let is_own = |group: &u8| groups.contains(group);
        part.read(groups.clone(), &mut |rows| {
            assert!(rows.column(0).as_primitive::<UInt8Type>().values().iter().all(is_own));
            for (n, text) in
                rows.column(1).as_primitive::<Int64Type>().values().iter().zip(rows.column(2).as_string::<i32>())
            {
                assert_eq!(text.unwrap().parse::<i64>().unwrap(), *n);
                *read.entry(*n).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
    }
    assert!(read.keys().copied().eq(5_000..=39_999), "what is below is gone");
    assert!(read.values().all(|times| *times == 1));
}

#[test]
fn what_nobody_wants_any_more_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = opened(&Arc::new(Place::Folder(directory.path().to_owned())));
    store.begin().unwrap();
    let snapshot = come(10, 0..=19_999, None);
    let manifest = manifest(&store, &snapshot);
    let written = store.write(snapshot, manifest, None, Vec::new(), (None, &|| true));
    let error = written.map(|_| ()).unwrap_err();
    assert!(error.message().contains("the job was dropped"), "{error}");
    assert!(store.list("state").unwrap().is_empty());
    store.remove().unwrap();
}

/// Layers of a part: how many files each has, and how many bytes these.
fn layers(keys: &[usize], layers: &[(u64, u64)]) -> Manifest {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&Arc::new(Place::Folder(directory.path().to_owned())));
    let mut manifest = manifest(&store, &snapshot(1, Vec::new()));
    for (layer, (files, bytes)) in layers.iter().enumerate() {
        manifest.files.extend((0..*files).map(|number| StateFile {
            operator: "join".to_owned(),
            part: "left".to_owned(),
            path: format!("{layer}/{number}"),
            rows: 1,
            bytes: *bytes,
            hash: String::new(),
            groups: None,
            layer: layer as u64,
            keys: if layer == 0 { Vec::new() } else { keys.to_vec() },
            is_sum: false,
            gone: false,
            until: None,
            columns: None,
        }));
    }
    manifest
}

#[test]
fn only_small_files_are_put_together() {
    let (large, small) = ((20, 8 << 20), (2, 100 << 10));
    let mut all = vec![large; 40];
    assert!(plans(&layers(&[], &all)).is_empty());
    assert_eq!(plans(&layers(&[1], &all)).len(), 1, "what is younger may stand in place of what is older");
    all.extend([small; 7]);
    assert!(plans(&layers(&[], &all)).is_empty());
    all.push(small);
    let manifest = layers(&[], &all);
    let plans = plans(&manifest);
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0].files.len(), 16, "none of the large ones");
    assert!(!plans[0].from_the_first);
    // Rows that go by their time lie between others that stay.
    let mut manifest = layers(&[], &[large, large, large]);
    let (operator, part) = ("join".to_owned(), "left".to_owned());
    manifest.expired.push(Expired { operator, part, column: 1, below: 7 });
    assert!(compaction::plans(&manifest)[0].from_the_first);
}
