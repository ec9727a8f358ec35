//! CREATE TABLE: from the statement to a definition, and from a definition to a relation.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, Expr, GeneratedAs, GeneratedExpressionMode, Ident, IndexColumn, TableConstraint,
};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Planner, Relation, RelationKind, WatermarkDefinition};
use crate::sql::{self, CreateTable, Statement, WatermarkClause, quoted};
use crate::table::assign::{sql_type, type_name};
use crate::table::{CheckDefinition, ColumnDefinition, Table, TableDefinition, can_be_key, can_be_stored};

use super::dml::Rules;

/// A definition that was checked, and what follows from it.
pub(super) struct Checked {
    pub(super) definition: TableDefinition,
    pub(super) schema: SchemaRef,
    pub(super) watermark: Option<WatermarkDefinition>,
}

impl Checked {
    /// The table's relation.
    pub(super) fn relation(&self, name: &str) -> Relation {
        let keys = self.definition.key_columns();
        Relation {
            name: name.to_owned(),
            schema: Arc::clone(&self.schema),
            kind: RelationKind::Table,
            changelog: !self.definition.append_only,
            keys: if keys.is_empty() { Vec::new() } else { vec![keys] },
            watermark: self.watermark.clone(),
            time_columns: Vec::new(),
        }
    }
}

/// Checks what CREATE TABLE says.
pub(super) fn define(planner: &Planner, create: &CreateTable) -> Result<Checked> {
    let mut definition = TableDefinition {
        columns: Vec::new(),
        primary_key: Vec::new(),
        primary_key_name: String::new(),
        checks: Vec::new(),
        append_only: create.append_only,
        watermark: create.watermark.as_ref().map(|clause| (clause.column.clone(), clause.expression.to_string())),
        next_number: 0,
    };
    for column in &create.columns {
        add_column(&mut definition, &create.name, column)?;
    }
    for constraint in &create.constraints {
        add_constraint(&mut definition, &create.name, constraint)?;
    }
    let key = definition.primary_key.clone();
    for column in definition.columns.iter_mut().filter(|column| key.contains(&column.number)) {
        column.not_null = true;
    }
    check(planner, &create.name, definition, create.watermark.as_deref())
}

/// Checks a definition that is not new: the catalog's, or one that was altered.
pub(super) fn revive(planner: &Planner, name: &str, definition: TableDefinition) -> Result<Checked> {
    let clause = match &definition.watermark {
        None => None,
        Some((column, expression)) => Some(WatermarkClause {
            column: column.clone(),
            expression: sql::parse_expression(expression)?,
            position: None,
        }),
    };
    check(planner, name, definition, clause.as_ref())
}

fn check(
    planner: &Planner,
    name: &str,
    definition: TableDefinition,
    watermark: Option<&WatermarkClause>,
) -> Result<Checked> {
    let schema = definition.schema(&types(planner, &definition)?);
    for field in schema.fields() {
        if !can_be_stored(field.data_type()) {
            return Err(Error::not_supported(format!(
                "column '{}' of type {} cannot be kept in a table",
                field.name(),
                field.data_type()
            )));
        }
        if field.name() == Table::KEY_COLUMN {
            return Err(Error::invalid(format!("the column name {} is taken", field.name())));
        }
    }
    for column in definition.key_columns() {
        let field = schema.field(column);
        if !can_be_key(field.data_type()) {
            return Err(Error::not_supported(format!(
                "column '{}' of type {} cannot be in a primary key",
                field.name(),
                type_name(field.data_type())
            )));
        }
    }
    let watermark = match watermark {
        None => None,
        Some(_) if !definition.append_only => {
            return Err(Error::invalid("a table with a watermark is APPEND ONLY: rows behind it could not be changed")
                .with_hint("write CREATE TABLE t (…, WATERMARK FOR …) APPEND ONLY"));
        }
        Some(clause) => Some(planner.validate_watermark(&schema, clause)?),
    };
    let rules = Rules::new(planner, name, &definition, &schema)?;
    rules.check_defaults(planner)?;
    Ok(Checked { definition, schema, watermark })
}

/// The columns' types.
fn types(planner: &Planner, definition: &TableDefinition) -> Result<Schema> {
    let columns: Vec<String> =
        definition.columns.iter().map(|column| format!("{} {}", quoted(&column.name), column.sql_type)).collect();
    let text = format!("CREATE TABLE t ({})", columns.join(", "));
    match sql::parse_one(&text)?.statement {
        Statement::CreateTable(create) => planner.column_schema(&create.columns),
        other => Err(Error::internal(format!("a table's columns were read as {}", other.tag()))),
    }
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Adds a column with its constraints.
pub(super) fn add_column(definition: &mut TableDefinition, table: &str, column: &ColumnDef) -> Result<()> {
    let name = folded(&column.name);
    if definition.column(&name).is_some() {
        return Err(Error::invalid(format!("column \"{name}\" specified more than once")).with_code("42701"));
    }
    let number = definition.next_number;
    definition.next_number += 1;
    let mut new = ColumnDefinition {
        number,
        name: name.clone(),
        sql_type: column.data_type.to_string(),
        not_null: false,
        default: None,
        generated: None,
        missing: None,
    };
    for option in &column.options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => new.not_null = true,
            ColumnOption::Default(expression) => new.default = Some(expression.to_string()),
            ColumnOption::PrimaryKey(_) => set_primary_key(definition, table, option.name.as_ref(), vec![number])?,
            ColumnOption::Check(check) => {
                let named = option.name.as_ref().or(check.name.as_ref());
                add_check(definition, table, named, Some(&name), &check.expr);
            }
            ColumnOption::Generated {
                generated_as: GeneratedAs::ExpStored | GeneratedAs::Always,
                generation_expr: Some(expression),
                generation_expr_mode,
                ..
            } if *generation_expr_mode != Some(GeneratedExpressionMode::Virtual) => {
                new.generated = Some(expression.to_string());
            }
            other => {
                return Err(Error::not_supported(format!("column \"{name}\": {other} is not supported")).with_hint(
                    "a column can have NOT NULL, DEFAULT, PRIMARY KEY, CHECK and GENERATED ALWAYS AS (…) STORED",
                ));
            }
        }
    }
    if new.generated.is_some() && new.default.is_some() {
        return Err(Error::new(
            ErrorKind::Syntax,
            format!("both default and generation expression specified for column \"{name}\" of table \"{table}\""),
        ));
    }
    definition.columns.push(new);
    Ok(())
}

/// Adds a CHECK to a table that is there.
pub(super) fn add_check_constraint(
    definition: &mut TableDefinition,
    table: &str,
    constraint: &TableConstraint,
) -> Result<()> {
    if let TableConstraint::PrimaryKey(_) = constraint {
        return Err(Error::not_supported("a primary key cannot be added to a table that is there"));
    }
    add_constraint(definition, table, constraint)
}

fn add_constraint(definition: &mut TableDefinition, table: &str, constraint: &TableConstraint) -> Result<()> {
    match constraint {
        TableConstraint::PrimaryKey(key) => {
            let columns = key.columns.iter().map(|column| key_column(definition, column)).collect::<Result<_>>()?;
            set_primary_key(definition, table, key.name.as_ref(), columns)
        }
        TableConstraint::Check(check) => {
            add_check(definition, table, check.name.as_ref(), None, &check.expr);
            Ok(())
        }
        other => Err(Error::not_supported(format!("{other} is not supported"))
            .with_hint("a table can have PRIMARY KEY and CHECK constraints")),
    }
}

fn key_column(definition: &TableDefinition, column: &IndexColumn) -> Result<u32> {
    let Expr::Identifier(ident) = &column.column.expr else {
        return Err(Error::invalid(format!("a primary key is made of columns, and {} is none", column.column.expr)));
    };
    let name = folded(ident);
    let place = definition.column(&name).ok_or_else(|| {
        Error::new(ErrorKind::UndefinedColumn, format!("column \"{name}\" named in key does not exist"))
    })?;
    Ok(definition.columns[place].number)
}

fn set_primary_key(
    definition: &mut TableDefinition,
    table: &str,
    name: Option<&Ident>,
    columns: Vec<u32>,
) -> Result<()> {
    if !definition.primary_key.is_empty() {
        return Err(
            Error::invalid(format!("multiple primary keys for table \"{table}\" are not allowed")).with_code("42P16")
        );
    }
    if (1..columns.len()).any(|at| columns[..at].contains(&columns[at])) {
        return Err(Error::invalid("a column appears twice in primary key constraint").with_code("42701"));
    }
    definition.primary_key = columns;
    definition.primary_key_name = name.map_or_else(|| format!("{table}_pkey"), folded);
    Ok(())
}

fn add_check(definition: &mut TableDefinition, table: &str, name: Option<&Ident>, column: Option<&str>, check: &Expr) {
    let stem = match column {
        Some(column) => format!("{table}_{column}_check"),
        None => format!("{table}_check"),
    };
    let taken = |name: &String| definition.checks.iter().any(|check| check.name == *name);
    let own = || (0..).map(|n| if n == 0 { stem.clone() } else { format!("{stem}{n}") }).find(|name| !taken(name));
    let name = name.map(folded).or_else(own).unwrap_or_default();
    definition.checks.push(CheckDefinition { name, expression: check.to_string() });
}

/// Columns for the result of a query: CREATE TABLE AS.
pub(super) fn columns_of(create: &CreateTable, rows: &Schema) -> Result<CreateTable> {
    if create.names.len() > rows.fields().len() {
        return Err(Error::new(ErrorKind::Syntax, "too many column names were specified"));
    }
    let columns = rows.fields().iter().enumerate().map(|(at, field)| {
        let name = create.names.get(at).unwrap_or_else(|| field.name());
        let sql_type = sql_type(field.data_type()).ok_or_else(|| {
            Error::not_supported(format!("column \"{name}\" of type {} cannot be in a table", field.data_type()))
                .with_hint("cast it, or leave it out")
        })?;
        Ok(format!("{} {sql_type}", quoted(name)))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?.join(", ");
    let append_only = if create.append_only { " APPEND ONLY" } else { "" };
    match sql::parse_one(&format!("CREATE TABLE {} ({columns}){append_only}", quoted(&create.name)))?.statement {
        Statement::CreateTable(made) => Ok(CreateTable { if_not_exists: create.if_not_exists, ..made }),
        other => Err(Error::internal(format!("a table's columns were read as {}", other.tag()))),
    }
}

/// The statement that makes a table of this definition.
pub(super) fn statement(name: &str, definition: &TableDefinition) -> String {
    let mut items: Vec<String> = Vec::new();
    for column in &definition.columns {
        let mut item = format!("{} {}", quoted(&column.name), column.sql_type);
        if column.not_null {
            item.push_str(" NOT NULL");
        }
        if let Some(default) = &column.default {
            item.push_str(&format!(" DEFAULT {default}"));
        }
        if let Some(generated) = &column.generated {
            item.push_str(&format!(" GENERATED ALWAYS AS ({generated}) STORED"));
        }
        items.push(item);
    }
    if !definition.primary_key.is_empty() {
        let columns = definition.key_columns().into_iter().map(|place| quoted(&definition.columns[place].name));
        let columns = columns.collect::<Vec<_>>().join(", ");
        items.push(format!("CONSTRAINT {} PRIMARY KEY ({columns})", quoted(&definition.primary_key_name)));
    }
    for check in &definition.checks {
        items.push(format!("CONSTRAINT {} CHECK ({})", quoted(&check.name), check.expression));
    }
    if let Some((column, expression)) = &definition.watermark {
        items.push(format!("WATERMARK FOR {} AS {expression}", quoted(column)));
    }
    let append_only = if definition.append_only { " APPEND ONLY" } else { "" };
    format!("CREATE TABLE {} ({}){append_only}", quoted(name), items.join(", "))
}
