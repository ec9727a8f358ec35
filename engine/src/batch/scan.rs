//! Relations as DataFusion's engine reads them.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as PlanResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::StreamExt;

use crate::error::{Error, Result};
use crate::operator::columns::canonical;
use crate::plan::{Relation, RelationSource};

use super::BatchScans;

/// The plan with its relations replaced by tables that have rows.
pub(super) fn with_rows(plan: LogicalPlan, scans: &Arc<dyn BatchScans>) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let Some(source) = scan.source.downcast_ref::<RelationSource>() else {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        };
        let table = RelationTable { relation: Arc::clone(source.relation()), scans: Arc::clone(scans) };
        scan.source = provider_as_source(Arc::new(table));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    });
    Ok(replaced.data()?)
}

/// A relation with its rows.
struct RelationTable {
    relation: Arc<Relation>,
    scans: Arc<dyn BatchScans>,
}

impl fmt::Debug for RelationTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelationTable({})", self.relation.name)
    }
}

#[async_trait]
impl TableProvider for RelationTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.relation.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A scan may use what it is told; the query checks all the same.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let width = self.relation.schema.fields().len();
        let projection = projection.cloned().unwrap_or_else(|| (0..width).collect());
        let schema = Arc::new(self.relation.schema.project(&projection)?);
        let rows = RelationRows {
            relation: Arc::clone(&self.relation),
            scans: Arc::clone(&self.scans),
            projection,
            filters: filters.to_vec(),
            schema: Arc::clone(&schema),
        };
        let exec = StreamingTableExec::try_new(schema, vec![Arc::new(rows)], None, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

/// One scan.
struct RelationRows {
    relation: Arc<Relation>,
    scans: Arc<dyn BatchScans>,
    projection: Vec<usize>,
    filters: Vec<Expr>,
    schema: SchemaRef,
}

impl fmt::Debug for RelationRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelationRows({})", self.relation.name)
    }
}

impl PartitionStream for RelationRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.scans.lookup(&self.relation, &self.projection, &self.filters).unwrap_or_else(|error: Error| {
            let failed = futures::stream::iter([Err(error.into())]);
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), failed))
        });
        let floats = self.schema.fields().iter().any(|field| field.data_type().is_floating());
        if !floats {
            return rows;
        }
        // As operators do with keys: DataFusion's own tell −0 from 0.
        let canonical = rows.map(|rows| Ok(canonical_rows(&rows?)?));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), canonical))
    }
}

/// Rows whose floats have one zero and one NaN.
fn canonical_rows(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(canonical).collect::<Result<Vec<_>>>()?;
    let count = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &count)?)
}
