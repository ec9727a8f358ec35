//! RETURNING: a query over the rows that a statement has changed.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{SelectItem, TableFactor};

use super::super::query::LiveScans;
use super::{Work, blocking};
use crate::error::{Error, Result};
use crate::plan::answer_columns;
use crate::sql::{self, Query, Statement, quoted};

use super::update::{deleted, updated};

/// What is answered of each row.
pub(super) struct Returning {
    table: String,
    query: Query,
}

/// The RETURNING of a statement, if it has one.
pub(super) fn of(statement: &Statement) -> Result<Option<Returning>> {
    let (table, alias, items) = match statement {
        Statement::Insert(insert) => (insert.target.clone(), insert.alias.clone(), insert.returning.as_slice()),
        Statement::Update(update) => {
            let (table, alias) = updated(update)?;
            (table, alias, update.returning.as_deref().unwrap_or_default())
        }
        Statement::Delete(delete) => {
            let (table, alias) = deleted(delete)?;
            (table, alias, delete.returning.as_deref().unwrap_or_default())
        }
        _ => return Ok(None),
    };
    if items.is_empty() {
        return Ok(None);
    }
    let query = query(&table, alias.as_deref(), items)?;
    Ok(Some(Returning { table, query }))
}

fn query(table: &str, alias: Option<&str>, items: &[SelectItem]) -> Result<Query> {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    let alias = alias.map(|alias| format!(" AS {}", quoted(alias))).unwrap_or_default();
    sql::parse_query(&format!("SELECT {} FROM {}{alias}", items.join(", "), quoted(table)))
        .map_err(Error::without_position)
}

/// The table that a statement names, and its alias.
pub(super) fn named(factor: &TableFactor) -> Result<(String, Option<String>)> {
    match factor {
        TableFactor::Table { name, alias, args: None, .. } => {
            let alias = alias.as_ref().map(|alias| match alias.name.quote_style {
                Some(_) => alias.name.value.clone(),
                None => alias.name.value.to_lowercase(),
            });
            Ok((sql::statement_name(name)?, alias))
        }
        other => Err(Error::not_supported(format!("{other} is not a table whose rows can be changed"))),
    }
}

impl Work<'_> {
    /// The columns of RETURNING.
    pub(super) fn returned_schema(&self, returning: &Returning) -> Result<SchemaRef> {
        let plan = self.planner.plan_batch(&returning.query, None).map_err(Error::without_position)?;
        Ok(answer_columns(&plan))
    }

    /// What RETURNING answers of these rows.
    pub(super) async fn returned(
        &self,
        returning: &Returning,
        rows: Vec<RecordBatch>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let plan = self.planner.plan_batch(&returning.query, Some(self.parameters)).map_err(Error::without_position)?;
        let schema = answer_columns(&plan);
        let tables = Arc::clone(&self.engine.tables);
        let view = blocking(move || tables.view()).await?;
        let target = self.target(&returning.table)?;
        // One batch: the order stays what it is.
        let rows = concat_batches(target.schema(), &rows)?;
        let scans = LiveScans::new(self.engine, view).with_rows(&returning.table, rows);
        Ok((schema, self.rows(&plan, scans).await?))
    }
}
