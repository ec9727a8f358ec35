use std::collections::BTreeMap;

use arrow::array::StringViewArray;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::operator::change::Written;
use crate::time::Watermarks;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8View, true)]))
}

type Row = (Option<i64>, Option<&'static str>);

fn delta(rows: &[(Row, i64)], weighted: bool) -> Delta {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|((n, _), _)| *n)));
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter(rows.iter().map(|((_, s), _)| *s)));
    let batch = batch(&schema(), vec![numbers, texts], rows.len()).unwrap();
    let weights = weighted.then(|| Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight)));
    Delta::new(batch, weights)
}

fn random_row(rng: &mut SmallRng) -> Row {
    let texts = [None, Some("a"), Some("a text that does not fit a view")];
    ((!rng.random_bool(0.2)).then(|| rng.random_range(0..3)), texts[rng.random_range(0..3)])
}

fn end(set: &mut SetOperation) -> Vec<Delta> {
    let watermarks = Watermarks::none(0);
    let context = EpochContext { epoch: 1, now_micros: 0, watermarks: &watermarks };
    let mut out = Output::with_fuel(1);
    let mut step = set.on_epoch_end(&context, &mut out).unwrap();
    let mut deltas = out.take().0;
    while step == Step::Yield {
        step = set.resume(&mut out).unwrap();
        deltas.extend(out.take().0);
    }
    deltas
}

/// Adds a delta's rows; each may stand in it once, with a weight that is not zero.
fn add(sums: &mut BTreeMap<String, i64>, delta: &Delta) {
    let mut seen = Vec::new();
    for row in 0..delta.num_rows() {
        let text = format!("{:?}", delta.rows().slice(row, 1).columns());
        if delta.weights().is_some() {
            assert!(!seen.contains(&text), "a row stands in a delta twice");
            assert_ne!(delta.weight(row), 0);
        }
        *sums.entry(text.clone()).or_default() += delta.weight(row);
        seen.push(text);
    }
    sums.retain(|_, count| *count != 0);
}

fn expected(kind: SetKind, contents: &[BTreeMap<Row, i64>; 2]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (row, left) in &contents[0] {
        let right = contents[1].get(row).copied().unwrap_or(0);
        let times = match kind {
            SetKind::Distinct => 1,
            SetKind::Intersect { all: true } => std::cmp::min(*left, right),
            SetKind::Intersect { all: false } => i64::from(right > 0),
            SetKind::Except { all: true } => std::cmp::max(left - right, 0),
            SetKind::Except { all: false } => i64::from(right == 0),
        };
        if times > 0 {
            let delta = delta(&[(*row, times)], true);
            add(&mut sums, &delta);
        }
    }
    sums
}

const KINDS: [SetKind; 5] = [
    SetKind::Distinct,
    SetKind::Intersect { all: true },
    SetKind::Intersect { all: false },
    SetKind::Except { all: true },
    SetKind::Except { all: false },
];

#[test]
fn random_changes_sum_to_the_definition() {
    for kind in KINDS {
        for seed in 0..30 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut set = SetOperation::new(kind, schema(), true).unwrap();
            let mut contents = [BTreeMap::<Row, i64>::new(), BTreeMap::new()];
            let mut sums = BTreeMap::new();
            let mut written = Written::default();
            for _ in 0..12 {
                for _ in 0..rng.random_range(0..6) {
                    let input = if kind == SetKind::Distinct { 0 } else { rng.random_range(0..2) };
                    let rows: Vec<(Row, i64)> = (0..rng.random_range(1..5))
                        .map(|_| {
                            let row = random_row(&mut rng);
                            let there = contents[input].entry(row).or_default();
                            let weight = rng.random_range(-*there..3).clamp(-2, 2);
                            *there += weight;
                            (row, weight)
                        })
                        .collect();
                    contents[input].retain(|_, count| *count != 0);
                    let _ = set.on_delta(input, delta(&rows, true), &mut Output::default()).unwrap();
                }
                for delta in end(&mut set) {
                    add(&mut sums, &delta);
                }
                assert_eq!(sums, expected(kind, &contents), "{kind:?}, seed {seed}");
                let rows: std::collections::BTreeSet<_> = contents.iter().flat_map(BTreeMap::keys).collect();
                assert_eq!(set.state_size().rows, rows.len());
                if rng.random_bool(0.6) {
                    written.write(&mut set, rng.random_bool(0.9));
                    if rng.random_bool(0.5) {
                        set = SetOperation::new(kind, schema(), true).unwrap();
                        set.restore(written.parts()).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn what_changes_nothing_says_nothing() {
    let mut set = SetOperation::new(SetKind::Except { all: false }, schema(), true).unwrap();
    let row = (Some(1), Some("a"));
    let _ = set.on_delta(0, delta(&[(row, 3)], true), &mut Output::default()).unwrap();
    assert_eq!(end(&mut set).iter().map(Delta::num_rows).sum::<usize>(), 1);
    let _ = set.on_delta(0, delta(&[(row, -2)], true), &mut Output::default()).unwrap();
    let _ = set.on_delta(1, delta(&[(row, 1)], true), &mut Output::default()).unwrap();
    let _ = set.on_delta(1, delta(&[(row, -1)], true), &mut Output::default()).unwrap();
    assert!(end(&mut set).is_empty());
}

#[test]
fn rows_that_only_come_need_no_weights() {
    let mut set = SetOperation::new(SetKind::Intersect { all: true }, schema(), false).unwrap();
    let row = (None, Some("a"));
    let _ = set.on_delta(0, delta(&[(row, 1), (row, 1), (row, 1)], false), &mut Output::default()).unwrap();
    let _ = set.on_delta(1, delta(&[(row, 1), (row, 1)], false), &mut Output::default()).unwrap();
    let deltas = end(&mut set);
    assert!(deltas.iter().all(|delta| delta.weights().is_none()));
    assert_eq!(deltas.iter().map(Delta::num_rows).sum::<usize>(), 2);
}

#[test]
fn a_state_of_another_shape_is_refused() {
    let mut set = SetOperation::new(SetKind::Distinct, schema(), true).unwrap();
    let part = StatePart { name: ROWS.to_owned(), rows: delta(&[((None, None), 1)], false).rows().clone() };
    assert_eq!(set.restore(vec![part]).unwrap_err().kind(), ErrorKind::InvalidState);
}

#[test]
fn rows_below_the_watermark_are_let_go_and_come_too_late() {
    use arrow::array::TimestampMicrosecondArray;
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true)]));
    let rows = |times: std::ops::Range<i64>| {
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times.clone()));
        Delta::append(batch(&schema, vec![column], times.count()).unwrap())
    };
    let build = || {
        let set = SetOperation::new(SetKind::Intersect { all: false }, Arc::clone(&schema), false).unwrap();
        set.closing(Some((0, WatermarkId(0), 1000)), vec![true, true])
    };
    let end_at = |set: &mut SetOperation, at: i64| {
        let mut watermarks = Watermarks::none(1);
        watermarks.advance(WatermarkId(0), at);
        let context = EpochContext { epoch: 1, now_micros: 0, watermarks: &watermarks };
        assert_eq!(set.on_epoch_end(&context, &mut Output::default()).unwrap(), Step::Done);
    };
    let mut set = build();
    let _ = set.on_delta(0, rows(0..10_000), &mut Output::default()).unwrap();
    end_at(&mut set, 9_000);
    assert_eq!(set.state_size().rows, 2_000);
    let parts = set.snapshot().unwrap();
    let mut set = build();
    set.restore(parts).unwrap();
    let mut out = Output::default();
    let _ = set.on_delta(1, rows(7_999..8_001), &mut out).unwrap();
    assert_eq!(out.take().1, 1);
    assert_eq!(end(&mut set).iter().map(Delta::num_rows).sum::<usize>(), 1);
    end_at(&mut set, i64::MAX);
    assert_eq!(set.state_size().rows, 0);
}

#[test]
fn the_right_side_may_have_nulls_where_the_left_has_none() {
    let field = |nullable| Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, nullable)]));
    let rows = |numbers: Vec<Option<i64>>, nullable| {
        let column: ArrayRef = Arc::new(Int64Array::from(numbers));
        let count = column.len();
        Delta::append(batch(&field(nullable), vec![column], count).unwrap())
    };
    let build = || SetOperation::new(SetKind::Except { all: false }, field(false), true).unwrap();
    let mut set = build();
    let _ = set.on_delta(0, rows(vec![Some(1), Some(2)], false), &mut Output::default()).unwrap();
    let _ = set.on_delta(1, rows(vec![Some(2), None], true), &mut Output::default()).unwrap();
    assert_eq!(end(&mut set).iter().map(Delta::num_rows).sum::<usize>(), 1);
    let parts = set.snapshot().unwrap();
    let mut set = build();
    set.restore(parts).unwrap();
    assert_eq!(set.state_size().rows, 3);
}
