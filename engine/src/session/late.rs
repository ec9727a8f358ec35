//! `LATE ROWS TO name`: who takes rows that come too late.

use std::sync::{Arc, Weak};

use arrow::array::new_empty_array;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::catalog::unknown;
use crate::connector::table::InsertsRows;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Live, open_for_late_rows};
use crate::plan::ContinuousPlan;
use crate::sql::quoted;
use crate::table::Table;
use crate::table::assign::assign;

use super::dml;

impl Engine {
    /// Fits a plan's late rows to their target, which it then uses: those of their columns that the target has.
    pub(super) fn fit_late_rows(&self, plan: &mut ContinuousPlan) -> Result<()> {
        let Some(late) = &plan.flow.late else { return Ok(()) };
        let target = late.target.clone();
        let fitted = match self.live.get(&target) {
            Some(Live::Sink { definition, own: None }) => {
                let places = places(&late.schema, definition.columns().as_ref(), &target)?;
                let late = late.projected(&places)?;
                // Opened once for the check alone.
                open_for_late_rows(&*definition, &target, &late.schema)?;
                late
            }
            Some(Live::Sink { own: Some(_), .. }) => {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("sink '{target}' has a query of its own and takes no late rows"),
                )
                .with_hint("create a sink without AS for them"));
            }
            Some(Live::Table { table, .. }) => {
                self.refuse_circle(&target, &plan.reads)?;
                let places = places(&late.schema, Some(&taken(&table)), &target)?;
                let late = late.projected(&places)?;
                check_table(&table, &late.schema)?;
                late
            }
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("'{target}' takes no late rows: it is no sink and no table"),
                )
                .with_hint(format!("CREATE SINK takes_late WITH (…), then LATE ROWS TO {}", quoted("takes_late"))));
            }
            None => return Err(unknown(&target)),
        };
        plan.flow.late = Some(fitted);
        plan.reads.push(target);
        Ok(())
    }

    /// Refuses a query whose late rows would come back to it, and be late again.
    fn refuse_circle(&self, target: &str, reads: &[String]) -> Result<()> {
        let users = self.catalog.dependants(target);
        let between = reads.iter().find(|name| *name == target || users.iter().any(|user| user.name == **name));
        match between {
            None => Ok(()),
            Some(name) => Err(Error::not_supported(format!(
                "late rows cannot go to '{target}': the query reads '{name}', so they could come back to it"
            ))
            .with_hint("create a table for late rows alone")),
        }
    }
}

/// The columns of a table that rows can be given for.
fn taken(table: &Table) -> SchemaRef {
    let columns = table.schema().fields().iter().zip(&table.definition().columns);
    let taken = columns.filter(|(_, column)| column.generated.is_none()).map(|(field, _)| Arc::clone(field));
    Arc::new(Schema::new(taken.collect::<Vec<_>>()))
}

/// Whether a table can take late rows at all.
fn check_table(table: &Table, late: &Schema) -> Result<()> {
    let (name, definition) = (table.name(), table.definition());
    if !definition.primary_key.is_empty() {
        return Err(Error::not_supported(format!(
            "table '{name}' has a primary key, and late rows have none: one of them may come twice"
        ))
        .with_hint("create the table for late rows without PRIMARY KEY"));
    }
    for (field, column) in table.schema().fields().iter().zip(&definition.columns) {
        match late.column_with_name(field.name()) {
            Some((_, given)) => {
                assign(&new_empty_array(given.data_type()), field.data_type(), field.name())?;
            }
            None if column.not_null && column.default.is_none() && column.generated.is_none() => {
                return Err(Error::invalid(format!(
                    "column '{}' of table '{name}' is NOT NULL, and this query's late rows have no such column",
                    field.name()
                ))
                .with_hint("give the column a DEFAULT, or leave it out"));
            }
            None => {}
        }
    }
    Ok(())
}

/// Puts late rows into an engine's tables.
pub(crate) struct LateRowsOfTables(pub(crate) Weak<Engine>);

impl InsertsRows for LateRowsOfTables {
    fn insert(&self, table: &str, rows: &RecordBatch) -> Result<()> {
        match self.0.upgrade() {
            Some(engine) => dml::insert_rows(&engine, table, rows),
            None => Err(Error::new(ErrorKind::Canceled, "the server is going down")),
        }
    }
}

/// The columns of late rows that a target has, by name; all of them if it takes what comes.
fn places(late: &SchemaRef, target: Option<&SchemaRef>, name: &str) -> Result<Vec<usize>> {
    let has = |column: &String| target.is_none_or(|target| target.fields().iter().any(|field| field.name() == column));
    let fields = late.fields().iter().enumerate();
    let places: Vec<usize> = fields.filter(|(_, field)| has(field.name())).map(|(place, _)| place).collect();
    if !places.is_empty() {
        return Ok(places);
    }
    let names: Vec<&str> = late.fields().iter().map(|field| field.name().as_str()).collect();
    Err(Error::invalid(format!("'{name}' has none of the columns of this query's late rows"))
        .with_hint(format!("late rows have the columns {}", names.join(", "))))
}
