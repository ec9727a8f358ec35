//! Random changes of groups against a model that knows each group's triggers, on workers that are restarted.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;
use arrow::datatypes::TimestampMicrosecondType;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::operator::change::Layered;
use crate::plan::flow::Firing;
use crate::state::key_group::{hash_keys, key_group, worker_of};
use crate::time::{WatermarkId, Watermarks};

/// A group's row: its value, and how many rows have come to it.
type Row = (String, i64);

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// The group (a time), a value, the number of its rows.
fn input() -> SchemaRef {
    let fields = [("g", time()), ("v", DataType::Utf8), ("n", DataType::Int64)];
    Arc::new(Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

fn output(stream: bool) -> SchemaRef {
    let mut fields = input().fields()[..2].to_vec();
    if stream {
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        let of_changelog = [("undo", DataType::Utf8), ("ptime", zoned), ("ver", DataType::Int64)];
        fields.extend(of_changelog.map(|(name, data_type)| Arc::new(Field::new(name, data_type, false))));
    }
    Arc::new(Schema::new(fields))
}

fn spec(firing: Firing) -> ShowSpec {
    ShowSpec {
        key: vec![0],
        visible: 2,
        firing,
        counts: Some(2),
        corrections: Corrections::Retracted,
        stream: false,
        numbered: false,
        closes: Some((0, WatermarkId(0), 100)),
    }
}

fn delta(rows: &[(i64, &Row, i64)]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1.1))),
    ];
    let weights = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    Delta::weighted(RecordBatch::try_new(input(), columns).unwrap(), weights)
}

/// What was said of a group: value, weight, number.
type Change = (String, i64, i64);

struct Workers {
    spec: ShowSpec,
    workers: Vec<Show>,
    written: Layered,
}

impl Workers {
    fn new(spec: ShowSpec, count: usize) -> Self {
        let show = || {
            let changelog = !spec.stream && spec.corrections == Corrections::Retracted;
            Show::new(spec.clone(), vec![0], &input(), output(spec.stream), changelog).unwrap()
        };
        Self { workers: (0..count).map(|_| show()).collect(), spec: spec.clone(), written: Layered::default() }
    }

    fn of(&self, group: i64) -> usize {
        let mut hashes = Vec::new();
        hash_keys(&[Arc::new(TimestampMicrosecondArray::from(vec![group]))], 1, &mut hashes).unwrap();
        worker_of(key_group(hashes[0]), self.workers.len())
    }

    fn give(&mut self, rows: &[(i64, &Row, i64)]) {
        let mut parts: BTreeMap<usize, Vec<(i64, &Row, i64)>> = BTreeMap::new();
        for row in rows {
            parts.entry(self.of(row.0)).or_default().push(*row);
        }
        for (worker, rows) in parts {
            let mut out = Output::default();
            assert_eq!(self.workers[worker].on_delta(0, delta(&rows), &mut out).unwrap(), Step::Done);
            assert!(out.take().0.is_empty());
        }
    }

    /// By group, in the order in which it was said.
    fn end(&mut self, now: i64, watermark: i64, over: bool) -> BTreeMap<i64, Vec<Change>> {
        let mut watermarks = Watermarks::none(1);
        watermarks.advance(WatermarkId(0), watermark);
        if over {
            watermarks.end();
        }
        let context = EpochContext { epoch: 1, now_micros: now, watermarks: &watermarks };
        let mut said: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for worker in &mut self.workers {
            let mut out = Output::with_fuel(1);
            let mut step = worker.on_epoch_end(&context, &mut out).unwrap();
            loop {
                for delta in out.take().0 {
                    assert_eq!(delta.schema(), output(self.spec.stream));
                    for row in 0..delta.num_rows() {
                        let columns = delta.rows().columns();
                        let group = columns[0].as_primitive::<TimestampMicrosecondType>().value(row);
                        let value = columns[1].as_string::<i32>().value(row).to_owned();
                        let (mut weight, mut number) = (delta.weight(row), 0);
                        if self.spec.stream {
                            assert_eq!(columns[3].as_primitive::<TimestampMicrosecondType>().value(row), now);
                            let undo = columns[2].as_string::<i32>().value(row);
                            weight = if undo == "undo" { -1 } else { 1 };
                            number = columns[4].as_primitive::<Int64Type>().value(row);
                        }
                        said.entry(group).or_default().push((value, weight, number));
                    }
                }
                if step == Step::Done {
                    break;
                }
                step = worker.resume(&mut out).unwrap();
            }
        }
        said
    }

    fn write(&mut self, only_changes: bool) {
        let mut operators: Vec<&mut dyn Operator> =
            self.workers.iter_mut().map(|show| show as &mut dyn Operator).collect();
        self.written.write(&mut operators, only_changes);
        self.written.check(&mut operators, &format!("{:?}", self.spec));
    }

    /// Other workers go on from what was written down.
    fn restart(&mut self, count: usize) {
        let written = std::mem::take(&mut self.written);
        *self = Self::new(self.spec.clone(), count);
        for (index, worker) in self.workers.iter_mut().enumerate() {
            worker.restore(written.parts_of(index, count)).unwrap();
        }
        self.written = written;
    }

    fn state_rows(&self) -> usize {
        self.workers.iter().map(|worker| worker.state_size().rows).sum()
    }
}

/// A group as a reader of the documentation understands it.
#[derive(Default, Clone)]
struct Model {
    current: Option<Row>,
    shown: Option<Row>,
    since: Option<i64>,
    came: i64,
    number: i64,
}

impl Model {
    /// Whether the group is shown at the end of an epoch in which it was `touched` or not.
    fn fires(&mut self, spec: &ShowSpec, group: i64, touched: bool, (now, watermark, over): (i64, i64, bool)) -> bool {
        let differs = self.current.as_ref().map(|row| &row.0) != self.shown.as_ref().map(|row| &row.0);
        if !differs {
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(now);
        }
        let Firing { delay_micros, rows, complete } = spec.firing;
        let enough = touched && rows.is_some_and(|rows| self.came.unsigned_abs() >= rows);
        let waited = delay_micros.zip(self.since).is_some_and(|(delay, since)| now >= since + delay);
        let complete = complete.is_some_and(|(_, _, delay)| group <= watermark - delay);
        enough || ((waited || complete || over || !spec.firing.holds_back()) && differs)
    }
}

/// A random life of some groups; the model and the operator must say the same.
fn live(seed: u64, spec: &ShowSpec) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut workers = Workers::new(spec.clone(), random.random_range(1..4));
    let mut groups: BTreeMap<i64, Model> = BTreeMap::new();
    let (mut now, mut watermark) = (1_000, 0);
    let epochs = random.random_range(5..60);
    for epoch in 0..=epochs {
        let mut touched: HashMap<i64, ()> = HashMap::new();
        for _ in 0..random.random_range(0..8) {
            // Groups that are over change no more.
            let group = random.random_range(0..12) * 50;
            if group < watermark - 100 || epoch == epochs {
                continue;
            }
            let model = groups.entry(group).or_default();
            touched.insert(group, ());
            let old = model.current.take();
            if random.random_bool(0.85) || old.is_none() {
                let came = random.random_range(1..4);
                let n = old.as_ref().map_or(0, |row| row.1) + came;
                model.current = Some((format!("value {}", random.random_range(0..3)), n));
            }
            let count = |row: &Option<Row>| row.as_ref().map_or(0, |row| row.1);
            model.came += count(&model.current) - count(&old);
            let mut rows: Vec<(i64, &Row, i64)> = Vec::new();
            rows.extend(old.as_ref().map(|row| (group, row, -1)));
            rows.extend(model.current.as_ref().map(|row| (group, row, 1)));
            if random.random_bool(0.5) {
                rows.reverse();
            }
            if random.random_bool(0.5) {
                workers.give(&rows);
            } else {
                rows.iter().for_each(|row| workers.give(&[*row]));
            }
        }
        watermark += random.random_range(0..40);
        let over = epoch == epochs;
        let said = workers.end(now, watermark, over);
        for (group, model) in &mut groups {
            let fires = model.fires(spec, *group, touched.contains_key(group), (now, watermark, over));
            let mut expected: Vec<Change> = Vec::new();
            if fires {
                let (old, new) = (model.shown.take().map(|row| row.0), model.current.clone().map(|row| row.0));
                if old != new {
                    let replaced = spec.corrections == Corrections::Replaced && new.is_some();
                    let rows = old.map(|old| (old, -1)).filter(|_| !replaced).into_iter();
                    for (value, weight) in rows.chain(new.map(|new| (new, 1))) {
                        expected.push((value, weight, model.number));
                        model.number += i64::from(spec.numbered);
                    }
                }
                model.shown = model.current.clone();
                (model.since, model.came) = (None, 0);
            }
            let said = said.get(group).cloned().unwrap_or_default();
            assert_eq!(said, expected, "seed {seed}, epoch {epoch}, group {group}, {spec:?}");
        }
        now += random.random_range(1..30);
        if random.random_bool(0.4) {
            workers.write(random.random_bool(0.9));
            if random.random_bool(0.3) {
                workers.written.compact(random.random_range(0..3));
            }
            if random.random_bool(0.5) {
                workers.restart(random.random_range(1..4));
            }
        }
    }
    if !spec.numbered {
        let counted = groups.values().filter(|group| group.came != 0).count();
        assert!(workers.state_rows() <= counted, "all is shown and nothing is remembered");
    }
}

fn firings() -> Vec<Firing> {
    let (delay_micros, rows, complete) = (Some(40), Some(5), Some((0, WatermarkId(0), 0)));
    let none = Firing::default();
    vec![
        none,
        Firing { delay_micros, ..none },
        Firing { rows, ..none },
        Firing { complete, ..none },
        Firing { delay_micros, complete, ..none },
        Firing { delay_micros, rows, complete },
    ]
}

#[test]
fn a_group_shows_its_changes_when_a_trigger_says_so() {
    for seed in 0..120 {
        for firing in firings() {
            live(seed, &spec(firing));
        }
    }
}

#[test]
fn the_changelog_says_each_change_once_and_numbers_it() {
    for seed in 0..120 {
        for firing in firings() {
            live(seed, &ShowSpec { stream: true, numbered: true, ..spec(firing) });
            let replaced =
                ShowSpec { stream: true, numbered: true, corrections: Corrections::Replaced, ..spec(firing) };
            live(seed, &replaced);
        }
    }
}

#[test]
fn numbers_are_forgotten_when_the_group_is_over() {
    let spec = ShowSpec { stream: true, numbered: true, ..spec(Firing::default()) };
    let mut workers = Workers::new(spec, 2);
    let row = ("x".to_owned(), 1);
    workers.give(&[(0, &row, 1), (50, &row, 1)]);
    workers.end(1, 100, false);
    assert_eq!(workers.state_rows(), 2);
    workers.write(false);
    workers.restart(3);
    workers.end(2, 101, false);
    assert_eq!(workers.state_rows(), 1, "what is below the watermark less the delay does not change");
    workers.end(3, 151, false);
    assert_eq!(workers.state_rows(), 0);
}

#[test]
fn without_a_count_changes_are_counted() {
    let mut workers = Workers::new(ShowSpec { counts: None, ..spec(Firing { rows: Some(2), ..Firing::default() }) }, 1);
    let (a, b) = (("a".to_owned(), 1), ("b".to_owned(), 1));
    workers.give(&[(0, &a, 1)]);
    assert!(workers.end(1, 0, false).is_empty());
    workers.give(&[(0, &b, 1), (0, &a, -1)]);
    assert_eq!(workers.end(2, 0, false)[&0], [("b".to_owned(), 1, 0)], "a row in another's place is one change");
    workers.give(&[(0, &b, -1)]);
    assert!(workers.end(3, 0, false).is_empty());
    assert_eq!(workers.end(4, 0, true)[&0], [("b".to_owned(), -1, 0)]);
}

#[test]
fn copies_are_said_one_by_one_in_a_changelog() {
    let spec = ShowSpec { stream: true, numbered: true, ..spec(Firing::default()) };
    let mut workers = Workers::new(spec, 1);
    let row = ("x".to_owned(), 1);
    workers.give(&[(0, &row, 3)]);
    let said = workers.end(1, 0, false);
    assert_eq!(said[&0], [0, 1, 2].map(|number| ("x".to_owned(), 1, number)));
    workers.give(&[(0, &row, -2)]);
    assert_eq!(workers.end(2, 0, false)[&0], [3, 4].map(|number| ("x".to_owned(), -1, number)));
}

#[test]
fn a_small_change_is_written_as_groups_and_rows() {
    let held_back = Firing { delay_micros: Some(100), rows: Some(3), complete: None };
    let mut workers = Workers::new(ShowSpec { stream: true, numbered: true, ..spec(held_back) }, 2);
    let (one, two) = (("x".to_owned(), 1), ("y".to_owned(), 2));
    (0..3_000).for_each(|group| workers.give(&[(group, &one, 1)]));
    workers.end(1, 0, false);
    workers.write(false);
    // Two rows wait in place of one, a group is shown, and one comes that has no rows.
    workers.give(&[(7, &one, -1), (7, &two, 1), (8, &two, 1), (9_000, &one, 1), (9_000, &one, -1)]);
    workers.end(2, 0, false);
    let mut operators: Vec<&mut dyn Operator> =
        workers.workers.iter_mut().map(|show| show as &mut dyn Operator).collect();
    workers.written.write(&mut operators, true);
    assert!(workers.written.rows <= 5 && workers.written.rows > 0, "{}", workers.written.rows);
    assert!(workers.written.gone > 0, "{}", workers.written.gone);
    workers.end(3, 0, false);
    workers.write(true);
}
