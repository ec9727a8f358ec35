//! ALTER TABLE.
//!
//! Stored rows stay as they are: they know their columns by number. Queries that read the table know its columns by name, so a
//! column that they may use keeps its name and stays; a new one is added behind the others.

use std::sync::Arc;

use arrow::array::Array;
use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTableOperation, DropBehavior, Ident, RenameTableNameKind,
};

use crate::catalog::unknown;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::Live;
use crate::sql::{self, AlterTable};
use crate::table::{RowBatches, Table, TableDefinition, encode_value};

use super::dml::Rules;
use super::table::{self, Checked};

/// What a table becomes.
struct Altering {
    name: String,
    definition: TableDefinition,
    /// What has to go first: queries that read the table cannot outlive the change.
    ends_readers: Option<&'static str>,
    cascade: bool,
    /// The numbers of new columns: stored rows have their defaults of now.
    added: Vec<u32>,
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

impl Altering {
    fn place(&self, ident: &Ident) -> Result<usize> {
        let name = folded(ident);
        self.definition.column(&name).ok_or_else(|| {
            let sentence = format!("column \"{name}\" of relation \"{}\" does not exist", self.name);
            Error::new(ErrorKind::UndefinedColumn, sentence)
        })
    }

    fn apply(&mut self, operation: &AlterTableOperation) -> Result<()> {
        match operation {
            AlterTableOperation::AddColumn { if_not_exists, column_def, column_position: None, .. } => {
                if *if_not_exists && self.definition.column(&folded(&column_def.name)).is_some() {
                    return Ok(());
                }
                let key = self.definition.primary_key.clone();
                table::add_column(&mut self.definition, &self.name, column_def)?;
                if key != self.definition.primary_key {
                    return Err(Error::not_supported("a primary key cannot be added to a table that is there"));
                }
                self.added.extend(self.definition.columns.last().map(|column| column.number));
            }
            AlterTableOperation::DropColumn { column_names, if_exists, drop_behavior, .. } => {
                for ident in column_names {
                    let place = match self.place(ident) {
                        Err(_) if *if_exists => continue,
                        place => place?,
                    };
                    let column = &self.definition.columns[place];
                    if self.definition.primary_key.contains(&column.number) {
                        return Err(Error::not_supported(format!(
                            "column \"{}\" cannot be dropped: it is in the primary key",
                            column.name
                        )));
                    }
                    self.definition.columns.remove(place);
                    self.ends_readers = Some("a column is dropped");
                    self.cascade |= *drop_behavior == Some(DropBehavior::Cascade);
                }
            }
            AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                let (place, new) = (self.place(old_column_name)?, folded(new_column_name));
                if self.definition.column(&new).is_some() {
                    let sentence = format!("column \"{new}\" of relation \"{}\" already exists", self.name);
                    return Err(Error::new(ErrorKind::DuplicateObject, sentence).with_code("42701"));
                }
                self.definition.columns[place].name = new;
                self.ends_readers = Some("a column gets another name");
            }
            AlterTableOperation::RenameTable {
                table_name: RenameTableNameKind::To(name) | RenameTableNameKind::As(name),
            } => {
                self.name = sql::statement_name(name)?;
                self.ends_readers = Some("the table gets another name");
            }
            AlterTableOperation::AlterColumn { column_name, op } => {
                let place = self.place(column_name)?;
                let column = &mut self.definition.columns[place];
                match op {
                    AlterColumnOperation::SetNotNull => column.not_null = true,
                    AlterColumnOperation::DropNotNull => {
                        if self.definition.primary_key.contains(&column.number) {
                            let sentence = format!("column \"{}\" is in a primary key", column.name);
                            return Err(Error::invalid(sentence).with_code("42P16"));
                        }
                        column.not_null = false;
                        self.ends_readers = Some("a column may become NULL");
                    }
                    AlterColumnOperation::SetDefault { value } => column.default = Some(value.to_string()),
                    AlterColumnOperation::DropDefault => column.default = None,
                    other => return Err(unsupported(other)),
                }
            }
            AlterTableOperation::AddConstraint { constraint, .. } => {
                table::add_check_constraint(&mut self.definition, &self.name, constraint)?;
            }
            AlterTableOperation::DropConstraint { if_exists, name, .. } => {
                let name = folded(name);
                let before = self.definition.checks.len();
                self.definition.checks.retain(|check| check.name != name);
                if self.definition.checks.len() == before && !if_exists {
                    let sentence = format!("constraint \"{name}\" of relation \"{}\" does not exist", self.name);
                    return Err(Error::new(ErrorKind::UndefinedObject, sentence).with_code("42704"));
                }
            }
            other => return Err(unsupported(other)),
        }
        Ok(())
    }
}

fn unsupported(what: &dyn std::fmt::Display) -> Error {
    Error::not_supported(format!("ALTER TABLE … {what} is not supported")).with_hint(
        "a table's columns can be added, dropped and renamed, get and lose DEFAULT and NOT NULL; CHECKs come and go; it can be renamed",
    )
}

impl Engine {
    /// ALTER TABLE; answers with what the user should know. The caller changes definitions alone.
    pub(super) fn alter_table(&self, alter: &AlterTable) -> Result<Vec<String>> {
        let (old, store) = match self.live.get(&alter.name) {
            Some(Live::Table { table, store, .. }) => (table, store),
            Some(_) => {
                let sentence = format!("\"{}\" is not a table", alter.name);
                return Err(Error::new(ErrorKind::InvalidState, sentence).with_code("42809"));
            }
            None if alter.if_exists => return Ok(vec![format!("'{}' does not exist, skipping", alter.name)]),
            None => return Err(unknown(&alter.name)),
        };
        // Nobody commits meanwhile: what is checked of the rows holds.
        let _writer = store.writer_blocking();
        let mut altering = Altering {
            name: old.name().to_owned(),
            definition: old.definition().clone(),
            ends_readers: None,
            cascade: false,
            added: Vec::new(),
        };
        alter.operations.iter().try_for_each(|operation| altering.apply(operation))?;
        if altering.name != old.name() {
            self.catalog.check_free(&altering.name)?;
        }
        let notices = self.end_readers(&altering, old.name())?;
        let mut checked = table::revive(&self.planner, &altering.name, altering.definition)
            .map_err(|error| error.context(format!("table \"{}\" cannot be altered so", old.name())))?;
        let rules = Rules::new(&self.planner, &altering.name, &checked.definition, &checked.schema)?;
        for number in &altering.added {
            let Some(place) = checked.definition.place(*number) else { continue };
            let value = rules.default(&self.planner, place, 1, self.clock.now_micros(), &[])?;
            if value.is_valid(0) {
                let mut bytes = Vec::new();
                encode_value(value.as_ref(), 0, &mut bytes)?;
                checked.definition.columns[place].missing = Some(bytes);
            }
        }
        let relation = Arc::new(checked.relation(&altering.name));
        let Checked { definition, schema, .. } = checked;
        let new = Arc::new(old.altered(&altering.name, definition, schema));
        check_rows(&store.view()?, &new, &rules, &altering.added)?;
        let live = Live::Table { relation, table: Arc::clone(&new), store: Arc::clone(&store) };
        let before = self.live.get(old.name());
        self.live.remove(old.name());
        self.live.insert(new.name(), live);
        let put_back = |error: Error| {
            self.live.remove(new.name());
            if let Some(before) = before.clone() {
                self.live.insert(old.name(), before);
            }
            error
        };
        self.check_readers(new.name()).map_err(put_back)?;
        let text = table::statement(new.name(), new.definition());
        self.catalog.alter(old.name(), new.name(), &text, &new.definition().to_bytes()?).map_err(put_back)?;
        new.take_over();
        Ok(notices)
    }

    /// Drops what cannot outlive the change, if that is wanted.
    fn end_readers(&self, altering: &Altering, table: &str) -> Result<Vec<String>> {
        let Some(reason) = altering.ends_readers else { return Ok(Vec::new()) };
        let readers = self.catalog.dependants(table);
        if readers.is_empty() {
            return Ok(Vec::new());
        }
        if !altering.cascade {
            let names: Vec<String> =
                readers.iter().map(|reader| format!("{} '{}'", reader.kind.word(), reader.name)).collect();
            return Err(Error::new(
                ErrorKind::DependentObjects,
                format!("{reason}, and {} read table '{table}'", names.join(", ")),
            )
            .with_hint("drop them first, or write DROP COLUMN … CASCADE"));
        }
        let names: Vec<String> = readers.iter().map(|reader| reader.name.clone()).collect();
        self.remove_objects(&names)?;
        Ok(readers.iter().map(|reader| format!("drop cascades to {} {}", reader.kind.word(), reader.name)).collect())
    }

    /// Queries that read the table must give the columns that they gave: `SELECT *` must not have grown.
    fn check_readers(&self, table: &str) -> Result<()> {
        for reader in self.catalog.dependants(table) {
            let Some(before) = self.live.get(&reader.name).and_then(|live| live.relation().cloned()) else { continue };
            let columns = self.columns_of(&reader)?;
            if columns.is_some_and(|columns| columns.fields() != before.schema.fields()) {
                return Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!("{} '{}' would have other columns", reader.kind.word(), reader.name),
                )
                .with_hint("it reads all columns of the table (SELECT *): drop it first, and name the columns"));
            }
        }
        Ok(())
    }
}

/// Whether the rows that are there keep the new rules.
fn check_rows(view: &crate::table::TableView, table: &Arc<Table>, rules: &Rules, added: &[u32]) -> Result<()> {
    let definition = table.definition();
    let generated = added.iter().filter_map(|number| definition.place(*number));
    let generated = generated.map(|place| &definition.columns[place]).find(|column| column.generated.is_some());
    let all: Vec<usize> = (0..definition.columns.len()).collect();
    for rows in RowBatches::nullable(view.clone(), table, &all)? {
        let rows = rows?;
        if let Some(column) = generated {
            return Err(Error::not_supported(format!(
                "generated column \"{}\" cannot be added to a table that has rows",
                column.name
            ))
            .with_hint("make a new table with CREATE TABLE, and INSERT … SELECT into it"));
        }
        rules.complete(rows.columns().to_vec(), rows.num_rows())?;
    }
    Ok(())
}
