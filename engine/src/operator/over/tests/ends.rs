//! Keys that are gone.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ToDFSchema;
use datafusion::logical_expr::SortExpr;
use datafusion::prelude::col;

use super::harness::{spec, top};
use crate::delta::Delta;
use crate::operator::over::Over;
use crate::operator::{EpochContext, Operator, Output, Step};
use crate::plan::flow::{FlowNode, FlowOp, FlowProperties, OverSpec};
use crate::time::Watermarks;

/// Rows in one epoch; answers the sum of the weights of rows that are there, and of those that are gone.
fn epoch(over: &mut Over, schema: &Schema, number: u64, rows: &[(i64, i64, bool)]) -> (i64, i64) {
    let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let order = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let gone = BooleanArray::from_iter(rows.iter().map(|row| Some(row.2)));
    let batch =
        RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(keys), Arc::new(order), Arc::new(gone)]).unwrap();
    let mut out = Output::default();
    assert_eq!(over.on_delta(0, Delta::append(batch), &mut out).unwrap(), Step::Done);
    let watermarks = Watermarks::none(1);
    let context = EpochContext { epoch: number, now_micros: 0, watermarks: &watermarks };
    assert_eq!(over.on_epoch_end(&context, &mut out).unwrap(), Step::Done);
    let mut sums = (0, 0);
    for delta in out.take().0 {
        let gone = delta.rows().column(2).as_any().downcast_ref::<BooleanArray>().unwrap().clone();
        for row in 0..delta.num_rows() {
            if gone.value(row) { sums.1 += delta.weight(row) } else { sums.0 += delta.weight(row) }
        }
    }
    sums
}

#[test]
fn a_key_that_is_gone_leaves_nothing_behind() {
    let field = |name: &str, data_type| Field::new(name, data_type, false);
    let schema =
        Schema::new(vec![field("k", DataType::Int64), field("o", DataType::Int64), field("gone", DataType::Boolean)]);
    let input = Arc::new(schema.clone().to_dfschema().unwrap());
    let node = FlowNode {
        id: "input".to_owned(),
        op: FlowOp::Union,
        inputs: Vec::new(),
        schema: Arc::clone(&input),
        properties: FlowProperties::default(),
    };
    let newest = vec![SortExpr::new(col("o"), false, true)];
    let spec = OverSpec { order: newest, limit: top(1), ends: Some(2), ..spec(Vec::new()) };
    let mut over = Over::new(&spec, &node, &input).unwrap();
    assert_eq!(epoch(&mut over, &schema, 1, &[(1, 1, false), (2, 2, false)]), (2, 0));
    assert_eq!((over.state_size().rows, over.state_keys()), (2, Some(2)));
    assert_eq!(epoch(&mut over, &schema, 2, &[(1, 3, true), (2, 4, true), (2, 5, false)]).0, -1);
    assert_eq!((over.state_size().rows, over.state_keys()), (1, Some(1)));
    // The key comes again, and one goes that was never there.
    assert_eq!(epoch(&mut over, &schema, 3, &[(1, 6, false), (7, 7, true)]).0, 1);
    assert_eq!((over.state_size().rows, over.state_keys()), (2, Some(2)));
    let parts = over.snapshot().unwrap();
    let mut over = Over::new(&spec, &node, &input).unwrap();
    over.restore(parts).unwrap();
    assert_eq!(epoch(&mut over, &schema, 4, &[(1, 8, true), (2, 9, true)]).0, -2);
    assert_eq!((over.state_size().rows, over.state_keys()), (0, Some(0)));
}
