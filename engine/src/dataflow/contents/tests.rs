use std::collections::BTreeMap;

use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// What a row of one Int64 may cost in a changelog: its value, its hash, its weight, and its place in a full index.
const ROW_BYTES: usize = 8 + 12 + 1 + 12;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]))
}

fn delta(rows: &[(i64, i64)]) -> Delta {
    let values = Int64Array::from_iter_values(rows.iter().map(|(value, _)| *value));
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(values)]).unwrap();
    Delta::weighted(batch, Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight)))
}

fn values(batches: &[RecordBatch]) -> Vec<i64> {
    let mut values: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    values.sort_unstable();
    values
}

fn expected(model: &BTreeMap<i64, i64>) -> Vec<i64> {
    model.iter().flat_map(|(value, weight)| std::iter::repeat_n(*value, *weight as usize)).collect()
}

#[test]
fn random_changes_add_up_and_compaction_loses_nothing() {
    let mut random = StdRng::seed_from_u64(7);
    let mut contents = Contents::new(schema(), true);
    let mut model: BTreeMap<i64, i64> = BTreeMap::new();
    for round in 0..60 {
        let mut changes = Vec::new();
        let growing = round % 20 < 10;
        for _ in 0..2_000 {
            let value = random.random_range(0..20_000);
            let weight = model.entry(value).or_default();
            if growing || *weight == 0 {
                let by = random.random_range(1..3);
                *weight += by;
                changes.push((value, by));
            } else {
                changes.push((value, -*weight));
                *weight = 0;
            }
        }
        // Half are seen as changes on top of the contents, as a snapshot sees what is not yet taken in.
        let (first, second) = changes.split_at(1_000);
        contents.apply(&delta(first)).unwrap();
        let image = contents.image([delta(second)].iter()).unwrap();
        assert_eq!(values(&Image::rows(&[image]).unwrap()), expected(&model));
        contents.apply(&delta(second)).unwrap();
    }
    let live = model.values().filter(|weight| **weight > 0).count();
    assert_eq!(contents.live_rows(), live);
    let most = 2 * (live + BLOCK_ROWS) * ROW_BYTES;
    assert!(contents.bytes() <= most, "{} bytes for {live} rows", contents.bytes());

    let (mut from, mut pieces) = (0, Vec::new());
    while let Some((piece, next)) = contents.piece(from, 1_000).unwrap() {
        assert!(piece.num_rows() <= 1_000);
        pieces.push(piece);
        from = next;
    }
    let mut rows = Vec::new();
    repeat(&pieces, &mut rows).unwrap();
    assert_eq!(values(&rows), expected(&model));
}

#[test]
fn a_row_that_came_here_and_went_there_is_gone() {
    let (mut here, mut there) = (Contents::new(schema(), true), Contents::new(schema(), true));
    here.apply(&delta(&[(1, 2), (2, 1)])).unwrap();
    there.apply(&delta(&[(1, -1), (3, 1)])).unwrap();
    let images = [here.image(std::iter::empty()).unwrap(), there.image(std::iter::empty()).unwrap()];
    assert_eq!(values(&Image::rows(&images).unwrap()), [1, 2, 3]);
}

#[test]
fn append_only_blocks_own_their_bytes() {
    let big = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(0..100_000))]).unwrap();
    let mut contents = Contents::new(schema(), false);
    for start in 0..100 {
        contents.apply(&Delta::append(big.slice(start * 1_000, 10))).unwrap();
    }
    assert!(contents.bytes() < 100_000, "{} bytes for 1,000 rows", contents.bytes());
    let rows = Image::rows(&[contents.image(std::iter::empty()).unwrap()]).unwrap();
    assert_eq!(values(&rows), (0..100).flat_map(|start| start * 1_000..start * 1_000 + 10).collect::<Vec<i64>>());
    assert!(rows.len() <= 64, "{} blocks", rows.len());
}

/// A key, a value and a time: what a view of a running aggregate has. The figures are in `docs/operations.md`.
#[test]
fn a_row_of_a_changelog_costs_no_more_than_twice_its_columns() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]));
    let rows = |from: i64, value: i64, weight: i64| {
        let keys = Int64Array::from_iter_values(from..from + 4_096);
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(keys),
            Arc::new(Int64Array::from_value(value, 4_096)),
            Arc::new(TimestampMicrosecondArray::from_value(value, 4_096)),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        Delta::weighted(batch, Int64Array::from_value(weight, 4_096))
    };
    let mut contents = Contents::new(Arc::clone(&schema), true);
    let mut most = 0;
    for from in (0..512 * 4_096).step_by(4_096) {
        contents.apply(&rows(from, 0, 1)).unwrap();
        let each = contents.bytes() / contents.live_rows();
        // The first rows pay for tables that have room for more.
        most = if from < 100_000 { 0 } else { most.max(each) };
    }
    assert!(most <= 24 + 13 + 12, "{most} bytes a row at most");
    println!("{} bytes a row at {} rows", contents.bytes() / contents.live_rows(), contents.live_rows());
    // Every row is corrected twice: blocks are given up one by one.
    for value in 0..2 {
        for from in (0..512 * 4_096).step_by(4_096) {
            contents.apply(&rows(from, value, -1)).unwrap();
            contents.apply(&rows(from, value + 1, 1)).unwrap();
            most = most.max(contents.bytes() / contents.live_rows().max(1));
        }
    }
    assert_eq!(contents.live_rows(), 512 * 4_096);
    assert!(most <= 24 + 13 + 12, "{most} bytes a row at most");
}

/// What is told of changes adds up to what is there, whether deltas were taken in before or after they were told.
#[test]
fn changes_add_up_to_the_contents() {
    let add = |sums: &mut BTreeMap<i64, i64>, delta: &Delta| {
        for (row, value) in delta.rows().column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
            *sums.entry(*value).or_default() += delta.weight(row);
        }
        sums.retain(|_, sum| *sum != 0);
    };
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        // Few values die and come back; many fill blocks, which are given up.
        let values = if seed % 4 == 0 { 30_000 } else { 50 };
        let mut contents = Contents::new(schema(), true);
        let mut pending: std::collections::VecDeque<Delta> = std::collections::VecDeque::new();
        let (mut truth, mut told) = (BTreeMap::new(), BTreeMap::new());
        for round in 0..30 {
            let count = random.random_range(1..if values > 50 { 6_000 } else { 20 });
            let mut rows: Vec<(i64, i64)> = Vec::with_capacity(count);
            for _ in 0..count {
                rows.push((random.random_range(0..values), if random.random_bool(0.5) { 1 } else { -1 }));
            }
            add(&mut truth, &delta(&rows));
            pending.push_back(delta(&rows));
            while pending.len() > 3 || (!pending.is_empty() && random.random_bool(0.5)) {
                contents.apply(&pending.pop_front().unwrap()).unwrap();
            }
            match random.random_range(0..10) {
                0 => {
                    told.clear();
                    let whole = contents.image(pending.iter()).unwrap().deltas().unwrap();
                    whole.iter().for_each(|delta| add(&mut told, delta));
                    contents.note_changes(pending.iter()).unwrap();
                }
                1..5 => {
                    let changes = contents.changes(pending.iter()).unwrap();
                    changes.iter().for_each(|delta| add(&mut told, delta));
                }
                _ => continue,
            }
            assert_eq!(told, truth, "seed {seed}, round {round}");
        }
    }
}
