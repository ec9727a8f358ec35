//! INSERT: its rows, the key that they may have in common with rows that are there, and what is done then.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, TableReference};
use datafusion::sql::sqlparser::ast::{Expr, Parens, SelectItem, SetExpr, Value};

use super::rules::duplicate_key;
use super::update::assignments;
use super::{Affected, PlanAndTypes, Target, Work, columns_of, is_default, parameter, plan_of};
use crate::error::{Error, ErrorKind, Result};
use crate::operator::expression::{Expression, batch};
use crate::plan::RowValues;
use crate::session::query::LiveScans;
use crate::sql::{self, DoUpdate, Insert, OnConflict, Query};
use crate::table::assign::assign;
use crate::table::{TableView, key_of};

impl Work<'_> {
    /// The places of the columns that are named, or of all.
    pub(super) fn places(&self, target: &Target, columns: &[String]) -> Result<Vec<usize>> {
        let definition = target.table.definition();
        if columns.is_empty() {
            return Ok((0..definition.columns.len()).collect());
        }
        let mut places = Vec::with_capacity(columns.len());
        for name in columns {
            let place = definition.column(name).ok_or_else(|| no_column(target, name))?;
            if places.contains(&place) {
                return Err(Error::invalid(format!("column \"{name}\" specified more than once")).with_code("42701"));
            }
            places.push(place);
        }
        Ok(places)
    }

    /// The query of an INSERT, with the word DEFAULT replaced by what it stands for; and which of its columns say nothing
    /// else.
    fn filled(&self, target: &Target, insert: &Insert, query: &Query) -> Result<(Query, Vec<bool>)> {
        let places = self.places(target, &insert.columns)?;
        let mut query = query.clone();
        let SetExpr::Values(values) = query.body.body.as_mut() else { return Ok((query, Vec::new())) };
        let width = values.rows.iter().map(|row| row.content.len()).max().unwrap_or(0);
        let mut only_default = vec![true; width];
        for row in &mut values.rows {
            for (at, cell) in row.content.iter_mut().enumerate() {
                if !is_default(cell) {
                    only_default[at] = false;
                    continue;
                }
                let default = places.get(at).and_then(|place| target.table.definition().columns.get(*place));
                *cell = match default.and_then(|column| column.default.as_ref()) {
                    Some(text) => sql::parse_expression(text)?,
                    None => Expr::Value(Value::Null.into()),
                };
            }
        }
        for (at, place) in places.iter().enumerate() {
            if let Some(column) = target.table.definition().columns.get(*place) {
                typed(&mut values.rows, at, &column.sql_type)?;
            }
        }
        Ok((query, only_default))
    }

    /// The rows of an INSERT, as columns of its table; columns that are generated are not computed yet.
    pub(super) async fn source(&self, target: &Target, insert: &Insert, view: &TableView) -> Result<Vec<RecordBatch>> {
        let Some(query) = &insert.query else {
            let none = Schema::empty();
            return self.assigned(target, insert, &[batch(&Arc::new(none), Vec::new(), 1)?], &[]);
        };
        if let Some(emit) = &query.emit {
            return Err(Error::not_supported(format!("{emit} has no meaning in an INSERT into a table")));
        }
        let (query, only_default) = self.filled(target, insert, query)?;
        let plan = plan_of(self.planner, &query, Some(self.parameters))?;
        let given = plan.schema().fields().len();
        let wanted = if insert.columns.is_empty() { target.schema().fields().len() } else { insert.columns.len() };
        if given > wanted {
            return Err(Error::new(ErrorKind::Syntax, "INSERT has more expressions than target columns"));
        }
        if given < insert.columns.len() {
            return Err(Error::new(ErrorKind::Syntax, "INSERT has more target columns than expressions"));
        }
        let rows = self.rows(&plan, LiveScans::new(self.engine, view.clone())).await?;
        self.assigned(target, insert, &rows, &only_default)
    }

    /// Rows of the columns that the statement names, as rows of the table.
    pub(super) fn assigned(
        &self,
        target: &Target,
        insert: &Insert,
        rows: &[RecordBatch],
        only_default: &[bool],
    ) -> Result<Vec<RecordBatch>> {
        let places = self.places(target, &insert.columns)?;
        let definition = target.table.definition();
        let schema = target.schema();
        let draft: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let draft = Arc::new(Schema::new(draft));
        let mut out = Vec::with_capacity(rows.len());
        for (given, count) in columns_of(rows) {
            let mut columns: Vec<Option<ArrayRef>> = vec![None; schema.fields().len()];
            for (at, (values, place)) in given.iter().zip(&places).enumerate() {
                let column = &definition.columns[*place];
                if column.generated.is_some() {
                    if only_default.get(at) == Some(&true) {
                        continue;
                    }
                    return Err(Error::invalid(format!(
                        "cannot insert a non-DEFAULT value into column \"{}\"",
                        column.name
                    ))
                    .with_code("428C9")
                    .with_detail(format!("Column \"{}\" is a generated column.", column.name)));
                }
                columns[*place] = Some(assign(values, schema.field(*place).data_type(), &column.name)?);
            }
            let columns = columns.into_iter().enumerate().map(|(place, column)| match column {
                Some(column) => Ok(column),
                None => target.rules.default(self.planner, place, count, self.now_micros, self.parameters),
            });
            out.push(batch(&draft, columns.collect::<Result<_>>()?, count)?);
        }
        Ok(out)
    }

    /// Puts rows into a table.
    pub(super) fn insert(
        &self,
        target: &Target,
        insert: &Insert,
        rows: Vec<RecordBatch>,
        view: &mut TableView,
    ) -> Result<Affected> {
        let definition = target.table.definition();
        let key_columns = definition.key_columns();
        if let Some(conflict) = &insert.on_conflict {
            check_conflict(target, conflict)?;
        }
        let mut affected = Affected { count: 0, rows: Vec::new() };
        // Keys that this statement has put or changed.
        let mut own: HashSet<Vec<u8>> = HashSet::new();
        for rows in rows {
            let count = rows.num_rows();
            let rows = target.rules.complete(rows.columns().to_vec(), count)?;
            let mut inserted = Vec::new();
            let mut conflicts = Vec::new();
            for row in 0..count {
                if key_columns.is_empty() {
                    self.put(view, target, &rows, row, target.table.next_row())?;
                    inserted.push(row as u32);
                    continue;
                }
                let key = key_of(&key_columns, &rows, row)?;
                let Some(there) = view.get(&target.table, &key)? else {
                    if insert.on_conflict.is_some() {
                        own.insert(key.clone());
                    }
                    self.put(view, target, &rows, row, key)?;
                    inserted.push(row as u32);
                    continue;
                };
                match &insert.on_conflict {
                    None => return Err(duplicate_key(definition, &rows, row)),
                    Some(OnConflict { update: None, .. }) => {}
                    Some(OnConflict { update: Some(_), .. }) => {
                        if !own.insert(key.clone()) {
                            return Err(Error::new(
                                ErrorKind::Constraint,
                                "ON CONFLICT DO UPDATE command cannot affect row a second time",
                            )
                            .with_code("21000")
                            .with_hint(
                                "Ensure that no rows proposed for insertion within the same command have duplicate \
                                 constrained values.",
                            ));
                        }
                        conflicts.push((row as u32, key, there));
                    }
                }
            }
            affected.count += inserted.len();
            if inserted.len() == count {
                affected.rows.push(rows.clone());
            } else {
                affected.rows.push(take_record_batch(&rows, &UInt32Array::from(inserted))?);
            }
            if let Some(OnConflict { update: Some(update), .. }) = &insert.on_conflict
                && !conflicts.is_empty()
            {
                let changed = self.update_conflicts(target, insert, update, &rows, conflicts, view)?;
                affected.count += changed.num_rows();
                affected.rows.push(changed);
            }
        }
        Ok(affected)
    }

    /// DO UPDATE: each row that is there meets the one that was to be inserted, `excluded`.
    fn update_conflicts(
        &self,
        target: &Target,
        insert: &Insert,
        update: &DoUpdate,
        rows: &RecordBatch,
        conflicts: Vec<(u32, Vec<u8>, Vec<u8>)>,
        view: &mut TableView,
    ) -> Result<RecordBatch> {
        let schema = target.schema();
        let width = schema.fields().len();
        let excluded: UInt32Array = conflicts.iter().map(|(row, ..)| *row).collect();
        let excluded = take_record_batch(rows, &excluded)?;
        let there = target.table.decode(conflicts.iter().map(|(.., row)| row.as_slice()))?;
        let name = insert.alias.as_deref().unwrap_or(&insert.target);
        let qualifiers = [name, "excluded"].map(|name| Some(TableReference::bare(name)));
        let fields = qualifiers.into_iter().flat_map(|qualifier| {
            schema
                .fields()
                .iter()
                .map(move |field| (qualifier.clone(), Arc::new(field.as_ref().clone().with_nullable(true))))
        });
        let columns = DFSchema::new_with_metadata(fields.collect(), std::collections::HashMap::new())?;
        let both = there.columns().iter().chain(excluded.columns()).cloned().collect();
        let mut both = batch(&Arc::new(columns.as_arrow().clone()), both, conflicts.len())?;
        let values = RowValues::Statement { now_micros: self.now_micros, parameters: self.parameters };
        let bound = |expression: &Expr| {
            let expr = self.planner.row_expression(&columns, expression, values)?;
            Expression::new(&expr, &columns)
        };
        let mut keys: Vec<Vec<u8>> = conflicts.into_iter().map(|(_, key, _)| key).collect();
        if let Some(condition) = &update.condition {
            let holds = bound(condition)?.evaluate_predicate(&both)?;
            let holds: BooleanArray = holds.iter().map(|holds| Some(holds == Some(true))).collect();
            let mut held = holds.values().iter();
            keys.retain(|_| held.next().unwrap_or(false));
            both = filter_record_batch(&both, &holds)?;
        }
        let mut new: Vec<ArrayRef> = both.columns()[..width].to_vec();
        for (place, expression) in assignments(target, &update.assignments)? {
            let field = schema.field(place);
            new[place] = match is_default(&expression) {
                true => target.rules.default(self.planner, place, both.num_rows(), self.now_micros, self.parameters)?,
                false => assign(&bound(&expression)?.evaluate(&both)?, field.data_type(), field.name())?,
            };
        }
        let new = target.rules.complete(new, both.num_rows())?;
        self.replace(target, &keys, &new, view)?;
        Ok(new)
    }

    /// The plan of an INSERT's query, and the types of parameters that stand alone where a column's value stands.
    pub(super) fn insert_parameters(&self, insert: &Insert) -> Result<PlanAndTypes> {
        let target = self.target(&insert.target)?;
        let places = self.places(&target, &insert.columns)?;
        let mut direct = Vec::new();
        let Some(query) = &insert.query else { return Ok((None, direct)) };
        let (query, _) = self.filled(&target, insert, query)?;
        let mut note = |at: usize, expression: &Expr| {
            if let (Some(number), Some(place)) = (parameter(expression), places.get(at)) {
                direct.push((number, target.schema().field(*place).data_type().clone()));
            }
        };
        match query.body.body.as_ref() {
            SetExpr::Values(values) => {
                values.rows.iter().for_each(|row| row.content.iter().enumerate().for_each(|(at, cell)| note(at, cell)));
            }
            SetExpr::Select(select) => {
                for (at, item) in select.projection.iter().enumerate() {
                    if let SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, .. } =
                        item
                    {
                        note(at, expression);
                    }
                }
            }
            _ => {}
        }
        if let Some(update) = insert.on_conflict.as_ref().and_then(|conflict| conflict.update.as_ref()) {
            for (place, expression) in assignments(&target, &update.assignments)? {
                if let Some(number) = parameter(&expression) {
                    direct.push((number, target.schema().field(place).data_type().clone()));
                }
            }
        }
        Ok((Some(plan_of(self.planner, &query, None)?), direct))
    }
}

/// Texts in quotes that stand in one column with something else are of the type of the table's column, as in PostgreSQL: VALUES alone
/// would have to find a type for all of them.
fn typed(rows: &mut [Parens<Vec<Expr>>], at: usize, sql_type: &str) -> Result<()> {
    let is_text =
        |cell: &Expr| matches!(cell, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)));
    let is_null = |cell: &Expr| matches!(cell, Expr::Value(value) if value.value == Value::Null);
    let cells = || rows.iter().filter_map(|row| row.content.get(at));
    if !cells().any(is_text) || cells().all(|cell| is_text(cell) || is_null(cell)) {
        return Ok(());
    }
    for cell in rows.iter_mut().filter_map(|row| row.content.get_mut(at)).filter(|cell| is_text(cell)) {
        *cell = sql::parse_expression(&format!("CAST({cell} AS {sql_type})"))?;
    }
    Ok(())
}

/// The error for a column that a table does not have.
pub(super) fn no_column(target: &Target, name: &str) -> Error {
    Error::new(
        ErrorKind::UndefinedColumn,
        format!("column \"{name}\" of relation \"{}\" does not exist", target.table.name()),
    )
}

/// Whether the rows that may conflict are those of the primary key.
fn check_conflict(target: &Target, conflict: &OnConflict) -> Result<()> {
    let definition = target.table.definition();
    let key: Vec<&str> =
        definition.key_columns().into_iter().map(|place| definition.columns[place].name.as_str()).collect();
    if conflict.update.is_some() {
        target.check_changeable("ON CONFLICT DO UPDATE")?;
    }
    if let Some(constraint) = &conflict.constraint {
        if key.is_empty() || *constraint != definition.primary_key_name {
            let name = target.table.name();
            let sentence = format!("constraint \"{constraint}\" for table \"{name}\" does not exist");
            return Err(Error::new(ErrorKind::UndefinedObject, sentence).with_code("42704"));
        }
        return Ok(());
    }
    if conflict.columns.is_empty() {
        if conflict.update.is_some() {
            return Err(Error::new(
                ErrorKind::Syntax,
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            )
            .with_hint("For example, ON CONFLICT (column_name)."));
        }
        return Ok(());
    }
    if let Some(name) = conflict.columns.iter().find(|name| definition.column(name).is_none()) {
        return Err(no_column(target, name));
    }
    let named: HashSet<&str> = conflict.columns.iter().map(String::as_str).collect();
    if key.is_empty() || named != key.into_iter().collect() {
        return Err(Error::invalid(
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        )
        .with_code("42P10"));
    }
    Ok(())
}
