use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::harness::{Pool, assert_same, batch_answer, flow_plan, lowered};
use crate::plan::flow::{Emit, FlowOp, FlowPlan};

/// Columns of every kind: keys `k` (few, NULL), `s`; values of many types.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("i", DataType::Int64, true),
        Field::new("j", DataType::Int32, true),
        Field::new("u", DataType::UInt64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("g", DataType::Float64, true),
        Field::new("d", DataType::Decimal128(12, 3), true),
        Field::new("b", DataType::Boolean, true),
        Field::new("day", DataType::Date32, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

pub(super) fn random_rows(random: &mut StdRng, count: usize) -> RecordBatch {
    fn some<T>(random: &mut StdRng, value: impl Fn(&mut StdRng) -> T) -> Option<T> {
        (!random.random_bool(0.15)).then(|| value(random))
    }
    macro_rules! column {
        ($array:ty, $value:expr) => {
            Arc::new((0..count).map(|_| some(random, $value)).collect::<$array>()) as ArrayRef
        };
    }
    let columns = vec![
        column!(Int64Array, |r| r.random_range(0..6)),
        column!(StringArray, |r| format!("s{}", r.random_range(0..5))),
        column!(Int64Array, |r| r.random_range(-50..50)),
        column!(Int32Array, |r| r.random_range(-9..9)),
        column!(UInt64Array, |r| r.random_range(0..9)),
        column!(Float64Array, |r| f64::from(r.random_range(-40..40)) / 4.0),
        column!(Float64Array, |r| f64::from(r.random_range(-400..400)) / 8.0),
        Arc::new(
            (0..count)
                .map(|_| some(random, |r| r.random_range(-99_999_i128..99_999)))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(12, 3)
                .unwrap(),
        ) as ArrayRef,
        column!(BooleanArray, |r| r.random_bool(0.5)),
        column!(Date32Array, |r| r.random_range(-400..400)),
        column!(TimestampMicrosecondArray, |r| r.random_range(-90_000_000..90_000_000)),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

pub(super) fn running_plan(schema: &SchemaRef, sql: &str) -> Result<FlowPlan, String> {
    let aggregate = lowered(schema, sql)?;
    let changelog = !aggregate.aggr_expr.is_empty();
    let op = FlowOp::Aggregate {
        group: aggregate.group_expr.clone(),
        aggregates: aggregate.aggr_expr.clone(),
        closes: None,
        emit: Emit::OnChange,
    };
    Ok(flow_plan(aggregate.input.schema(), op, aggregate.schema.as_ref().clone(), changelog))
}

/// Random batches and epochs on random workers, restarted once in the middle; the sum of the changes after each epoch
/// is DataFusion's answer for all rows so far.
pub(super) fn check_running(sql: &str, seed: u64) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    batch_answer(&random_rows(&mut random, 20), sql)?;
    let plan = running_plan(&schema(), sql)?;
    let halves = random.random_bool(0.5);
    // The one row of an aggregate without keys is there on one worker, or where the halves bring it.
    let lone = matches!(&plan.nodes[1].op, FlowOp::Aggregate { group, .. } if group.is_empty()) && !halves;
    let workers = |random: &mut StdRng| if lone { 1 } else { random.random_range(1..4) };
    let count = workers(&mut random);
    let mut pool = Pool::new(plan, count, halves).with_fuel(random.random_range(1..50));
    // Of a digest the answer depends on how often it was merged: it is not to be another for this.
    let memory = StdRng::seed_from_u64(!seed).random_range(0..4);
    if memory < 2 {
        pool = pool.with_memory(memory * 3_000);
    }
    let mut all = vec![];
    let epochs = random.random_range(1..6);
    let restart = random.random_range(0..epochs);
    for epoch in 0..epochs {
        let batches: Vec<RecordBatch> = (0..random.random_range(0..4))
            .map(|_| {
                let size = random.random_range(0..30);
                random_rows(&mut random, size)
            })
            .collect();
        pool.epoch(&mut random, &batches, None);
        all.extend(batches);
        let rows = arrow::compute::concat_batches(&schema(), &all).unwrap();
        let expected = batch_answer(&rows, sql)?;
        assert_same(&pool.answer(), &expected, &format!("{sql} (seed {seed}, epoch {epoch}, halves {halves})"));
        if epoch == restart {
            let count = workers(&mut random);
            pool.restart(count);
        }
    }
    Ok(())
}

/// SQL over native aggregates: groups of each kind of key, FILTER, DISTINCT, every type.
#[test]
fn native_aggregates_agree_with_batch() {
    let aggregates = [
        "count(*), count(i), count(s), count(i, j)",
        "sum(i), sum(j), sum(u), sum(f), sum(d)",
        "avg(i), avg(f), avg(d), avg(j)",
        "min(i), max(i), min(j), max(j), min(u), max(u), min(d), max(d)",
        "min(f), max(f), min(s), max(s), min(b), max(b), min(day), max(day), min(ts), max(ts)",
        "count(*) FILTER (WHERE i > 0), sum(i) FILTER (WHERE b), max(s) FILTER (WHERE j < 3), avg(d) FILTER (WHERE f > 0)",
        "count(DISTINCT j), sum(DISTINCT i), avg(DISTINCT f), count(DISTINCT s), min(DISTINCT i)",
        "count(DISTINCT s) FILTER (WHERE b), sum(DISTINCT j) FILTER (WHERE i > 0), count(DISTINCT d), count(DISTINCT b)",
    ];
    let keys = ["", "k", "s", "b", "f", "k, s", "day", "i % 3, upper(s)", "d"];
    for (number, aggregates) in aggregates.iter().enumerate() {
        for (place, key) in keys.iter().enumerate() {
            let sql = if key.is_empty() {
                format!("SELECT {aggregates} FROM t")
            } else {
                format!("SELECT {key}, {aggregates} FROM t GROUP BY {key}")
            };
            for round in 0..3 {
                check_running(&sql, (number * 1000 + place * 10 + round) as u64).unwrap();
            }
        }
    }
}

#[test]
fn distinct_emits_each_row_once_and_never_takes_it_back() {
    for (seed, sql) in (0..20)
        .flat_map(|seed| ["SELECT k FROM t GROUP BY k", "SELECT s, b FROM t GROUP BY s, b"].map(|sql| (seed, sql)))
    {
        check_running(sql, seed).unwrap();
    }
}

/// Calls of each aggregate function of DataFusion's registry that go with the columns of `t`.
pub(super) fn calls_of(name: &str) -> Vec<String> {
    let forms: &[&str] = match name {
        "grouping" => return vec![], // a pseudo-function of GROUPING SETS
        "count" => &["count(*)", "count(i)", "count(DISTINCT s)"],
        "first_value" | "last_value" => {
            &["{}(i ORDER BY f, i)", "{}(s ORDER BY i DESC, s)", "{}(i ORDER BY j, i) FILTER (WHERE b)"]
        }
        "nth_value" => &["{}(i, 2 ORDER BY f, i)", "{}(s, 1 ORDER BY i DESC, s)"],
        "array_agg" => &[
            "{}(i ORDER BY i)",
            "{}(s ORDER BY f DESC, s)",
            "{}(DISTINCT i ORDER BY i)",
            "{}(i ORDER BY i) FILTER (WHERE b)",
        ],
        "string_agg" => &["{}(s, ',' ORDER BY s)", "{}(DISTINCT s, '-' ORDER BY s)", "{}(s, '' ORDER BY i, s)"],
        "corr" | "covar_samp" | "covar_pop" | "covar" => &["{}(f, g)"],
        "percentile_cont" | "quantile_cont" => &["{}(0.3) WITHIN GROUP (ORDER BY f)", "{}(i, 0.5)", "{}(f, 0.25)"],
        "approx_percentile_cont" => &["{}(0.5) WITHIN GROUP (ORDER BY i)", "{}(f, 0.9)"],
        "approx_percentile_cont_with_weight" => &["{}(u, 0.5) WITHIN GROUP (ORDER BY f)", "{}(f, u, 0.5)"],
        "bool_and" | "bool_or" => &["{}(b)", "{}(b) FILTER (WHERE i > 0)"],
        "bit_and" | "bit_or" | "bit_xor" => &["{}(i)", "{}(DISTINCT i)"],
        "any_value" => return vec![],
        _ if name.starts_with("regr_") => &["{}(f, g)"],
        _ => &["{}(i)", "{}(f)", "{}(DISTINCT i)", "{}(f) FILTER (WHERE b)", "{}(d)"],
    };
    forms.iter().map(|form| form.replace("{}", name)).collect()
}

/// Every aggregate function of DataFusion's registry, over random epochs, workers and a restart.
#[test]
fn every_aggregate_function_agrees_with_batch() {
    let registry = datafusion::prelude::SessionContext::new().state().aggregate_functions().clone();
    let mut names: Vec<&String> = registry.keys().collect();
    names.sort();
    let (mut run, mut unable) = (0, vec![]);
    for name in names {
        for call in calls_of(name) {
            for seed in 0..6 {
                let group = if seed % 3 == 0 { "" } else { "GROUP BY k" };
                let sql = format!("SELECT {} {call} FROM t {group}", if group.is_empty() { "" } else { "k," });
                match check_running(&sql, seed) {
                    Ok(()) => run += 1,
                    // What the batch engine cannot run is no business of ours.
                    Err(error) => unable.push(format!("{call}: {error}")),
                }
            }
        }
    }
    unable.dedup();
    println!("{run} runs; not in batch either: {unable:#?}");
    assert!(run > 300, "only {run} runs: {unable:#?}");
}

/// any_value may answer any value; ours is the least.
#[test]
fn any_value_is_the_least() {
    let mut random = StdRng::seed_from_u64(5);
    let rows = random_rows(&mut random, 100);
    let plan = running_plan(&schema(), "SELECT k, any_value(s), any_value(i) FROM t GROUP BY k").unwrap();
    let mut pool = Pool::new(plan, 2, true);
    pool.epoch(&mut random, &[rows.slice(0, 50), rows.slice(50, 50)], None);
    let expected = batch_answer(&rows, "SELECT k, min(s), min(i) FROM t GROUP BY k").unwrap();
    assert_same(&pool.answer(), &expected, "any_value");
}
