//! Runs an OVER by hand: `(k, t, x)` rows with weights in, the sum of what it says out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::{DFSchema, ToDFSchema};
use datafusion::logical_expr::{Expr, SortExpr, col};

use crate::delta::Delta;
use crate::operator::over::Over;
use crate::operator::{EpochContext, Operator, Output, StatePart, Step};
use crate::plan::Recognize;
use crate::plan::flow::{Emit, FlowNode, FlowOp, FlowProperties, OverLimit, OverSpec, RankedBy};
use crate::time::{WatermarkId, Watermarks};

/// A row: key, time, value.
pub(super) type Row = (i64, i64, i64);

/// An OVER and the sum of what it said.
pub(super) struct Run {
    pub(super) over: Over,
    spec: OverSpec,
    changelog: bool,
    /// Columns of an output row (NULL as `None`), and how often it is there.
    pub(super) sum: BTreeMap<Vec<Option<i64>>, i64>,
    /// Rows that the last epoch said.
    pub(super) said: usize,
    pub(super) late: u64,
    epoch: u64,
}

/// Rows as a batch.
pub(super) fn batch_of(rows: &[Row]) -> RecordBatch {
    let column = |of: fn(&Row) -> i64| Arc::new(Int64Array::from_iter_values(rows.iter().map(of)));
    let columns: Vec<Arc<dyn Array>> = vec![column(|row| row.0), column(|row| row.1), column(|row| row.2)];
    RecordBatch::try_new(Arc::new(schema()), columns).unwrap()
}

fn schema() -> Schema {
    Schema::new(["k", "t", "x"].map(|name| Field::new(name, DataType::Int64, true)).to_vec())
}

pub(super) fn spec(functions: Vec<Expr>) -> OverSpec {
    OverSpec {
        partition: vec![col("k")],
        order: vec![SortExpr::new(col("t"), true, false)],
        functions,
        limit: None,
        closes: None,
        settles: None,
        ends: None,
        emit: Emit::OnChange,
    }
}

/// The first `take` rows.
pub(super) fn top(take: u64) -> Option<OverLimit> {
    Some(OverLimit { by: RankedBy::RowNumber, skip: 0, take: Some(take) })
}

fn operator(spec: &OverSpec, changelog: bool) -> Over {
    let input: DFSchema = schema().to_dfschema().unwrap();
    let results = spec.functions.iter().enumerate().map(|(number, function)| {
        let data_type = match function {
            Expr::WindowFunction(call) if matches!(call.fun.name(), "row_number" | "rank" | "dense_rank" | "ntile") => {
                DataType::UInt64
            }
            function if Recognize::of(function).is_some() => {
                DataType::Struct(Recognize::of(function).unwrap().fields().clone())
            }
            _ => DataType::Int64,
        };
        Arc::new(Field::new(format!("f{number}"), data_type, true))
    });
    let fields: Vec<_> = input.fields().iter().cloned().chain(results).collect();
    let output = Arc::new(Schema::new(fields).to_dfschema().unwrap());
    let node = FlowNode {
        id: "input".to_owned(),
        op: FlowOp::Union,
        inputs: Vec::new(),
        schema: Arc::new(input),
        properties: FlowProperties { changelog, ..FlowProperties::default() },
    };
    Over::new(spec, &node, &output).unwrap()
}

impl Run {
    pub(super) fn new(spec: OverSpec, changelog: bool) -> Self {
        let over = operator(&spec, changelog);
        Self { over, spec, changelog, sum: BTreeMap::new(), said: 0, late: 0, epoch: 0 }
    }

    /// One epoch in which these rows come with these weights; the watermark stands where it says.
    pub(super) fn epoch_at(&mut self, rows: &[(Row, i64)], watermark: i64) {
        let batch = batch_of(&rows.iter().map(|(row, _)| *row).collect::<Vec<_>>());
        let weights = Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight));
        let delta = if self.changelog { Delta::weighted(batch, weights) } else { Delta::append(batch) };
        let mut out = Output::default();
        self.said = 0;
        assert_eq!(self.over.on_delta(0, delta, &mut out).unwrap(), Step::Done);
        self.epoch += 1;
        let mut watermarks = Watermarks::none(1);
        watermarks.advance(WatermarkId(0), watermark);
        let context = EpochContext { epoch: self.epoch, now_micros: 0, watermarks: &watermarks };
        let mut step = self.over.on_epoch_end(&context, &mut out).unwrap();
        loop {
            let (deltas, late) = out.take();
            self.late += late;
            deltas.iter().for_each(|delta| self.add(delta));
            if step == Step::Done {
                break;
            }
            step = self.over.resume(&mut out).unwrap();
        }
    }

    pub(super) fn epoch(&mut self, rows: &[(Row, i64)]) {
        self.epoch_at(rows, i64::MIN);
    }

    fn add(&mut self, delta: &Delta) {
        self.said += delta.num_rows();
        let columns: Vec<Int64Array> = delta
            .rows()
            .columns()
            .iter()
            .flat_map(|column| match column.data_type() {
                // The fields of a row that is NULL are NULL.
                DataType::Struct(_) => column.as_struct().columns().to_vec(),
                _ => vec![Arc::clone(column)],
            })
            .map(|column| {
                let column = arrow::compute::cast(&column, &DataType::Int64).unwrap();
                column.as_primitive::<Int64Type>().clone()
            })
            .collect();
        for row in 0..delta.num_rows() {
            let key: Vec<Option<i64>> =
                columns.iter().map(|column| column.is_valid(row).then(|| column.value(row))).collect();
            let count = self.sum.entry(key.clone()).or_default();
            *count += delta.weight(row);
            if *count == 0 {
                self.sum.remove(&key);
            }
        }
    }

    /// Another operator takes over from a snapshot, whose parts come in pieces.
    pub(super) fn restart(&mut self) {
        let parts = self.over.snapshot().unwrap();
        self.over = operator(&self.spec, self.changelog);
        let pieces = parts.iter().flat_map(|part| {
            let middle = part.rows.num_rows() / 2;
            let rest = part.rows.num_rows() - middle;
            let piece = |from, length| StatePart { name: part.name.clone(), rows: part.rows.slice(from, length) };
            [piece(middle, rest), piece(0, middle)]
        });
        self.over.restore(pieces.filter(|part| part.rows.num_rows() > 0).collect()).unwrap();
    }

    /// Another operator takes over from what was written down for it.
    pub(super) fn take_over(&mut self, parts: Vec<StatePart>) {
        self.over = operator(&self.spec, self.changelog);
        self.over.restore(parts).unwrap();
    }

    /// What is there, as `(row, result of the first function)`.
    pub(super) fn rows(&self) -> Vec<(Row, Option<i64>)> {
        let row = |key: &Vec<Option<i64>>| (key[0].unwrap(), key[1].unwrap(), key[2].unwrap());
        assert!(self.sum.values().all(|count| *count > 0), "{:?}", self.sum);
        self.sum
            .iter()
            .flat_map(|(key, count)| std::iter::repeat_n((row(key), key.get(3).copied().flatten()), *count as usize))
            .collect()
    }
}
