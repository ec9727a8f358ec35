use std::collections::BTreeMap;

use arrow::array::{StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use datafusion::physical_expr::expressions::Column;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::operator::change::Layered;
use crate::state::key_group::{hash_keys, key_group, worker_of};
use crate::time::Watermarks;

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("k", DataType::Utf8, true),
    ]))
}

fn operator(emit: Emit) -> Session {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut fields = input().fields().to_vec();
    fields.push(Arc::new(Field::new("window_start", time.clone(), false)));
    fields.push(Arc::new(Field::new("window_end", time, false)));
    let spec = SessionSpec {
        partition: vec![Arc::new(Column::new("k", 1))],
        time_column: 0,
        gap_micros: 10,
        watermark: Some((WatermarkId(0), 0)),
        emit,
    };
    Session::new(spec, &input(), Arc::new(Schema::new(fields))).unwrap()
}

/// Rows (time, key, start, end) and how often each is there.
type Sum = BTreeMap<(i64, String, i64, i64), i64>;

fn delta(rows: &[(Option<i64>, &str, i64)]) -> Delta {
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.0)));
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    let rows_ = RecordBatch::try_new(input(), vec![times, keys]).unwrap();
    Delta::weighted(rows_, Int64Array::from_iter_values(rows.iter().map(|row| row.2)))
}

/// One epoch; answers how many rows were emitted and how many were late.
fn epoch(
    session: &mut Session,
    sum: &mut Sum,
    rows: &[(Option<i64>, &str, i64)],
    watermark: Option<i64>,
) -> (usize, u64) {
    let mut watermarks = Watermarks::none(1);
    if let Some(at) = watermark {
        watermarks.advance(WatermarkId(0), at);
    }
    let mut out = Output::with_fuel(2);
    let _ = session.on_delta(0, delta(rows), &mut out).unwrap();
    let (_, late) = out.take();
    let mut emitted = 0;
    let mut step =
        session.on_epoch_end(&EpochContext { epoch: 1, now_micros: 0, watermarks: &watermarks }, &mut out).unwrap();
    loop {
        for delta in out.take().0 {
            emitted += delta.num_rows();
            let times: Vec<_> = [0, 2, 3]
                .map(|column| super::super::window::to_micros(delta.rows().column(column)).unwrap())
                .into_iter()
                .collect();
            let keys = delta.rows().column(1).as_string::<i32>();
            for row in 0..delta.num_rows() {
                let key = (times[0].value(row), keys.value(row).to_owned(), times[1].value(row), times[2].value(row));
                *sum.entry(key).or_default() += delta.weight(row);
            }
        }
        if step == Step::Done {
            break;
        }
        step = session.resume(&mut out).unwrap();
    }
    sum.retain(|_, weight| *weight != 0);
    (emitted, late)
}

fn shown(sum: &Sum) -> Vec<(i64, &str, i64, i64, i64)> {
    sum.iter().map(|((time, key, start, end), weight)| (*time, key.as_str(), *start, *end, *weight)).collect()
}

#[test]
fn sessions_grow_join_and_split() {
    let (mut session, mut sum) = (operator(Emit::OnChange), Sum::new());
    epoch(
        &mut session,
        &mut sum,
        &[(Some(100), "a", 1), (Some(115), "a", 1), (Some(105), "b", 1), (None, "a", 1)],
        None,
    );
    assert_eq!(shown(&sum), [(100, "a", 100, 110, 1), (105, "b", 105, 115, 1), (115, "a", 115, 125, 1)]);
    // A row between two sessions joins them; the other key rests.
    let (emitted, _) = epoch(&mut session, &mut sum, &[(Some(108), "a", 2)], None);
    assert_eq!(
        shown(&sum),
        [(100, "a", 100, 125, 1), (105, "b", 105, 115, 1), (108, "a", 100, 125, 2), (115, "a", 100, 125, 1)]
    );
    assert_eq!(emitted, 5);
    // As long as one copy stays nothing but its count changes.
    assert_eq!(epoch(&mut session, &mut sum, &[(Some(108), "a", -1)], None).0, 1);
    // The last copy goes, and the session falls apart.
    epoch(&mut session, &mut sum, &[(Some(108), "a", -1)], None);
    assert_eq!(shown(&sum), [(100, "a", 100, 110, 1), (105, "b", 105, 115, 1), (115, "a", 115, 125, 1)]);
    // Rows exactly a gap apart are of two sessions; what comes and goes at once is not seen.
    let rows = [(Some(110), "a", 1), (Some(120), "c", 1), (Some(120), "c", -1)];
    epoch(&mut session, &mut sum, &rows, None);
    assert_eq!(
        shown(&sum),
        [(100, "a", 100, 110, 1), (105, "b", 105, 115, 1), (110, "a", 110, 125, 1), (115, "a", 110, 125, 1)]
    );
    epoch(&mut session, &mut sum, &[(Some(105), "b", -1)], None);
    assert_eq!(session.slots.len(), 1, "a key without rows is kept");
    let error = session.on_delta(0, delta(&[(Some(1), "x", -1)]), &mut Output::default());
    assert!(error.is_ok());
    let context = EpochContext { epoch: 9, now_micros: 0, watermarks: &Watermarks::none(1) };
    assert!(session.on_epoch_end(&context, &mut Output::default()).is_err(), "a row went that had never come");
}

#[test]
fn sessions_are_shown_once_and_released() {
    let (mut session, mut sum) = (operator(Emit::AfterWatermark), Sum::new());
    epoch(&mut session, &mut sum, &[(Some(100), "a", 1), (Some(105), "a", 2), (Some(120), "b", 1)], Some(114));
    assert!(sum.is_empty());
    let (emitted, _) = epoch(&mut session, &mut sum, &[(Some(130), "b", 1)], Some(115));
    assert_eq!((emitted, shown(&sum).len()), (3, 2));
    assert_eq!(session.state_size().rows, 2);
    // Below the watermark at the end of the last epoch: late, whatever sessions are open.
    let (_, late) = epoch(&mut session, &mut sum, &[(Some(114), "b", 1), (Some(115), "b", 1)], Some(i64::MAX));
    assert_eq!(late, 1);
    assert_eq!(session.state_size().rows, 0);
    assert_eq!(session.slots.len(), 0);
    assert_eq!(
        shown(&sum),
        [
            (100, "a", 100, 115, 1),
            (105, "a", 100, 115, 2),
            (115, "b", 115, 130, 1),
            (120, "b", 115, 130, 1),
            (130, "b", 130, 140, 1)
        ]
    );
}

#[test]
fn a_restored_session_goes_on() {
    let (mut session, mut sum) = (operator(Emit::OnChange), Sum::new());
    epoch(&mut session, &mut sum, &[(Some(100), "a", 1), (Some(105), "a", 3), (Some(120), "b", 1)], Some(50));
    let parts = session.snapshot().unwrap();
    let mut restored = operator(Emit::OnChange);
    restored.restore(parts).unwrap();
    assert_eq!(restored.state_size().rows, 3);
    let (emitted, late) = epoch(&mut restored, &mut sum, &[(Some(112), "a", 1), (Some(49), "a", 1)], Some(60));
    assert_eq!((emitted, late), (5, 1));
    assert_eq!(
        shown(&sum),
        [(100, "a", 100, 122, 1), (105, "a", 100, 122, 3), (112, "a", 100, 122, 1), (120, "b", 120, 130, 1)]
    );
}

/// Rows that open sessions have, and one that comes, one that counts twice, and a session that ends.
#[test]
fn a_small_change_is_written_as_rows() {
    let (mut session, mut sum) = (operator(Emit::OnChange), Sum::new());
    let rows: Vec<_> = (0..5_000).map(|n| (Some(n * 3), ["a", "b"][n as usize % 2], 1)).collect();
    epoch(&mut session, &mut sum, &rows, None);
    epoch(&mut session, &mut sum, &[(Some(0), "c", 1), (Some(3), "c", 1)], None);
    let mut written = Layered::default();
    written.write(&mut [&mut session], false);
    epoch(&mut session, &mut sum, &[(Some(600), "a", 1), (Some(20_000), "d", 1), (Some(20_001), "d", 1)], Some(13));
    epoch(&mut session, &mut sum, &[(Some(20_001), "d", -1), (Some(606), "a", -1)], Some(13));
    written.write(&mut [&mut session], true);
    assert_eq!((written.rows, written.gone), (2, 3));
    epoch(&mut session, &mut sum, &[], Some(13));
    written.write(&mut [&mut session], true);
    assert_eq!((written.rows, written.gone), (0, 0), "nothing has changed");
    let mut restored = operator(Emit::OnChange);
    restored.restore(written.parts_of(0, 1)).unwrap();
    assert_eq!(restored.state_size().rows, session.state_size().rows);
    assert_eq!(epoch(&mut restored, &mut sum, &[(Some(20_000), "d", -1)], Some(13)).0, 1);
}

/// The rows that belong to each of so many workers.
fn divided<'a>(rows: &[(Option<i64>, &'a str, i64)], workers: usize) -> Vec<Vec<(Option<i64>, &'a str, i64)>> {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    let mut hashes = Vec::new();
    hash_keys(&[keys], rows.len(), &mut hashes).unwrap();
    let mut divided = vec![Vec::new(); workers];
    for (row, hash) in rows.iter().zip(hashes) {
        divided[worker_of(key_group(hash), workers)].push(*row);
    }
    divided
}

/// Base and layers, put together or not, on other workers: with equal rows, rows that go, and sessions that end.
#[test]
fn what_goes_on_from_layers_shows_what_an_undisturbed_run_does() {
    for (emit, seed) in
        [Emit::OnChange, Emit::AfterWatermark].into_iter().flat_map(|emit| (0..40).map(move |n| (emit, n)))
    {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut run, mut sum, mut job_sum) = (operator(emit), Sum::new(), Sum::new());
        let mut job = vec![operator(emit), operator(emit)];
        let mut written = Layered::default();
        let mut there: BTreeMap<(i64, &str), i64> = BTreeMap::new();
        let mut watermark = 0;
        for round in 0..20 {
            there.retain(|(time, _), _| *time >= watermark);
            let rows: Vec<_> = (0..rng.random_range(0..8))
                .map(|_| {
                    let row = (watermark + rng.random_range(0..40), ["a", "b", "c", "d"][rng.random_range(0..4)]);
                    let count = there.entry(row).or_default();
                    // What a session that has ended had is not taken back.
                    let weight = if emit == Emit::OnChange { rng.random_range(-*count..3) } else { 1 };
                    *count += weight;
                    (Some(row.0), row.1, weight)
                })
                .collect();
            if emit == Emit::AfterWatermark {
                watermark += rng.random_range(0..20);
            }
            let at = if round == 19 { i64::MAX } else { watermark };
            epoch(&mut run, &mut sum, &rows, Some(at));
            let workers = job.len();
            for (session, rows) in job.iter_mut().zip(divided(&rows, workers)) {
                epoch(session, &mut job_sum, &rows, Some(at));
            }
            assert_eq!(shown(&job_sum), shown(&sum), "{emit:?}, seed {seed}, round {round}");
            let remembered: usize = job.iter().map(|session| session.state_size().rows).sum();
            assert_eq!(remembered, run.state_size().rows, "{emit:?}, seed {seed}, round {round}");
            if rng.random_bool(0.7) {
                let mut operators: Vec<&mut dyn Operator> =
                    job.iter_mut().map(|session| session as &mut dyn Operator).collect();
                written.write(&mut operators, rng.random_bool(0.9));
                written.check(&mut operators, &format!("{emit:?}, seed {seed}, round {round}"));
                if rng.random_bool(0.3) {
                    written.compact(rng.random_range(0..3));
                }
                if rng.random_bool(0.4) {
                    let workers = [1, 2, 4][rng.random_range(0..3)];
                    job = (0..workers).map(|_| operator(emit)).collect();
                    for (worker, session) in job.iter_mut().enumerate() {
                        session.restore(written.parts_of(worker, workers)).unwrap();
                    }
                }
            }
        }
    }
}
