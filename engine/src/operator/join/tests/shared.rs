//! Joins without keys on several workers: one side divided by its rows, the other on every worker.

use super::*;
use crate::operator::change::changed;
use crate::state::key_group::{hash_keys, key_group, worker_of};

const CONDITION: &str = "l.v < r.v";

struct Shared {
    case: Case,
    kind: JoinKind,
    replicated: usize,
    workers: Vec<Join>,
    written: Option<Vec<StatePart>>,
}

/// Of some rows those that belong to one of `workers` workers.
fn share(columns: &[ArrayRef], rows: usize, worker: usize, workers: usize) -> UInt32Array {
    let mut hashes = Vec::new();
    hash_keys(columns, rows, &mut hashes).unwrap();
    let mine = hashes.iter().enumerate().filter(|(_, hash)| worker_of(key_group(**hash), workers) == worker);
    UInt32Array::from_iter_values(mine.map(|(row, _)| row as u32))
}

impl Shared {
    fn new(changelog: [bool; 2], kind: JoinKind, replicated: usize) -> Self {
        let residual = Some(col("l.v").lt(col("r.v")));
        let case = Case { changelog, on: Vec::new(), residual, null_equals_null: false, sql: CONDITION };
        Self { case, kind, replicated, workers: Vec::new(), written: None }
    }

    fn start(&mut self, workers: usize) {
        let join = |worker| {
            let mut join = self.case.join_of(self.kind).replicating(Some(self.replicated));
            join.stand_on(worker, workers);
            join
        };
        self.workers = (0..workers).map(join).collect();
        for (worker, join) in self.workers.iter_mut().enumerate() {
            for part in self.written.iter().flatten() {
                let mut rows = part.rows.clone();
                if part.name != Join::part_of(self.replicated) {
                    let groups = rows.column(0).as_primitive::<arrow::datatypes::UInt8Type>();
                    let mine = groups.iter().map(|group| group.map(|group| worker_of(group, workers) == worker));
                    rows = filter_record_batch(&rows, &mine.collect()).unwrap();
                }
                join.restore(vec![StatePart { name: part.name.clone(), rows }]).unwrap();
            }
        }
    }

    fn feed(&mut self, input: usize, delta: &Delta, counts: &mut BTreeMap<String, i64>) {
        let count = self.workers.len();
        for (worker, join) in self.workers.iter_mut().enumerate() {
            let mine = match input == self.replicated {
                true => delta.clone(),
                false => delta.take(&share(delta.rows().columns(), delta.num_rows(), worker, count)).unwrap(),
            };
            feed(join, input, mine, counts);
        }
    }

    fn write(&mut self, only_changes: bool) {
        self.written = Some(match self.written.take().filter(|_| only_changes) {
            None => self.workers.iter_mut().flat_map(|join| join.snapshot().unwrap()).collect(),
            Some(before) => {
                let changes = self.workers.iter_mut().flat_map(|join| join.changes().unwrap().unwrap());
                changed(before, changes.collect()).unwrap()
            }
        });
    }

    /// How many rows of an input are written down.
    fn written_rows(&self, input: usize) -> usize {
        let parts = self.written.iter().flatten().filter(|part| part.name == Join::part_of(input));
        parts.map(|part| part.rows.num_rows()).sum()
    }
}

#[test]
fn rows_of_one_side_meet_the_other_on_every_worker() {
    let kinds = [
        (JoinKind::Inner, 1, format!("SELECT * FROM l JOIN r ON {CONDITION}")),
        (JoinKind::Inner, 0, format!("SELECT * FROM l JOIN r ON {CONDITION}")),
        (JoinKind::Left, 1, format!("SELECT * FROM l LEFT JOIN r ON {CONDITION}")),
        (JoinKind::Right, 0, format!("SELECT * FROM l RIGHT JOIN r ON {CONDITION}")),
        (JoinKind::LeftSemi, 1, format!("SELECT * FROM l LEFT SEMI JOIN r ON {CONDITION}")),
        (JoinKind::LeftAnti, 1, format!("SELECT * FROM l LEFT ANTI JOIN r ON {CONDITION}")),
    ];
    for ((kind, replicated, sql), changelog) in
        kinds.iter().flat_map(|kind| [[false, false], [false, true], [true, true]].map(|changelog| (kind, changelog)))
    {
        for seed in 0..6 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut shared = Shared::new(changelog, *kind, *replicated);
            shared.start(rng.random_range(1..=4));
            let mut contents = [Vec::new(), Vec::new()];
            let mut counts = BTreeMap::new();
            for _ in 0..6 {
                for _ in 0..rng.random_range(1..5) {
                    let input = rng.random_range(0..2);
                    let delta = random_delta(&mut rng, &mut contents[input], changelog[input]);
                    shared.feed(input, &delta, &mut counts);
                }
                for join in &mut shared.workers {
                    settle_epoch(join, &Watermarks::none(0), &mut counts);
                }
                if rng.random_bool(0.7) {
                    shared.write(rng.random_bool(0.8));
                    // Each row is written down by one worker, however many have it.
                    for (input, contents) in contents.iter().enumerate().filter(|(input, _)| !changelog[*input]) {
                        assert_eq!(shared.written_rows(input), contents.len(), "{kind:?}, seed {seed}");
                    }
                    if rng.random_bool(0.5) {
                        shared.start(rng.random_range(1..=4));
                    }
                }
            }
            let wrong = format!("{kind:?}, {replicated} replicated, {changelog:?}, seed {seed}");
            assert_eq!(counts, batch_answer(&contents, sql), "{wrong}");
        }
    }
}

/// What comes too late on the side that all workers have is dropped by all, and counted by one.
#[test]
fn a_late_row_of_the_replicated_side_counts_once() {
    let time = |id| vec![TimeColumn { column: 0, watermark: WatermarkId(id), delay_micros: 0 }];
    let left = node("l", &windows(), false, time(0));
    let right = node("r", &windows(), false, time(1));
    let residual = Some(col("l.window_end").eq(col("r.window_end")));
    let op =
        FlowOp::Join { kind: JoinKind::Inner, on: vec![], residual, null_equals_null: false, emit: Emit::OnChange };
    let node = join_node(&left, &right, op);
    let mut watermarks = Watermarks::none(2);
    watermarks.advance(WatermarkId(0), 5_000_000);
    watermarks.advance(WatermarkId(1), 5_000_000);
    let mut late = 0;
    for worker in 0..3 {
        let mut join = Join::new(&left, &right, &node).unwrap().replicating(Some(1));
        join.stand_on(worker, 3);
        end_epoch_saying(&mut join, &watermarks);
        let mut out = Output::default();
        let rows = window_rows(&(0..50).map(|key| (1, key)).collect::<Vec<_>>());
        let _ = join.on_delta(1, Delta::append(rows), &mut out).unwrap();
        late += out.take().1;
        assert_eq!(join.state_size().rows, 0);
    }
    assert_eq!(late, 50);
}
