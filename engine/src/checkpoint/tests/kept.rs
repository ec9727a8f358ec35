//! Files that operators have put to disk, and checkpoints take as they are.

use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringViewArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;

use super::{manifest, opened, snapshot};
use crate::checkpoint::place::Place;
use crate::checkpoint::store::{JobStore, Written};
use crate::dataflow::JobSnapshot;
use crate::error::Result;
use crate::operator::StateChange;
use crate::operator::change::ChangedRows;
use crate::operator::deferred::{DeferredPart, DeferredRows};
use crate::spill::{JobFolder, SpillFolder};
use crate::state::spill::{Rows, SpillFile, SpillSpace, WholeFile, WholeWriter, order};

/// A job's folder, with memory for nothing.
#[derive(Debug)]
struct Space(Arc<JobFolder>);

impl SpillSpace for Space {
    fn allowance(&self, _held: usize) -> usize {
        0
    }

    fn portion(&self) -> usize {
        0
    }

    fn limit(&self) -> usize {
        usize::MAX
    }

    fn is_kept(&self) -> bool {
        true
    }

    fn create(&self) -> Result<Arc<dyn SpillFile>> {
        JobFolder::create(&self.0)
    }
}

/// A file with a number and a text in each row; all key groups have some.
fn files(space: &Arc<Space>, numbers: RangeInclusive<i64>) -> Vec<WholeFile> {
    let mut numbers: Vec<(u64, i64)> =
        numbers.map(|n| (order((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)), n)).collect();
    numbers.sort_unstable();
    let mut writer = WholeWriter::new(Arc::clone(space) as Arc<dyn SpillSpace>, i64::MAX);
    for some in numbers.chunks(10_000) {
        let columns: [(&str, ArrayRef); 2] = [
            ("n", Arc::new(Int64Array::from_iter_values(some.iter().map(|(_, n)| *n)))),
            ("text", Arc::new(StringViewArray::from_iter_values(some.iter().map(|(_, n)| format!("{n:0400}"))))),
        ];
        let rows = Rows {
            rows: RecordBatch::try_from_iter(columns).unwrap(),
            orders: some.iter().map(|(order, _)| *order).collect(),
            changed: vec![false; some.len()],
        };
        writer.push_blocks(&rows, 100).unwrap();
    }
    writer.finish().unwrap().1
}

#[derive(Debug)]
struct Kept(WholeFile);

impl DeferredRows for Kept {
    fn read(&self, _: RangeInclusive<u8>, _: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        panic!("nobody reads a file that is taken as it is");
    }

    fn whole_file(&self) -> Option<(&WholeFile, usize)> {
        Some((&self.0, 3))
    }
}

/// All that there is, or what has come.
fn come(epoch: u64, files: Vec<WholeFile>) -> JobSnapshot {
    let mut snapshot = snapshot(epoch, Vec::new());
    let part =
        |file| ("join".to_owned(), DeferredPart { name: "left".to_owned(), rows: Arc::new(Kept(file)) as Arc<_> });
    snapshot.deferred = files.into_iter().map(part).collect();
    if epoch > 10 {
        let change = ChangedRows { name: "left".to_owned(), ..ChangedRows::default() };
        snapshot.changes.insert("join".to_owned(), vec![StateChange::Rows(change)]);
    }
    snapshot
}

fn write(store: &JobStore, snapshot: JobSnapshot, last: Option<&Written>) -> Written {
    let manifest = manifest(store, &snapshot);
    let last = last.map(|last| &*last.manifest);
    store.write(snapshot, manifest, last, Vec::new(), (None, &|| false)).unwrap()
}

/// The numbers that a checkpoint holds, in order.
fn numbers(store: &JobStore, written: &Written) -> Vec<i64> {
    let restored = store.restore(&written.manifest).unwrap();
    let mut all = Vec::new();
    let mut take = |rows: &RecordBatch| {
        assert_eq!(rows.num_columns(), 3, "what is the operator's own is left out");
        let numbers = rows.column(1).as_primitive::<Int64Type>().values();
        let texts = rows.column(2).as_string_view();
        assert!(numbers.iter().zip(texts).all(|(n, text)| text.unwrap().parse::<i64>().unwrap() == *n));
        all.extend(numbers);
    };
    restored.state().for_each(|(_, part)| take(&part.rows));
    for (_, part) in &restored.deferred {
        for groups in [0..=99, 100..=255] {
            part.in_memory(groups).unwrap().iter().for_each(|part| take(&part.rows));
        }
    }
    all.sort_unstable();
    all
}

#[test]
fn nothing_is_copied_in_a_folder() {
    let directory = tempfile::tempdir().unwrap();
    let spill = SpillFolder::new(&directory.path().join("spill"));
    let space = Arc::new(Space(spill.of_job(1)));
    let mut store = opened(&Arc::new(Place::Folder(directory.path().join("checkpoints"))));
    store.begin().unwrap();
    let first = files(&space, 1..=50_000);
    assert!(first.len() > 1, "{}", first.len());
    assert!(first.windows(2).all(|two| two[0].groups[1] <= two[1].groups[0]), "by key group");
    let bytes: u64 = first.iter().map(|file| file.bytes).sum();
    let first = write(&store, come(10, first), None);
    assert_eq!(first.new_bytes, bytes);
    assert_eq!((spill.files(), spill.bytes()), (0, 0), "they are the checkpoint's now");
    assert_eq!(numbers(&store, &first), (1..=50_000).collect::<Vec<_>>());
    // Its owner still has it.
    let more = files(&space, 50_001..=51_000);
    let path = directory.path().join("another");
    assert!(more[0].link(&path));
    let second = write(&store, come(20, more), Some(&first));
    assert_eq!(second.manifest.files.len(), first.manifest.files.len() + 1);
    assert_eq!(numbers(&store, &second), (1..=51_000).collect::<Vec<_>>());
    assert_eq!(std::fs::metadata(&path).unwrap().nlink(), 2);
    store.retain(|_, age| age == 0).unwrap();
    assert_eq!(numbers(&store, &second), (1..=51_000).collect::<Vec<_>>());
    // A byte that is not what it was is found.
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = store.restore(&second.manifest).unwrap_err();
    assert!(error.message().contains("is damaged"), "{error}");
}

#[test]
fn a_bucket_has_copies() {
    let directory = tempfile::tempdir().unwrap();
    let space = Arc::new(Space(SpillFolder::new(directory.path()).of_job(1)));
    let mut store = opened(&Arc::new(Place::over(Arc::new(object_store::memory::InMemory::new()))));
    store.begin().unwrap();
    let first = write(&store, come(10, files(&space, 1..=50_000)), None);
    let second = write(&store, come(20, files(&space, 50_001..=60_000)), Some(&first));
    assert_eq!(numbers(&store, &second), (1..=60_000).collect::<Vec<_>>());
}

/// What an attempt has left that was killed is no obstacle.
#[test]
fn what_stands_beside_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let space = Arc::new(Space(SpillFolder::new(&directory.path().join("spill")).of_job(1)));
    let place = Place::Folder(directory.path().to_owned());
    let file = files(&space, 1..=10).pop().unwrap();
    std::fs::create_dir(directory.path().join("state")).unwrap();
    std::fs::write(directory.path().join("state/a.arrow.new"), "half of it").unwrap();
    std::fs::write(directory.path().join("state/a.arrow"), "an earlier one").unwrap();
    place.keep(&[("state/a.arrow".to_owned(), &file)], None).unwrap();
    assert_eq!(place.get("state/a.arrow").unwrap().unwrap(), file.read().unwrap());
    assert_eq!(place.list("state").unwrap(), ["a.arrow"]);
}
