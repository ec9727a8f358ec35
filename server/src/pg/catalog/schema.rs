//! The schemas `pg_catalog` and `public` as DataFusion sees them.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::datasource::empty::EmptyTable;

use super::tables::SystemRelations;
use crate::frontend::{CatalogView, RelationKind};

/// `pg_catalog`: what tells of relations is ours, the rest datafusion-pg-catalog's.
#[derive(Debug)]
pub(super) struct PgCatalogSchema {
    pub(super) relations: SystemRelations,
    pub(super) others: Arc<dyn SchemaProvider>,
}

#[async_trait]
impl SchemaProvider for PgCatalogSchema {
    fn table_names(&self) -> Vec<String> {
        self.others.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.others.table(name).await? else { return Ok(None) };
        match self.relations.rows(name, &table.schema())? {
            Some(batch) => Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))),
            None => Ok(Some(table)),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.others.table_exist(name)
    }
}

/// `public`: the relations' names and columns, for `information_schema`. Their rows are the engine's.
pub(super) struct PublicSchema(pub(super) Arc<dyn CatalogView>);

impl std::fmt::Debug for PublicSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicSchema")
    }
}

/// A relation's columns without its rows.
#[derive(Debug)]
pub(super) struct Outline {
    columns: EmptyTable,
    kind: TableType,
}

#[async_trait]
impl TableProvider for Outline {
    fn schema(&self) -> arrow::datatypes::SchemaRef {
        self.columns.schema()
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    async fn scan(
        &self,
        state: &dyn datafusion::catalog::Session,
        projection: Option<&Vec<usize>>,
        filters: &[datafusion::logical_expr::Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
        self.columns.scan(state, projection, filters, limit).await
    }
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.relations().into_iter().map(|relation| relation.name).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let relation = self.0.relations().into_iter().find(|relation| relation.name == name);
        Ok(relation.map(|relation| {
            let kind = match relation.kind {
                RelationKind::View | RelationKind::MaterializedView => TableType::View,
                RelationKind::Stream | RelationKind::Table | RelationKind::Sink => TableType::Base,
            };
            Arc::new(Outline { columns: EmptyTable::new(relation.schema), kind }) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.relations().iter().any(|relation| relation.name == name)
    }
}

/// Whether a table is an outline: a query that reads it needs the engine.
pub(super) fn is_outline(table: &dyn TableProvider) -> bool {
    (table as &dyn Any).is::<Outline>()
}
