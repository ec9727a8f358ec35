use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::datatypes::{Field, Int64Type, Schema, TimeUnit};
use datafusion::common::ToDFSchema;
use datafusion::logical_expr::col;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::operator::change::Layered;
use crate::time::Watermarks;

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("from", time.clone(), true),
        Field::new("until", time, true),
        Field::new("n", DataType::Int64, false),
    ]))
}

/// From, until, a number.
type Row = (Option<i64>, Option<i64>, i64);

fn delta(rows: &[(Row, i64)], weighted: bool) -> Delta {
    let from: ArrayRef = Arc::new(rows.iter().map(|((from, _, _), _)| *from).collect::<TimestampMicrosecondArray>());
    let until: ArrayRef = Arc::new(rows.iter().map(|((_, until, _), _)| *until).collect::<TimestampMicrosecondArray>());
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|((_, _, n), _)| *n)));
    let batch = batch(&schema(), vec![from, until, numbers], rows.len()).unwrap();
    let weights = weighted.then(|| Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight)));
    Delta::new(batch, weights)
}

/// `now() >= from` and `now() < until`, each if asked for.
fn filter(enters: bool, leaves: bool, changelog: bool) -> TemporalFilter {
    let bound = |name: &str, enters| TimeBound { condition: col(name), enters, at: Some((col(name), 0)) };
    let mut bounds = Vec::new();
    if enters {
        bounds.push(bound("from", true));
    }
    if leaves {
        bounds.push(bound("until", false));
    }
    TemporalFilter::new(&bounds, &schema().to_dfschema().unwrap(), schema(), changelog).unwrap()
}

fn end(filter: &mut TemporalFilter, now_micros: i64) -> Vec<Delta> {
    let watermarks = Watermarks::none(0);
    let context = EpochContext { epoch: 1, now_micros, watermarks: &watermarks };
    let mut out = Output::with_fuel(1);
    let mut step = filter.on_epoch_end(&context, &mut out).unwrap();
    let mut deltas = out.take().0;
    while step == Step::Yield {
        step = filter.resume(&mut out).unwrap();
        deltas.extend(out.take().0);
    }
    deltas
}

fn epoch(filter: &mut TemporalFilter, now_micros: i64, input: &[Delta]) -> Vec<Delta> {
    filter.begin_epoch(now_micros);
    let mut out = Output::default();
    for delta in input {
        assert_eq!(filter.on_delta(0, delta.clone(), &mut out).unwrap(), Step::Done);
    }
    let mut deltas = out.take().0;
    deltas.extend(end(filter, now_micros));
    deltas
}

fn add(sums: &mut BTreeMap<Row, i64>, delta: &Delta) {
    let time = |column: usize, row: usize| {
        let times = delta.rows().column(column).as_primitive::<TimestampMicrosecondType>();
        times.is_valid(row).then(|| times.value(row))
    };
    for row in 0..delta.num_rows() {
        let n = delta.rows().column(2).as_primitive::<Int64Type>().value(row);
        *sums.entry((time(0, row), time(1, row), n)).or_default() += delta.weight(row);
    }
    sums.retain(|_, count| *count != 0);
}

fn holds((from, until, _): &Row, now: i64, (enters, leaves): (bool, bool)) -> bool {
    (!enters || from.is_some_and(|from| now >= from)) && (!leaves || until.is_some_and(|until| now < until))
}

/// The rows that a state has, each once.
fn kept(operators: &[TemporalFilter]) -> BTreeMap<Row, i64> {
    let mut kept = BTreeMap::new();
    for operator in operators {
        for slots in [operator.rows.live()].iter().filter(|slots| !slots.is_empty()) {
            let rows = batch(&schema(), stored(&operator.rows, slots, &schema()).unwrap(), slots.len()).unwrap();
            let counts = Int64Array::from_iter_values(slots.iter().map(|slot| operator.counts[*slot as usize]));
            add(&mut kept, &Delta::weighted(rows, counts));
        }
    }
    kept
}

#[test]
fn at_every_moment_the_rows_whose_conditions_hold() {
    for (enters, leaves) in [(true, true), (true, false), (false, true)] {
        for seed in 0..60 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let changing = seed % 2 == 1;
            let changelog = changing || leaves;
            let mut operator = filter(enters, leaves, changelog);
            let mut written = Layered::default();
            let (mut contents, mut said) = (BTreeMap::<Row, i64>::new(), BTreeMap::<Row, i64>::new());
            let mut now = 0;
            for _ in 0..40 {
                now += rng.random_range(0..20);
                let mut input = Vec::new();
                for _ in 0..rng.random_range(0..3) {
                    let mut rows = Vec::new();
                    for _ in 0..rng.random_range(1..12) {
                        let mut moment = || rng.random_bool(0.95).then(|| now + rng.random_range(-30..60));
                        let row = (moment(), moment(), rng.random_range(0..3));
                        rows.push((row, if changing { rng.random_range(1..3) } else { 1 }));
                    }
                    if changing {
                        for (row, count) in &contents {
                            if rng.random_bool(0.3) {
                                rows.push((*row, -rng.random_range(1..=*count)));
                            }
                        }
                    }
                    rows.iter().for_each(|(row, weight)| *contents.entry(*row).or_default() += weight);
                    contents.retain(|_, count| *count != 0);
                    input.push(delta(&rows, changing));
                }
                let output = epoch(&mut operator, now, &input);
                assert!(changelog || output.iter().all(|delta| delta.weights().is_none()));
                output.iter().for_each(|delta| add(&mut said, delta));
                let expected: BTreeMap<Row, i64> = contents
                    .iter()
                    .filter(|(row, _)| holds(row, now, (enters, leaves)))
                    .map(|(row, count)| (*row, *count))
                    .collect();
                assert_eq!(said, expected, "seed {seed} at {now}");
                // The next change without input is at the timer, and not before.
                let moments = contents.keys().flat_map(|row| {
                    let moments = [row.0.filter(|_| enters), row.1.filter(|_| leaves)];
                    moments.into_iter().flatten().filter(|at| *at > now)
                });
                let next = moments
                    .filter(|at| {
                        contents
                            .keys()
                            .any(|row| holds(row, *at, (enters, leaves)) != holds(row, *at - 1, (enters, leaves)))
                    })
                    .min();
                if let Some(next) = next {
                    assert!(operator.next_timer().is_some_and(|timer| timer > now && timer <= next));
                }
                if rng.random_bool(0.4) {
                    written.write(&mut [&mut operator], rng.random_bool(0.9));
                    written.check(&mut [&mut operator], &format!("seed {seed} at {now}"));
                    if rng.random_bool(0.3) {
                        written.compact(rng.random_range(0..3));
                    }
                    if rng.random_bool(0.5) {
                        operator = filter(enters, leaves, changelog);
                        operator.restore(written.parts_of(0, 1)).unwrap();
                    }
                }
            }
            for _ in 0..1_000 {
                let Some(timer) = operator.next_timer() else { break };
                assert!(timer > now, "a timer that is not later than the epoch would wake nobody");
                now = timer;
                epoch(&mut operator, now, &[]).iter().for_each(|delta| add(&mut said, delta));
            }
            assert_eq!(operator.next_timer(), None);
            assert_eq!(operator.state_size().rows, 0, "nothing is kept that no time will change");
            assert!(!leaves || said.is_empty(), "all have left");
        }
    }
}

#[test]
fn what_has_passed_is_never_stored() {
    let mut operator = filter(true, true, true);
    operator.begin_epoch(1_000);
    let rows: Vec<(Row, i64)> = (0..100).map(|n| ((Some(0), Some(900 + n), n), 1)).collect();
    let output = epoch(&mut operator, 1_000, &[delta(&rows, false)]);
    assert!(output.is_empty());
    assert_eq!(operator.state_size().rows, 0);
    let rows: Vec<(Row, i64)> = (0..100).map(|n| ((Some(2_000), Some(1_500), n), 1)).collect();
    epoch(&mut operator, 1_000, &[delta(&rows, false)]);
    assert_eq!((operator.state_size().rows, operator.next_timer()), (0, None), "they never hold");
}

#[test]
fn rows_that_are_taken_back_leave_nothing_behind() {
    let mut operator = filter(false, true, true);
    for round in 0..2_000 {
        let row = ((None, Some(1_000_000), round), 1);
        epoch(&mut operator, round, &[delta(&[row], true)]);
        epoch(&mut operator, round, &[delta(&[(row.0, -1)], true)]);
        assert_eq!(operator.state_size().rows, 0);
    }
    assert!(operator.state_size().bytes < 1 << 18, "{:?}", operator.state_size());
}

#[test]
fn many_rows_come_and_go_in_pieces() {
    let mut operator = filter(true, true, true);
    let rows: Vec<(Row, i64)> = (0..20_000).map(|n| ((Some(10), Some(20), n), 1)).collect();
    let mut said = BTreeMap::new();
    epoch(&mut operator, 0, &[delta(&rows, false)]).iter().for_each(|delta| add(&mut said, delta));
    assert!(said.is_empty());
    for (now, count) in [(10, 20_000), (19, 20_000), (20, 0)] {
        let output = epoch(&mut operator, now, &[]);
        assert!(output.iter().all(|delta| delta.num_rows() <= PIECE));
        output.iter().for_each(|delta| add(&mut said, delta));
        assert_eq!(said.len(), count, "at {now}");
    }
    assert_eq!(operator.state_size().rows, 0);
}

#[test]
fn equal_rows_of_several_workers_are_all_restored_on_one() {
    let row: Row = (Some(50), Some(90), 7);
    let mut parts = Vec::new();
    for times in 1..=3 {
        let mut filter = filter(true, true, false);
        let rows = vec![(row, 1); times];
        assert!(epoch(&mut filter, 10, &[delta(&rows, false)]).is_empty());
        parts.extend(filter.snapshot().unwrap());
    }
    let mut together = filter(true, true, true);
    together.restore(parts).unwrap();
    let mut sums = BTreeMap::new();
    epoch(&mut together, 60, &[]).iter().for_each(|delta| add(&mut sums, delta));
    assert_eq!(sums, BTreeMap::from([(row, 6)]));
    epoch(&mut together, 100, &[]).iter().for_each(|delta| add(&mut sums, delta));
    assert_eq!((sums.len(), together.state_size().rows), (0, 0));
}

/// Rows that only come go to any worker: what goes on from base and layers, on other workers, has each as often as it came.
#[test]
fn equal_rows_of_several_workers_are_added_up_over_layers() {
    for seed in 0..60 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let new = |workers: usize| (0..workers).map(|_| filter(true, true, true)).collect::<Vec<_>>();
        let (mut run, mut job) = (new(1), new(2));
        let (mut expected, mut said) = (BTreeMap::new(), BTreeMap::new());
        let mut written = Layered::default();
        for round in 0..30 {
            let now = round * 4;
            let mut inputs = vec![Vec::new(); job.len()];
            for _ in 0..rng.random_range(0..12) {
                let row = (Some(now + rng.random_range(-2..6)), Some(now + rng.random_range(4..9)), 0);
                let worker = rng.random_range(0..job.len());
                inputs[worker].push((row, 1));
            }
            let all: Vec<(Row, i64)> = inputs.iter().flatten().copied().collect();
            epoch(&mut run[0], now, &[delta(&all, false)]).iter().for_each(|delta| add(&mut expected, delta));
            for (operator, input) in job.iter_mut().zip(&inputs) {
                epoch(operator, now, &[delta(input, false)]).iter().for_each(|delta| add(&mut said, delta));
            }
            assert_eq!(said, expected, "seed {seed}, round {round}");
            assert_eq!(kept(&job), kept(&run), "seed {seed}, round {round}");
            if rng.random_bool(0.7) {
                let mut operators: Vec<&mut dyn Operator> = job.iter_mut().map(|of| of as &mut dyn Operator).collect();
                written.write(&mut operators, rng.random_bool(0.9));
                if rng.random_bool(0.3) {
                    written.compact(rng.random_range(0..3));
                }
                if rng.random_bool(0.5) {
                    let workers = [1, 2, 4][rng.random_range(0..3)];
                    job = new(workers);
                    for (worker, operator) in job.iter_mut().enumerate() {
                        operator.restore(written.parts_of(worker, workers)).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn a_small_change_is_written_as_rows() {
    let mut operator = filter(true, true, true);
    let rows: Vec<(Row, i64)> = (0..10_000).map(|n| ((Some(100 + n / 100), Some(10_000), n), 1)).collect();
    epoch(&mut operator, 0, &[delta(&rows, true)]);
    let mut written = Layered::default();
    written.write(&mut [&mut operator], false);
    let (one, other, new) = (rows[9_000].0, rows[9_001].0, (Some(300), Some(400), 7));
    epoch(&mut operator, 1, &[delta(&[(one, 2), (other, -1), (new, 1)], true)]);
    epoch(&mut operator, 2, &[delta(&[((Some(300), Some(400), 8), 1)], true)]);
    epoch(&mut operator, 3, &[delta(&[((Some(300), Some(400), 8), -1)], true)]);
    written.write(&mut [&mut operator], true);
    assert_eq!(written.rows, 3, "one that is there more often, one that has gone, one that has come");
    // A hundred are shown: each is there once less as one that was not.
    epoch(&mut operator, 100, &[]);
    written.write(&mut [&mut operator], true);
    assert_eq!(written.rows, 200);
    epoch(&mut operator, 100, &[]);
    written.write(&mut [&mut operator], true);
    assert_eq!(written.rows, 0, "nothing has changed");
    written.check(&mut [&mut operator], "at 100");
}
