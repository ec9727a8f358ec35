//! Join: inner, by equality of keys, with any further condition.
//!
//! Both sides are kept as Arrow blocks with a hash index. A delta of one side is matched with all rows of the other
//! and then kept itself, so that over an epoch every pair of rows meets once, whichever came first:
//! `(L + dL) ⋈ (R + dR) − L ⋈ R = dL ⋈ R + (L + dL) ⋈ dR`. Weights multiply.
//!
//! Where a pair of equal columns grows with a watermark, rows that nothing can match any more are let go, and rows of an
//! append-only input below what that input has promised are late: they are dropped and counted.
//!
//! Matches come out in pieces: neither the candidates of a hot key nor their rows are ever held all at once.

mod index;
mod probe;
mod side;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column as LogicalColumn, DFSchemaRef};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

use self::probe::{Pairs, Probe};
use self::side::{Release, Side, time_unit};
use super::columns::compact;
use super::consolidate::consolidate;
use super::expression::{Expression, batch};
use super::{EpochContext, Operator, Output, StatePart, StateSize, Step};
use crate::delta::Delta;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::flow::FlowNode;

/// Candidates that are looked at together, and so the most rows of one delta of output.
const PIECE: usize = 8192;

/// Candidates that one call looks at: keys that collide and conditions that fail cost time without emitting a row.
const CANDIDATES_PER_CALL: usize = 64 * 1024;

/// Rows that one call links into an index.
const LINKED_PER_CALL: usize = 64 * 1024;

/// Rows that one call lets go or moves.
const TIDIED_PER_CALL: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Join {
    schema: SchemaRef,
    sides: [Side; 2],
    residual: Option<Residual>,
    probe: Option<Probe>,
    /// The next block to be tidied: side and number.
    tidying: Option<(usize, usize)>,
}

/// The condition besides the equalities, over only those columns of the joined row that it reads.
#[derive(Debug)]
struct Residual {
    condition: Expression,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Join {
    /// A join of the outputs of two plan nodes: `on` pairs of expressions over the left and the right one, `residual` over
    /// `schema` (left columns, then right columns).
    pub fn new(
        left: &FlowNode,
        right: &FlowNode,
        schema: &DFSchemaRef,
        on: &[(Expr, Expr)],
        residual: Option<&Expr>,
        null_equals_null: bool,
    ) -> Result<Self> {
        let mut keys = [Vec::new(), Vec::new()];
        for (of_left, of_right) in on {
            let pair = [Expression::new(of_left, &left.schema)?, Expression::new(of_right, &right.schema)?];
            let types = [pair[0].data_type(left.schema.inner())?, pair[1].data_type(right.schema.inner())?];
            if types[0] != types[1] {
                return Err(Error::internal(format!(
                    "a join compares {} ({}) with {} ({}) without a common type",
                    pair[0].text(),
                    types[0],
                    pair[1].text(),
                    types[1],
                )));
            }
            for (keys, key) in keys.iter_mut().zip(pair) {
                keys.push(key);
            }
        }
        let [left_keys, right_keys] = keys;
        let side = |node: &FlowNode, keys, release| {
            let schema = Arc::clone(node.schema.inner());
            Side::new(schema, node.properties.changelog, keys, null_equals_null, release)
        };
        let sides = [
            side(left, left_keys, release(left, right, on.iter().map(|(l, r)| (l, r))))?,
            side(right, right_keys, release(right, left, on.iter().map(|(l, r)| (r, l))))?,
        ];
        let residual = residual.map(|condition| Residual::new(condition, schema)).transpose()?;
        Ok(Self { schema: Arc::clone(schema.inner()), sides, residual, probe: None, tidying: None })
    }

    fn match_pieces(&mut self, out: &mut Output) -> Result<Step> {
        let mut examined = 0;
        while let Some(mut probe) = self.probe.take() {
            let stored = &mut self.sides[1 - probe.input];
            if !probe.is_looked_up() {
                if !stored.prepare(probe.rows(), LINKED_PER_CALL) {
                    self.probe = Some(probe);
                    return Ok(Step::Yield);
                }
                probe.look_up(stored.index());
            }
            let pairs = probe.candidates(stored.index(), PIECE);
            examined += pairs.rows.len();
            if let Some(delta) = self.matches(&probe, pairs)? {
                out.push(delta);
            }
            if !probe.is_finished() {
                self.probe = Some(probe);
                if out.exhausted() || examined >= CANDIDATES_PER_CALL {
                    return Ok(Step::Yield);
                }
            }
        }
        Ok(Step::Done)
    }

    /// The joined rows of those candidates that match.
    fn matches(&self, probe: &Probe, mut pairs: Pairs) -> Result<Option<Delta>> {
        let stored = &self.sides[1 - probe.input];
        let keys: Vec<(usize, usize)> =
            self.sides[probe.input].keys.iter().copied().zip(stored.keys.iter().copied()).collect();
        stored.retain_matching(&mut pairs, &probe.columns, &keys)?;
        if let (Some(residual), false) = (&self.residual, pairs.rows.is_empty()) {
            let columns = self.joined(probe, &pairs, residual.columns.iter().copied())?;
            let rows = batch(&residual.schema, columns, pairs.rows.len())?;
            pairs.retain(&residual.condition.evaluate_predicate(&rows)?);
        }
        if pairs.rows.is_empty() {
            return Ok(None);
        }
        let columns = self.joined(probe, &pairs, 0..self.schema.fields().len())?;
        let rows = batch(&self.schema, columns, pairs.rows.len())?;
        if probe.weights.is_none() && !stored.changelog {
            return Ok(Some(Delta::append(rows)));
        }
        let weights = pairs.rows.iter().zip(&pairs.addresses).map(|(row, address)| {
            let of_stored = if stored.changelog { stored.store().weight(*address) } else { 1 };
            probe.weight(*row).checked_mul(of_stored).ok_or_else(|| {
                Error::new(ErrorKind::ResourceExhausted, "a joined row appears more often than 2^63 times")
            })
        });
        let weights = weights.collect::<Result<Vec<i64>>>()?;
        Ok(Some(Delta::weighted(rows, Int64Array::from(weights))))
    }

    /// Columns of the joined rows, by their place in the output.
    fn joined(&self, probe: &Probe, pairs: &Pairs, columns: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>> {
        let left_width = self.sides[0].schema.fields().len();
        let rows = UInt32Array::from(pairs.rows.clone());
        let gather = self.sides[1 - probe.input].store().gather(&pairs.addresses);
        columns
            .map(|column| {
                let (side, column) = if column < left_width { (0, column) } else { (1, column - left_width) };
                if side == probe.input {
                    compact(&take(&probe.columns[column], &rows, None)?)
                } else {
                    gather.column(column)
                }
            })
            .collect()
    }

    /// Rows below what their own input has promised came too late: what they match may be gone. Of a changelog no row
    /// is late.
    fn without_late_rows(&self, input: usize, delta: Delta, out: &mut Output) -> Result<Delta> {
        let Some(mask) = self.sides[1 - input].on_time(delta.rows().columns())? else { return Ok(delta) };
        let late = delta.num_rows() - mask.true_count();
        if late == 0 {
            return Ok(delta);
        }
        out.drop_late(late as u64);
        Ok(Delta::append(filter_record_batch(delta.rows(), &mask)?))
    }

    /// Goes on letting rows go and compacting blocks.
    fn tidy(&mut self) -> Result<Step> {
        let mut touched = 0;
        while let Some((side, block)) = self.tidying {
            if touched >= TIDIED_PER_CALL {
                return Ok(Step::Yield);
            }
            let this = &mut self.sides[side];
            if !this.untidy || block >= this.store().block_count() {
                if this.untidy {
                    this.finish_tidying();
                }
                self.tidying = (side == 0).then_some((1, 0));
                continue;
            }
            touched += this.tidy(block)?;
            self.tidying = Some((side, block + 1));
        }
        Ok(Step::Done)
    }
}

impl Operator for Join {
    fn on_delta(&mut self, input: usize, delta: Delta, out: &mut Output) -> Result<Step> {
        if input > 1 {
            return Err(Error::internal(format!("a join has two inputs, a delta came on input {input}")));
        }
        let delta = if self.sides[input].changelog {
            consolidate(delta)?
        } else {
            self.without_late_rows(input, without_weights(delta)?, out)?
        };
        let side = &mut self.sides[input];
        let arrivals = side.arrivals(&delta)?;
        drop(delta);
        side.absorb(&arrivals)?;
        self.probe = Some(Probe::new(input, arrivals));
        self.match_pieces(out)
    }

    fn on_epoch_end(&mut self, epoch: &EpochContext<'_>, _out: &mut Output) -> Result<Step> {
        for side in &mut self.sides {
            side.advance(epoch.watermarks);
        }
        self.tidying = Some((0, 0));
        self.tidy()
    }

    fn resume(&mut self, out: &mut Output) -> Result<Step> {
        match self.match_pieces(out)? {
            Step::Done => self.tidy(),
            Step::Yield => Ok(Step::Yield),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<StatePart>> {
        let mut parts = Vec::new();
        for (side, name) in self.sides.iter().zip(state::PARTS) {
            state::snapshot(side, name, &mut parts)?;
        }
        state::snapshot_released(&self.sides, &mut parts)?;
        Ok(parts)
    }

    fn restore(&mut self, parts: Vec<StatePart>) -> Result<()> {
        for part in &parts {
            state::restore_part(&mut self.sides, part)?;
        }
        Ok(())
    }

    fn state_size(&self) -> StateSize {
        let [left, right] = [self.sides[0].size(), self.sides[1].size()];
        StateSize { rows: left.rows + right.rows, bytes: left.bytes + right.bytes }
    }
}

/// Append-only rows: weights, if there are any, must all be one.
fn without_weights(delta: Delta) -> Result<Delta> {
    match delta.weights() {
        Some(weights) if weights.values().iter().any(|weight| *weight != 1) => Err(Error::internal(
            "a join was told that an input is append-only, and a row of it came with another weight",
        )),
        _ => Ok(Delta::append(delta.into_parts().0)),
    }
}

/// How rows of `this` side are let go: by a pair of equal columns of which the other side promises that it grows.
fn release<'a>(this: &FlowNode, other: &FlowNode, on: impl Iterator<Item = (&'a Expr, &'a Expr)>) -> Option<Release> {
    on.filter_map(|(of_this, of_other)| {
        let column = this.schema.maybe_index_of_column(plain_column(of_this)?)?;
        let others = other.schema.maybe_index_of_column(plain_column(of_other)?)?;
        let unit = time_unit(this.schema.field(column).data_type())?;
        let promises: Vec<_> = other
            .properties
            .time_columns
            .iter()
            .filter(|time| time.column == others)
            .map(|time| (time.watermark, time.delay_micros))
            .collect();
        (!promises.is_empty()).then_some(Release { column, other_column: others, unit, promises })
    })
    .max_by_key(|release| release.promises.len())
}

fn plain_column(expression: &Expr) -> Option<&LogicalColumn> {
    match expression {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain_column(&alias.expr),
        _ => None,
    }
}

impl Residual {
    fn new(condition: &Expr, joined: &DFSchemaRef) -> Result<Self> {
        let condition = Expression::new(condition, joined)?;
        let mut columns: Vec<usize> = collect_columns(condition.physical()).iter().map(Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        let narrowed = Arc::clone(condition.physical()).transform_down(|node: Arc<dyn PhysicalExpr>| {
            let Some(column) = node.downcast_ref::<Column>() else { return Ok(Transformed::no(node)) };
            let place = columns.partition_point(|index| *index < column.index());
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), place)) as _))
        })?;
        let fields: Vec<_> = columns.iter().map(|index| Arc::clone(&joined.inner().fields()[*index])).collect();
        Ok(Self {
            condition: Expression::bound(narrowed.data, condition.text()),
            columns,
            schema: Arc::new(Schema::new(fields)),
        })
    }
}
