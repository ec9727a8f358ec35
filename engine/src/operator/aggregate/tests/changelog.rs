//! Aggregates over rows that are taken back.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::super::call::Call;
use super::super::windows::micros;
use super::harness::{Pool, Value, assert_same, batch_answer, flow_plan, lowered, taken};
use super::running::{calls_of, random_rows, running_plan, schema};
use super::windowed::{SECOND, expanded, punctual, specs, window_plan, window_sql};
use crate::delta::Delta;
use crate::plan::flow::{Emit, FlowOp, FlowPlan};
use crate::plan::is_computed_from_rows;

/// The plan over an input whose rows may be taken back.
fn over_changelog(mut plan: FlowPlan) -> FlowPlan {
    plan.nodes[0].properties.changelog = true;
    if let FlowOp::Aggregate { emit: Emit::OnChange, .. } | FlowOp::WindowAggregate { emit: Emit::OnChange, .. } =
        &plan.nodes[1].op
    {
        plan.nodes[1].properties.changelog = true;
    }
    plan
}

/// What comes and goes in an epoch, in random order and pieces; `present` are the rows that are there, which it changes.
fn random_changes(
    random: &mut StdRng,
    present: &mut RecordBatch,
    may_go: &BooleanArray,
    new: impl Fn(&mut StdRng, usize) -> RecordBatch,
) -> Vec<Delta> {
    let leaves = [0.1, 0.5, 1.0][random.random_range(0..3)];
    let goes: BooleanArray =
        (0..present.num_rows()).map(|row| Some(may_go.value(row) && random.random_bool(leaves))).collect();
    let gone = filter_record_batch(present, &goes).unwrap();
    let stays = filter_record_batch(present, &arrow::compute::not(&goes).unwrap()).unwrap();
    let size = random.random_range(0..40);
    let come = new(random, size);
    let twice = come.slice(0, size / 3);
    *present = concat_batches(&schema(), [&stays, &come, &twice]).unwrap();
    let brief = new(random, 3);
    let parts = [(gone, -1), (come, 1), (twice.clone(), 3), (twice, -2), (brief.clone(), 1), (brief, -1)];
    let rows = concat_batches(&schema(), parts.iter().map(|(rows, _)| rows)).unwrap();
    let weights: Vec<i64> = parts.iter().flat_map(|(rows, weight)| vec![*weight; rows.num_rows()]).collect();
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.shuffle(random);
    let weights: Int64Array = order.iter().map(|row| Some(weights[*row as usize])).collect();
    let all = Delta::weighted(taken(&rows, &UInt32Array::from(order)), weights);
    let mut deltas = vec![];
    let mut at = 0;
    while at < all.num_rows() {
        let length = random.random_range(1..=all.num_rows() - at);
        deltas.push(all.slice(at, length));
        at += length;
    }
    deltas
}

/// Random changes on random workers, restarted once; after each epoch the answer is the batch's over what is there.
fn check(sql: &str, seed: u64) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    batch_answer(&random_rows(&mut random, 20), sql)?;
    let plan = over_changelog(running_plan(&schema(), sql)?);
    let halves = random.random_bool(0.5);
    let lone = matches!(&plan.nodes[1].op, FlowOp::Aggregate { group, .. } if group.is_empty()) && !halves;
    let workers = |random: &mut StdRng| if lone { 1 } else { random.random_range(1..4) };
    let count = workers(&mut random);
    let mut pool = Pool::new(plan, count, halves).with_fuel(random.random_range(1..50));
    let mut present = random_rows(&mut random, 0);
    let epochs = random.random_range(2..6);
    let restart = random.random_range(0..epochs);
    for epoch in 0..epochs {
        let any = BooleanArray::from(vec![true; present.num_rows()]);
        let deltas = random_changes(&mut random, &mut present, &any, random_rows);
        pool.epoch_of(&mut random, deltas, None);
        let expected = batch_answer(&present, sql)?;
        assert_same(&pool.answer(), &expected, &format!("{sql} (seed {seed}, epoch {epoch}, halves {halves})"));
        if epoch == restart {
            let count = workers(&mut random);
            pool.restart(count);
        }
    }
    // All goes: nothing is left but the one row of an aggregate of everything.
    let all = Delta::weighted(present.clone(), Int64Array::from_value(-1, present.num_rows()));
    pool.epoch_of(&mut random, vec![all], None);
    assert_same(&pool.answer(), &batch_answer(&present.slice(0, 0), sql)?, &format!("{sql}, nothing left"));
    if !sql.contains("GROUP BY") {
        return Ok(());
    }
    assert_eq!(pool.state_rows(), 0, "{sql}: groups without rows are kept");
    Ok(())
}

#[test]
fn typed_aggregates_take_rows_back() {
    let aggregates = [
        "count(*), count(i), count(s), count(i, j), bool_and(b), bool_or(b)",
        "sum(i), sum(j), sum(u), sum(f), sum(d), avg(i), avg(f), avg(d), avg(j)",
        "min(i), max(i), min(j), max(j), min(u), max(u), min(d), max(d), min(b), max(b)",
        "min(f), max(f), min(s), max(s), min(day), max(day), min(ts), max(ts)",
        "count(*) FILTER (WHERE i > 0), sum(i) FILTER (WHERE b), max(s) FILTER (WHERE j < 3), avg(d) FILTER (WHERE f > 0)",
        "count(DISTINCT j), sum(DISTINCT i), avg(DISTINCT f), count(DISTINCT s), sum(DISTINCT d), min(DISTINCT i)",
        "count(DISTINCT s) FILTER (WHERE b), sum(DISTINCT j) FILTER (WHERE i > 0), count(DISTINCT d), count(DISTINCT b)",
        "bit_and(i), bit_or(j), bit_xor(u), bit_and(u), bit_or(i), bit_xor(j)",
    ];
    let keys = ["", "k", "s", "b", "k, s", "i % 3, upper(s)"];
    for (number, aggregates) in aggregates.iter().enumerate() {
        for (place, key) in keys.iter().enumerate() {
            let sql = match key.is_empty() {
                true => format!("SELECT {aggregates} FROM t"),
                false => format!("SELECT {key}, {aggregates} FROM t GROUP BY {key}"),
            };
            for round in 0..3 {
                check(&sql, (number * 1000 + place * 10 + round) as u64).unwrap();
            }
        }
    }
}

#[test]
fn distinct_rows_go_with_their_last_copy() {
    for seed in 0..20 {
        check("SELECT k FROM t GROUP BY k", seed).unwrap();
        check("SELECT s, b FROM t GROUP BY s, b", seed).unwrap();
    }
}

/// Every aggregate function of DataFusion's registry.
#[test]
fn every_aggregate_function_takes_rows_back() {
    let registry = datafusion::prelude::SessionContext::new().state().aggregate_functions().clone();
    let mut names: Vec<&String> = registry.keys().collect();
    names.sort();
    let (mut run, mut unable) = (0, vec![]);
    for name in names {
        // A sketch's answer is near the number of values; over a changelog they are counted. And what a digest of weighted
        // values answers depends on their order.
        let sketch = matches!(name.as_str(), "approx_distinct" | "approx_percentile_cont_with_weight");
        for call in calls_of(name).into_iter().filter(|_| !sketch) {
            for seed in 0..6 {
                let group = if seed % 3 == 0 { "" } else { "GROUP BY k" };
                let sql = format!("SELECT {} {call} FROM t {group}", if group.is_empty() { "" } else { "k," });
                match check(&sql, seed) {
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

#[test]
fn approx_distinct_counts() {
    let mut random = StdRng::seed_from_u64(5);
    let rows = random_rows(&mut random, 100);
    let plan = over_changelog(running_plan(&schema(), "SELECT k, approx_distinct(s) FROM t GROUP BY k").unwrap());
    let mut pool = Pool::new(plan, 2, true);
    pool.epoch(&mut random, std::slice::from_ref(&rows), None);
    let gone = Delta::weighted(rows.slice(0, 50), Int64Array::from_value(-1, 50));
    pool.epoch_of(&mut random, vec![gone], None);
    let expected = batch_answer(&rows.slice(50, 50), "SELECT k, count(DISTINCT s) FROM t GROUP BY k").unwrap();
    assert_same(&pool.answer(), &expected, "approx_distinct");
}

/// Windows over rows that come and go until the watermark has passed them.
fn check_windows(keys: &str, calls: &str, emit: Emit, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let window = specs(&mut random);
    let delay = random.random_range(0..3) * SECOND;
    let plan = over_changelog(window_plan(&schema(), window, keys, calls, emit, delay).unwrap());
    let halves = random.random_bool(0.5);
    let count = random.random_range(1..4);
    let mut pool = Pool::new(plan, count, halves).with_fuel(random.random_range(1..60));
    let sql = window_sql(keys, calls);
    let what = format!("{window:?} delay {delay} {sql} (seed {seed}, halves {halves}, {emit:?})");
    let mut present = random_rows(&mut random, 0);
    let mut watermark = -60 * SECOND;
    let epochs = random.random_range(1..8);
    let restart = random.random_range(0..epochs);
    for epoch in 0..epochs {
        let fixed = watermark - delay;
        let may_go = micros(present.column(10)).unwrap();
        let may_go = may_go.iter().map(|time| Some(time.is_none_or(|time| time >= fixed))).collect();
        let spread = random.random_range(1..60) * SECOND;
        let come = |random: &mut StdRng, count| punctual(random, count, fixed, spread);
        let deltas = random_changes(&mut random, &mut present, &may_go, come);
        watermark += random.random_range(0..20) * SECOND / 2;
        if epoch == epochs - 1 {
            watermark = i64::MAX;
        }
        pool.epoch_of(&mut random, deltas, Some(watermark));
        assert_eq!(pool.late, 0, "{what}");
        if emit == Emit::OnChange || watermark == i64::MAX {
            let expected = batch_answer(&expanded(&present, window), &sql).unwrap();
            assert_same(&pool.answer(), &expected, &format!("{what}, epoch {epoch}"));
        }
        if epoch == restart {
            pool.restart(random.random_range(1..4));
        }
    }
    assert_eq!(pool.state_rows(), 0, "{what}: state is left");
}

#[test]
fn windows_take_rows_back_until_they_close() {
    let calls = ["count(*), sum(i), min(f), avg(f)", "max(s), count(DISTINCT j), array_agg(j ORDER BY j)", ""];
    for seed in 0..60 {
        for emit in [Emit::OnChange, Emit::AfterWatermark] {
            check_windows(["", "k", "s, b"][seed as usize % 3], calls[seed as usize / 3 % 3], emit, seed);
        }
    }
}

/// A sum of floats has no memory of what was taken back.
#[test]
fn float_sums_do_not_drift() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("g", DataType::Float64, true),
    ]));
    let rows = |values: &[f64]| {
        let floats: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let keys: ArrayRef = Arc::new(Int64Array::from_value(1, values.len()));
        RecordBatch::try_new(Arc::clone(&schema), vec![keys, Arc::clone(&floats), floats]).unwrap()
    };
    let sql = "SELECT sum(f), avg(f), var_pop(f), sum(f) FILTER (WHERE g > 2) FROM t";
    let aggregate = lowered(&schema, sql).unwrap();
    let op = FlowOp::Aggregate {
        group: vec![],
        aggregates: aggregate.aggr_expr.clone(),
        closes: None,
        emit: Emit::OnChange,
    };
    let plan = flow_plan(aggregate.input.schema(), op, aggregate.schema.as_ref().clone(), true);
    let mut random = StdRng::seed_from_u64(1);
    let mut pool = Pool::new(over_changelog(plan), 1, false);
    let float = |value: f64| Value::Float(value);
    let null = || Value::Text("NULL".to_owned());
    pool.epoch(&mut random, &[rows(&[1e16, 1.0, 0.5])], None);
    let gone = rows(&[1e16]);
    pool.epoch_of(&mut random, vec![Delta::weighted(gone, Int64Array::from(vec![-1]))], None);
    assert_eq!(pool.answer(), [vec![float(1.5), float(0.75), float(0.0625), null()]]);
    let gone = rows(&[0.5, 1.0]);
    pool.epoch_of(&mut random, vec![Delta::weighted(gone, Int64Array::from(vec![-1, -1]))], None);
    assert_eq!(pool.answer(), [vec![null(), null(), null(), null()]]);
}

/// EXPLAIN names the calls that read all rows of a group again.
#[test]
fn explain_knows_what_is_computed_from_rows() {
    let registry = datafusion::prelude::SessionContext::new().state().aggregate_functions().clone();
    let mut checked = 0;
    for call in registry.keys().flat_map(|name| calls_of(name)) {
        let Ok(plan) = running_plan(&schema(), &format!("SELECT {call} FROM t")) else { continue };
        let FlowOp::Aggregate { aggregates, .. } = &plan.nodes[1].op else { continue };
        let Ok(lowered) = Call::over_changelog(&aggregates[0], &plan.nodes[0].schema) else { continue };
        let first_or_last = call.starts_with("first_value") || call.starts_with("last_value");
        assert_eq!(lowered.is_recomputed() && !first_or_last, is_computed_from_rows(&aggregates[0]), "{call}");
        checked += 1;
    }
    assert!(checked > 60, "{checked}");
}
