//! One job's checkpoints: what is chosen, shared, kept and refused.

mod kept;
mod races;
mod unordered;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt8Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::compaction::{paths, plans};
use super::layers::Compacted;
use super::manifest::{FORMAT, Manifest};
use super::place::Place;
use super::store::{JobStore, Written, epoch_of};
use crate::connector::Positions;
use crate::dataflow::JobSnapshot;
use crate::operator::change::{Below, ChangedRows};
use crate::operator::{StateChange, StatePart};

fn part(operator: &str, values: &[i64]) -> (String, StatePart) {
    let columns: [(&str, ArrayRef); 2] = [
        ("_group", Arc::new(UInt8Array::from_iter_values(values.iter().map(|value| *value as u8)))),
        ("n", Arc::new(Int64Array::from(values.to_vec()))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    (operator.to_owned(), StatePart { name: "rows".to_owned(), rows })
}

fn snapshot(epoch: u64, parts: Vec<(String, StatePart)>) -> JobSnapshot {
    let at = Positions(BTreeMap::from([("t/0".to_owned(), format!("0@{epoch}"))]));
    let positions = BTreeMap::from([("scan".to_owned(), at)]);
    JobSnapshot::restored(epoch, (parts, Vec::new()), &BTreeMap::from([(0, 77)]), positions).unwrap()
}

fn write(store: &JobStore, snapshot: &JobSnapshot, last: Option<&Manifest>) -> Written {
    store.write(snapshot.clone(), manifest(store, snapshot), last, Vec::new(), (None, &|| false)).unwrap()
}

fn write_compacted(store: &JobStore, snapshot: &JobSnapshot, last: &Manifest, compacted: Vec<Compacted>) -> Written {
    store.write(snapshot.clone(), manifest(store, snapshot), Some(last), compacted, (None, &|| false)).unwrap()
}

fn manifest(store: &JobStore, snapshot: &JobSnapshot) -> Manifest {
    let positions = snapshot.positions.iter().map(|(scan, at)| (scan.clone(), at.clone().unwrap().0)).collect();
    Manifest {
        format: FORMAT,
        rondel: "test".to_owned(),
        deployment: Uuid::from_u128(1),
        job: Uuid::from_u128(2),
        name: "j".to_owned(),
        generation: store.generation(),
        epoch: snapshot.epoch,
        now_micros: 0,
        taken_at_micros: 0,
        workers: 1,
        sql: String::new(),
        plan: Vec::new(),
        reads: BTreeMap::new(),
        watermarks: snapshot.promised(),
        positions,
        files: Vec::new(),
        expired: Vec::new(),
        ended: false,
        sink_token: None,
    }
}

fn opened(place: &Arc<Place>) -> JobStore {
    JobStore::open(place, Uuid::from_u128(1), Uuid::from_u128(2))
}

#[test]
fn what_was_chosen_is_restored_and_what_is_equal_is_shared() {
    let directory = tempfile::tempdir().unwrap();
    let place = Arc::new(Place::Folder(directory.path().to_owned()));
    let mut store = opened(&place);
    assert!(store.begin().unwrap().chosen.is_none());
    let still = part("still", &[1, 2, 3]);
    let first = write(&store, &snapshot(10, vec![still.clone(), part("moves", &[4])]), None);
    store.choose(&first.file, first.hash).unwrap();
    let second = write(&store, &snapshot(20, vec![still, part("moves", &[5])]), Some(&first.manifest));
    assert!(second.new_bytes > 0 && second.new_bytes < first.new_bytes);
    let file = |written: &Written, operator: &str| {
        written.manifest.files.iter().find(|file| file.operator == operator).unwrap().path.clone()
    };
    assert_eq!(file(&first, "still"), file(&second, "still"));
    assert_ne!(file(&first, "moves"), file(&second, "moves"));

    // It was written, and not chosen.
    let mut again = opened(&place);
    let restorable = again.begin().unwrap();
    assert_eq!((restorable.epoch(), again.generation()), (Some(10), 2));
    assert_eq!(restorable.newest_first(), [first.file.as_str()]);
    let restored = again.restore(&again.manifest(&first.file, Some(first.hash)).unwrap()).unwrap();
    assert_eq!((restored.epoch, restored.promised()), (10, BTreeMap::from([(0, 77)])));
    assert_eq!(restored.position("scan").unwrap().0["t/0"], "0@10");
    let moved = restored.state().find(|(operator, _)| operator == "moves").unwrap();
    assert_eq!(moved.1.rows.column(1).as_primitive::<Int64Type>().values(), &[4]);

    // The earlier run is no longer the job.
    let error = store.choose(&second.file, second.hash).unwrap_err();
    assert!(error.message().contains("its run 2 has begun, and this one is 1"), "{error}");
    assert!(store.retain(|_, _| false).is_err(), "nor does it delete");
}

#[test]
fn what_nobody_needs_is_deleted_and_damage_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let place = Arc::new(Place::Folder(directory.path().to_owned()));
    let mut store = opened(&place);
    store.begin().unwrap();
    let mut last: Option<Written> = None;
    for epoch in 1..=5 {
        let state = vec![part("still", &[1, 2, 3]), part("moves", &[epoch as i64])];
        let written = write(&store, &snapshot(epoch, state), last.as_ref().map(|last| &*last.manifest));
        store.choose(&written.file, written.hash).unwrap();
        last = Some(written);
    }
    let last = last.unwrap();
    // Two by count, and one that a reader needs.
    let kept = store.retain(|manifest, age| age < 2 || manifest.epoch == 2).unwrap();
    let mut epochs: Vec<u64> = kept.iter().map(|manifest| manifest.epoch).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [2, 4, 5]);
    let folder = format!("{}/{}", Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(place.list(&format!("{folder}/state")).unwrap().len(), 4, "three that moved, one that is shared");
    for manifest in &kept {
        store.restore(manifest).unwrap();
    }
    let path = format!("{folder}/{}", last.manifest.files[0].path);
    let mut bytes = place.get(&path).unwrap().unwrap().to_vec();
    bytes[100] ^= 1;
    place.put(&[(path.clone(), bytes.into())]).unwrap();
    let error = store.restore(&last.manifest).unwrap_err();
    assert!(error.message().contains("is damaged: it has") && error.message().contains("epoch 5 of 'j'"), "{error}");
    place.delete(&[path]).unwrap();
    let error = store.restore(&last.manifest).unwrap_err();
    assert!(error.message().contains("is damaged: it is gone"), "{error}");
    let error = opened(&place).manifest(&last.file, Some(last.hash + 1)).unwrap_err();
    assert!(error.message().contains("its bytes are not those that were written"), "{error}");
    store.remove().unwrap();
    assert!(store.restorable().unwrap().manifests.is_empty());
}

/// It can't be what a server wrote: jobs would go on behind it, where there are no epochs.
#[test]
fn a_manifest_whose_name_says_an_absurd_epoch_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let place = Arc::new(Place::Folder(directory.path().to_owned()));
    let mut store = opened(&place);
    store.begin().unwrap();
    let written = write(&store, &snapshot(7, vec![part("moves", &[4])]), None);
    store.choose(&written.file, written.hash).unwrap();
    let folder = format!("{}/{}", Uuid::from_u128(1), Uuid::from_u128(2));
    let bytes = place.get(&format!("{folder}/manifests/{}", written.file)).unwrap().unwrap();
    let absurd = ["18446744073709551615-1.json".to_owned(), Manifest::file_name(9_223_372_036_854_776, 1)];
    for file in &absurd {
        assert_eq!(epoch_of(file), None);
        place.put(&[(format!("{folder}/manifests/{file}"), bytes.clone())]).unwrap();
    }
    assert_eq!(epoch_of(&Manifest::file_name(9_223_372_036_854_775, 1)), Some(9_223_372_036_854_775));
    let restorable = store.restorable().unwrap();
    assert_eq!((restorable.epoch(), restorable.manifests), (Some(7), vec![written.file.clone()]));
    let kept = store.retain(|_, age| age < 1).unwrap();
    assert_eq!(kept.iter().map(|manifest| manifest.epoch).collect::<Vec<_>>(), [7], "they are not the newest");
    let there = place.list(&format!("{folder}/manifests")).unwrap();
    assert!(absurd.iter().all(|file| there.contains(file)), "nor are they ours to delete: {there:?}");

    store.choose(&absurd[0], written.hash).unwrap();
    let error = opened(&place).begin().unwrap_err();
    assert!(error.message().contains("is damaged: it names no manifest"), "{error}");
}

/// A part whose rows are told apart by `n`, with a value.
fn keyed(values: &[(i64, i64)]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("_group", Arc::new(UInt8Array::from_iter_values(values.iter().map(|(n, _)| *n as u8)))),
        ("n", Arc::new(Int64Array::from_iter_values(values.iter().map(|(n, _)| *n)))),
        ("value", Arc::new(Int64Array::from_iter_values(values.iter().map(|(_, value)| *value)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn changes(epoch: u64, rows: &[(i64, i64)], gone: &[i64], below: Option<Below>) -> JobSnapshot {
    let gone: Vec<(i64, i64)> = gone.iter().map(|n| (*n, 0)).collect();
    let change = ChangedRows {
        name: "rows".to_owned(),
        keys: vec![1],
        is_sum: false,
        rows: vec![keyed(rows)],
        gone: vec![keyed(&gone).project(&[0, 1]).unwrap()],
        below,
    };
    let mut snapshot = snapshot(epoch, Vec::new());
    snapshot.changes.insert("keyed".to_owned(), vec![StateChange::Rows(change)]);
    snapshot
}

fn whole(epoch: u64, rows: &[(i64, i64)]) -> JobSnapshot {
    let part = StatePart { name: "rows".to_owned(), rows: keyed(rows) };
    snapshot(epoch, vec![("keyed".to_owned(), part)])
}

fn restored(store: &JobStore, manifest: &Arc<Manifest>) -> BTreeMap<i64, i64> {
    let restored = store.restore(manifest).unwrap();
    let mut values = BTreeMap::new();
    for (_, part) in restored.state() {
        let column = |number: usize| part.rows.column(number).as_primitive::<Int64Type>().clone();
        for (n, value) in column(1).values().iter().zip(column(2).values()) {
            assert_eq!(values.insert(*n, *value), None, "{n} is there twice");
        }
    }
    values
}

#[test]
fn a_checkpoint_is_what_has_changed_upon_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let place = Arc::new(Place::Folder(directory.path().to_owned()));
    let mut store = opened(&place);
    store.begin().unwrap();
    let all: Vec<(i64, i64)> = (0..20_000).map(|n| (n, n)).collect();
    let first = write(&store, &whole(10, &all), None);
    let second = write(&store, &changes(20, &[(3, 33), (20_000, 1)], &[4], None), Some(&first.manifest));
    let third = write(&store, &changes(30, &[(4, 44)], &[3], None), Some(&second.manifest));
    assert!(second.new_bytes * 20 < first.new_bytes, "{} of {}", second.new_bytes, first.new_bytes);
    assert!(third.manifest.files.len() > second.manifest.files.len());
    // A store that has never seen them reads the same; each checkpoint stands for itself.
    let again = opened(&place);
    let mut expected: BTreeMap<i64, i64> = all.into_iter().collect();
    assert_eq!(restored(&again, &again.manifest(&first.file, None).unwrap()), expected);
    expected.extend([(3, 33), (20_000, 1)]);
    expected.remove(&4);
    assert_eq!(restored(&again, &again.manifest(&second.file, None).unwrap()), expected);
    expected.insert(4, 44);
    expected.remove(&3);
    assert_eq!(restored(&again, &again.manifest(&third.file, None).unwrap()), expected);
    // What lies below goes, and so do files that have nothing else; a whole state has no layers.
    let below = |at| Some(Below { column: 1, at });
    let fourth = write(&store, &changes(40, &[], &[], below(19_999)), Some(&third.manifest));
    assert_eq!(restored(&again, &fourth.manifest), BTreeMap::from([(19_999, 19_999), (20_000, 1)]));
    let fifth = write(&store, &changes(50, &[(30_000, 5)], &[], below(30_000)), Some(&fourth.manifest));
    let sixth = write(&store, &changes(60, &[(40_000, 6)], &[], below(40_000)), Some(&fifth.manifest));
    assert!(!sixth.manifest.files.iter().any(|file| file.layer == 50 && !file.gone), "its only row is over");
    assert_eq!(restored(&again, &sixth.manifest), BTreeMap::from([(40_000, 6)]));
    let seventh = write(&store, &whole(70, &[(1, 1)]), Some(&sixth.manifest));
    assert_eq!(seventh.manifest.files.len(), 1);
    assert!(seventh.manifest.expired.is_empty());
}

#[test]
fn layers_are_put_together_beside_the_job() {
    let directory = tempfile::tempdir().unwrap();
    let place = Arc::new(Place::Folder(directory.path().to_owned()));
    let mut store = opened(&place);
    store.begin().unwrap();
    let mut expected: BTreeMap<i64, i64> = (0..18_000).map(|n| (n, n)).collect();
    let all: Vec<(i64, i64)> = expected.iter().map(|(n, value)| (*n, *value)).collect();
    let mut last = write(&store, &whole(1, &all), None);
    let mut random = SmallRng::seed_from_u64(7);
    let (mut plans_of_some, mut plans_of_all) = (0, 0);
    let mut compacted = Vec::new();
    for epoch in 2..80 {
        let keys: BTreeSet<i64> = (0..700).map(|_| random.random_range(0..19_000)).collect();
        let (gone, rows): (Vec<i64>, Vec<i64>) = keys.iter().partition(|_| random.random_bool(0.3));
        let rows: Vec<(i64, i64)> = rows.into_iter().map(|n| (n, n + epoch)).collect();
        for n in &gone {
            expected.remove(n);
        }
        expected.extend(rows.iter().copied());
        // The files of a compaction that ran since the last checkpoint stand in place of others from this one on.
        let ready = std::mem::take(&mut compacted);
        let early = paths(&ready);
        last = write_compacted(&store, &changes(epoch as u64, &rows, &gone, None), &last.manifest, ready);
        store.let_go(early.iter().map(String::as_str));
        store.choose(&last.file, last.hash).unwrap();
        if epoch % 6 == 0 || epoch > 70 {
            assert_eq!(restored(&store, &last.manifest), expected, "epoch {epoch}");
        }
        for plan in plans(&last.manifest) {
            assert!(store.compact(&last.manifest, &plan, &|| true).unwrap().is_none(), "given up");
            let put = store.compact(&last.manifest, &plan, &|| false).unwrap().unwrap();
            let from_the_first = last.manifest.files.iter().all(|file| put.from.contains(&file.path));
            (plans_of_some, plans_of_all) =
                (plans_of_some + usize::from(!from_the_first), plans_of_all + usize::from(from_the_first));
            compacted.push(put);
        }
        // What no manifest names yet is not swept.
        store.retain(|_, age| age < 2).unwrap();
        let layers: BTreeSet<u64> = last.manifest.files.iter().map(|file| file.layer).collect();
        assert!(layers.len() < 24, "{} layers", layers.len());
    }
    assert!(plans_of_some > 2 && plans_of_all > 0, "{plans_of_some} and {plans_of_all} compactions");
    let bytes: u64 = last.manifest.files.iter().map(|file| file.bytes).sum();
    let whole = write(&store, &whole(99, &expected.into_iter().collect::<Vec<_>>()), None).new_bytes;
    assert!(bytes < whole * 5 / 2, "{bytes} bytes for {whole}");
    // What came of a compaction that was never taken up goes.
    for put in compacted {
        store.let_go(put.files.iter().map(|file| file.path.as_str()));
    }
    let kept = store.retain(|_, age| age < 1).unwrap();
    let named: BTreeSet<&str> =
        kept.iter().flat_map(|manifest| &manifest.files).map(|file| file.path.as_str()).collect();
    let folder = format!("{}/{}", Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(place.list(&format!("{folder}/state")).unwrap().len(), named.len());
}
