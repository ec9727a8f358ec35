//! More groups than memory holds.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::harness::{Pool, Value};
use super::running::running_plan;

const KEYS: i64 = 40_000;

#[test]
fn groups_stay_within_what_is_allowed() {
    let schema =
        Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("i", DataType::Int64, true)]));
    let plan = running_plan(&schema, "SELECT k, count(*), sum(i), max(i) FROM t GROUP BY k").unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut pool = Pool::new(plan, 1, false).with_memory(512 << 10);
    let batch = |from: i64, step: i64| {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((from..from + 1_000).map(|n| n * step % KEYS)));
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(&keys), keys]).unwrap()
    };
    for round in 1..=2 {
        let (mut most, mut spilled) = (0, 0);
        // Once in order, once in another.
        let step = if round == 1 { 1 } else { 7_919 };
        for from in (0..KEYS).step_by(1_000) {
            pool.epoch(&mut random, &[batch(from, step)], None);
            let (bytes, rows) = pool.held();
            (most, spilled) = (most.max(bytes), spilled.max(rows));
            if from == KEYS / 2 {
                pool.restart(1);
            }
        }
        assert!(most < 1536 << 10, "{most} bytes");
        assert!(spilled > KEYS as usize / 2, "{spilled} rows");
        assert_eq!((pool.state_rows(), pool.contents.len()), (KEYS as usize, KEYS as usize));
        let counted = |row: &&Vec<Value>| matches!(&row[1], Value::Text(count) if *count == round.to_string());
        assert_eq!(pool.contents.keys().filter(counted).count(), KEYS as usize, "each was counted {round} times");
    }
}
