use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use uuid::Uuid;

use super::*;
use crate::error::Result;

fn definition(keyed: bool) -> TableDefinition {
    let column = |number: u32, name: &str| ColumnDefinition {
        number,
        name: name.to_owned(),
        sql_type: "BIGINT".to_owned(),
        not_null: false,
        default: None,
        generated: None,
        missing: None,
    };
    TableDefinition {
        columns: vec![column(0, "id"), column(1, "name")],
        primary_key: if keyed { vec![0] } else { Vec::new() },
        primary_key_name: "t_pkey".to_owned(),
        checks: Vec::new(),
        append_only: false,
        watermark: None,
        next_number: 2,
    }
}

fn rows(ids: &[i64]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|id| format!("row {id}")).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef, true),
        ("name", Arc::new(StringArray::from(names)) as ArrayRef, true),
    ])
    .unwrap()
}

fn open(store: &TableStore, id: Uuid, keyed: bool) -> Arc<Table> {
    Arc::new(store.table(id, "t", definition(keyed), rows(&[]).schema()).unwrap())
}

fn key(id: i64) -> Vec<u8> {
    key_of(&[0], &rows(&[id]), 0).unwrap()
}

fn put(view: &mut TableView, table: &Arc<Table>, id: i64) {
    let mut bytes = Vec::new();
    table.encode(&rows(&[id]), 0, &mut bytes).unwrap();
    view.set(table, key(id), Some(bytes)).unwrap();
}

fn commit(store: &TableStore, view: &TableView) -> Result<Option<Lsn>> {
    store.commit(store.writer_blocking(), view.pending(), true)
}

fn insert(store: &TableStore, table: &Arc<Table>, ids: &[i64]) -> Lsn {
    let mut view = store.view().unwrap();
    ids.iter().for_each(|id| put(&mut view, table, *id));
    commit(store, &view).unwrap().unwrap()
}

fn ids(view: &TableView, table: &Arc<Table>) -> Vec<i64> {
    let batches = RowBatches::new(view.clone(), table, &[0], None).unwrap();
    batches.flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[test]
fn rows_survive_and_lsns_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let id = Uuid::new_v4();
    let last = {
        let store = TableStore::open(Some(folder.path())).unwrap();
        let table = open(&store, id, true);
        insert(&store, &table, &[3, -1, 2]);
        insert(&store, &table, &[7])
    };
    let store = TableStore::open(Some(folder.path())).unwrap();
    let table = open(&store, id, true);
    assert_eq!(ids(&store.view().unwrap(), &table), [-1, 2, 3, 7]);
    assert_eq!(insert(&store, &table, &[8]), last + 1);
    store.remove(&table).unwrap();
    let mut view = store.view().unwrap();
    put(&mut view, &table, 1);
    assert!(commit(&store, &view).unwrap_err().message().contains("was dropped"));
}

#[test]
fn numbered_rows_go_on_behind_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let id = Uuid::new_v4();
    let add = |store: &TableStore, table: &Arc<Table>| {
        let mut view = store.view().unwrap();
        let mut bytes = Vec::new();
        table.encode(&rows(&[5]), 0, &mut bytes).unwrap();
        view.set(table, table.next_row(), Some(bytes)).unwrap();
        commit(store, &view).unwrap();
    };
    {
        let store = TableStore::open(Some(folder.path())).unwrap();
        let table = open(&store, id, false);
        add(&store, &table);
        add(&store, &table);
    }
    let store = TableStore::open(Some(folder.path())).unwrap();
    let table = open(&store, id, false);
    add(&store, &table);
    assert_eq!(ids(&store.view().unwrap(), &table), [5, 5, 5]);
}

#[test]
fn a_view_stands_still_and_shows_its_own_changes() {
    let store = TableStore::open(None).unwrap();
    let table = open(&store, Uuid::new_v4(), true);
    insert(&store, &table, &[1, 3, 5]);
    let mut view = store.view().unwrap();
    insert(&store, &table, &[4]);
    assert_eq!(ids(&view, &table), [1, 3, 5]);
    put(&mut view, &table, 0);
    put(&mut view, &table, 6);
    put(&mut view, &table, 2);
    view.set(&table, key(3), None).unwrap();
    view.set(&table, key(6), None).unwrap();
    assert_eq!(ids(&view, &table), [0, 1, 2, 5]);
    assert!(view.get(&table, &key(3)).unwrap().is_none());
    assert!(view.get(&table, &key(2)).unwrap().is_some());
    commit(&store, &view).unwrap();
    assert_eq!(ids(&store.view().unwrap(), &table), [0, 1, 2, 4, 5]);
}

#[test]
fn two_that_change_one_row_conflict() {
    let store = TableStore::open(None).unwrap();
    let table = open(&store, Uuid::new_v4(), true);
    insert(&store, &table, &[1, 2]);
    let (mut first, mut second, mut third) = (store.view().unwrap(), store.view().unwrap(), store.view().unwrap());
    first.set(&table, key(1), None).unwrap();
    second.set(&table, key(1), None).unwrap();
    third.set(&table, key(2), None).unwrap();
    commit(&store, &first).unwrap();
    assert_eq!(commit(&store, &second).unwrap_err().code(), Some("40001"));
    commit(&store, &third).unwrap();
    assert!(ids(&store.view().unwrap(), &table).is_empty());
}

#[test]
fn a_reader_finds_every_change_after_its_snapshot() {
    let store = Arc::new(TableStore::open(None).unwrap());
    let table = open(&store, Uuid::new_v4(), true);
    insert(&store, &table, &[1]);
    let (view, reading) = store.begin_reading(&table, 1, None).unwrap();
    assert_eq!(ids(&view, &table), [1]);
    let from = view.lsn() + 1;
    insert(&store, &table, &[2]);
    let mut view = store.view().unwrap();
    view.set(&table, key(1), None).unwrap();
    put(&mut view, &table, 2);
    put(&mut view, &table, 3);
    let last = commit(&store, &view).unwrap().unwrap();
    let log = |from, to| -> Vec<(bool, Vec<u8>)> {
        reading.log(from..=to).map(|entry| entry.map(|entry| (entry.is_added, entry.key)).unwrap()).collect()
    };
    assert_eq!(log(from, from), [(true, key(2))]);
    // What stays as it was is no change.
    assert_eq!(log(last, last), [(false, key(1)), (true, key(3))]);
    assert!(reading.has_more(from) && !reading.has_more(last));
    // What was read goes, from time to time.
    reading.advance(0, last);
    let more: Vec<Lsn> = (10..200).map(|id| insert(&store, &table, &[id])).collect();
    assert!(log(from, last).is_empty());
    assert_eq!(log(last + 1, *more.last().unwrap()).len(), 190);
}

#[test]
fn a_key_in_a_condition_is_looked_up() {
    use datafusion::logical_expr::{col, lit};
    let store = TableStore::open(None).unwrap();
    let table = open(&store, Uuid::new_v4(), true);
    insert(&store, &table, &[1, 2, 3, 4]);
    let looked_up = |filters: &[datafusion::logical_expr::Expr]| -> Option<Vec<i64>> {
        let keys = lookup_keys(&table, filters)?;
        let rows = RowBatches::new(store.view().unwrap(), &table, &[0], Some(keys)).unwrap();
        Some(rows.flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect())
    };
    assert_eq!(looked_up(&[col("id").eq(lit(2_i64))]), Some(vec![2]));
    assert_eq!(looked_up(&[col("name").eq(lit("x")).and(lit(9_i64).eq(col("id")))]), Some(vec![]));
    let list = vec![lit(4_i64), lit(1_i64), lit(4_i64)];
    assert_eq!(looked_up(&[col("id").in_list(list, false)]), Some(vec![1, 4]));
    assert_eq!(looked_up(&[col("id").eq(lit(1_i64)).or(col("id").eq(lit(3_i64)))]), Some(vec![1, 3]));
    assert_eq!(looked_up(&[col("id").eq(lit(1_i64)).or(col("name").eq(lit("x")))]), None);
    assert_eq!(looked_up(&[col("id").gt(lit(2_i64))]), None);
    assert_eq!(looked_up(&[col("id").eq(lit(2_i32))]), None);
}
