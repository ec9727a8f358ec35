//! Which rows are late, exactly, and what is released when.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::harness::{Pool, Value, flow_plan, lowered, values};
use super::windowed::window_plan;
use crate::plan::flow::{Emit, FlowOp, FlowPlan, WindowSpec};
use crate::time::WatermarkId;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

/// Rows of key 1 at these times.
fn rows(times: &[Option<i64>]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_value(1, times.len()));
    RecordBatch::try_new(schema(), vec![keys, Arc::new(TimestampMicrosecondArray::from(times.to_vec()))]).unwrap()
}

fn at(times: &[i64]) -> RecordBatch {
    rows(&times.iter().copied().map(Some).collect::<Vec<_>>())
}

/// (window start, window end, count) of what stands, in microseconds.
fn standing(pool: &Pool) -> Vec<(i64, i64, i64)> {
    let mut all: Vec<_> = pool.contents.keys().map(|row| (micros(&row[0]), micros(&row[1]), number(&row[3]))).collect();
    all.sort_unstable();
    all
}

fn micros(value: &Value) -> i64 {
    let Value::Text(text) = value else { panic!("a time") };
    let times = arrow::compute::cast(
        &arrow::array::StringArray::from(vec![text.as_str()]),
        &DataType::Timestamp(TimeUnit::Microsecond, None),
    );
    times.unwrap().as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap().value(0)
}

fn number(value: &Value) -> i64 {
    let Value::Text(text) = value else { panic!("a number") };
    text.parse().unwrap()
}

fn plan(window: WindowSpec, emit: Emit, delay: i64) -> FlowPlan {
    window_plan(&schema(), window, "k", "count(*)", emit, delay).unwrap()
}

/// One worker whole, and three with halves: the rules are the same.
fn pools(window: WindowSpec, emit: Emit, delay: i64) -> Vec<Pool> {
    vec![
        Pool::new(plan(window, emit, delay), 1, false),
        Pool::new(plan(window, emit, delay), 3, true),
        Pool::new(plan(window, emit, delay), 2, true).with_fuel(1),
    ]
}

const TUMBLE: WindowSpec = WindowSpec::Tumble { size: 10, offset: 0 };
const HOP: WindowSpec = WindowSpec::Hop { slide: 5, size: 10, offset: 0 };

#[test]
fn a_window_closes_when_the_watermark_reaches_its_end_and_not_before() {
    let random = &mut StdRng::seed_from_u64(1);
    for mut pool in pools(TUMBLE, Emit::AfterWatermark, 0) {
        pool.epoch(random, &[at(&[1, 9, -1])], Some(-10));
        assert_eq!(standing(&pool), vec![]);
        pool.epoch(random, &[], Some(9));
        assert_eq!(standing(&pool), vec![(-10, 0, 1)]);
        pool.epoch(random, &[], Some(10));
        assert_eq!(standing(&pool), vec![(-10, 0, 1), (0, 10, 2)]);
        assert_eq!((pool.late, pool.state_rows()), (0, 0));
    }
}

#[test]
fn late_is_judged_by_the_watermark_of_the_previous_epoch() {
    let random = &mut StdRng::seed_from_u64(2);
    for emit in [Emit::AfterWatermark, Emit::OnChange] {
        for mut pool in pools(TUMBLE, emit, 0) {
            pool.epoch(random, &[at(&[1])], Some(5));
            // The watermark of this epoch's own end closes the window, but only after its rows.
            pool.epoch(random, &[at(&[2])], Some(10));
            assert_eq!(standing(&pool), vec![(0, 10, 2)]);
            pool.epoch(random, &[at(&[3, 4, 11]), rows(&[None])], Some(10));
            assert_eq!(pool.late, 2, "a row without a time is in no window and not late");
            pool.epoch(random, &[at(&[9])], Some(20));
            assert_eq!(pool.late, 3);
            assert_eq!(standing(&pool), vec![(0, 10, 2), (10, 20, 1)]);
        }
    }
}

#[test]
fn the_delay_holds_windows_open() {
    let random = &mut StdRng::seed_from_u64(3);
    for mut pool in pools(TUMBLE, Emit::AfterWatermark, 3) {
        pool.epoch(random, &[at(&[1])], Some(12));
        pool.epoch(random, &[at(&[2])], Some(12));
        assert_eq!((standing(&pool), pool.late), (vec![], 0));
        pool.epoch(random, &[], Some(13));
        assert_eq!(standing(&pool), vec![(0, 10, 2)]);
        pool.epoch(random, &[at(&[2])], Some(13));
        assert_eq!(pool.late, 1);
    }
}

#[test]
fn a_row_late_for_some_windows_counts_in_the_others() {
    let random = &mut StdRng::seed_from_u64(4);
    for emit in [Emit::AfterWatermark, Emit::OnChange] {
        for mut pool in pools(HOP, emit, 0) {
            pool.epoch(random, &[at(&[7])], Some(10));
            // [0, 10) is over; [5, 15) is not.
            pool.epoch(random, &[at(&[8])], Some(14));
            assert_eq!(pool.late, 0);
            // 3 was only in windows that are over.
            pool.epoch(random, &[at(&[3])], Some(15));
            assert_eq!(pool.late, 1);
            assert_eq!(standing(&pool), vec![(0, 10, 1), (5, 15, 2)]);
            assert_eq!(pool.state_rows(), 0);
        }
    }
}

#[test]
fn hops_longer_than_their_windows_leave_gaps_whose_rows_are_not_late() {
    let random = &mut StdRng::seed_from_u64(5);
    let window = WindowSpec::Hop { slide: 10, size: 4, offset: 0 };
    for emit in [Emit::AfterWatermark, Emit::OnChange] {
        for mut pool in pools(window, emit, 0) {
            pool.epoch(random, &[at(&[1, 5, 9, 12])], Some(30));
            pool.epoch(random, &[at(&[6, 3])], Some(30));
            assert_eq!((standing(&pool), pool.late), (vec![(0, 4, 1), (10, 14, 1)], 1));
        }
    }
}

#[test]
fn a_restart_remembers_what_is_over() {
    let random = &mut StdRng::seed_from_u64(6);
    for emit in [Emit::AfterWatermark, Emit::OnChange] {
        for window in [TUMBLE, HOP, WindowSpec::Cumulate { step: 5, size: 10, offset: 0 }] {
            for mut pool in pools(window, emit, 0) {
                pool.epoch(random, &[at(&[1, 2, 12])], Some(10));
                pool.restart(if pool.late == 0 { 2 } else { 1 });
                pool.epoch(random, &[at(&[3])], Some(10));
                assert_eq!(pool.late, 1, "{window:?} {emit:?}");
                pool.epoch(random, &[], Some(i64::MAX));
                assert!(standing(&pool).contains(&(10, 20, 1)), "{window:?} {emit:?}");
                assert!(!standing(&pool).iter().any(|(start, _, count)| *start == 0 && *count > 2));
            }
        }
    }
}

#[test]
fn times_at_the_ends_of_time_do_no_harm() {
    let random = &mut StdRng::seed_from_u64(7);
    for window in [TUMBLE, HOP, WindowSpec::Cumulate { step: 5, size: 10, offset: -3 }] {
        let mut pool = Pool::new(plan(window, Emit::AfterWatermark, 1), 1, false);
        pool.epoch(random, &[at(&[i64::MIN, i64::MIN + 7, i64::MAX, i64::MAX - 9])], Some(i64::MIN));
        let rows = pool.state_rows();
        assert!(rows > 0);
        assert!(pool.late <= 2, "what lies before the first watermark that can be");
    }
}

/// GROUP BY a time that grows with the watermark.
fn closing_plan(emit: Emit) -> FlowPlan {
    let sql = "SELECT ts, count(*) FROM t GROUP BY ts";
    let aggregate = lowered(&schema(), sql).unwrap();
    let op = FlowOp::Aggregate {
        group: aggregate.group_expr.clone(),
        aggregates: aggregate.aggr_expr.clone(),
        closes: Some((0, WatermarkId(0), 2)),
        emit,
    };
    flow_plan(aggregate.input.schema(), op, aggregate.schema.as_ref().clone(), emit == Emit::OnChange)
}

#[test]
fn groups_that_grow_with_the_watermark_are_shown_and_released() {
    let random = &mut StdRng::seed_from_u64(8);
    for (workers, halves) in [(1, false), (2, false), (3, true)] {
        for emit in [Emit::AfterWatermark, Emit::OnChange] {
            let mut pool = Pool::new(closing_plan(emit), workers, halves);
            let shown = |pool: &Pool| pool.contents.len();
            pool.epoch(random, &[at(&[10, 10, 11]), rows(&[None])], Some(12));
            assert_eq!(shown(&pool), if emit == Emit::OnChange { 3 } else { 0 });
            pool.restart(workers);
            // 10 lies below 13 − 2; 11 does not.
            pool.epoch(random, &[at(&[10])], Some(13));
            assert_eq!((shown(&pool), pool.state_rows()), (if emit == Emit::OnChange { 3 } else { 1 }, 2));
            pool.epoch(random, &[at(&[10, 11])], Some(13));
            assert_eq!(pool.late, 1);
            pool.restart(workers);
            pool.epoch(random, &[at(&[10, 11])], Some(i64::MAX));
            assert_eq!((pool.late, pool.state_rows(), shown(&pool)), (2, 0, 3));
            let counts: Vec<i64> = pool.answer().iter().map(|row| number(&row[1])).collect();
            assert_eq!(counts.iter().sum::<i64>(), 3 + 3 + 1, "{emit:?}: {:?}", pool.answer());
        }
    }
}

#[test]
fn an_aggregate_of_everything_has_a_row_before_any_input() {
    let random = &mut StdRng::seed_from_u64(9);
    let aggregate = lowered(&schema(), "SELECT count(*), max(k) FROM t").unwrap();
    let op = FlowOp::Aggregate {
        group: vec![],
        aggregates: aggregate.aggr_expr.clone(),
        closes: None,
        emit: Emit::OnChange,
    };
    for (workers, halves) in [(1, false), (1, true), (3, true)] {
        let plan = flow_plan(aggregate.input.schema(), op.clone(), aggregate.schema.as_ref().clone(), true);
        let mut pool = Pool::new(plan, workers, halves);
        let row = |pool: &Pool| pool.answer().iter().map(|row| format!("{row:?}")).collect::<Vec<_>>();
        pool.epoch(random, &[], None);
        assert_eq!(row(&pool), vec![r#"[Text("0"), Text("NULL")]"#]);
        pool.restart(workers);
        pool.epoch(random, &[at(&[1, 2])], None);
        assert_eq!(row(&pool), vec![r#"[Text("2"), Text("1")]"#]);
    }
}

#[test]
fn sums_beyond_their_type_are_errors_but_only_when_read() {
    let schema = Arc::new(Schema::new(vec![Field::new("i", DataType::Int64, true)]));
    let aggregate = lowered(&schema, "SELECT sum(i) FROM t").unwrap();
    let op = FlowOp::Aggregate {
        group: vec![],
        aggregates: aggregate.aggr_expr.clone(),
        closes: None,
        emit: Emit::OnChange,
    };
    let plan = flow_plan(aggregate.input.schema(), op, aggregate.schema.as_ref().clone(), true);
    let batch = |numbers: Vec<i64>| {
        RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(numbers)) as _]).unwrap()
    };
    let watermarks = crate::time::Watermarks::none(1);
    let context = crate::operator::EpochContext { epoch: 1, now_micros: 0, watermarks: &watermarks };
    let mut out = crate::operator::Output::default();
    let mut operator = super::super::build(&plan, 1, crate::operator::build::Role::Whole).unwrap();
    let _ = operator.on_delta(0, crate::Delta::append(batch(vec![i64::MAX, i64::MAX, -i64::MAX])), &mut out).unwrap();
    let _ = operator.on_epoch_end(&context, &mut out).unwrap();
    let (deltas, _) = out.take();
    assert_eq!(values(deltas[0].rows()), vec![vec![Value::Text(i64::MAX.to_string())]]);
    let _ = operator.on_delta(0, crate::Delta::append(batch(vec![1])), &mut out).unwrap();
    let error = operator.on_epoch_end(&context, &mut out).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Data);
    assert!(error.message().contains("out of its type's range"));
}

#[test]
fn state_of_another_query_is_refused() {
    let plan = closing_plan(Emit::OnChange);
    let other = plan_of("SELECT k, count(*) FROM t GROUP BY k");
    let mut operator = super::super::build(&plan, 1, crate::operator::build::Role::Whole).unwrap();
    let mut out = crate::operator::Output::default();
    let _ = operator.on_delta(0, crate::Delta::append(at(&[1])), &mut out).unwrap();
    let parts = operator.snapshot().unwrap();
    let mut operator = super::super::build(&other, 1, crate::operator::build::Role::Whole).unwrap();
    assert!(operator.restore(parts).unwrap_err().message().contains("state"));
}

fn plan_of(sql: &str) -> FlowPlan {
    super::running::running_plan(&schema(), sql).unwrap()
}

#[test]
fn late_rows_correct_a_window_for_as_long_as_is_allowed() {
    let random = &mut StdRng::seed_from_u64(9);
    for (workers, halves) in [(1, false), (3, true)] {
        let mut plan = plan(TUMBLE, Emit::OnChange, 20);
        if let FlowOp::WindowAggregate { shown_from, .. } = &mut plan.nodes[1].op {
            *shown_from = Some((WatermarkId(0), 0));
        }
        let mut pool = Pool::new(plan, workers, halves);
        pool.epoch(random, &[at(&[1, 9, -1])], Some(-10));
        assert_eq!(standing(&pool), vec![], "nothing is shown before the watermark");
        pool.restart(2);
        pool.epoch(random, &[], Some(9));
        assert_eq!(standing(&pool), vec![(-10, 0, 1)]);
        pool.epoch(random, &[at(&[3])], Some(12));
        assert_eq!(standing(&pool), vec![(-10, 0, 1), (0, 10, 3)]);
        pool.restart(1);
        pool.epoch(random, &[at(&[2, -5])], Some(25));
        assert_eq!((standing(&pool), pool.late), (vec![(-10, 0, 2), (0, 10, 4)], 0));
        pool.epoch(random, &[], Some(35));
        pool.epoch(random, &[at(&[4])], Some(36));
        assert_eq!((standing(&pool), pool.late), (vec![(-10, 0, 2), (0, 10, 4)], 1));
        assert_eq!(pool.state_rows(), 0);
    }
}
