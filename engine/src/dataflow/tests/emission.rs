//! Planned queries with `EMIT` on simulated pools: at the end all is shown, and late rows are those that are missing.

use arrow::array::StringArray;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::batch::{BatchContext, BatchScans};
use crate::connector::Source;
use crate::connector::memory::MemorySink;
use crate::operator::build::meeting_columns;
use crate::plan::{ContinuousPlan, Functions, Planner, Relation, RelationKind, Relations, WatermarkDefinition};

const SECOND: i64 = 1_000_000;

/// A stream `s(k, v, at, name)` with a watermark, and `bare`, the same without one.
struct Streams;

fn columns() -> SchemaRef {
    let mut fields = schema().fields().to_vec();
    fields.push(Arc::new(Field::new("name", DataType::Utf8, false)));
    Arc::new(Schema::new(fields))
}

impl Relations for Streams {
    fn relation(&self, name: &str) -> Option<Arc<Relation>> {
        let watermark =
            (name == "s").then(|| WatermarkDefinition { column: 2, expression: "at - INTERVAL '5' SECOND".to_owned() });
        let relation = Relation {
            name: name.to_owned(),
            schema: columns(),
            kind: RelationKind::Stream,
            changelog: false,
            keys: Vec::new(),
            watermark,
            time_columns: Vec::new(),
        };
        self.names().contains(&relation.name).then(|| Arc::new(relation))
    }

    fn names(&self) -> Vec<String> {
        vec!["s".to_owned(), "bare".to_owned()]
    }
}

type Row = (i64, i64, i64);

fn rows(rows: &[Row]) -> RecordBatch {
    let mut arrays = batch(rows).columns().to_vec();
    arrays.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|row| format!("n{}", row.1)))));
    RecordBatch::try_new(columns(), arrays).unwrap()
}

/// Rows as text, with the sum of their weights.
fn told<'a>(deltas: impl IntoIterator<Item = &'a Delta>) -> BTreeMap<String, i64> {
    let mut sum = BTreeMap::new();
    for delta in deltas {
        let options = FormatOptions::default();
        let columns = delta.rows().columns().iter();
        let columns: Vec<_> = columns.map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..delta.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            *sum.entry(cells.join(",")).or_insert(0) += delta.weight(row);
        }
    }
    sum.retain(|_, weight| *weight != 0);
    sum
}

struct Given(RecordBatch);

impl BatchScans for Given {
    fn scan(&self, _relation: &Relation, projection: &[usize]) -> Result<SendableRecordBatchStream> {
        let rows = self.0.project(projection)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(rows.schema(), futures::stream::iter([Ok(rows)]))))
    }
}

fn planned(sql: &str) -> ContinuousPlan {
    let planner = Planner::new(Arc::new(Streams), Arc::new(Functions::builtin()));
    planner.plan_continuous(&crate::sql::parse_query(sql).unwrap()).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn batch_answer(plan: &ContinuousPlan, rows: RecordBatch) -> BTreeMap<String, i64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let batches: Vec<RecordBatch> = runtime.block_on(async {
        let context = BatchContext::new(&Functions::builtin(), 1);
        context.execute(&plan.batch, Arc::new(Given(rows)), 0, 1 << 30).await.unwrap().try_collect().await.unwrap()
    });
    told(&batches.into_iter().map(Delta::append).collect::<Vec<_>>())
}

/// What a query has said of random rows, which may come late; and all rows, the late ones, and how many were counted.
struct Told {
    result: Vec<Delta>,
    all: Vec<Row>,
    late: Vec<Delta>,
    counted: u64,
}

fn live(plan: &ContinuousPlan, seed: u64) -> Told {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut workers = random.random_range(1..4);
    let mut told = Told { result: Vec::new(), all: Vec::new(), late: Vec::new(), counted: 0 };
    let mut now = 0;
    let mut restore = None;
    for life in 0..3 {
        let pool = Pool::simulated(PoolSettings::workers(workers), random.random()).unwrap();
        let (result, late) = (MemorySink::new(), MemorySink::new());
        let mut sources: HashMap<NodeIndex, Box<dyn Source>> = HashMap::new();
        let feed = MemoryHandle::new(2);
        for (index, node) in plan.flow.nodes.iter().enumerate() {
            if matches!(node.op, FlowOp::Scan { .. }) {
                sources.insert(index, feed.source());
            }
        }
        assert_eq!(sources.len(), 1, "a stream is read once");
        let target = Target::Sink(Box::new(result.clone()));
        let target = match plan.flow.late {
            Some(_) => Target::WithLate(Box::new(target), Box::new(late.clone())),
            None => target,
        };
        let (id, name, observer) = (JobId(1), "emission".to_owned(), Arc::new(Witness::default()));
        let (views, limits) = (HashMap::new(), JobLimits::default());
        let job = Blueprint {
            job: id,
            name,
            plan: plan.flow.clone(),
            sources,
            views,
            target,
            limits,
            observer,
            restore: restore.take(),
            after: 0,
            ends_with_checkpoint: false,
        };
        let job = pool.create_job(job).unwrap();
        for _ in 0..random.random_range(1..6) {
            for partition in 0..2 {
                let some: Vec<Row> = (0..random.random_range(0..6))
                    .map(|_| {
                        now += random.random_range(0..3 * SECOND);
                        let behind = if random.random_bool(0.3) { 40 * SECOND } else { 4 * SECOND };
                        let at = now - random.random_range(0..behind);
                        (random.random_range(0..4), random.random_range(0..9), at)
                    })
                    .collect();
                let scan = plan.flow.nodes.iter().find_map(|node| match &node.op {
                    FlowOp::Scan { projection, .. } => Some(projection.clone()),
                    _ => None,
                });
                feed.push(partition, rows(&some).project(&scan.unwrap()).unwrap()).unwrap();
                told.all.extend(some);
            }
            pool.step(id).unwrap();
        }
        // What was said after the snapshot, when a delay ran out, is said again by the job that is restored from it.
        let until = if life < 2 {
            let snapshot = pool.snapshot(id).unwrap();
            let until = snapshot.epoch;
            restore = Some(snapshot);
            told.counted += job.metrics().late_rows;
            pool.drop_job(id).unwrap();
            workers = random.random_range(1..4);
            until
        } else {
            feed.close();
            let ended = job.clone();
            assert!(pool.wait_until(PATIENCE, || ended.outcome().is_some()), "the job ends");
            job.outcome().unwrap().unwrap();
            told.counted += job.metrics().late_rows;
            Epoch::MAX
        };
        for (sink, said) in [(&result, &mut told.result), (&late, &mut told.late)] {
            said.extend(sink.written().into_iter().filter(|(epoch, _)| *epoch <= until).map(|(_, delta)| delta));
        }
    }
    told
}

#[test]
fn at_the_end_of_the_input_everything_is_shown() {
    let windows = "FROM TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end, k";
    for query in [
        "SELECT k, count(*), sum(v) FROM bare GROUP BY k EMIT AFTER 1000 ROWS".to_owned(),
        "SELECT k, count(*), sum(v) FROM bare GROUP BY k EMIT AFTER DELAY INTERVAL '1' HOUR".to_owned(),
        "SELECT sum(v) FROM bare GROUP BY k HAVING count(*) < 9 EMIT AFTER 3 ROWS AND AFTER DELAY INTERVAL '20' MILLISECOND".to_owned(),
        "SELECT k, v FROM bare EMIT AFTER 7 ROWS".to_owned(),
        "SELECT n, count(*) FROM (SELECT k, count(*) AS n FROM bare GROUP BY k) GROUP BY n EMIT AFTER 2 ROWS".to_owned(),
        "SELECT DISTINCT v FROM bare EMIT AFTER DELAY INTERVAL '1' SECOND".to_owned(),
        "SELECT k, v FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v, at) AS n FROM bare) WHERE n < 3 EMIT AFTER 3 ROWS".to_owned(),
        format!("SELECT window_end, count(*) {windows} EMIT AFTER 3 ROWS AND AFTER WATERMARK ALLOWED LATENESS INTERVAL '1' DAY"),
        format!("SELECT window_end, max(v) {windows} EMIT AFTER DELAY INTERVAL '30' MILLISECOND ALLOWED LATENESS INTERVAL '1' DAY"),
    ] {
        let plan = planned(&query);
        assert!(plan.flow.holds_back(), "{}", plan.explain());
        for seed in 0..12 {
            let said = live(&plan, seed);
            assert_eq!(told(&said.result), batch_answer(&plan, rows(&said.all)), "seed {seed}: {query}");
        }
    }
}

#[test]
fn a_delay_runs_out_without_input() {
    for seed in 0..6 {
        let plan = planned("SELECT k, count(*) AS n FROM bare GROUP BY k EMIT STREAM AFTER DELAY INTERVAL '20' SECOND");
        let pool = Pool::simulated(PoolSettings::workers(1 + seed as usize % 3), seed).unwrap();
        let (feed, sink) = (MemoryHandle::new(1), MemorySink::new());
        let scan = plan.flow.nodes.iter().position(|node| matches!(node.op, FlowOp::Scan { .. })).unwrap();
        let FlowOp::Scan { projection, .. } = &plan.flow.nodes[scan].op else { panic!("a scan") };
        let sources: HashMap<NodeIndex, Box<dyn Source>> = HashMap::from([(scan, feed.source())]);
        let target = Target::Sink(Box::new(sink.clone()));
        let (id, name, observer) = (JobId(1), "delayed".to_owned(), Arc::new(Witness::default()));
        let (views, limits, restore) = (HashMap::new(), JobLimits::default(), None);
        let flow = plan.flow.clone();
        let ends_with_checkpoint = false;
        pool.create_job(Blueprint {
            job: id,
            name,
            plan: flow,
            sources,
            views,
            target,
            limits,
            observer,
            restore,
            after: 0,
            ends_with_checkpoint,
        })
        .unwrap();
        let given = |rows_: &[Row]| {
            feed.push(0, rows(rows_).project(projection).unwrap()).unwrap();
            pool.step(id).unwrap()
        };
        let first = given(&[(1, 1, 0), (2, 1, 0)]);
        given(&[(1, 2, 0)]);
        assert!(sink.written().is_empty(), "seed {seed}");
        // Each worker shows its groups.
        let shown = || sink.written().iter().map(|(_, delta)| delta.num_rows()).sum::<usize>() == 2;
        assert!(pool.wait_until(PATIENCE, shown), "seed {seed}: {:?}", sink.written());
        let (shown, _) = sink.written()[0];
        let (least, most) = (first + 18_000, first + 22_000);
        assert!((least..most).contains(&shown), "seed {seed}: changes of {first} are shown at {shown}");
        let deltas: Vec<Delta> = sink.written().into_iter().map(|(_, delta)| delta).collect();
        let counts: Vec<String> = told(&deltas).into_keys().map(|row| row.chars().take(3).collect()).collect();
        assert_eq!(counts, ["1,2", "2,1"], "seed {seed}");
    }
}

#[test]
fn the_changelog_sums_up_to_the_answer() {
    for triggers in ["", "AFTER 4 ROWS", "AFTER DELAY INTERVAL '20' MILLISECOND"] {
        let plan =
            planned(&format!("SELECT k, count(*) AS n, min(v) AS least FROM bare GROUP BY k EMIT STREAM {triggers}"));
        for seed in 0..12 {
            let said = live(&plan, seed);
            let mut sum: BTreeMap<String, i64> = BTreeMap::new();
            for (row, count) in told(&said.result) {
                let cells: Vec<&str> = row.split(',').collect();
                let weight = if cells[3] == "undo" { -count } else { count };
                *sum.entry(cells[..3].join(",")).or_insert(0) += weight;
            }
            sum.retain(|_, weight| *weight != 0);
            assert_eq!(sum, batch_answer(&plan, rows(&said.all)), "seed {seed}: {triggers}");
        }
    }
}

#[test]
fn what_is_missing_is_among_the_late_rows() {
    for query in [
        "SELECT window_end, k, count(*), sum(v) FROM TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end, k EMIT AFTER WATERMARK",
        "SELECT window_end, k, count(*) FROM TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL '10' SECOND) WHERE v > 2 GROUP BY window_start, window_end, k EMIT",
        "SELECT date_bin(INTERVAL '10' SECOND, at) AS slot, count(*) FROM s GROUP BY slot EMIT AFTER WATERMARK",
        "SELECT window_end, sum(v) FROM SESSION(TABLE s PARTITION BY k, DESCRIPTOR(at), INTERVAL '3' SECOND) GROUP BY window_start, window_end, k EMIT AFTER WATERMARK",
        "SELECT k, v, lag(v) OVER (PARTITION BY k ORDER BY at) FROM s EMIT AFTER WATERMARK",
        "SELECT window_end, k, max(v) FROM TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL '10' SECOND) GROUP BY window_start, window_end, k EMIT AFTER 2 ROWS AND AFTER WATERMARK",
    ] {
        let plan = planned(&format!("{query} LATE ROWS TO late"));
        let late = plan.flow.late.as_ref().unwrap();
        let place = |name: &str| late.schema.index_of(name).unwrap();
        // OVER breaks ties by the columns that the query reads, so it has no others.
        assert!(query.contains("OVER") || late.schema.index_of("name").is_ok(), "rows are shown whole: {query}");
        let mut some = false;
        for seed in 0..10 {
            let said = live(&plan, seed);
            let own: Vec<usize> = ["k", "v", "at"].iter().map(|name| place(name)).collect();
            let mut missing: Vec<Row> = Vec::new();
            for delta in &said.late {
                let numbers = |column: usize| delta.rows().column(own[column]).as_primitive::<Int64Type>().clone();
                let at = delta.rows().column(own[2]).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
                assert_eq!(delta.rows().column(place("late_watermark")).null_count(), 0);
                missing.extend(
                    (0..delta.num_rows()).map(|row| (numbers(0).value(row), numbers(1).value(row), at.value(row))),
                );
            }
            assert_eq!(missing.len() as u64, said.counted, "seed {seed}: {query}");
            some |= !missing.is_empty();
            let mut rest = said.all.clone();
            for row in missing {
                let found = rest.iter().position(|other| *other == row).expect("a row that was given");
                rest.swap_remove(found);
            }
            assert_eq!(told(&said.result), batch_answer(&plan, rows(&rest)), "seed {seed}: {query}");
        }
        assert!(some, "no row was late: {query}");
    }
}

#[test]
fn equal_keys_may_leave_a_filter_on_several_workers() {
    // The planner puts conditions below what groups, as far as it can.
    let mut flow = planned("SELECT DISTINCT k, at FROM s WHERE at < now() + INTERVAL '1' HOUR").flow;
    let of = |wanted: fn(&FlowOp) -> bool| flow.nodes.iter().position(|node| wanted(&node.op)).unwrap();
    let (filter, groups) =
        (of(|op| matches!(op, FlowOp::TemporalFilter { .. })), of(|op| matches!(op, FlowOp::Aggregate { .. })));
    assert!(!flow.nodes[groups].properties.changelog);
    assert!(meeting_columns(&flow, groups).is_some(), "a group's rows stand on its worker");
    let mut above = flow.nodes[filter].clone();
    above.inputs = vec![groups];
    flow.nodes.push(above);
    // What a restart gives back to the filter goes to workers by whole rows.
    assert_eq!(meeting_columns(&flow, flow.nodes.len() - 1), None);
}
