//! One job's checkpoints: what is chosen, shared, kept and refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt8Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use uuid::Uuid;

use super::manifest::{FORMAT, Manifest};
use super::place::Place;
use super::store::{JobStore, Written};
use crate::connector::Positions;
use crate::dataflow::JobSnapshot;
use crate::operator::StatePart;

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
    JobSnapshot::restored(epoch, parts, &BTreeMap::from([(0, 77)]), positions).unwrap()
}

fn write(store: &JobStore, snapshot: &JobSnapshot, last: Option<&Manifest>) -> Written {
    let positions = snapshot.positions.iter().map(|(scan, at)| (scan.clone(), at.clone().unwrap().0)).collect();
    let manifest = Manifest {
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
        ended: false,
        sink_token: None,
    };
    store.write(snapshot, manifest, last).unwrap()
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
