//! Outer, semi, anti and mark joins.

use super::*;

/// Each kind of join, and how SQL says it.
pub(super) const KINDS: [(JoinKind, &str); 7] = [
    (JoinKind::Inner, "SELECT * FROM l JOIN r ON {}"),
    (JoinKind::Left, "SELECT * FROM l LEFT JOIN r ON {}"),
    (JoinKind::Right, "SELECT * FROM l RIGHT JOIN r ON {}"),
    (JoinKind::Full, "SELECT * FROM l FULL JOIN r ON {}"),
    (JoinKind::LeftSemi, "SELECT * FROM l WHERE EXISTS (SELECT 1 FROM r WHERE {})"),
    (JoinKind::LeftAnti, "SELECT * FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE {})"),
    (
        JoinKind::LeftMark,
        "SELECT *, true AS mark FROM l WHERE EXISTS (SELECT 1 FROM r WHERE {})
         UNION ALL SELECT *, false FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE {})",
    ),
];

/// At the end of every epoch, for every kind: the sum of what was said is the batch answer.
#[test]
fn every_kind_says_the_batch_answer_at_every_epoch() {
    for (number, case) in cases().iter().enumerate() {
        for (kind, sql) in KINDS {
            for seed in 0..2 {
                let mut rng = SmallRng::seed_from_u64(seed);
                let mut join = case.join_of(kind);
                let mut contents = [Vec::new(), Vec::new()];
                let mut counts = BTreeMap::new();
                let mut written = Written::default();
                for epoch in 0..5 {
                    random_epoch(&mut join, case, &mut rng, &mut contents, &mut counts);
                    let expected = batch_answer(&contents, &sql.replace("{}", case.sql));
                    assert_eq!(counts, expected, "{kind:?}, case {number}, seed {seed}, epoch {epoch}");
                    if rng.random_bool(0.6) {
                        written.write(&mut join, rng.random_bool(0.9));
                        if rng.random_bool(0.5) {
                            join = case.join_of(kind);
                            join.restore(written.parts()).unwrap();
                        }
                    }
                }
            }
        }
    }
}

/// One that comes twice at once where it has gone once before.
#[test]
fn a_row_may_go_before_it_comes() {
    for (kind, sql) in KINDS {
        let case = &cases()[2];
        let (mut join, mut counts) = (case.join_of(kind), BTreeMap::new());
        let row = |v| (Some(1), None, None, v);
        feed(&mut join, 0, Delta::weighted(rows(&[row(1)]), Int64Array::from(vec![-1])), &mut counts);
        feed(&mut join, 0, Delta::append(rows(&[row(1), row(1), row(1)])), &mut counts);
        feed(&mut join, 1, Delta::append(rows(&[row(2)])), &mut counts);
        settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
        let contents = [vec![row(1), row(1)], vec![row(2)]];
        assert_eq!(counts, batch_answer(&contents, &sql.replace("{}", case.sql)), "{kind:?}");
    }
}

#[test]
fn what_changes_nothing_says_nothing() {
    for (kind, _) in KINDS.into_iter().filter(|(kind, _)| *kind != JoinKind::Inner) {
        let case = &cases()[2];
        let mut join = case.join_of(kind);
        let mut counts = BTreeMap::new();
        let row = |key, v| rows(&[(key, None, None, v)]);
        for input in 0..2 {
            feed(&mut join, input, Delta::append(row(Some(1), input as i64)), &mut counts);
            feed(&mut join, input, Delta::append(row(None, 1)), &mut counts);
        }
        settle_epoch(&mut join, &Watermarks::none(0), &mut counts);
        let weighted = |rows, weight| Delta::weighted(rows, Int64Array::from(vec![weight]));
        // A row comes and goes, on either side, with and without a key; a match is lost and another one found.
        let mut out = Output::default();
        for input in 0..2 {
            for weight in [1, -1] {
                let _ = join.on_delta(input, weighted(row(Some(1), 7), weight), &mut out).unwrap();
                let _ = join.on_delta(input, weighted(row(None, 7), weight), &mut out).unwrap();
            }
        }
        if !kind.has_pairs() {
            let _ = join.on_delta(1, weighted(row(Some(1), 1), -1), &mut out).unwrap();
            let _ = join.on_delta(1, weighted(row(Some(1), 5), 1), &mut out).unwrap();
        }
        assert!(out.take().0.is_empty(), "{kind:?}");
        assert!(end_epoch_saying(&mut join, &Watermarks::none(0)).is_empty(), "{kind:?}");
    }
}

/// A join of windows by their ends that shows rows without a match when none can come.
fn join_of_final_rows(kind: JoinKind) -> Join {
    let time = |watermark| vec![TimeColumn { column: 0, watermark: WatermarkId(watermark), delay_micros: 0 }];
    let left = node("l", &windows(), false, time(0));
    let right = node("r", &windows(), false, time(1));
    let on = vec![(col("l.window_end"), col("r.window_end"))];
    let op = FlowOp::Join { kind, on, residual: None, null_equals_null: false, emit: Emit::AfterWatermark };
    Join::new(&left, &right, &join_node(&left, &right, op)).unwrap()
}

#[test]
fn rows_without_a_match_are_shown_once_when_none_can_come() {
    for kind in [JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::LeftAnti, JoinKind::LeftMark] {
        let mut join = join_of_final_rows(kind);
        let mut counts = BTreeMap::new();
        feed(&mut join, 0, Delta::append(window_rows(&[(10, 1), (20, 2), (30, 3)])), &mut counts);
        feed(&mut join, 1, Delta::append(window_rows(&[(10, 1), (25, 2), (30, 3)])), &mut counts);
        let pairs = if kind.has_pairs() { 2 } else { 0 };
        assert_eq!(counts.len(), pairs);
        let mut watermarks = Watermarks::none(2);
        settle_epoch(&mut join, &watermarks, &mut counts);
        let marked = if kind == JoinKind::LeftMark { 2 } else { 0 };
        assert_eq!(counts.len(), pairs + marked);
        let parts = join.snapshot().unwrap();
        join = join_of_final_rows(kind);
        join.restore(parts).unwrap();
        // Each side's rows wait for the other side's watermark.
        watermarks.advance(WatermarkId(1), 24_000);
        settle_epoch(&mut join, &watermarks, &mut counts);
        let (of_left, of_right) = (usize::from(kind.shows_unmatched(0)), usize::from(kind.shows_unmatched(1)));
        assert_eq!(counts.len(), pairs + marked + of_left, "{kind:?}");
        watermarks.advance(WatermarkId(0), 31_000);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(counts.len(), pairs + marked + of_left + of_right, "{kind:?}");
        watermarks.advance(WatermarkId(1), i64::MAX);
        settle_epoch(&mut join, &watermarks, &mut counts);
        assert_eq!(counts.len(), pairs + marked + of_left + of_right, "{kind:?}: {counts:?}");
        assert_eq!(join.state_size().rows, 0);
    }
}

#[test]
fn a_row_without_a_match_is_shown_at_once_when_the_other_side_has_ended_before() {
    for (kind, input) in [(JoinKind::Left, 0), (JoinKind::Right, 1), (JoinKind::Full, 0), (JoinKind::Full, 1)] {
        let mut join = join_of_final_rows(kind);
        let mut counts = BTreeMap::new();
        let mut watermarks = Watermarks::none(2);
        watermarks.advance(WatermarkId(1 - input), i64::MAX);
        settle_epoch(&mut join, &watermarks, &mut counts);
        for end in [10, 20] {
            feed(&mut join, input as usize, Delta::append(window_rows(&[(end, 1)])), &mut counts);
            settle_epoch(&mut join, &watermarks, &mut counts);
        }
        assert_eq!((counts.len(), join.state_size().rows), (2, 0), "{kind:?}");
    }
}

#[test]
fn an_interval_lets_rows_go_by_its_bounds() {
    let time = |watermark| vec![TimeColumn { column: 0, watermark: WatermarkId(watermark), delay_micros: 0 }];
    let left = node("l", &windows(), false, time(0));
    let right = node("r", &windows(), false, time(1));
    let (l, r) = (col("l.window_end"), col("r.window_end"));
    let interval = |millis: i32| {
        lit(datafusion::scalar::ScalarValue::IntervalMonthDayNano(Some(
            arrow::datatypes::IntervalMonthDayNanoType::make_value(0, 0, i64::from(millis) * 1_000_000),
        )))
    };
    // The right row is at most 20 ms before and at most 10 ms after the left one.
    let near = l.clone().lt_eq(r.clone() + interval(20)).and(l.gt_eq(r - interval(10)));
    let op = FlowOp::Join {
        kind: JoinKind::Left,
        on: vec![(col("l.v"), col("r.v"))],
        residual: Some(near),
        null_equals_null: false,
        emit: Emit::OnChange,
    };
    let mut join = Join::new(&left, &right, &join_node(&left, &right, op)).unwrap();
    let mut counts = BTreeMap::new();
    feed(&mut join, 0, Delta::append(window_rows(&[(100, 1), (130, 1)])), &mut counts);
    feed(&mut join, 1, Delta::append(window_rows(&[(79, 1), (80, 1), (110, 1), (111, 1), (150, 1)])), &mut counts);
    let mut watermarks = Watermarks::none(2);
    settle_epoch(&mut join, &watermarks, &mut counts);
    // 100 meets 80 and 110, 130 meets 110 and 111.
    assert_eq!((counts.len(), join.state_size().rows), (4, 7));
    // A left row meets nothing from 10 ms after it on, a right row from 20 ms.
    watermarks.advance(WatermarkId(1), 110_000);
    settle_epoch(&mut join, &watermarks, &mut counts);
    assert_eq!(join.state_size().rows, 7);
    watermarks.advance(WatermarkId(1), 110_001);
    settle_epoch(&mut join, &watermarks, &mut counts);
    assert_eq!(join.state_size().rows, 6);
    watermarks.advance(WatermarkId(0), 130_001);
    settle_epoch(&mut join, &watermarks, &mut counts);
    assert_eq!(join.state_size().rows, 3, "131 - 20 = 111 is the first that stays: 111, 150, and the left 130");
    // Late rows are those below their own side's watermark.
    let mut out = Output::default();
    let _ = join.on_delta(0, Delta::append(window_rows(&[(130, 1), (131, 1)])), &mut out).unwrap();
    assert_eq!(out.take().1, 1);
}
